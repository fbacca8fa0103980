"""Speakers: models that turn texts, and mostly pictures, into weighted words of one vocabulary.

A `Speaker` is a network (`lexlip.models.lexlip.LexLIP`), a dual encoder in words
(`lexlip.models.lexical.speaker.LexicalSpeaker`), a `lexlip.models.sparse_encoder.SparseSpeaker`
or a table (`lexlip.models.query_table.QueryTable`). Some can do more: `EncodesImages`, `HasViews`,
`Localises`. Ask for a capability with `require_images`, `require_views` or `require_places`, which
return the speaker, or raise one line that says what to do. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lexlip.data.given import as_item, as_items
from lexlip.errors import LexLIPError
from lexlip.impacts import top_terms, unit_normalise
from lexlip.lexicon import Lexicon
from lexlip.models.localisation.results import Provenance, TextProvenance, WordPatches
from lexlip.storage.views import Vectors, Views

if TYPE_CHECKING:
    from lexlip.models.levels import Levels

QUERY_TERMS = 64
"""Heaviest terms of a query that are kept by default."""

FIND_TERMS = 128
"""Terms of a query that find by default, for a speaker with vectors: of those that come first by
all terms, 64 lose more."""


class Tokenizer(Protocol):
    """As much of a transformers tokenizer as queries and measurements use."""

    @property
    def unk_token(self) -> str | None:
        """The token of an unknown word."""

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> Mapping[str, Any]:
        """Return ``{"input_ids": [...]}``, the ids of a text's tokens."""

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text, without special ones."""


class Speaker(Protocol):
    """Texts to words, and the identity of the model that an index remembers.

    V is the size of the vocabulary; weights are not negative and not normalised.
    """

    @property
    def fingerprint(self) -> str:
        """sha256 of the model: an index refuses another one."""

    @property
    def lexicon(self) -> Lexicon:
        """The vocabulary and its allow-list."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer whose vocabulary the words are."""

    @property
    def name_or_path(self) -> str | None:
        """The folder or hub name that the speaker was loaded from; may be empty."""

    def encode_text(self, texts: Sequence[str], batch_size: int = 128) -> csr_array:
        """Texts to weights over the vocabulary, csr_array float32 [N, V]."""

    def encode_query(self, texts: Sequence[str], batch_size: int = 128) -> csr_array:
        """Queries to weights [N, V]."""

    def encode_document(self, items: Sequence[Any], batch_size: int = 32) -> csr_array:
        """Documents, texts or pictures, to weights [N, V]."""

    def decode(self, weights: csr_array, top_k: int | None = None) -> list[list[tuple[str, float]]]:
        """Weights [N, V] to words, heaviest first."""

    def words_of(self, item: Any, top_k: int = 20) -> list[tuple[str, float]]:
        """The heaviest words of one text or picture."""


@runtime_checkable
class EncodesImages(Protocol):
    """Pictures to words."""

    @property
    def image_side(self) -> int | None:
        """Pixels that the shorter side of a picture is decoded to at least; None for all."""

    def prepare_image(self, image: Any) -> Any:
        """One picture as the model sees it: small, and what the methods below take too."""

    def encode_image(self, images: Sequence[Any], batch_size: int = 32) -> csr_array:
        """Pictures (paths, bytes, arrays or PIL) to weights, csr_array float32 [N, V]."""


@runtime_checkable
class HasViews(Protocol):
    """Items to what rerankers compare (`lexlip.storage.views`), together with their words."""

    @property
    def token_size(self) -> int:
        """Width of a token for late interaction; 0 without a token head."""

    @property
    def gaussian_size(self) -> int:
        """Dimensions of a Gaussian; 0 without a Gaussian head."""

    @property
    def naaf_threshold(self) -> float | None:
        """Cosine below which NAAF takes a word for absent; None without NAAF's training."""

    def match_curve(self) -> tuple[float, float]:
        """Scale and shift of PCME's sigmoid, from the distance of two samples to a match."""

    def represent_text(
        self, texts: Sequence[str], batch_size: int = 128
    ) -> tuple[csr_array, Views]:
        """Texts to weights [N, V] and views of N texts, in one pass."""

    def represent_image(
        self, images: Sequence[Any], batch_size: int = 32
    ) -> tuple[csr_array, Views]:
        """Pictures to weights [N, V] and views of N pictures, in one pass."""


@runtime_checkable
class KeepsLengths(Protocol):
    """Documents whose lengths count, of a model that was trained with the plain product."""

    @property
    def keeps_lengths(self) -> bool:
        """Whether it was: an index then does not bring its documents to length one."""


