"""Words of scenes: those that the grammar may use of each."""

from __future__ import annotations

from itertools import permutations

from lexlip.data.grammar import (
    COUNT_WORDS,
    GROUND_PHRASES,
    PLACE_PHRASES,
    RELATION_PHRASES,
    SIZE_WORDS,
    TEXTURE_WORDS,
)
from lexlip.data.meaning import places, relations


def _plural(shape):
    return shape + ("es" if shape.endswith("s") else "s")


def _words(phrases):
    return {word for phrase in phrases for word in phrase.split()}


def _group_words(group):
    form = str if group.count == 1 else _plural
    words = {group.colour, form(group.shape)}
    words |= _words(SIZE_WORDS[group.size] + TEXTURE_WORDS[group.texture])
    words |= _words(COUNT_WORDS[group.count])
    if group.count == 1:
        first = [*TEXTURE_WORDS[group.texture], group.colour, group.shape]
        words |= {"an"} if any(word[0] in "aeiou" for word in first) else set()
    return words.union(*(_words(PLACE_PHRASES[place]) for place in places(group)))


def true_words(scene):
    """Return all words that a caption could truthfully use of the scene, synonyms included."""
    groups = scene.groups
    words = _words(GROUND_PHRASES[scene.ground])
    words = words.union(*(_group_words(group) for group in groups))
    if len(groups) == 1:
        return words | {"only", "just", "alone", "nothing", "but"}
    for a, b in permutations(groups, 2):
        words |= _words(p for name in relations(a, b) for p in RELATION_PHRASES[name])
    # Only beside another group is one called just "a red shape".
    words |= {"shape" if group.count == 1 else _plural("shape") for group in groups}
    # "there is a pair of", "there are two"
    words |= _words({1: "is", 2: "is are", 3: "are"}[group.count] for group in groups)
    return words | {"and", "with", "there"}
