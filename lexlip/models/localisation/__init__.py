"""Localisation: the patch of a picture, or the word of a text, that a weight comes from.

`lexlip.models.localisation.results` holds what is found, `seen` the part of a picture that a model
sees; both import no torch. The other modules run the network. Use them through the methods of
`lexlip.models.speaker.Localises`.
"""
