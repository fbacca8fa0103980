"""The grammar of captions: words for every attribute, and sentences made with their meaning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from random import Random

from lexlip.data.draw import COLOURS, SHAPES, Group
from lexlip.data.meaning import Pattern, Predicate, places, relations

COUNT_WORDS = {1: ("one", "a single"), 2: ("two", "a pair of"), 3: ("three",)}
SIZE_WORDS = {"small": ("small", "little"), "large": ("large", "big")}
TEXTURE_WORDS = {
    "plain": ("plain", "solid"),
    "striped": ("striped",),
    "dotted": ("dotted", "spotted"),
    "hollow": ("hollow", "empty"),
}
PLACE_PHRASES = {
    "left": ("on the left", "on the left side"),
    "right": ("on the right", "on the right side"),
    "top": ("at the top",),
    "bottom": ("at the bottom",),
    "middle": ("in the middle", "in the center"),
    **{
        f"{v} {h}": (f"in the {v} {h} corner",)
        for v, h in product(("top", "bottom"), ("left", "right"))
    },
}
RELATION_PHRASES = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
    "beside": ("beside", "next to"),
}
GROUND_PHRASES = {
    "snow": ("on the snow", "in the snow"),
    "sand": ("on the sand", "on a beach"),
    "grass": ("on the grass", "on a lawn"),
    "sky": ("in the sky",),
    "stone": ("on stone", "on a stone wall"),
    "night": ("at night", "in the dark"),
}


@dataclass(frozen=True)
class Caption:
    """A sentence and what it means."""

    text: str
    predicate: Predicate


def _plural(shape: str) -> str:
    return shape + ("es" if shape.endswith("s") else "s")


def _noun(group: Group, rng: Random, detail: float, vague: str = "") -> tuple[str, Pattern]:
    """Make a noun phrase; `detail` is how likely texture and size are each named.

    `vague` is "colour" or "shape" to leave that one out.
    """
    texture = group.texture if rng.random() < detail else None
    size = group.size if rng.random() < detail else None
    colour = None if vague == "colour" else group.colour
    shape = None if vague == "shape" else group.shape
    noun = shape or "shape"
    words = [rng.choice(SIZE_WORDS[size])] if size else []
    words += [rng.choice(TEXTURE_WORDS[texture])] if texture else []
    words += [colour] if colour else []
    words.append(noun if group.count == 1 else _plural(noun))
    count = rng.choice(COUNT_WORDS[group.count])
    if group.count == 1 and rng.random() < 0.8:
        count = "an" if words[0][0] in "aeiou" else "a"
    pattern = Pattern(shape, colour, texture, size, group.count)
    return " ".join([count, *words]), pattern


def _place(group: Group, rng: Random) -> tuple[str, str]:
    names = places(group)
    name = names[0] if rng.random() < 0.6 else rng.choice(names)
    return rng.choice(PLACE_PHRASES[name]), name


def _caption_one(group: Group, ground: str, rng: Random) -> Caption:
    """Describe the only group of a scene, mostly saying that it is the only one."""
    noun, pattern = _noun(group, rng, 0.9)
    where, place = _place(group, rng)
    located = replace(pattern, place=place)
    around = rng.choice(GROUND_PHRASES[ground])
    form = rng.randrange(6)
    if form == 0:
        return Caption(f"only {noun} {around}", Predicate((pattern,), None, ground, True))
    if form == 1:
        return Caption(f"just {noun} {where}", Predicate((located,), None, None, True))
    if form == 2:
        return Caption(f"nothing but {noun} {where}", Predicate((located,), None, None, True))
    if form == 3:
        return Caption(f"{noun} {where} {around}", Predicate((located,), None, ground))
    if form == 4:
        return Caption(f"{noun} alone {around}", Predicate((pattern,), None, ground, True))
    return Caption(f"{noun} alone {where}", Predicate((located,), None, None, True))


def _caption_many(groups: Sequence[Group], ground: str, rng: Random) -> Caption:
    """Describe two groups, or all three, of a scene with several."""
    chosen = rng.sample(list(groups), len(groups))
    all_three = len(chosen) == 3 and rng.random() < 0.45
    chosen = chosen if all_three else chosen[:2]
    named = None if rng.random() < 0.4 else ground
    vague = rng.choice(("colour", "shape")) if named and rng.random() < 0.1 else ""
    phrases = [
        _noun(group, rng, 0.2 if all_three else 0.55, vague if i == 1 else "")
        for i, group in enumerate(chosen)
    ]
    texts, patterns = [t for t, _ in phrases], [p for _, p in phrases]
    around = rng.choice(GROUND_PHRASES[ground]) if named else ""
    relation = None
    form = rng.randrange(6)
    if all_three:
        a, b, c = texts
        text = f"{a} with {b} and {c}" if form < 3 else f"{a} and {b} and {c}"
    elif form < 3 and relations(chosen[0], chosen[1]):
        relation = rng.choice(relations(chosen[0], chosen[1]))
        text = f"{texts[0]} {rng.choice(RELATION_PHRASES[relation])} {texts[1]}"
    elif form == 3:
        spots = [_place(group, rng) for group in chosen]
        text = " and ".join(f"{t} {where}" for t, (where, _) in zip(texts, spots, strict=True))
        patterns = [replace(p, place=name) for p, (_, name) in zip(patterns, spots, strict=True)]
    elif form == 4:
        verb = "is" if texts[0].split()[0] in ("a", "an", "one") else "are"
        text = f"there {verb} {texts[0]} and {texts[1]}"
    else:
        text = f"{texts[0]} with {texts[1]}"
    if around:
        text = f"{around} {text}" if relation and rng.random() < 0.2 else f"{text} {around}"
    return Caption(text, Predicate(tuple(patterns), relation, named))


def make_captions(groups: Sequence[Group], ground: str, rng: Random, n: int = 5) -> list[Caption]:
    """Make `n` different true captions of a scene with these groups and this ground."""
    made: dict[str, Caption] = {}
    while len(made) < n:
        caption = (
            _caption_one(groups[0], ground, rng)
            if len(groups) == 1
            else _caption_many(groups, ground, rng)
        )
        made.setdefault(caption.text, caption)
    return list(made.values())


def _words(phrases: Iterable[str]) -> set[str]:
    return {word for phrase in phrases for word in phrase.split()}


def vocabulary() -> list[str]:
    """Return every word that captions are made of, sorted.

    Examples
    --------
    >>> "striped" in vocabulary(), "zebra" in vocabulary()
    (True, False)
    """
    words = set(COLOURS) | {*SHAPES, "shape"} | {_plural(shape) for shape in (*SHAPES, "shape")}
    tables: tuple[dict, ...] = (COUNT_WORDS, SIZE_WORDS, TEXTURE_WORDS, PLACE_PHRASES)
    for table in (*tables, RELATION_PHRASES, GROUND_PHRASES):
        words |= _words(phrase for phrases in table.values() for phrase in phrases)
    words |= {"a", "an", "is", "are", "there", "and", "with"}
    return sorted(words | {"only", "just", "alone", "nothing", "but"})
