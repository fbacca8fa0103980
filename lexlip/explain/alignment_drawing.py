"""Drawings of alignments: the word that each patch of a picture matches best."""

from __future__ import annotations

from typing import Any

from PIL import Image, ImageDraw

from lexlip.explain.drawing import fit, font, paint
from lexlip.models.localisation.results import WordPatches

COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#9a6324")


def draw(picture: Any, found: WordPatches, width: int = 448) -> Image.Image:
    """Draw a picture, each patch in the colour of the word that it matches best.

    Returns
    -------
    PIL image
        `width` pixels wide, the words in their colours below.
    """
    base = fit(picture, width)
    colours = [
        COLOURS[word % len(COLOURS)] if word >= 0 else "#808080" for word in found.patches.flat
    ]
    made = Image.new("RGB", (width, base.height + 30), "white")
    made.paste(paint(base, found.grid, colours, found.box))
    brush, place = ImageDraw.Draw(made), 6.0
    for number, spoken in enumerate(found.words):
        colour = COLOURS[number % len(COLOURS)]
        brush.text((place, base.height + 8), spoken, fill=colour, font=font(12))
        place += brush.textlength(spoken, font=font(12)) + 8
    return made
