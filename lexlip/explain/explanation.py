"""A hit explained in full: words, the patches that won them, and what a text's words stand for."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import csr_array

from lexlip.data.crops import with_crops
from lexlip.data.images import read_image
from lexlip.data.originals import Originals
from lexlip.errors import LexLIPError
from lexlip.explain.alignment import WordPatches, align, draw
from lexlip.explain.attention import text_attention
from lexlip.explain.drawing import LOWERS, RAISES, fit, sheet, warm
from lexlip.explain.occlusion import occlusion
from lexlip.explain.provenance import (
    Provenance,
    TextProvenance,
    check_localises,
    provenance,
    text_provenance,
)
from lexlip.impacts import quantise, query_terms, top_terms, unit_normalise
from lexlip.query.contributions import Contribution, contributions
from lexlip.query.query import Query

if TYPE_CHECKING:
    from lexlip.index import Index
    from lexlip.models.lexlip import LexLIP

_TILE = 236
"""Width of a tile in pixels: sixteen fit on a screen."""


@dataclass(frozen=True)
class Why:
    """Why a document has its score.

    Attributes
    ----------
    id : str
    query : Query
        As it was asked.
    words : list of Contribution
        Heaviest first; their scores add up to `score`.
    terms : dict of str to int
        Term id of each of these words.
    texts : list of TextProvenance
        Of each text of the query, for the terms that were asked.
    attention : list of list of (str, float)
        Of the same texts: a comparison that explains no score (`lexlip.explain.attention`).
    patches : Provenance or None
        None without the picture.
    alignment : WordPatches or None
        Of the first text, where the model has a token for each patch.
    pixels : dict of int to float32 [rows, columns], or None
        By term id, which pixels the word needs (`lexlip.explain.occlusion`), where that was asked
        for.
    changed : bool
        True when the picture does not give the impacts of the index: it, and so its patches, are
        not what was indexed.
    """

    id: str
    query: Query
    words: list[Contribution]
    terms: Mapping[str, int]
    texts: list[TextProvenance]
    attention: list[list[tuple[str, float]]]
    patches: Provenance | None = None
    alignment: WordPatches | None = None
    pixels: Mapping[int, NDArray[np.float32]] | None = None
    changed: bool = False

    @property
    def score(self) -> int:
        """The score of the hit."""
        return sum(word.score for word in self.words)

    def patch(self, word: str) -> int:
        """Return the patch that won a word; -1 for none."""
        return -1 if self.patches is None else self.patches.patches[self.terms[word]]


def why(index: Index, id: str, query: Query, picture: Any = None, pixels: bool = False) -> Why:
    """Explain the score of a document for a query.

    Parameters
    ----------
    index : Index
    id : str
    query : Query
        ``Query.parse(text)``.
    picture : path, bytes, PIL image or array, optional
        The document's picture; without it there are no patches. `find_picture` looks for it.
    pixels : bool
        Find out which pixels each word needs too: a pass of the model for each patch.

    Raises
    ------
    LexLIPError
        When there is no such document, or the picture cannot be read.

    Examples
    --------
    >>> found = why(index, "a.jpg", Query.parse("a red circle"), "photos/a.jpg")  # doctest: +SKIP
    >>> found.score, found.words[0], found.patch("red")                           # doctest: +SKIP
    (20810, Contribution(word='red', query=64, impact=211), 12)
    """
    model = index.model
    if pixels:
        check_localises(model)
    asked = query.ask(model)
    tokens = model.lexicon.tokens
    words = contributions(index.engine, id, asked.terms, tokens, asked.penalty)
    named = {tokens[term]: term for term in asked.terms}
    terms = {word.word: named[word.word] for word in words}
    said = [part.content for part in query.parts if isinstance(part.content, str)]
    if not query.parts:  # a query of conditions asks for their words
        said = [phrase.text for phrase in query.musts]
    if not model.localises:
        return Why(id, query, words, terms, [], [])
    texts = [text_provenance(model, text, asked.terms) for text in said]
    attention = [text_attention(model, text) for text in said]
    if picture is None:
        return Why(id, query, words, terms, texts, attention)
    upright = read_image(picture)
    heads = said and model.config.token_size and not model.config.token_count
    held = {terms[word.word]: word.impact for word in words if word.impact > 0}
    return Why(
        id, query, words, terms, texts, attention,
        provenance(model, upright, terms.values(), index.manifest.get("crops", 0)),
        align(model, upright, said[0]) if heads else None,
        occlusion(model, upright, terms.values()) if pixels else None,
        not _same(index, model, upright, held),
    )  # fmt: skip


def _same(index: Index, model: LexLIP, picture: Image.Image, held: Mapping[int, int]) -> bool:
    """True when a picture gives the impacts that an index holds, but for rounding."""
    crops = index.manifest.get("crops", 0)
    weights = with_crops(model.encode_image, [picture], crops)
    weights = top_terms(weights, index.manifest["max_terms"])
    now = query_terms(csr_array(quantise(unit_normalise(weights), index.manifest["scale"])))
    return all(abs(now.get(term, 0) - impact) <= 1 for term, impact in held.items())


def find_id(index: Index, name: str) -> str:
    """Return the id of a document by its id, or by the path of its picture.

    Raises
    ------
    LexLIPError
        When there is none.
    """
    path = Path(name)
    inside = Originals.of(index.manifest).id_of(path)
    candidates = [name, inside or "", path.name, path.stem]
    candidates = [candidate for candidate in candidates if candidate]
    held = index.engine.fetch(candidates)
    for candidate, facts in zip(candidates, held, strict=True):
        if facts is not None:
            return candidate
    raise LexLIPError(f"{name!r} is not in {index.path}: give an id as lexlip search prints it")


def find_picture(index: Index, id: str) -> Path | bytes | None:
    """Return the picture of a document, from where it was indexed; None where it is gone."""
    return Originals.of(index.manifest).find(id)


def draw_why(found: Why, picture: Any, most: int = 11) -> Image.Image:
    """Draw a picture, and a tile for each of the words that count most.

    Parameters
    ----------
    found : Why
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
        (base, [f"score {found.score}", *_lines(str(found.query))])
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