@runtime_checkable
class HasLevels(Protocol):
    """Documents whose lengths a bank of typical queries decides, where there is a bank."""

    @property
    def levels(self) -> Levels | None:
        """The bank; None without one."""


def bank_of(speaker: Any) -> Levels | None:
    """Return the bank that levels a speaker's documents; None for most speakers."""
    return speaker.levels if isinstance(speaker, HasLevels) else None


def levelled(speaker: Any, weights: csr_array, texts: bool) -> csr_array:
    """Return documents as an index takes them: with the lengths of a bank, where there is one.

    Parameters
    ----------
    speaker : Speaker
    weights : csr_array [N, V]
        Of whole documents: of pictures after all looks at them.
    texts : bool
        Whether they are texts.
    """
    bank = bank_of(speaker)
    return weights if bank is None else bank.levelled(weights, texts)


class Represented(NamedTuple):
    """N documents as an index keeps them.

    Attributes
    ----------
    weights : csr_array float32 [N, V]
        Words that find a document. Rows are of the length that scores need: not normalised again.
    said : csr_array float32 [N, V]
        Words that are true of a document: shown, asked for and excluded. Each weighs its cosine
        with the document, 0..1.
    vectors : Vectors
        Dense vectors that order what the words found.
    """

    weights: csr_array
    said: csr_array
    vectors: Vectors


def said_term(lexicon: Lexicon, term: int) -> int:
    """Return the id under which an index keeps a word that is said of a document.

    Such words lie behind the vocabulary, so that the words that find are not mixed with them.
    """
    return term + len(lexicon.tokens)


CONSTANT_UNIT = 2
"""Weight that an index keeps per unit of a document's constant: constants are below 1/2."""


def constant_term(size: int) -> int:
    """Return the id under which an index keeps the constant of each document.

    It lies behind the words that are said, for a vocabulary of `size` words.
    """
    return 2 * size


