"""Meanings of captions, apart from their words: patterns of groups, and their places.

`lexlip.data.scenes` states the meaning in full; here it is as data and functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product

from lexlip.data.draw import REGIONS, Group


@dataclass(frozen=True)
class Pattern:
    """A noun phrase's description of one group; None says nothing."""

    shape: str | None = None
    colour: str | None = None
    texture: str | None = None
    size: str | None = None
    count: int | None = None
    place: str | None = None

    def fits(self, group: Group) -> bool:
        """Tell whether the group has everything that is said of it."""
        return (
            self.colour in (None, group.colour)
            and self.shape in (None, group.shape)
            and self.count in (None, group.count)
            and self.size in (None, group.size)
            and self.texture in (None, group.texture)
            and (self.place is None or self.place in places(group))
        )


@dataclass(frozen=True)
class Predicate:
    """The meaning of a caption: different groups fit the patterns, and the rest holds too.

    `relation` is how the first pattern's group lies to the second's, `ground` the kind of ground,
    `alone` says that there is no other group.
    """

    patterns: tuple[Pattern, ...]
    relation: str | None = None
    ground: str | None = None
    alone: bool = False


def places(group: Group) -> tuple[str, ...]:
    """Return every place name true of a group: its region and, for a corner, both its sides.

    Examples
    --------
    >>> places(Group("star", "red", "plain", "small", 1, "top left"))
    ('top left', 'top', 'left')
    """
    return _PLACES[group.region]


_PLACES = {r: (r, *r.split()) if " " in r else (r,) for r in REGIONS}


def relations(a: Group, b: Group) -> tuple[str, ...]:
    """Return every relation that group `a` has to group `b` (left, right, above, below, beside)."""
    return _RELATIONS[a.region, b.region]


def _relate(first: str, second: str) -> tuple[str, ...]:
    a, b = _PLACES[first], _PLACES[second]
    opposite = {"left": "right", "right": "left", "above": "bottom", "below": "top"}
    named = {"left": "left", "right": "right", "above": "top", "below": "bottom"}
    found = tuple(r for r in named if named[r] in a and opposite[r] in b)
    return (*found, "beside") if found in (("left",), ("right",)) else found


_RELATIONS = {(a, b): _relate(a, b) for a, b in product(REGIONS, REGIONS)}


def holds(predicate: Predicate, ground: str, groups: Sequence[Group]) -> bool:
    """Tell whether a caption with this meaning is true of these groups on this ground."""
    wanted = predicate.patterns
    if predicate.ground not in (None, ground) or len(wanted) > len(groups):
        return False
    if predicate.alone and len(groups) > len(wanted):
        return False
    for chosen in permutations(groups, len(wanted)):
        if all(pattern.fits(group) for pattern, group in zip(wanted, chosen, strict=True)) and (
            predicate.relation is None or predicate.relation in relations(chosen[0], chosen[1])
        ):
            return True
    return False
