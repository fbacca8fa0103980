"""Parts of a query, as terms of a model's vocabulary and as views for rerankers."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

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
from lexlip.storage.views import Views

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


class EncodedPart(NamedTuple):
    """A part of a query, encoded.

    Attributes
    ----------
    words : Vector
    views : Views or None
        What rerankers look at, of a text or a picture, where it was asked for.
    """

    words: Vector
    views: Views | None = None


def encode_parts(model: Speaker, parts: Sequence[Part], views: bool = False) -> list[EncodedPart]:
    """Encode parts of one query or of many: one batch of texts, one batch of pictures.

    Parameters
    ----------
    model : Speaker
    parts : sequence of Part
    views : bool
        Encode what rerankers look at in the same pass.

    Raises
    ------
    LexLIPError
        For a picture that cannot be read, and for a word with a weight that is not in the lexicon.
    """
    found: dict[int, EncodedPart] = {}
    for kind, (items, places) in distinct(parts).items():
        looks = None
        if views:
            sees = require_views(model)
            look = sees.represent_text if kind == "text" else sees.represent_image
            weights, looks = look(items)
        elif kind == "text":
            weights = model.encode_text(items)
        else:
            weights = require_images(model).encode_image(items)
        rows = _rows(weights)
        for number, row in places.items():
            found[number] = EncodedPart(rows[row], looks and looks.take([row]))
    for number, part in enumerate(parts):
        if isinstance(part.content, tuple):
            known = part.content
            if getattr(model, "takes_any_word", False):
                known = tuple(pair for pair in known if pair[0] in model.lexicon.numbers)
            ids = [term_of(model, word) for word, _ in known]
            values = [weight for _, weight in known]
            pair = np.array(ids, dtype=np.int64), np.array(values, dtype=np.float64)
            found[number] = EncodedPart(pair)
    return [found[number] for number in range(len(parts))]


def views_in_order(parts: Sequence[Part], encoded: Sequence[EncodedPart]) -> QueryViews:
    """Return the views of one query's texts and pictures with their weights, kind by kind."""
    pairs = list(zip(parts, encoded, strict=True))
    kinds = dict.fromkeys(kind_of(part) for part, one in pairs if one.views is not None)
    return [
        (part.weight, one.views) for kind in kinds for part, one in pairs
        if one.views is not None and kind_of(part) == kind
    ]  # fmt: skip


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
    return views_in_order(some, encode_parts(model, some, views=True))


def kind_of(part: Part) -> str:
    """Return "text", "picture", or "words" for words with weights, which need no model."""
    if isinstance(part.content, tuple):
        return "words"
    return "text" if isinstance(part.content, str) else "picture"


def distinct(parts: Sequence[Part]) -> dict[str, tuple[list[Any], dict[int, int]]]:
    """Return the texts and the pictures to encode, each once.

    Returns
    -------
    dict
        Kind -> (items, {number of a part: its place among the items}). Texts come by their length,
        so that those of one batch are padded little.
    """
    found: dict[str, dict[Any, list[int]]] = {}
    for number, part in enumerate(parts):
        if (kind := kind_of(part)) != "words":
            same = isinstance(part.content, str | Path)
            key = part.content if same else _Alone(part.content)
            found.setdefault(kind, {}).setdefault(key, []).append(number)
    batches: dict[str, tuple[list[Any], dict[int, int]]] = {}
    for kind, numbers in found.items():
        keys = sorted(numbers, key=len) if kind == "text" else list(numbers)
        items = [key.content if isinstance(key, _Alone) else key for key in keys]
        places = {number: at for at, key in enumerate(keys) for number in numbers[key]}
        batches[kind] = items, places
    return batches


@dataclass(frozen=True, eq=False)
class _Alone:
    """A picture in memory, which is compared with no other."""

    content: Any


def _rows(weights: csr_array) -> list[Vector]:
    spans = zip(weights.indptr[:-1], weights.indptr[1:], strict=True)
    return [(weights.indices[a:b], weights.data[a:b].astype(np.float64)) for a, b in spans]
