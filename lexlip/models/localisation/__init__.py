"""Localisation: the patch of a picture, or the word of a text, that a weight comes from.

`lexlip.models.localisation.results` holds what is found and imports no torch; the other modules
run the network. Use them through the methods of `lexlip.models.speaker.Localises`.
"""
