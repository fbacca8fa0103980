"""Bounds of a checkpoint's files: what no model has is refused before anything is loaded.

A checkpoint may come from anybody. Weights are safetensors, so their sizes are known before they
are read, and a library compares them with config.json. Three things remain that cost time, memory
or trust: a count of layers, which are built before they are compared, texts that are parsed whole,
and code of a hub that a setting asks for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lexlip.errors import LexLIPError

LAYERS = 1_000
"""Twice what the deepest networks have; these are built in seconds."""

SIDE = 8_192
"""Pixels of a side that a picture is brought to."""

TEXT = 16 * 2**20
"""Bytes of a JSON file. Those of known models are below 6 million."""

VOCABULARY = 64 * 2**20
"""Bytes of a tokenizer's file. That of Gemma, with 256,000 tokens, has 35 million."""

VOCABULARIES = (
    "tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model",
)  # fmt: skip
_CONFIG, _PREPROCESSING = "config.json", "preprocessor_config.json"
_READ = re.compile(r".*config.*\.json|(manifest|modules|added_tokens|special_tokens_map)\.json")
_ATTENTION = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")


def check_size(path: str | os.PathLike[str]) -> None:
    """Refuse a text file of a checkpoint that is larger than that of any model.

    Raises
    ------
    LexLIPError

    Examples
    --------
    >>> check_size("no-such-file.json")
    """
    most = VOCABULARY if os.path.basename(path) in VOCABULARIES else TEXT
    try:
        size = os.stat(path).st_size
    except OSError:  # missing: told by what opens it
        return
    if size > most:
        raise LexLIPError(
            f"{path} has {size / 2**20:.0f} MiB, no model needs more than {most / 2**20:.0f}: "
            "take a checkpoint from somebody you trust"
        )


def check_bounds(name: str | os.PathLike[str], revision: str | None = None) -> None:
    """Check what a checkpoint says about itself, before anything of it is loaded.

    Parameters
    ----------
    name : str or path
        A folder, or a name on the hub.
    revision : str, optional
        Of a name on the hub.

    Raises
    ------
    LexLIPError
        For more than `LAYERS` layers, pictures of more than `SIDE` pixels a side, text files
        larger than `TEXT` and `VOCABULARY`, or attention that is fetched from a hub.
    """
    from lexlip.models.dual.files import find_file, read_json

    folder = Path(name)
    if folder.is_dir():
        for path in folder.rglob("*"):
            if path.name in VOCABULARIES or _READ.fullmatch(path.name):
                check_size(path)
        configs = [path.relative_to(folder).as_posix() for path in folder.rglob(_CONFIG)]
        pictures = [path.relative_to(folder).as_posix() for path in folder.rglob(_PREPROCESSING)]
    else:
        configs, pictures = [_CONFIG], [_PREPROCESSING]
        for file in (_CONFIG, _PREPROCESSING, VOCABULARIES[0]):
            if (place := find_file(name, file, revision)) is not None:
                check_size(place)
    for file in configs:
        for key, value in _settings(read_json(name, file, revision)):
            if key in _ATTENTION and isinstance(value, str) and "/" in value:
                raise LexLIPError(
                    f"{name}: {file} asks for code of a hub ({key} is {value!r:.60}): delete that "
                    "line; a built-in kind of attention is taken then"
                )
            if "layers" in key or "depth" in key:
                _at_most(LAYERS, name, file, key, value)
    for file in pictures:
        for key, value in _settings(read_json(name, file, revision)):
            if key in ("height", "width", "shortest_edge"):
                _at_most(SIDE, name, file, key, value)


def _at_most(most: int, name: Any, file: str, key: str, value: Any) -> None:
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, int | float) and number > most:
            raise LexLIPError(
                f"{name}: {file} says {key} = {number:.12g}, no model has more than {most:,}: take "
                "a checkpoint from somebody you trust"
            )


def _settings(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the settings of a JSON object, those of objects within it too."""
    pending = [value]
    while pending:
        found = pending.pop()
        if isinstance(found, dict):
            yield from found.items()
            pending.extend(found.values())
        elif isinstance(found, list):
            pending.extend(found)
