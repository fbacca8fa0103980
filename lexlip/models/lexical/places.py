"""Places of words for a dual encoder: patches and pixels of a picture, and words of a text.

Where the encoder shows its patches (`lexlip.models.dual.base.SeesPatches`, MaskCLIP: Zhou, Loy and
Dai, ECCV 2022), each word is compared with each patch. Any other encoder is asked again with parts
of the picture hidden (occlusion: Zeiler and Fergus, 2014). The words of a text are traced by
leaving out one after another.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lexlip.data.images import read_image
from lexlip.errors import LexLIPError
from lexlip.models.dual.base import AttendsText, SeesPatches
from lexlip.models.localisation.results import (
    WHOLE,
    Box,
    Provenance,
    Raised,
    TextProvenance,
    WordPatches,
    cell,
)
from lexlip.models.localisation.seen import box_of, checked_terms, coordinates

if TYPE_CHECKING:
    from lexlip.models.lexical.speaker import LexicalSpeaker

GRID = (7, 7)
"""Rows and columns of parts that are hidden, for an encoder that shows no patches."""

Maps = NDArray[np.float32]


def locate(speaker: LexicalSpeaker, picture: Any, terms: Iterable[int]) -> Provenance:
    """Find the patch that each word fits best.

    Parameters
    ----------
    speaker : LexicalSpeaker
    picture : path, bytes, PIL image or array
    terms : iterable of int
        Term ids.

    Returns
    -------
    Provenance
        Its heat is the cosine of patch and word, 0 or more; of an encoder without patches what
        `occlusion` finds. -1 for a word that no patch is near.

    Raises
    ------
    LexLIPError
        For a picture that cannot be read, and a number that is not a term id.
    """
    upright, wanted = read_image(picture), checked_terms(terms, len(speaker.lexicon.tokens))
    encoder = speaker.encoder
    if not isinstance(encoder, SeesPatches):
        heat = occlusion(speaker, upright, wanted)
        return Provenance(GRID, _winners(heat), heat)
    vectors, grid = encoder.embed_patches([upright])
    near = speaker.code.centred(vectors[0], "image") @ speaker.code.atoms.T
    maps = np.maximum(near, 0).T.reshape(-1, *grid)
    heat = _by_term(speaker, maps, wanted, grid)
    return Provenance(grid, _winners(heat), heat, seen_part(encoder, upright.size))


def occlusion(
    speaker: LexicalSpeaker, picture: Any, terms: Iterable[int], batch_size: int = 32
) -> dict[int, Maps]:
    """Measure how much of a word's cosine is lost when a part of the picture is hidden.

    A hidden part has the median colour of the picture. One pass of the encoder per part.

    Returns
    -------
    dict of int to float32 [rows, columns]
        Cosine that is lost, 0 or more, on the grid of `locate`.
    """
    upright, wanted = read_image(picture), checked_terms(terms, len(speaker.lexicon.tokens))
    encoder, grid, box = speaker.encoder, GRID, WHOLE
    if isinstance(encoder, SeesPatches):
        grid = encoder.embed_patches([upright])[1]
        box = seen_part(encoder, upright.size)
    pixels = np.asarray(upright.convert("RGB"))
    median = np.median(pixels.reshape(-1, 3), axis=0).astype(np.uint8)
    hidden = []
    for patch in range(grid[0] * grid[1]):
        left, top, right, bottom = cell(upright.size, grid, patch, box)
        copy = pixels.copy()
        copy[top:bottom, left:right] = median
        hidden.append(copy)
    whole, others = speaker.vectors_of([upright]), speaker.vectors_of(hidden, batch_size)
    lost = np.maximum((whole - others) @ speaker.code.atoms.T, 0)
    return _by_term(speaker, lost.T.reshape(-1, *grid), wanted, grid)


def trace(speaker: LexicalSpeaker, text: str, terms: Iterable[int] | None) -> TextProvenance:
    """Find the word of a text that raises each term: the one without which most of it is lost.

    Parameters
    ----------
    speaker : LexicalSpeaker
    text : str
    terms : iterable of int, optional
        Term ids; by default those that find (`LexicalSpeaker.choose`).
    """
    words = tuple(text.split())
    if not words:
        return TextProvenance((), {term: Raised(-1, 0.0, 0.0) for term in terms or ()})
    projections = _with_and_without(speaker, words)
    if terms is None:
        wanted = speaker.choose(projections[0]).tolist()
    else:
        wanted = checked_terms(terms, len(speaker.lexicon.tokens))
    raised = {}
    for term in wanted:
        whole = float(projections[0, term])
        word = int(projections[1:, term].argmin()) if whole > 0 else -1
        raised[term] = Raised(word, math.expm1(max(whole, 0)), 0.0)
    return TextProvenance(words, raised)


def _with_and_without(speaker: LexicalSpeaker, words: tuple[str, ...]) -> Maps:
    """Projections of a text, then of the text without each of its words, [1 + n, V]."""
    texts = [" ".join(words)]
    texts += [" ".join(words[:n] + words[n + 1 :]) for n in range(len(words))]
    return np.stack([speaker.project(vector) for vector in speaker.vectors_of(texts)])


def attention(speaker: LexicalSpeaker, text: str) -> list[tuple[str, float]]:
    """Share of each word in what the text encoder attends to in its last layer.

    An encoder that does not tell gives the share of each word in what the text's vector loses
    without it.
    """
    words, shares = text.split(), np.zeros(len(text.split()))
    if not words:
        return []
    encoder = speaker.encoder
    if isinstance(encoder, AttendsText):
        ends, at = np.cumsum([len(word) for word in words]), 0
        for piece, share in encoder.text_attention(text):
            shares[min(int(np.searchsorted(ends, at, side="right")), len(words) - 1)] += share
            at += len("".join(piece.split()))
    else:
        texts = [text, *(" ".join(words[:n] + words[n + 1 :]) for n in range(len(words)))]
        vectors = speaker.vectors_of(texts)
        shares += np.linalg.norm(vectors[1:] - vectors[:1], axis=1)
    total = float(shares.sum()) or 1.0
    return [(word, float(share) / total) for word, share in zip(words, shares, strict=True)]


def align(speaker: LexicalSpeaker, picture: Any, text: str) -> WordPatches:
    """Match each patch of a picture with the word of a text that it is nearest to.

    Raises
    ------
    LexLIPError
        When the encoder shows no patches, or the picture cannot be read.
    """
    encoder = speaker.encoder
    if not isinstance(encoder, SeesPatches):
        raise LexLIPError(f"{encoder.family} shows no patches to match with the words of a text")
    upright, words = read_image(picture), tuple(text.split())
    vectors, grid = encoder.embed_patches([upright])
    box = seen_part(encoder, upright.size)
    if not words:
        return WordPatches((), np.full(grid, -1), np.zeros(grid, np.float32), box)
    seen = speaker.code.centred(vectors[0], "image")
    near = seen @ speaker.vectors_of([encoder.prompt.format(word) for word in words]).T
    best = near.argmax(1)
    cosines = near[np.arange(len(near)), best].astype(np.float32)
    return WordPatches(words, best.reshape(grid), cosines.reshape(grid), box)


def seen_part(encoder: Any, size: tuple[int, int]) -> Box:
    """Return the part of a picture that an encoder's preprocessing keeps.

    The whole, where the encoder's pixels are not a picture (`lexlip.models.localisation.seen`).

    Parameters
    ----------
    encoder : DualEncoder
    size : (int, int)
        Width and height of the upright picture.
    """
    ramp = coordinates(size)
    pictures = [ramp, np.zeros_like(ramp), np.full_like(ramp, 255)]
    pixels = np.asarray(encoder.pixels(pictures)["pixel_values"], np.float64)
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        return WHOLE
    seen = (pixels[0] - pixels[1]) / np.maximum(pixels[2] - pixels[1], 1e-6)
    return box_of(seen)


def _winners(heat: dict[int, Maps]) -> dict[int, int]:
    return {term: int(seen.argmax()) if seen.max() > 0 else -1 for term, seen in heat.items()}


def _by_term(
    speaker: LexicalSpeaker, maps: Maps, terms: list[int], grid: tuple[int, int]
) -> dict[int, Maps]:
    column, nothing = speaker.lexicon.compact, np.zeros(grid, np.float32)
    return {t: maps[column[t]] if column[t] >= 0 else nothing for t in terms}
