"""The explanation of a hit: its words, the patches that won them, and the texts they come from.

One answer for the command line, the server and the page:

- Each text of the query is traced, also a subtracted one; its weight tells which it is.
- Each word of the score has its patches, words that lower the score too.
- Patches are aligned with all wanted texts together.
- `changed` says that the picture is not the one that was indexed.
- Attention of the text tower is shown for comparison. No score is made of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import csr_array

from lexlip.build.manifest import normalises
from lexlip.build.recipe import Recipe
from lexlip.data.crops import with_crops
from lexlip.data.images import read_photo
from lexlip.impacts import document_rows, quantise, query_terms
from lexlip.models.localisation.results import Provenance, TextProvenance, WordPatches
from lexlip.models.speaker import (
    Localises,
    Speaker,
    levelled,
    require_images,
    require_places,
)
from lexlip.query.contributions import Contribution
from lexlip.query.prepared import PreparedQuery
from lexlip.rerank.account import Account
from lexlip.rerank.phases import WORDS

if TYPE_CHECKING:
    from lexlip.index import Index


_SCALED = 0.1
"""Share of an impact that may differ in a picture that is decoded at a smaller scale: an index of
an older lexlip has those of the picture in full."""


@dataclass(frozen=True)
class TracedText:
    """A text of a query, and the terms that each of its words raised.

    Attributes
    ----------
    text : str
    weight : float
        Of the text in the query; below 0 where it is subtracted.
    provenance : TextProvenance
        For the terms of the query.
    attention : list of (str, float)
        Share of each word in the text tower's attention: a comparison, no part of a score. Empty
        where no tower reads texts, as with a query table.
    """

    text: str
    weight: float
    provenance: TextProvenance
    attention: list[tuple[str, float]]


@dataclass(frozen=True)
class Explanation:
    """Why a document has its score.

    Attributes
    ----------
    id : str
    query : PreparedQuery
    words : list of Contribution
        Heaviest first; their scores add up to `score`.
    tokens : sequence of str
        The vocabulary, in id order.
    account : Account
        What ordered the list, and how the second phase's score adds up where there is one.
    texts : list of TracedText
        The texts of the query; empty for a model whose words have no place.
    size : (int, int), optional
        Width and height of the picture, upright; None without the picture.
    patches : Provenance, optional
        None without the picture.
    alignment : WordPatches, optional
        Patches and the words of the wanted texts, where the model has a token for each patch.
    pixels : dict of int to float32 [rows, columns], optional
        By term id, the pixels that the word needs, where asked for.
    changed : bool
        True when the picture does not give the impacts of the index: it, and so its patches, are
        not the ones that were indexed.
    """

    id: str
    query: PreparedQuery
    words: list[Contribution]
    tokens: Sequence[str] = field(repr=False)
    account: Account = Account(WORDS)
    texts: list[TracedText] = field(default_factory=list)
    size: tuple[int, int] | None = None
    patches: Provenance | None = None
    alignment: WordPatches | None = None
    pixels: Mapping[int, NDArray[np.float32]] | None = None
    changed: bool = False

    @property
    def score(self) -> int:
        """The score of the hit, by the words that found it."""
        return sum(word.score for word in self.words)

    @property
    def terms(self) -> dict[str, int]:
        """Term id of each word of the score."""
        return _terms(self.words, self.query, self.tokens)

    def patch(self, word: str) -> int:
        """Return the patch that won a word; -1 for none."""
        return -1 if self.patches is None else self.patches.patches[self.terms[word]]

    def as_dict(self) -> dict[str, Any]:
        """Return the explanation as JSON types: of the command line, the server and the page.

        Heat and pixels are shares of each word's largest value, row by row.
        """
        return {
            "id": self.id,
            "score": self.score,
            "ordered_by": self.account.ordered_by,
            "order": self.account.as_dict(),
            "words": [
                {**word._asdict(), "score": word.score, "patch": self.patch(word.word)}
                for word in self.words
            ],
            "patches": self._patches(),
            "alignment": None if self.alignment is None else _alignment(self.alignment),
            "texts": [self._text(text) for text in self.texts],
            "changed": self.changed,
        }

    def _patches(self) -> dict[str, Any] | None:
        if self.patches is None or self.size is None:
            return None
        scores = {self.terms[word.word]: word.score for word in self.words}
        return {
            "grid": list(self.patches.grid),
            "size": list(self.size),
            "box": list(self.patches.box),
            "words": self._shares(self.patches.heat),
            "pixels": None if self.pixels is None else self._shares(self.pixels),
            "scores": self.patches.shares(scores).flatten().tolist(),
        }

    def _shares(self, heat: Mapping[int, NDArray[np.float32]]) -> dict[str, list[float]]:
        maps = {word: heat[term] for word, term in self.terms.items()}
        return {word: _rounded(one / max(float(one.max()), 1e-9)) for word, one in maps.items()}

    def _text(self, traced: TracedText) -> dict[str, Any]:
        raised = traced.provenance.by_word()
        shares: list[float | None] = [round(share, 4) for _, share in traced.attention]
        words = [
            {
                "word": word,
                "terms": {self.tokens[term]: round(weight, 4) for term, weight in terms.items()},
                "attention": share,
            }
            for (word, terms), share in zip(raised, shares or [None] * len(raised), strict=True)
        ]
        return {"text": traced.text, "weight": traced.weight, "words": words}


def explain(
    index: Index,
    id: str,
    item: Any,
    picture: Any = None,
    pixels: bool = False,
    words: list[Contribution] | None = None,
    account: Account | None = None,
    rerank: str | None = None,
) -> Explanation:
    """Explain the score of a document for a query.

    Parameters
    ----------
    index : Index
    id : str
    item : PreparedQuery, Query, str, picture or mapping
        As `Index.search` takes it; a prepared query is not encoded again.
    picture : path, bytes, PIL image or array, optional
        The document's picture; without it there are no patches.
        `lexlip.explain.lookup.find_picture` looks for it.
    pixels : bool
        Find out which pixels each word needs too: a pass of the model for each patch.
    words : list of Contribution, optional
        Of `Index.explain`, where they are known; with `account` the engine is not asked then.
    account : Account
        Of `Index.account`, where it is known.
    rerank : str, optional
        What orders the list, as for `Index.search`.

    Raises
    ------
    LexLIPError
        When there is no such document, or the picture cannot be read.

    Examples
    --------
    >>> found = explain(index, "a.jpg", Query.parse("two hearts"), "a.jpg")     # doctest: +SKIP
    >>> found.score, found.words[0], found.patch("two")                           # doctest: +SKIP
    (27212, Contribution(word='hearts', query=64, impact=220), 12)
    """
    model = index.model
    if pixels:
        require_places(model)
    query, tokens = index.prepare(item), model.lexicon.tokens
    if words is None:
        words = index.explain(id, query)
    if account is None:
        account = index.account(id, query, rerank)
    if not isinstance(model, Localises):
        return Explanation(id, query, words, tokens, account)
    texts = _traced(model, query)
    if picture is None:
        return Explanation(id, query, words, tokens, account, texts)
    photo = read_photo(picture, None, require_images(model).image_side)
    upright = photo.image
    terms = _terms(words, query, tokens)
    held = {terms[word.word]: word.impact for word in words if word.impact > 0}
    wanted = " ".join(text.text for text in texts if text.weight > 0)
    return Explanation(
        id,
        query,
        words,
        tokens,
        account,
        texts,
        photo.size,
        model.locate(upright, terms.values(), Recipe.of(index.manifest).crops),
        model.align(upright, wanted) if wanted and model.aligns else None,
        model.locate_pixels(upright, terms.values()) if pixels else None,
        not _same(index, model, upright, held, _SCALED if upright.size != photo.size else 0.0),
    )


def _terms(
    words: Sequence[Contribution], query: PreparedQuery, tokens: Sequence[str]
) -> dict[str, int]:
    named = {tokens[term]: term for term in query.terms}
    return {word.word: named[word.word] for word in words}


def _traced(model: Localises, query: PreparedQuery) -> list[TracedText]:
    """Trace the texts of a query."""
    parts = () if query.query is None else query.query.summands
    return [
        TracedText(
            part.content,
            part.weight,
            model.trace_text(part.content, query.terms),
            model.text_attention(part.content),
        )
        for part in parts
        if isinstance(part.content, str)
    ]


def _same(
    index: Index, model: Speaker, picture: Image.Image, held: Mapping[int, int], share: float
) -> bool:
    """True when a picture gives the impacts that an index holds, but for rounding and a share."""
    recipe = Recipe.of(index.manifest)
    weights = with_crops(require_images(model).encode_image, [picture], recipe.crops)
    weights = levelled(model, weights, texts=False)
    rows = document_rows(weights, recipe.max_terms, normalises(index.manifest))
    now = query_terms(csr_array(quantise(rows, index.manifest["scale"])))
    return all(
        abs(now.get(term, 0) - impact) <= max(1, share * impact) for term, impact in held.items()
    )


def _alignment(found: WordPatches) -> dict[str, Any]:
    return {
        "words": list(found.words),
        "grid": list(found.patches.shape),
        "patches": found.patches.flatten().tolist(),
        "cosines": _rounded(found.cosines),
    }


def _rounded(numbers: NDArray[np.float32]) -> list[float]:
    return numbers.astype(np.float64).round(4).flatten().tolist()
