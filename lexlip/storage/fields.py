"""Fields of rows: arrays of several sources, read and written row by row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from lexlip.storage.arrays import save_blocks
from lexlip.storage.part_store import Places

_BLOCK = 2**23
"""Bytes that are held at a time while a part is written."""


class HasFields(Protocol):
    """Rows whose numbers lie in arrays with a row each."""

    @property
    def fields(self) -> Mapping[str, NDArray[Any]]:
        """The arrays by name."""


F = TypeVar("F", bound=HasFields)


def take(places: Places[F], name: str) -> NDArray[Any]:
    """Return rows of a field, zeros for missing ones and after the end of shorter ones."""
    shapes = [source.fields[name].shape[1:] for source in places.sources]
    shape = (len(places), *map(max, zip(*shapes, strict=True)))
    spans = [(source.fields[name], where, rows) for source, where, rows in places.spans]
    if len(spans) == 1:
        field, where, rows = spans[0]
        if (where.size, *field.shape[1:]) == shape:
            return field[rows]
    out = np.zeros(shape, places.sources[0].fields[name].dtype)
    for field, where, rows in spans:
        corner: tuple[Any, ...] = (where, *map(slice, field.shape[1:]))
        out[corner] = field[rows]
    return out


def save(folder: Path, places: Places[F]) -> None:
    """Write rows of all fields as files of a part, a bounded number at a time."""
    for name in places.sources[0].fields:
        first = take(places[:1], name)
        block = max(1, _BLOCK // max(1, first.nbytes))
        shape = (len(places), *first.shape[1:])
        rows = (take(places[at : at + block], name) for at in range(0, len(places), block))
        save_blocks(folder, name, first.dtype, shape, rows)
