"""Seals: small JSON files that carry a checksum of what they say, in the key ``sha256``.

Files from before there were seals have none, and are read as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from lexlip.errors import LexLIPError
from lexlip.storage.files import read_json, write_json

KEY = "sha256"


def _digest(facts: Mapping[str, Any]) -> str:
    """Return the SHA-256 of facts in one spelling: keys in order, no white space, ASCII."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()


def write_sealed(path: Path, facts: Mapping[str, Any]) -> None:
    """Write an object of JSON values with its checksum.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "facts.json"
    >>> write_sealed(path, {"scale": 2.5})
    >>> read_sealed(path)
    {'scale': 2.5}
    >>> _ = path.write_text(path.read_text().replace("2.5", "3.5"))
    >>> read_sealed(path)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    lexlip.errors.LexLIPError: ...facts.json is damaged: its checksum differs; restore it, ...
    """
    write_json(path, {**facts, KEY: _digest(facts)}, follow=False)


def read_sealed(path: Path) -> dict[str, Any]:
    """Read such an object, without its checksum.

    Raises
    ------
    LexLIPError
        When it is unreadable, no object, or not what was written.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise LexLIPError(f"{path} holds no table of facts: restore it, or build anew")
    sealed, seal = KEY in found, found.pop(KEY, None)
    if sealed and seal != _digest(found):
        raise LexLIPError(
            f"{path} is damaged: its checksum differs; restore it, or build the index anew"
        )
    return found
