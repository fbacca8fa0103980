"""The small files of an index: whether they say what was written, and something that can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lexlip.build.manifest import read_manifest
from lexlip.data.roots import Sources
from lexlip.errors import LexLIPError


def damaged_facts(path: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Return a line for each of ``manifest.json`` and ``sources.json`` that is damaged."""
    readers: tuple[Callable[[], object], ...] = (
        lambda: read_manifest(path),
        lambda: Sources.read(path, manifest),
    )
    damaged = []
    for read in readers:
        try:
            read()
        except LexLIPError as error:
            damaged.append(str(error))
    return damaged
