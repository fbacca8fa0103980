"""Merges of parts: which of them a commit writes anew, and that they are sound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from lexlip.engines.postings.parts import Part
from lexlip.engines.postings.snapshot import Snapshot


def check_read(
    snapshot: Snapshot, merged: Iterable[Part], alive: Mapping[Part, NDArray[np.uint8] | None]
) -> None:
    """Check every byte that a commit reads to write it anew, so that damage gets no new checksum.

    Those are the parts that it merges, their masks, and masks in which more documents die.

    Raises
    ------
    LexLIPError
        Names the first damaged file.
    """
    masks: dict[str, str | None] = snapshot.generation.data.get("parts", {})
    dying = [part for part, mask in alive.items() if mask is not part.alive]
    parts = [part.name for part in merged]
    parts += [mask for part in (*merged, *dying) if (mask := masks[part.name])]
    snapshot.generation.check_digests(dict.fromkeys(parts))


def to_merge(living: Mapping[Part, int], added: int, everything: bool, small: int) -> list[Part]:
    """Choose the parts that a commit of `added` documents merges into its new part.

    From the smallest up: those that the new part would reach in size, and those that are mostly
    dead. So a document is rewritten once per doubling of the collection, and never more than half
    of a part is dead. Parts of up to `small` documents are merged always.
    """
    chosen = []
    for part in sorted(living, key=living.__getitem__):
        mostly_dead = living[part] * 2 < len(part.ids)
        if everything or mostly_dead or (added and living[part] <= max(added, small)):
            chosen.append(part)
            added += living[part]
    return chosen
