"""The drawing of an explanation: a tile for each of the heaviest words."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from PIL import Image

from lexlip.explain.alignment_drawing import draw
from lexlip.explain.drawing import LOWERS, RAISES, fit, sheet, warm
from lexlip.explain.explanation import Explanation

_TILE = 236
"""Width of a tile in pixels: sixteen fit on a screen."""


def draw_explanation(found: Explanation, picture: Any, most: int = 11) -> Image.Image:
    """Draw a picture, and a tile for each of the words that count most.

    Parameters
    ----------
    found : Explanation
        With patches.
    picture : path, bytes, PIL image or array
    most : int
        Words that get a tile.

    Returns
    -------
    PIL image
        The picture with its score; a tile a word, with the heat of the word (or, where they are
        known, the pixels that it needs), its winning patch in a frame, and what it adds to the
        score; and, where the model has heads for it, which word each patch matches best.
    """
    assert found.patches is not None
    base, shown = fit(picture, _TILE), found.patches
    heat = shown.heat if found.pixels is None else found.pixels
    tiles: list[tuple[Image.Image, Sequence[str]]] = [
        (base, [f"score {found.score}", *_lines(str(found.query.query))])
    ]
    for word in sorted(found.words, key=lambda word: -abs(word.score))[:most]:
        term, colour = found.terms[word.word], RAISES if word.score >= 0 else LOWERS
        tile = warm(base, heat[term], shown.patches[term], shown.box, colour)
        tiles.append((tile, [word.word, f"{word.query} x {word.impact} = {word.score}"]))
    if found.alignment is not None:
        aligned = draw(picture, found.alignment, _TILE)
        tiles.append((aligned, ["alignment", "the word each patch matches best"]))
    return sheet(tiles)


def _lines(text: str, letters: int = 34, most: int = 3) -> list[str]:
    """Break a text into lines; the last takes what is left."""
    lines = textwrap.wrap(text, letters)
    return [*lines[: most - 1], " ".join(lines[most - 1 :])] if len(lines) > most else lines
