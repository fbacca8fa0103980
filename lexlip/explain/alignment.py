"""Which word each patch of a picture matches best: late interaction as data and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lexlip.data.images import read_image
from lexlip.errors import LexLIPError
from lexlip.explain.drawing import WHOLE, Box, fit, font, paint
from lexlip.explain.provenance import layout
from lexlip.rerank.late import alignment

if TYPE_CHECKING:
    from lexlip.models.lexlip import LexLIP

COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#9a6324")
TEMPLATES = ("a photo of a {}", "a {}", "there is a {} in the picture")


@dataclass(frozen=True)
class WordPatches:
    """The words of a text, and where a picture shows them.

    Attributes
    ----------
    words : tuple of str
        Word pieces, in the order of the text.
    patches : int64 [rows, columns]
        Number of the word that each patch matches best; -1 for a text without words.
    cosines : float32 [rows, columns]
        How well it does.
    box : (float, float, float, float)
        Where on the picture the patches lie, as of `lexlip.explain.provenance.Provenance`.
    """

    words: tuple[str, ...]
    patches: NDArray[np.int64]
    cosines: NDArray[np.float32]
    box: Box = WHOLE

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.patches.shape[0], self.patches.shape[1]

    def share(self, word: str) -> NDArray[np.bool_]:
        """True at the patches that match a word, or one of its pieces, best."""
        found = _pieces(self.words, word)
        return np.isin(self.patches, found)


def align(model: LexLIP, picture: Any, text: str) -> WordPatches:
    """Match each patch of a picture with a word of a text.

    Parameters
    ----------
    model : LexLIP
        With a token head over all patches.
    picture : path, bytes, PIL image or array
    text : str

    Raises
    ------
    LexLIPError
        When the model has no such head, or the picture cannot be read.
    """
    if not model.config.token_size or model.config.token_count:
        raise LexLIPError(
            "this model has no token for each patch: train heads with token_size, and without "
            "token_count (make pretrain-heads)"
        )
    upright = read_image(picture)
    seen, said = model.represent_image([upright])[1], model.represent_text([text])[1]
    patches = torch.from_numpy(seen.tokens[0, : seen.counts[0]])
    words = torch.from_numpy(said.tokens[0, : said.counts[0]])
    found = alignment(patches, words)
    grid, box = layout(model, upright.size, len(patches))
    return WordPatches(
        _spoken(model, text),
        found.words.numpy().reshape(grid),
        found.cosines.numpy().astype(np.float32).reshape(grid),
        box,
    )


def heat(
    model: LexLIP, picture: Any, label: str, templates: Sequence[str] = TEMPLATES
) -> NDArray[np.float32]:
    """Where a picture shows a thing: the share of prompts by which each patch does.

    Each prompt is matched by itself, and what is averaged is the outcome: the words of different
    prompts stand at different places, so their vectors must not be averaged.

    Parameters
    ----------
    model, picture
        As for `align`.
    label : str
        What to look for.
    templates : sequence of str
        Prompts with ``{}`` for the label.

    Returns
    -------
    float32 [rows, columns]
        0..1.
    """
    if not templates:
        raise LexLIPError("no prompt template: give at least one")
    found = [align(model, picture, template.format(label)).share(label) for template in templates]
    return np.mean(found, axis=0, dtype=np.float32)


def draw(picture: Any, found: WordPatches, width: int = 448) -> Image.Image:
    """Draw a picture with its patches in the colours of the words that they match best.

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


def _spoken(model: LexLIP, text: str) -> tuple[str, ...]:
    """The word pieces of a text that take part, in the order of its tokens."""
    assert model.processor is not None
    tokens = model.processor.tokenize([text], model.config.max_text_length)
    mask = model.text.positions(tokens["input_ids"], tokens["attention_mask"])
    ids = tokens["input_ids"][mask].tolist()
    return tuple(model.processor.tokenizer.convert_ids_to_tokens(ids))


def _pieces(words: Sequence[str], word: str) -> list[int]:
    """Numbers of the pieces that spell a word, or any of several words."""
    wanted = {part.lower() for part in word.split()}
    found: list[int] = []
    start = 0
    while start < len(words):
        end = start + 1
        while end < len(words) and words[end].startswith("##"):
            end += 1
        whole = words[start] + "".join(piece.removeprefix("##") for piece in words[start + 1 : end])
        if whole.lower() in wanted:
            found += range(start, end)
        start = end
    return found
