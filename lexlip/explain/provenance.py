"""Where a word comes from: the patch, or the word of a text, that won its maximum.

A weight is a maximum over positions, so the arg-max of the pooling says exactly which position
made it. For pictures that is one patch a word, and a map of what all others said; for texts it is
one word of the text, and what the model adds because the text has the word itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lexlip.data.crops import CORNERS, SIDE, check_crops, crop
from lexlip.data.images import read_image
from lexlip.errors import LexLIPError
from lexlip.explain.drawing import WHOLE, Box
from lexlip.models.pooling import log_saturate

if TYPE_CHECKING:
    from PIL import Image

    from lexlip.models.lexlip import LexLIP

_RAMP = 512
"""Longest side of the picture that finds out what a preprocessor keeps, in pixels."""


@dataclass(frozen=True)
class Provenance:
    """Where a picture says some words.

    Attributes
    ----------
    grid : (int, int)
        Rows and columns of patches.
    patches : dict of int to int
        Term id -> the patch that won its maximum, numbered row by row from 0; -1 for a word that
        the picture does not have.
    heat : dict of int to float32 [rows, columns]
        Term id -> what each patch alone would have made of the word: log(1 + relu(logit)). The
        largest is the word's weight in `LexLIP.encode_image`. With crops the largest of all looks
        that have their patch there: the weight is the mean of their largest.
    box : (float, float, float, float)
        Left, top, right and bottom of what the model saw of the upright picture, as shares of its
        width and height: the patches lie there. (0, 0, 1, 1) unless the preprocessor crops.
    """

    grid: tuple[int, int]
    patches: dict[int, int]
    heat: dict[int, NDArray[np.float32]]
    box: Box = WHOLE

    def shares(self, scores: Mapping[int, int]) -> NDArray[np.int64]:
        """Add up the scores of the words that each patch won.

        Parameters
        ----------
        scores : mapping
            Term id -> what it adds to a score (`Contribution.score`).

        Returns
        -------
        int64 [rows, columns]
            Their sum is that of the scores, less those of words that the picture does not have.

        Examples
        --------
        >>> found = Provenance((1, 2), {7: 1, 8: 1, 9: -1}, {})
        >>> found.shares({7: 300, 8: -20, 9: -5}).tolist()
        [[0, 280]]
        """
        shares = np.zeros(self.grid, np.int64)
        for term, score in scores.items():
            if self.patches[term] >= 0:
                shares.flat[self.patches[term]] += score
        return shares


@torch.no_grad()
def provenance(model: LexLIP, picture: Any, terms: Iterable[int], crops: int = 0) -> Provenance:
    """Find the patch that won each word of a picture, and what the other patches said.

    The winners are those of the model's own pooling; only the logits of `terms` are computed
    again, for the map.

    Parameters
    ----------
    model : LexLIP
    picture : path, bytes, PIL image or array
    terms : iterable of int
        Term ids, as `Index.query` gives them.
    crops : int
        Corners that were looked at beside the whole (`lexlip.data.crops`): their patches are laid
        over those of the whole picture.

    Raises
    ------
    LexLIPError
        For a picture that cannot be read, a number that is no term id, and a model whose weights
        are no maxima over positions (`LexicalCLIP`).

    Examples
    --------
    >>> found = provenance(model, "cat.jpg", index.query("a cat"))       # doctest: +SKIP
    >>> found.grid, found.patches                                        # doctest: +SKIP
    ((8, 8), {4937: 27})
    """
    check_localises(model)
    upright, wanted = read_image(picture), checked_terms(model, terms)
    found = _one_look(model, upright, wanted)
    for corner in CORNERS[: check_crops(crops)]:
        found = _laid_over(found, _one_look(model, crop(upright, corner), wanted), corner)
    return found


def _one_look(model: LexLIP, upright: Image.Image, wanted: list[int]) -> Provenance:
    assert model.processor is not None
    pixels = model.processor.pixels([upright]).to(model.device, model.dtype)
    hidden = model.vision(model.vision.features(pixels))
    head = model.image_head
    pooled, winner = head.pool(hidden)
    weights = log_saturate(pooled)[0].cpu().numpy()
    grid, box = layout(model, upright.size, hidden.shape[1])
    known = {t: int(c) for t in wanted if (c := model.lexicon.compact[t]) >= 0}
    columns = torch.tensor(list(known.values()), dtype=torch.int64, device=hidden.device)
    logits = head.transformed(hidden)[0] @ head.words[columns].T + head.bias[columns]
    maps = log_saturate(logits).T.reshape(-1, *grid).float().cpu().numpy()
    heat = dict(zip(known, maps, strict=True))
    won = {t: int(winner[0, column]) for t, column in known.items() if weights[column] > 0}
    nothing = np.zeros(grid, np.float32)
    return Provenance(
        grid, {t: won.get(t, -1) for t in wanted}, {t: heat.get(t, nothing) for t in wanted}, box
    )


def _laid_over(whole: Provenance, corner: Provenance, place: tuple[int, int]) -> Provenance:
    """Lay what a corner said over the whole: each patch goes where its middle is."""
    (height, width), (high, wide), (across, down) = whole.grid, corner.grid, place
    rows = _cells(whole.box[1::2], height, corner.box[1::2], high, down)
    columns = _cells(whole.box[::2], width, corner.box[::2], wide, across)
    cells = (rows[:, None] * width + columns).ravel()
    heat = {term: seen.copy() for term, seen in whole.heat.items()}
    for term, seen in corner.heat.items():
        np.maximum.at(heat[term].reshape(-1), cells, seen.ravel())
    patches = {term: int(seen.argmax()) if seen.max() > 0 else -1 for term, seen in heat.items()}
    return Provenance(whole.grid, patches, heat, whole.box)


def _cells(
    whole: Sequence[float], count: int, corner: Sequence[float], own: int, far: int
) -> NDArray[np.int64]:
    """Say in which of `count` cells of the whole the `own` cells of a corner have their middle.

    Along one axis; `whole` and `corner` are where the cells begin and end, as shares of the picture
    and of what was cut out of it; `far` is 1 for a corner at the far end.

    Examples
    --------
    >>> _cells((0, 1), 7, (0, 1), 7, 1).tolist()
    [1, 2, 3, 4, 5, 5, 6]
    """
    middle = corner[0] + (np.arange(own) + 0.5) / own * (corner[1] - corner[0])
    share = (far * (1 - SIDE) + SIDE * middle - whole[0]) / (whole[1] - whole[0])
    return np.clip(np.floor(share * count).astype(np.int64), 0, count - 1)


def layout(model: LexLIP, size: tuple[int, int], patches: int) -> tuple[tuple[int, int], Box]:
    """Say how a picture's patches lie on it.

    The preprocessor is asked itself: it gets a picture whose colours are its coordinates. So this
    holds for any of them, whether it squeezes, crops or does both.

    Parameters
    ----------
    model : LexLIP
    size : (int, int)
        Width and height of the upright picture in pixels.
    patches : int

    Returns
    -------
    (int, int)
        Rows and columns.
    Box
        See `Provenance.box`.
    """
    assert model.processor is not None
    shrink = _RAMP / max(size)
    width, height = (max(1, round(side * shrink)) for side in size)
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0] = np.rint((np.arange(width) + 0.5) / width * 255)
    ramp[..., 1] = np.rint((np.arange(height) + 0.5) / height * 255)[:, None]
    seen = model.processor.resize([ramp])[0] / 255
    left, right = _ends(seen[0].mean(0))
    top, bottom = _ends(seen[1].mean(1))
    if model.vision.grid:
        rows = columns = model.vision.grid
    else:
        rows = max(1, round(math.sqrt(patches * seen.shape[1] / seen.shape[2])))
        columns = patches // rows
    if rows * columns != patches:  # in no known order: one row
        rows, columns = 1, patches
    return (rows, columns), (left, top, right, bottom)


def _ends(places: NDArray[np.float64]) -> tuple[float, float]:
    """Return where a row of pixels begins and ends, from where each of them comes from.

    What lies at the border is blurred by resizing, so a line is laid through the middle half.
    """
    middle = np.arange(len(places))[len(places) // 4 : max(2, 3 * len(places) // 4)]
    if len(middle) < 2:
        return 0.0, 1.0
    slope, start = np.polyfit(middle + 0.5, places[middle], 1)
    ends = np.clip([start, start + slope * len(places)], 0, 1)
    # Colours have 8 bits: what is so near to the border is the border.
    first, last = np.where(np.abs(ends - np.rint(ends)) < 1 / 128, np.rint(ends), ends)
    return (float(first), float(last)) if first < last else (0.0, 1.0)


class Raised(NamedTuple):
    """What made the weight of one term of a text: log(1 + logit + boost).

    Attributes
    ----------
    word : int
        Number of the word of the text that raised the term: the one that won the maximum, or the
        term's own word where that adds more. -1 for a term that the text does not have.
    logit : float
        What the winner of the maximum says, 0 or more.
    boost : float
        What is added because the text has the word itself, 0 or more.
    """

    word: int
    logit: float
    boost: float

    @property
    def weight(self) -> float:
        """The term's weight in `LexLIP.encode_text`."""
        return math.log1p(self.logit + self.boost)


