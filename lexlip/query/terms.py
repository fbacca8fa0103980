"""Texts, pictures and words of a query, as terms of a model's vocabulary."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lexlip.errors import LexLIPError
from lexlip.lexicon import STOP_WORDS, may_be_term
from lexlip.query.tree import Part

if TYPE_CHECKING:
    from lexlip.models.lexlip import LexLIP

DUST = 1e-12
"""What is left of words that cancel out, as a share of what was added up: taken for nothing."""


def terms_of(model: LexLIP, text: str) -> tuple[int, ...]:
    """Return the ids of a text's own words, function words and one-letter pieces left out.

    Raises
    ------
    LexLIPError
        For a word that is not in the lexicon, so that no picture can have it.
    """
    tokenizer = model.processor.tokenizer  # type: ignore[union-attr]
    found: list[int] = []
    for word in text.split():
        ids = tokenizer(word, add_special_tokens=False)["input_ids"]
        pieces = [model.lexicon.tokens[number] for number in ids]
        pieces = [t for t in pieces if t.lower() not in STOP_WORDS]
        pieces = [t for t in pieces if may_be_term(t) or t == tokenizer.unk_token]
        found += [_term(model, piece, word) for piece in pieces]
    if not found:
        raise LexLIPError(f"{text[:60]!r} has no word that a picture can have: name things seen")
    return tuple(sorted(set(found)))


def _term(model: LexLIP, token: str, word: str) -> int:
    """Return the id of a token; `word` is what it is called in an error."""
    lexicon = model.lexicon
    if token in lexicon.numbers:
        return lexicon.numbers[token]
    near = difflib.get_close_matches(word, lexicon.numbers, n=1)
    advice = f"did you mean {near[0]!r}?" if near else "choose another word"
    raise LexLIPError(f"{word[:60]!r} is not in the model's lexicon, no picture has it: {advice}")


def add_up(model: LexLIP, parts: Sequence[Part], normalise: bool) -> NDArray[np.float64]:
    """Add up what the parts are in the vocabulary.

    Parameters
    ----------
    model : LexLIP
    parts : sequence of Part
    normalise : bool
        Bring each part to length one first.

    Returns
    -------
    float64 [V]
        Weights of either sign.

    Raises
    ------
    LexLIPError
        For a picture that cannot be read, and for a word with a weight that is not in the lexicon.
    """
    total, size = np.zeros((2, len(model.lexicon.tokens)))
    for part, (ids, weights) in zip(parts, _vectors(model, parts), strict=True):
        if normalise and weights.size:
            weights = weights / np.abs(weights).max()  # no square leaves the range of floats
            weights = weights / np.linalg.norm(weights)
        total[ids] += part.weight * weights
        size[ids] += np.abs(part.weight * weights)
    total[np.abs(total) <= DUST * size] = 0
    return total


def _vectors(model: LexLIP, parts: Sequence[Part]) -> Iterator[tuple[NDArray, NDArray]]:
    """Yield term ids and float64 weights of each part; all texts are encoded together."""
    texts = [part.content for part in parts if isinstance(part.content, str)]
    pictures = [part.content for part in parts if not isinstance(part.content, str | tuple)]
    of_texts = iter(_rows(model.encode_text(texts))) if texts else iter(())
    of_pictures = iter(_rows(model.encode_image(pictures))) if pictures else iter(())
    for part in parts:
        if isinstance(part.content, str):
            yield next(of_texts)
        elif isinstance(part.content, tuple):
            ids = [_term(model, word, word) for word, _ in part.content]
            values = [weight for _, weight in part.content]
            yield np.array(ids, dtype=np.int64), np.array(values, dtype=np.float64)
        else:
            yield next(of_pictures)


def _rows(weights: csr_array) -> list[tuple[NDArray, NDArray]]:
    spans = zip(weights.indptr[:-1], weights.indptr[1:], strict=True)
    return [(weights.indices[a:b], weights.data[a:b].astype(np.float64)) for a, b in spans]
