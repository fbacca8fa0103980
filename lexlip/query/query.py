"""Queries are arithmetic: texts, pictures and words, added up into one list of weighted words."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lexlip.data.given import Picture, as_item
from lexlip.errors import LexLIPError
from lexlip.impacts import MAX_IMPACT, MAX_QUERY_WEIGHT
from lexlip.models.typed import as_meant
from lexlip.query.parser import parse
from lexlip.query.prepared import PreparedQuery
from lexlip.query.preparing import prepare_queries
from lexlip.query.terms import DUST
from lexlip.query.tree import MAX_PARTS, MAX_WEIGHT, Part, Phrase, Tree, Words, picture_path

if TYPE_CHECKING:
    from lexlip.models.speaker import Speaker


@dataclass(frozen=True, repr=False)
class Query(Tree):
    """Texts, pictures and words with weights, and the conditions that hits fulfil.

    Parts are added with ``+``, subtracted with ``-`` and multiplied with numbers. Each text and
    each picture becomes words first, and each part of a sum is normalised to unit length, so that a
    picture of sixty words does not drown a text of two; then the weights move the balance, equal
    words add up, and the sum is quantised once. A query of nothing but words with weights is
    taken as it stands: whole numbers up to 64 stay what they are, so that scores add up exactly.

    `must`, `exclude`, `boost` and `penalise` are of the whole query, of both sides of a sum too.
    A query of nothing but `must` looks for these words.

    Subtracting is arithmetic: a picture of people may still be found. `exclude` leaves it out.

    Examples
    --------
    >>> query = Query.text("flower") + 2 * Query.text("a bee") - 0.5 * Query.text("people")
    >>> query = query.must("garden").exclude("car", at_least=20).boost("red", 2)
    >>> print(query)
    flower + 2:"a bee" -0.5:people must:garden -car>=20 boost:red^2
    >>> Query.parse(str(query)) == query
    True
    >>> (2 * Query.from_words({"red": 20, "car": 5}) - Query.from_words({"red": 3})).words()
    {'red': 37, 'car': 10}
    """

    __array_ufunc__ = None  # numpy's numbers leave the multiplication to us

    def __post_init__(self) -> None:
        """Normalise spellings that mean the same."""
        parts = tuple(_one_form(part) for part in self.parts if part.weight)
        parts = tuple(part for part in parts if part is not None)
        if len(parts) > MAX_PARTS:
            raise LexLIPError(f"the query has more than {MAX_PARTS} parts: give fewer")
        object.__setattr__(self, "parts", parts)
        for name in ("musts", "exclusions"):
            phrases = (replace(it, text=as_meant(it.text)) for it in getattr(self, name))
            object.__setattr__(self, name, tuple(dict.fromkeys(phrases)))
        boosts = tuple((as_meant(word), factor) for word, factor in self.boosts)
        object.__setattr__(self, "boosts", boosts)

    @classmethod
    def text(cls, text: str) -> Query:
        """A text, just as it is; `parse` reads the grammar."""
        if not isinstance(text, str) or not as_meant(text).strip():
            raise LexLIPError(f"{text!r:.100} is not a text to look for: write words")
        return cls((Part(text),))

    @classmethod
    def image(cls, source: Any) -> Query:
        """A picture: a path, the bytes of a file, a PIL image or a uint8 array [H, W, 3].

        Raises
        ------
        LexLIPError
            For a URL: nothing is fetched. For bytes and arrays that are not a picture; a file is
            read when the query is encoded.
        """
        if isinstance(source, str | Path):
            return cls((Part(picture_path(source)),))
        from lexlip.data.images import ENOUGH, read_image

        return cls((Part(read_image(source, None, ENOUGH)),))

    @classmethod
    def from_words(cls, words: Mapping[str, float] | Sequence[tuple[str, float]]) -> Query:
        """Words of the vocabulary with weights of either sign, as `words` and `Index.words` give.

        The words stand for themselves; a text stands for all words that the model makes of it.
        """
        pairs = dict(words)
        for word, weight in pairs.items():
            if not isinstance(word, str) or not word.strip():
                raise LexLIPError(f"{word!r:.100} is not a word: give {{word: weight}}")
            _weight(weight)
        if not any(pairs.values()):
            raise LexLIPError("no word has a weight: give {word: weight}")
        return cls((Part(tuple((word, float(weight)) for word, weight in pairs.items())),))

    @classmethod
    def parse(cls, text: str, images: bool = True) -> Query:
        """Read a query such as ``"flower" + 2:bee -people`` (`lexlip.query.parser`).

        Parameters
        ----------
        text : str
        images : bool
            False refuses ``img:``, for queries from people who may not read this machine's files.

        Raises
        ------
        LexLIPError
            With the place where the grammar broke.
        """
        tree = parse(text, images)
        return cls(tree.parts, tree.musts, tree.exclusions, tree.boosts, tree.penalty)

    @property
    def plain(self) -> str | None:
        """The text, where the query is one text and nothing else."""
        text = self.parts[0].content if self.parts else None
        return text if isinstance(text, str) and self == Query((Part(text),)) else None

    def __repr__(self) -> str:
        return f"Query.parse({str(self)!r})"

    def __add__(self, other: Query) -> Query:
        if not isinstance(other, Query):
            return NotImplemented
        return Query(
            self.parts + other.parts,
            self.musts + other.musts,
            self.exclusions + other.exclusions,
            self.boosts + other.boosts,
            max(self.penalty, other.penalty),
        )

    def __mul__(self, number: float) -> Query:
        if not isinstance(number, Real) or isinstance(number, bool):
            return NotImplemented
        times = float(number)
        parts = tuple(Part(part.content, _weight(part.weight * times)) for part in self.parts)
        return replace(self, parts=parts)

    __rmul__ = __mul__

    def __neg__(self) -> Query:
        return self * -1

    def __sub__(self, other: Query) -> Query:
        return self + -other if isinstance(other, Query) else NotImplemented

    def must(self, text: str, at_least: int = 1) -> Query:
        """Find only documents that have all words of a text, with impacts >= `at_least`, 1..255."""
        return replace(self, musts=(*self.musts, _phrase(text, at_least)))

    def exclude(self, text: str, at_least: int = 1) -> Query:
        """Leave out documents that have all words of a text, with impacts >= `at_least`, 1..255."""
        return replace(self, exclusions=(*self.exclusions, _phrase(text, at_least)))

    def boost(self, word: str, factor: float) -> Query:
        """Multiply the weight of a word in the sum; a word that is not there stays away."""
        if _weight(factor) < 0:
            raise LexLIPError(f"a boost of {factor} would turn {word!r} around: 0 or more")
        return replace(self, boosts=(*self.boosts, (_phrase(word, 1).text, float(factor))))

    def penalise(self, impact: int) -> Query:
        """Count a word of the query that a document lacks as an impact of minus so much, 0..255.

        Every word of the query then matters, not only the heaviest few.
        """
        if not _whole(impact) or not 0 <= impact <= MAX_IMPACT:
            raise LexLIPError(f"a missing word costs {impact!r}: a whole number 0 to {MAX_IMPACT}")
        return replace(self, penalty=int(impact))

    @property
    def has_pictures(self) -> bool:
        """Whether a picture is among the parts."""
        return any(not isinstance(part.content, str | tuple) for part in self.parts)

    @property
    def summands(self) -> tuple[Part, ...]:
        """The parts that are added up: those given, or the words that must be there."""
        return self.parts or tuple(Part(phrase.text) for phrase in self.musts)

    def prepare(
        self,
        model: Speaker,
        max_terms: int | None = None,
        max_weight: int = MAX_QUERY_WEIGHT,
        views: bool = False,
    ) -> PreparedQuery:
        """Encode the query, in one pass for its texts and one for its pictures.

        Parameters
        ----------
        model : Speaker
        max_terms : int
            Number of heaviest terms that are kept, of either sign; words with weights all are. By
            default 64; for a speaker with vectors 128 terms that find.
        max_weight : int
            Weight of the heaviest term, 1..64.
        views : bool
            Encode what rerankers look at in the same pass.

        Raises
        ------
        LexLIPError
            When nothing is looked for, a picture cannot be read, or a word that must be there, or
            must not, is one that the model does not know.
        """
        return prepare_queries([self], model, max_terms, max_weight, views)[0]

    def resolved(self, model: Speaker, max_terms: int | None = None) -> Query:
        """Return the words that the query adds up to; see `PreparedQuery.resolved`."""
        return self.prepare(model, max_terms).resolved

    def words(self, model: Speaker | None = None, max_terms: int | None = None) -> dict[str, float]:
        """Return {word: weight}, heaviest first; ``Query.from_words`` takes it back.

        Parameters
        ----------
        model : Speaker, optional
            Turns texts and pictures into words. Left out, the query must be words with weights.
        max_terms : int
            As for `prepare`.
        """
        found: dict[str, float] = {}
        for part in (self if model is None else self.resolved(model, max_terms)).parts:
            if not isinstance(part.content, tuple) or (model is None and self.boosts):
                raise LexLIPError("texts, pictures and boosts need a model: query.words(model)")
            for word, weight in part.content:
                found[word] = found.get(word, 0) + part.weight * weight
        ordered = sorted(found.items(), key=lambda item: -item[1])
        return {word: int(w) if w == int(w) else w for word, w in ordered}


AnyQuery = (
    str | os.PathLike[str] | Picture | bytearray | memoryview | Query | PreparedQuery
    | Mapping[int, int] | Mapping[str, float]
)  # fmt: skip
"""What `prepare` takes, and so whatever searches, reranks or explains."""


def prepare(
    item: AnyQuery,
    model: Callable[[], Speaker],
    max_terms: int | None = None,
    max_weight: int = MAX_QUERY_WEIGHT,
    views: bool = False,
) -> PreparedQuery:
    """Encode a query of any kind; a prepared query is returned as it is.

    Parameters
    ----------
    item : PreparedQuery, Query, str, picture or mapping
        A text is taken as it is, without grammar, and the name of a picture (``a.jpg``) as its
        path; ``{term id: weight}`` needs no model, ``{word: weight}`` does.
    model : callable
        Returns the model when one is needed.
    max_terms, max_weight, views
        As for `Query.prepare`.
    """
    asked = as_query(item)
    if isinstance(asked, PreparedQuery):
        return asked
    return asked.prepare(model(), max_terms, max_weight, views)


def prepare_many(
    items: Iterable[AnyQuery],
    model: Callable[[], Speaker],
    max_terms: int | None = None,
    max_weight: int = MAX_QUERY_WEIGHT,
    views: bool = False,
    names: Sequence[str] | None = None,
) -> list[PreparedQuery]:
    """Encode queries of any kind: one batch of all texts, one batch of all pictures.

    Parameters
    ----------
    items : iterable
        As for `prepare`.
    model, max_terms, max_weight, views
        As for `prepare`.
    names : sequence of str, optional
        What errors call each query; by default ``query 1`` and so on.

    Raises
    ------
    LexLIPError
        As `prepare`, behind the name of the query.
    """
    if isinstance(items, str | bytes | Mapping | Tree | np.ndarray):
        raise LexLIPError(f"{type(items).__name__} is one query: give a list of queries")
    asked: list[Query | PreparedQuery] = []
    for number, item in enumerate(items):
        with named(number, names):
            asked.append(as_query(item))
    queries = [query for query in asked if isinstance(query, Query)]
    if not queries:
        return [query for query in asked if isinstance(query, PreparedQuery)]
    speaker = model()
    try:
        found = iter(prepare_queries(queries, speaker, max_terms, max_weight, views))
    except LexLIPError:  # of one of them: the first one that cannot be prepared alone
        for number, query in enumerate(asked):
            if isinstance(query, Query):
                with named(number, names):
                    query.prepare(speaker, max_terms, max_weight, views)
        raise
    return [query if isinstance(query, PreparedQuery) else next(found) for query in asked]


@contextmanager
def named(number: int, names: Sequence[str] | None = None) -> Iterator[None]:
    """Put the name of a query, the number of which is from 0, in front of what is wrong with it."""
    try:
        yield
    except LexLIPError as error:
        name = f"query {number + 1}" if names is None else names[number]
        raise LexLIPError(f"{name}: {error}") from None


def as_query(item: Any) -> Query | PreparedQuery:
    """Return an item of any kind as a query that is to be encoded, or as one that is prepared."""
    if isinstance(item, Query | PreparedQuery):
        return item
    if isinstance(item, Mapping):
        if not any(isinstance(term, str) for term in item):
            return PreparedQuery(item, item)
        return Query.from_words(item)
    content = as_item(item)
    named_picture = isinstance(item, str) and isinstance(content, Path)
    return Query((Part(picture_path(item) if named_picture else content),))


def _one_form(part: Part) -> Part | None:
    """Return a part as it is meant: its words occur once, with its sign inside; None for none."""
    if isinstance(part.content, str):
        return replace(part, content=as_meant(part.content))
    if not isinstance(part.content, tuple) or not part.content:
        return part
    words: dict[str, list[float]] = {}
    for word, weight in part.content:
        words.setdefault(word, []).append(-weight if part.weight < 0 else weight)
    sums = ((word, sum(some), sum(map(abs, some))) for word, some in words.items())
    kept: Words = tuple((word, total) for word, total, size in sums if abs(total) > DUST * size)
    return Part(kept, abs(part.weight)) if kept else None


def _phrase(text: str, at_least: int) -> Phrase:
    if not isinstance(text, str) or not as_meant(text).strip():
        raise LexLIPError(f"{text!r:.100} is not a word: write one")
    if not _whole(at_least) or not 1 <= at_least <= MAX_IMPACT:
        raise LexLIPError(f"at_least is {at_least!r}: a whole number 1 to {MAX_IMPACT}")
    return Phrase(text, int(at_least))


def _whole(number: Any) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool)


def _weight(number: Any) -> float:
    """Return a weight as a float."""
    if not isinstance(number, Real) or isinstance(number, bool):
        raise LexLIPError(f"weight {number!r:.100} is not a number")
    if not abs(float(number)) <= MAX_WEIGHT:
        raise LexLIPError(f"weight {float(number)} is too large: up to {MAX_WEIGHT:,.0f}")
    return float(number)
