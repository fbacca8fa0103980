"""Blame: an unexpected error while something is read from a disk is told as damage, if it is one.

Files are mapped and only their sizes are checked when they are opened, so a flipped bit may come up
anywhere as an IndexError or a UnicodeDecodeError. Only then the checksums are compared: where one
differs, that is the line that a reader needs; where none does, the error is a bug, and stays.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from lexlip.errors import LexLIPError

C = TypeVar("C", bound=type)


def blames_damage(verify: str, methods: str) -> Callable[[C], C]:
    """Let methods of a class that has a `path` tell damage in one line.

    Parameters
    ----------
    verify : str
        Name of the method that returns a line for each damaged file.
    methods : str
        Names of those that read, with spaces between them.

    Examples
    --------
    >>> @blames_damage("check", "read")
    ... class Kept:
    ...     path = "kept"
    ...     def read(self):
    ...         return [][0]
    ...     def check(self):
    ...         return ["ids.npy is damaged"]
    >>> Kept().read()
    Traceback (most recent call last):
    lexlip.errors.LexLIPError: kept is damaged (ids.npy is damaged): restore it, or build it anew
    """

    def decorate(kind: C) -> C:
        for name in methods.split():
            setattr(kind, name, _blaming(getattr(kind, name), verify))
        return kind

    return decorate


def _blaming(method: Callable[..., Any], verify: str) -> Callable[..., Any]:
    @wraps(method)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except (LexLIPError, OSError):
            raise
        except Exception as error:
            try:
                damaged = getattr(self, verify)()
            except LexLIPError as also:
                damaged = [str(also)]
            if not damaged:
                raise
            raise LexLIPError(
                f"{self.path} is damaged ({damaged[0]}): restore it, or build it anew"
            ) from error

    return wrapped
