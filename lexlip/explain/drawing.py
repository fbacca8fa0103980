"""Pictures of explanations: where patches lie on a picture, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lexlip.data.images import read_image
from lexlip.models.localisation.results import Box, cell

RAISES, LOWERS = "#ff6a00", "#1f6fff"
"""Colour of a word that adds to a score, and of one that takes from it."""

_GAP = 14
_LINE = 20


def fit(picture: Any, width: int) -> Image.Image:
    """Read a picture and bring it to a width; it keeps its shape, up to 2 : 1 and 1 : 8."""
    upright = read_image(picture, None, 2 * width)
    ratio = min(2.0, max(0.125, upright.height / upright.width))
    return upright.resize((width, max(1, round(width * ratio))), Image.Resampling.LANCZOS)


def _fill(
    layer: Image.Image, grid: tuple[int, int], colours: Sequence[int | str], box: Box
) -> ImageDraw.ImageDraw:
    """Give each patch of a layer its colour; what is smaller than a pixel is left out."""
    brush = ImageDraw.Draw(layer)
    for patch, colour in enumerate(colours):
        left, top, right, bottom = cell(layer.size, grid, patch, box)
        if right > left and bottom > top:
            brush.rectangle((left, top, right - 1, bottom - 1), fill=colour)
    return brush


def warm(
    picture: Image.Image, heat: NDArray[np.float32], patch: int, box: Box, colour: str = RAISES
) -> Image.Image:
    """Draw the heat of a word over a picture, and frame a patch.

    Parameters
    ----------
    picture : PIL image
    heat : float32 [rows, columns]
        0 or more. Where it is largest the picture keeps its colours, below a tint; where it is 0
        the picture is grey.
    patch : int
        The patch that is framed, row by row from 0; -1 frames none.
    box : (float, float, float, float)
        As for `cell`.
    colour : str
        Of the tint and the frame.
    """
    grid = (heat.shape[0], heat.shape[1])
    share = heat / max(float(heat.max()), 1e-9)
    mask = Image.new("L", picture.size)
    _fill(mask, grid, np.rint(255 * share).astype(int).flatten().tolist(), box)
    grey = Image.blend(picture.convert("L").convert("RGB"), _plain(picture, "white"), 0.5)
    lit = Image.blend(picture, _plain(picture, colour), 0.4)
    made = Image.composite(lit, grey, mask)
    if patch >= 0:
        left, top, right, bottom = cell(picture.size, grid, patch, box)
        brush = ImageDraw.Draw(made)
        brush.rectangle((left - 2, top - 2, right + 1, bottom + 1), outline="white", width=2)
        brush.rectangle(
            (left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=3
        )
    return made


def paint(
    picture: Image.Image, grid: tuple[int, int], colours: Sequence[str], box: Box
) -> Image.Image:
    """Draw a colour over each patch of a picture."""
    layer = picture.copy()
    _fill(layer, grid, colours, box)
    made = Image.blend(picture, layer, 0.45)
    brush = ImageDraw.Draw(made)
    for patch in range(len(colours)):
        brush.rectangle(cell(picture.size, grid, patch, box), outline="#202020")
    return made


def sheet(tiles: Sequence[tuple[Image.Image, Sequence[str]]], columns: int = 4) -> Image.Image:
    """Lay out pictures of one width in rows, each with lines of text below.

    Parameters
    ----------
    tiles : sequence of (PIL image, sequence of str)
        The first line of a text is larger; what is too long for a line is cut.
    columns : int
        Most pictures in a row.

    Returns
    -------
    PIL image
    """
    columns = min(columns, len(tiles))
    width = max(image.width for image, _ in tiles)
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    heights = [
        max(image.height + 6 + len(text) * _LINE for image, text in row) + _GAP for row in rows
    ]
    made = Image.new("RGB", (_GAP + columns * (width + _GAP), _GAP + sum(heights)), "white")
    brush, top = ImageDraw.Draw(made), _GAP
    for row, height in zip(rows, heights, strict=True):
        for column, (image, text) in enumerate(row):
            left = _GAP + column * (width + _GAP)
            made.paste(image, (left, top))
            for number, line in enumerate(text):
                letters = font(16 if number == 0 else 13)
                place = left, top + image.height + 6 + number * _LINE
                brush.text(place, _shortened(line, width, letters), fill="#202020", font=letters)
        top += height
    return made


def font(size: int) -> Any:
    """Return Pillow's own font, which is there on every machine."""
    return ImageFont.load_default(size=size)


def _shortened(text: str, width: int, letters: Any) -> str:
    """Cut a line to a width in pixels."""
    if letters.getlength(text) <= width:
        return text
    while text and letters.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _plain(like: Image.Image, colour: str) -> Image.Image:
    return Image.new("RGB", like.size, colour)
