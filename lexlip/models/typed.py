"""Texts as people type them: typographic characters, and the one form that a model reads.

A phone turns ``-blue`` into ``–blue``, a word processor straight quotes into curly ones, an input
method digits into full-width ones, and a file system letters into letters with combining accents.
All of these mean what they look like.
"""

from __future__ import annotations

import re
import unicodedata

_DASHES = (
    "\u058a\u05be\u1400\u1806\u2010\u2011\u2012\u2013\u2014\u2015\u2e17\u2e1a\u2e3a\u2e3b"
    "\u2e40\u2e5d\u301c\u3030\u30a0\ufe31\ufe32\ufe58\ufe63\uff0d\U00010ead"
)
"""Unicode's dashes, the hyphen of the keyboard left out."""

_MINUSES = "\u2212\u02d7\u207b\u208b\u2796\ufe63\uff0d"
"""Signs of arithmetic: they are a minus also with a space behind them."""

DOUBLE_QUOTES = (
    '"'
    "\u00ab\u00bb\u201c\u201d\u201e\u201f\u2033\u2036\u275d\u275e\u2760\u2e42\u300c\u300d\u300e"
    "\u300f\u301d\u301e\u301f\ufe41\ufe42\ufe43\ufe44\uff02\uff62\uff63\U0001f676\U0001f677\U0001f678"
)
_SINGLE = "\u00b4\u2018\u2019\u201a\u201b\u2032\u2035\u2039\u203a\u275b\u275c\u275f\uff07"
_UNSEEN = "\u00ad\u061c\u180e\u200b\u200e\u200f\u2060\ufeff" + "".join(
    map(chr, [*range(0x202A, 0x202F), *range(0x2061, 0x2070)])
)
"""Characters without width that say nothing: soft hyphens, byte order marks, directions."""

BLANK = "\u2800\u3164\uffa0"
"""Characters that look like a space, and are none to Unicode."""

_SIGNS: dict[str, str] = {
    **{chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # full width
    **dict.fromkeys(_MINUSES, "-"),
    **dict.fromkeys(DOUBLE_QUOTES, '"'),
    **dict.fromkeys(_SINGLE, "'"),
    **dict.fromkeys(_UNSEEN, ""),
    **dict.fromkeys(BLANK, " "),
    **dict.fromkeys("\u2265\u2267\u2a7e", ">="),
    **dict.fromkeys("\u2236\ufe13\ufe55", ":"),
    **dict.fromkeys("\u2795\ufe62", "+"),
}


def signs(text: str) -> tuple[str, list[int]]:
    """Return a text with the signs of a keyboard, and where each of its characters stood.

    Dashes become a hyphen where no space follows them: in ``sea – sun`` a dash is punctuation, and
    so it is at the end of a text, or of what stands between quotes. A minus sign is one anywhere.

    Returns
    -------
    str
    list of int
        The place in `text` of each character, and the length of `text`.

    Examples
    --------
    >>> signs("“red car” –blue must:sky≥9")[0]
    '"red car" -blue must:sky>=9'
    """
    if text.isascii():
        text = re.sub(r"\s", " ", text)
        return text, list(range(len(text) + 1))
    parts: list[str] = []
    places: list[int] = []
    within = False  # quotes
    for place, character in enumerate(text):
        new = character
        if character in DOUBLE_QUOTES and parts[-1:] != ["\\"]:
            within = not within and not "".join(parts[-1:]).isalnum()
        if character in _SIGNS:
            new = _SIGNS[character]
        elif character in _DASHES and not _ends(text, place + 1, within):
            new = "-"
        elif character.isspace():
            new = " "
        parts.append(new)
        places += [place] * len(new)
    return "".join(parts), [*places, len(text)]


def _ends(text: str, at: int, within: bool) -> bool:
    """Say whether a space, or nothing, follows; within quotes also a quote, escaped or not."""
    following = text[at : at + 1]
    escaped = following == "\\"
    last = within and text[at + escaped : at + escaped + 1] in DOUBLE_QUOTES
    return not following or following.isspace() or following in BLANK or last


def as_meant(text: str) -> str:
    """Return the one form of a text: keyboard signs, and composed characters (NFKC).

    Examples
    --------
    >>> as_meant("ｒｅｄ cafe\\u0301 – it’s\\u00a0open")
    "red café – it's open"
    """
    if text.isascii():
        return text if text.isprintable() else re.sub(r"\s", " ", text)
    while True:  # taking characters apart may bring new ones to light
        new = unicodedata.normalize("NFKC", signs(text)[0])
        if new == text:
            return text
        text = new