@dataclass(frozen=True)
class TextProvenance:
    """Which words of a text raised which terms.

    Attributes
    ----------
    words : tuple of str
        The words as they stand in the text, whole; as many as the model reads.
    raised : dict of int to Raised
        By term id.
    """

    words: tuple[str, ...]
    raised: dict[int, Raised]

    def by_word(self) -> list[tuple[str, dict[int, float]]]:
        """Each word of the text with the {term id: weight} that it raised, heaviest first.

        Examples
        --------
        >>> found = TextProvenance(("a", "cat"), {7: Raised(1, 0.5, 0.0), 9: Raised(1, 1.0, 2.0)})
        >>> [(word, list(terms)) for word, terms in found.by_word()]
        [('a', []), ('cat', [9, 7])]
        """
        found: list[dict[int, float]] = [{} for _ in self.words]
        for term, it in sorted(self.raised.items(), key=lambda pair: (-pair[1].weight, pair[0])):
            if it.word >= 0:
                found[it.word][term] = it.weight
        return list(zip(self.words, found, strict=True))


@torch.no_grad()
def text_provenance(model: LexLIP, text: str, terms: Iterable[int] | None = None) -> TextProvenance:
    """Find the word of a text that raised each term.

    Parameters
    ----------
    model : LexLIP
    text : str
        As `LexLIP.encode_text` takes it, without grammar.
    terms : iterable of int, optional
        Term ids; by default those that the text has.

    Raises
    ------
    LexLIPError
        For a number that is no term id.
    """
    check_localises(model)
    wanted = None if terms is None else checked_terms(model, terms)
    tokens, words, numbers = whole_words(model, text)
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    hidden = model.text(ids, mask)
    positions = model.text.positions(ids, mask)
    pooled, winner = model.text_head.pool(hidden, positions)
    logits = torch.relu(pooled)[0].tolist()
    boosts = torch.zeros_like(pooled[0])
    if model.config.own_word_boost:
        boosts = torch.relu(model.own_word_boost) * model.own_words(ids, positions)[0]
    held = {int(token): numbers[at] for at, token in reversed(list(enumerate(ids[0])))}
    raised = {}
    for term in model.lexicon.ids.tolist() if wanted is None else wanted:
        column = int(model.lexicon.compact[term])
        logit, boost = (logits[column], float(boosts[column])) if column >= 0 else (0.0, 0.0)
        word = numbers[int(winner[0, column])] if logit > 0 else -1
        if boost > logit and not (word >= 0 and ids[0, winner[0, column]] == term):
            word = held[term]
        if wanted is not None or word >= 0:
            raised[term] = Raised(word, logit, boost)
    return TextProvenance(words, raised)


