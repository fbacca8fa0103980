"""The API key of a server: from a file, the environment or the command line."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from lexlip.errors import LexLIPError

ENOUGH = 16
"""Characters of a key; 16 at random are over 80 bits, which nobody guesses at 10 a minute."""

_MAKE = "python -c 'import secrets; print(secrets.token_urlsafe(24))'"


def read_key(given: str | None, file: Path | None) -> str | None:
    """Return the key that requests must carry; None for none.

    Parameters
    ----------
    given : str, optional
        From the command line or the environment.
    file : Path, optional
        Its first line is the key; it comes before what is given.

    Raises
    ------
    LexLIPError
        When the file cannot be read, holds no key, or more than one line.
    """
    if file is None:
        return given or None
    try:
        lines = file.read_text(encoding="utf-8").strip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise LexLIPError(f"{file} cannot be read ({reason}): write the API key into it") from None
    if len(lines) != 1:
        raise LexLIPError(f"{file} has {len(lines)} lines: write one into it, the API key")
    return lines[0].strip()


def doubts(key: str | None, file: Path | None) -> list[str]:
    """Return what makes a key easy to find, a line each.

    Examples
    --------
    >>> doubts("0123456789abcdef", None), doubts(None, None)
    ([], [])
    """
    lines = []
    if key is not None and len(key) < ENOUGH:
        lines.append(f"the API key has {len(key)} characters: take {ENOUGH} or more, as of {_MAKE}")
    if file is not None and os.name == "posix":
        if stat.S_IMODE(file.stat().st_mode) & (stat.S_IRGRP | stat.S_IROTH):
            lines.append(f"others on this machine can read {file}: chmod 600 {file}")
    return lines
