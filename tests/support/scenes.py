"""Words of scenes: those that the grammar may use of each."""

from __future__ import annotations

from lexlip.data.grammar import usable_words


def true_words(scene):
    """Return all words that a caption could truthfully use of the scene, synonyms included."""
    return usable_words(scene.groups, scene.ground)