def whole_words(
    model: LexLIP, text: str
) -> tuple[dict[str, torch.Tensor], tuple[str, ...], list[int]]:
    """Tokenize a text, and join its pieces to words.

    Returns
    -------
    dict
        ``input_ids`` and ``attention_mask``, int64 [1, L].
    tuple of str
        The words, as they stand in the text.
    list of int
        Number of the word that each of the L tokens belongs to; -1 for [CLS] and its like.
    """
    assert model.processor is not None
    length = model.config.max_text_length
    tokens = model.processor.tokenize([text], length)
    read = model.processor.tokenizer(text, truncation=True, max_length=length)
    found: dict[int, tuple[int, int]] = {}
    numbers = []
    for at, word in enumerate(read.word_ids(0)):
        numbers.append(-1 if word is None else word)
        if word is not None:
            first, last = read.token_to_chars(at)
            found[word] = (found.get(word, (first, last))[0], last)
    order = {word: number for number, word in enumerate(sorted(found))}
    order[-1] = -1
    words = tuple(text[first:last].strip() for _, (first, last) in sorted(found.items()))
    on_device = {name: part.to(model.device) for name, part in tokens.items()}
    return on_device, words, [order[number] for number in numbers]


def check_localises(model: LexLIP) -> None:
    """Refuse a model whose weights have no place."""
    if not model.localises:
        raise LexLIPError(
            f"{type(model).__name__} weighs pictures and texts as a whole: its words have no place"
        )


def checked_terms(model: LexLIP, terms: Iterable[int]) -> list[int]:
    """Return term ids as plain ints; an error for anything that is none."""
    wanted, size = list(terms), len(model.lexicon.tokens)
    for term in wanted:
        if not isinstance(term, int | np.integer) or not 0 <= term < size:
            raise LexLIPError(f"{term!r} is no term id: whole numbers 0 to {size - 1}")
    return [int(term) for term in wanted]
