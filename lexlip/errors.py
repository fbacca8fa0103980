"""The one exception that people are meant to read."""

from __future__ import annotations


class LexLIPError(Exception):
    """A problem that its reader can mend: one line, what happened and what to do about it.

    The command line prints the message and exits with code 2; a library user catches this
    class. Anything else that escapes is a bug of lexlip.

    Examples
    --------
    >>> raise LexLIPError("no picture in photos/: give a folder that holds .jpg or .png files")
    Traceback (most recent call last):
        ...
    lexlip.errors.LexLIPError: no picture in photos/: give a folder that holds .jpg or .png files
    """
