"""What a query about drawn scenes asks for, read from its text, and the scenes that have it.

The reader knows the grammar of captions and the grammar of queries, and no model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from lexlip.data.draw import COLOURS, SHAPES
from lexlip.data.grammar import (
    COUNT_WORDS,
    GROUND_PHRASES,
    PLACE_PHRASES,
    RELATION_PHRASES,
    SIZE_WORDS,
    TEXTURE_WORDS,
    vocabulary,
)
from lexlip.data.meaning import Pattern, Predicate, holds
from lexlip.errors import LexLIPError
from lexlip.query.parser import parse


def plural(shape):
    return shape + ("es" if shape.endswith("s") else "s")


def _meanings(table):
    """Phrase -> what it means, the longest phrases first."""
    pairs = {phrase: meaning for meaning, phrases in table.items() for phrase in phrases}
    return dict(sorted(pairs.items(), key=lambda pair: -len(pair[0])))


def _last_word(phrase):
    return phrase.split()[-1]


SHAPE_NAMES = {form: one for one in SHAPES for form in (one, plural(one))}
COUNTS = {"single": 1, "pair": 2} | {
    phrase: n for phrase, n in _meanings(COUNT_WORDS).items() if " " not in phrase
}
SIZES, TEXTURES = _meanings(SIZE_WORDS), _meanings(TEXTURE_WORDS)
PLACES, RELATIONS = _meanings(PLACE_PHRASES), _meanings(RELATION_PHRASES)
GROUNDS = {_last_word(phrase): ground for phrase, ground in _meanings(GROUND_PHRASES).items()}
GROUNDS |= {"stone": "stone"}
WORDS = frozenset(vocabulary())


def _pattern(text):
    """The description that a noun phrase gives; an empty one if it names nothing."""
    found = Pattern()
    for phrase, place in PLACES.items():
        if phrase in text:
            text, found = text.replace(phrase, " "), replace(found, place=place)
    for word in text.split():
        if word in SHAPE_NAMES:
            found = replace(found, shape=SHAPE_NAMES[word])
        for field, table in (("count", COUNTS), ("size", SIZES), ("texture", TEXTURES)):
            if word in table:
                found = replace(found, **{field: table[word]})
        if word in COLOURS:
            found = replace(found, colour=word)
    return found


def meaning(text):
    """What a text asks for. "a heart" is a heart at least; other numbers are exact.

    Examples
    --------
    >>> meaning("two red hearts in the snow").ground
    'snow'
    """
    ground = next((GROUNDS[word] for word in text.split() if word in GROUNDS), None)
    relation = next((r for phrase, r in RELATIONS.items() if f" {phrase} " in text), None)
    joints = "|".join(map(re.escape, [*RELATIONS, "and", "with"]))
    patterns = [_pattern(part) for part in re.split(rf"\b(?:{joints})\b(?! side| corner)", text)]
    return Predicate(tuple(one for one in patterns if one != Pattern()), relation, ground)


@dataclass(frozen=True)
class Asked:
    """What a query asks for: all of these, none of those. Parts need not be different groups."""

    wanted: tuple[Predicate, ...]
    excluded: tuple[Predicate, ...] = ()

    def fits(self, scene):
        """Whether the scene is a right hit."""

        def there(one):
            return holds(one, scene.ground, scene.groups)

        return all(map(there, self.wanted)) and not any(map(there, self.excluded))


def asked(query):
    """What a query says, or None if it says anything that captions of scenes do not.

    A weight above 0 asks for its text. Subtraction (`-0.5:moon`) asks for nothing: what is left is
    wanted still. A condition asks for its word, or for its absence.
    """
    try:
        tree = parse(query, images=False)
    except LexLIPError:
        return None
    wanted, excluded = [], [one.text for one in tree.exclusions]
    for part in tree.parts:
        texts = [(part.content, 1)] if isinstance(part.content, str) else part.content
        wanted += [text for text, weight in texts if weight * part.weight > 0]
        unwanted = [text for text, weight in texts if weight * part.weight < 0]
        if not WORDS.issuperset(" ".join(unwanted).split()):
            return None
    wanted += [one.text for one in tree.musts] + [word for word, _ in tree.boosts]
    said = [*wanted, *excluded]
    if not wanted or not WORDS.issuperset(" ".join(said).split()):
        return None
    return Asked(tuple(map(meaning, wanted)), tuple(map(meaning, excluded)))