@runtime_checkable
class HasVectors(Protocol):
    """Documents to words and dense vectors, and queries to signed words and a dense vector.

    A query's words are its projections on the words of the lexicon, positive and negative: those of
    `choose` find, and all together, or its vector, order what was found.
    """

    @property
    def vector_size(self) -> int:
        """Numbers per vector, d."""

    def represent(
        self, items: Sequence[Any], batch_size: int = 32, max_terms: int = 64
    ) -> Represented:
        """Encode documents, texts or pictures (not both), in one pass."""

    def vectors_of(self, items: Sequence[Any], batch_size: int = 32) -> NDArray[np.float32]:
        """Texts or pictures to unit vectors, centred on the mean of their kind, float32 [N, d]."""

    def project(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a vector's projections on the words, signed, over the vocabulary, float32 [V]."""

    def choose(self, projections: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Return the ids of the `count` positive words that find best, best first."""

    def vector_of(self, words: Mapping[int, float]) -> NDArray[np.float32]:
        """Return the unit vector whose projections on some words come nearest to these weights."""

    def picture_scores(self, vector: NDArray[np.float32]) -> tuple[float, float]:
        """Return mean and standard deviation of a query's cosines with pictures in general."""


@runtime_checkable
class Localises(Protocol):
    """Words to the place in a picture, or in a text, that they come from.

    Of a speaker whose weights are maxima over positions.
    """

    @property
    def aligns(self) -> bool:
        """Whether there is a token for each patch, so that `align` works."""

    def locate(self, picture: Any, terms: Iterable[int], crops: int = 0) -> Provenance:
        """Find the patch that won each term (`lexlip.models.localisation.patches`)."""

    def locate_pixels(
        self, picture: Any, terms: Iterable[int], batch_size: int = 32
    ) -> dict[int, NDArray[np.float32]]:
        """Find the pixels that each term needs (`lexlip.models.localisation.occlusion`)."""

    def trace_text(self, text: str, terms: Iterable[int] | None = None) -> TextProvenance:
        """Find the word of a text that raised each term (`lexlip.models.localisation.texts`)."""

    def text_attention(self, text: str) -> list[tuple[str, float]]:
        """Share of each word in the last layer's attention; it explains no score."""

    def align(self, picture: Any, text: str) -> WordPatches:
        """Match each patch with a word of a text (`lexlip.models.localisation.alignment`)."""


def require_images(speaker: Any) -> EncodesImages:
    """Return a speaker that encodes pictures.

    Raises
    ------
    LexLIPError
        When it encodes texts only.
    """
    if isinstance(speaker, EncodesImages):
        return speaker
    other = f"{type(speaker).__name__} encodes texts only: use the model of the index for pictures"
    raise LexLIPError(getattr(speaker, "no_pictures", other))


def require_views(speaker: Any) -> HasViews:
    """Return a speaker with heads, whose views rerankers compare.

    Raises
    ------
    LexLIPError
        When it has none.
    """
    if isinstance(speaker, HasViews) and (speaker.token_size or speaker.gaussian_size):
        return speaker
    raise LexLIPError(
        f"{type(speaker).__name__} has no heads to rerank with: use a model with heads "
        "(training needs a clone of lexlip)"
    )


def require_vectors(speaker: Any) -> HasVectors:
    """Return a speaker with dense vectors, which order what its words found.

    Raises
    ------
    LexLIPError
        When it has none.
    """
    if isinstance(speaker, HasVectors):
        return speaker
    raise LexLIPError(
        f"{type(speaker).__name__} has no vectors to order hits by: leave out vectors (--vectors)"
    )


def require_places(speaker: Any) -> Localises:
    """Return a speaker whose words have a place in a picture or a text.

    Raises
    ------
    LexLIPError
        When it has none.
    """
    if isinstance(speaker, Localises):
        return speaker
    raise LexLIPError(
        f"{type(speaker).__name__} weighs pictures and texts as a whole, so its words have no "
        "place: use a LexLIP"
    )


class SpeakerMixin:
    """Conveniences of every `Speaker`, under the names of sentence-transformers."""

    def __repr__(self) -> str:
        """Say what this is, in a line: its kind, where it comes from, and its words."""
        try:
            lexicon: Lexicon = self.lexicon  # type: ignore[attr-defined]
            words = f"{len(lexicon):,} words"
        except (AttributeError, ValueError):  # a network without a tokenizer
            words = "no lexicon yet"
        return f"<{type(self).__name__} {str(getattr(self, 'name_or_path', '') or '')!r}: {words}>"

    def encode_query(self: Speaker, texts: Sequence[str], batch_size: int = 128) -> csr_array:
        """Queries to weights [N, V]; sentence-transformers' name for `encode_text`."""
        return self.encode_text(texts, batch_size)

    def encode_document(self: Speaker, items: Sequence[Any], batch_size: int = 32) -> csr_array:
        """Documents to weights [N, V].

        Parameters
        ----------
        items : sequence
            Texts (`str`), or pictures (paths, bytes, arrays or PIL); not both. A `str` that names
            a picture (``a.jpg``) is its path.
        batch_size : int

        Raises
        ------
        LexLIPError
            For pictures, where the speaker encodes texts only, and for anything else.
        """
        found = as_items(items)
        if texts := [item for item in found if isinstance(item, str)]:
            return self.encode_text(texts, batch_size)
        return require_images(self).encode_image(found, batch_size)

    def decode(
        self: Speaker, weights: csr_array, top_k: int | None = None
    ) -> list[list[tuple[str, float]]]:
        """Weights [N, V] to words, heaviest first."""
        return self.lexicon.decode(weights, top_k)

    def compared(self, weights: csr_array) -> csr_array:
        """Rows as their products are compared: of length one, since training took the cosine."""
        return unit_normalise(weights)

    def similarity(self, queries: csr_array, documents: csr_array) -> NDArray[np.float32]:
        """Similarity of all pairs, float32 [Q, D]: the one that training optimises."""
        products = self.compared(queries) @ self.compared(documents).T
        return np.asarray(products.toarray(), np.float32)

    @staticmethod
    def sparsity(weights: csr_array) -> dict[str, float]:
        """Return the mean number of words of a row, and the mean share of words that it lacks.

        Examples
        --------
        >>> SpeakerMixin.sparsity(csr_array([[1.0, 2.0, 0.0, 0.0]]))
        {'active_dims': 2.0, 'sparsity_ratio': 0.5}
        """
        rows, width = weights.shape
        active = float(csr_array(weights).count_nonzero()) / max(1, rows)
        return {"active_dims": active, "sparsity_ratio": 1 - active / max(1, width)}

    def intersection(
        self, query: csr_array, document: csr_array, top_k: int = 10
    ) -> list[list[tuple[str, float]]]:
        """Words that two vectors share, with the products that make up their similarity."""
        shared = self.compared(query).multiply(self.compared(document))
        return self.decode(csr_array(shared), top_k)  # type: ignore[misc]

    def words_of(self: Speaker, item: Any, top_k: int = 20) -> list[tuple[str, float]]:
        """The heaviest words of one text or picture."""
        return self.decode(top_terms(self.encode_document([as_item(item)]), top_k))[0]
