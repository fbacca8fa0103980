"""Files that a reader leaves out, counted by kind and said in a few lines."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

_MOST_KINDS = 12


@dataclass
class LeftOut:
    """Files and folders that are not among the pictures of a collection.

    Attributes
    ----------
    kinds : Counter of str
        How many of each kind: ``".mov"``, ``"hidden"``.
    closed : list of str
        Ids of folders that could not be opened: what they hold is unknown.
    skipped : list of (str, str)
        Pictures that cannot have an id, and why.
    notes : list of str
        Faults of files that describe pictures, a line each.
    patterns : tuple of str
        What was to be left out, besides what always is.

    Examples
    --------
    >>> LeftOut(Counter({".mov": 2, "hidden": 1})).lines("photos")
    ['photos: left out .mov (2), hidden (1)']
    """

    kinds: Counter[str] = field(default_factory=Counter)
    closed: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    patterns: tuple[str, ...] = ()

    def lines(self, source: str) -> list[str]:
        """Say what was left out of a source: a line for all kinds, then the notes."""
        most = self.kinds.most_common(_MOST_KINDS)
        said = [f"{kind} ({count})" for kind, count in most]
        if others := self.kinds.total() - sum(count for _, count in most):
            said.append(f"other kinds ({others})")
        kinds = [f"{source}: left out {', '.join(said)}"] if said else []
        return kinds + self.notes
