"""Parts of a query, as terms of a model's vocabulary and as views for rerankers."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lexlip.errors import LexLIPError
from lexlip.lexicon import STOP_WORDS, may_be_term
from lexlip.models.speaker import (
    HasVectors,
    Speaker,
    require_images,
    require_views,
    said_term,
)
from lexlip.models.typed import as_meant
from lexlip.query.tree import Part
from lexlip.views import Views

Vector = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Term ids and weights of a part."""

QueryViews = Sequence[tuple[float, Views]]
"""Views of each text and picture of a query, with its weight."""

DUST = 1e-12
"""Remainder of words that cancel out, as a share of their sum, that counts as zero."""


def terms_of(model: Speaker, text: str) -> tuple[int, ...]:
    """Return the ids of a text's own words, function words and one-letter pieces left out.

    Raises
    ------
    LexLIPError
        For a word that is not in the lexicon, so that no picture can have it.
    """
    if (whole := " ".join(text.lower().split())) in model.lexicon.numbers:
        return (model.lexicon.numbers[whole],)  # a name of several words is one term
    tokenizer = model.tokenizer
    found: list[int] = []
    for word in text.split():
        ids = tokenizer(word, add_special_tokens=False)["input_ids"]
        pieces = [model.lexicon.tokens[number] for number in ids]
        pieces = [t for t in pieces if t.lower() not in STOP_WORDS]
        pieces = [t for t in pieces if may_be_term(t) or t == tokenizer.unk_token]
        found += [term_of(model, piece, word) for piece in pieces]
    if not found:
        raise LexLIPError(f"{text[:60]!r} has no word that a picture can have: name visible things")
    return tuple(sorted(set(found)))


def condition_terms(model: Speaker, text: str) -> tuple[int, ...]:
    """Return the ids that a condition on a text's own words asks for.

    For a speaker with vectors those of the words that are said of a document
    (`lexlip.models.speaker.said_term`): the words that find it may be there to correct a sum.

    Raises
    ------
    LexLIPError
        As `terms_of`.
    """
    terms = terms_of(model, text)
    if isinstance(model, HasVectors):
        return tuple(said_term(model.lexicon, term) for term in terms)
    return terms


def term_of(model: Speaker, token: str, word: str | None = None) -> int:
    """Return the id of a token; an error names it `word`.

    Raises
    ------
    LexLIPError
        For a token that is not in the lexicon.
    """
    lexicon, word = model.lexicon, word or token
    for spelling in (token, unicodedata.normalize("NFC", token), as_meant(token)):
        if spelling in lexicon.numbers:
            return lexicon.numbers[spelling]
    near = difflib.get_close_matches(word, lexicon.numbers, n=1)
    advice = f"did you mean {near[0]!r}?" if near else "choose another word"
    raise LexLIPError(f"{word[:60]!r} is not in the model's lexicon, no picture has it: {advice}")


def add_up(
    size: int, parts: Sequence[Part], vectors: Sequence[Vector], normalise: bool
) -> NDArray[np.float64]:
    """Add up the parts of a query in the vocabulary.

    Parameters
    ----------
    size : int
        Words in the vocabulary, V.
    parts : sequence of Part
    vectors : sequence of (term ids, weights)
        Of each part, as `encode_parts` returns them.
    normalise : bool
        Bring each part to unit length first.

    Returns
    -------
    float64 [V]
        Weights of either sign.
    """
    total, sizes = np.zeros((2, size))
    for part, (ids, weights) in zip(parts, vectors, strict=True):
        if normalise and weights.size:
            weights = weights / np.abs(weights).max()  # no square leaves the range of floats
            weights = weights / np.linalg.norm(weights)
        total[ids] += part.weight * weights
        sizes[ids] += np.abs(part.weight * weights)
    total[np.abs(total) <= DUST * sizes] = 0
    return total


def encode_parts(
    model: Speaker, parts: Sequence[Part], views: bool = False
) -> tuple[list[Vector], QueryViews]:
    """Encode the parts of a query: one batch of texts, one batch of pictures.

    Parameters
    ----------
    model : Speaker
    parts : sequence of Part
    views : bool
        Encode what rerankers look at in the same pass.

    Returns
    -------
    list of (term ids, float64 weights)
        Of each part.
    sequence of (float, Views)
        Of each text and picture, with its weight; empty without `views`.

    Raises
    ------
    LexLIPError
        For a picture that cannot be read, and for a word with a weight that is not in the lexicon.
    """
    vectors: list[Vector] = []
    seen: list[tuple[float, Views]] = []
    encoded = {}
    for kind, some in _by_kind(parts).items():
        items: Any = [part.content for part in some]
        if views:
            sees = require_views(model)
            look = sees.represent_text if kind == "text" else sees.represent_image
            weights, found = look(items)
            seen += [(part.weight, found.take([row])) for row, part in enumerate(some)]
        elif kind == "text":
            weights = model.encode_text(items)
        else:
            weights = require_images(model).encode_image(items)
        encoded[kind] = iter(_rows(weights))
    for part in parts:
        if isinstance(part.content, tuple):
            ids = [term_of(model, word) for word, _ in part.content]
            values = [weight for _, weight in part.content]
            vectors.append((np.array(ids, dtype=np.int64), np.array(values, dtype=np.float64)))
        else:
            vectors.append(next(encoded[_kind(part)]))
    return vectors, seen


def views_of(model: Speaker | None, parts: Sequence[Part]) -> QueryViews:
    """Encode what rerankers look at: each text and picture with its weight.

    Words that were given as words have no views, and count in the first stage only.

    Raises
    ------
    LexLIPError
        When there is nothing to look at.
    """
    some = [part for part in parts if not isinstance(part.content, tuple)]
    if model is None or not some:
        raise LexLIPError("weighted words cannot be reranked: ask with a text or a picture")
    return encode_parts(model, some, views=True)[1]


def _kind(part: Part) -> str:
    return "text" if isinstance(part.content, str) else "picture"


def _by_kind(parts: Sequence[Part]) -> dict[str, list[Part]]:
    """Return texts and pictures apart; words with weights need no model."""
    found: dict[str, list[Part]] = {}
    for part in parts:
        if not isinstance(part.content, tuple):
            found.setdefault(_kind(part), []).append(part)
    return found


def _rows(weights: csr_array) -> list[Vector]:
    spans = zip(weights.indptr[:-1], weights.indptr[1:], strict=True)
    return [(weights.indices[a:b], weights.data[a:b].astype(np.float64)) for a, b in spans]
