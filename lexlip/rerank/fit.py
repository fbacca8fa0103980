"""Fit of a hit: how well a document answers a query, on a scale that is the same for every query.

Where vectors order, the fit comes with them (`lexlip.rerank.phases.fits`): standard deviations.
For words alone it is the share of what a query asks that a document says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from lexlip.errors import LexLIPError
from lexlip.query.contributions import Contribution

if TYPE_CHECKING:
    from lexlip.engines.base import Engine
    from lexlip.query.prepared import PreparedQuery

WEAK = 3.0
"""Fit by vectors below which hits are mostly wrong: of one threshold for 166 names in 1,085
photographs the best was 3.3 (python -m eval.studies.names), and 99 of 100 captions fit their
picture better."""

WEAK_SHARE = 0.7
"""Fit by words below which hits are mostly wrong: the best threshold for 169 queries on 600 scenes
(python -m eval.studies.stopping)."""


def share_said(terms: Mapping[int, int], words: Iterable[Contribution]) -> float | None:
    """Return the share of a query's weight whose words a document has, 0..1.

    Only words that are wanted count; None where a query wants none.

    Parameters
    ----------
    terms : mapping
        {term id: weight} of the query.
    words : iterable of Contribution
        Words of the query that the document has.

    Examples
    --------
    >>> share_said({1: 60, 2: 20, 3: -9}, [Contribution("red", 60, 200)])
    0.75
    """
    wanted = sum(weight for weight in terms.values() if weight > 0)
    said = sum(word.query for word in words if word.query > 0 and word.impact > 0)
    return said / wanted if wanted else None


def shares_said(
    hits: Iterable[Any],
    engine: Engine,
    terms: Mapping[int, int],
    reasons: Iterable[Sequence[Contribution]] | None = None,
) -> Iterator[float | None]:
    """Yield the share of each hit, as it is asked for; see `share_said`.

    Parameters
    ----------
    hits : iterable of Hit or RerankedHit
    engine : Engine
        Asked for the words of each hit, where there are no reasons.
    terms : mapping
        {term id: weight} of the query.
    reasons : iterable of sequences of Contribution, optional
        The words of each hit, where they are known.
    """
    if reasons is not None:
        return (share_said(terms, words) for words in reasons)
    held = (engine.contributions(hit.id, terms) for hit in hits)
    return (
        share_said(terms, [Contribution("", terms[term], impact) for term, impact in one.items()])
        for one in held
    )


def weak_from(fits: Sequence[float | None], weak: float | None) -> int | None:
    """Return the place of the first hit after the last good one; None if the last hit is good.

    Examples
    --------
    >>> weak_from((4.1, 2.0, 3.5, 2.9, 1.0), 3.0)
    3
    """
    if weak is None:
        return None
    last = max((n for n, fit in enumerate(fits) if fit is None or fit >= weak), default=-1)
    return last + 1 if last + 1 < len(fits) else None


class TellsFit:
    """The part of `lexlip.index.Index` that says how well hits fit."""

    manifest: dict[str, Any]
    engine: Engine
    prepare: Any

    def fits(
        self,
        hits: Sequence[Any],
        item: Any,
        reasons: Sequence[Sequence[Contribution]] | None = None,
    ) -> list[float | None]:
        """Say how well hits fit, on one scale for all queries; see `lexlip.rerank.fit`.

        Parameters
        ----------
        hits : sequence of Hit, OrderedHit or RerankedHit
            Of `search`.
        item : str, picture, Query, mapping or PreparedQuery
            As for `search`.
        reasons : sequence of sequences of Contribution, optional
            Of `explain`, of each hit; asked for where they are left out.

        Returns
        -------
        list of float or None
            Standard deviations where vectors order; else the share of the query's words that a
            document has. None where that is not known.
        """
        if self.manifest.get("said") is not None:
            return [getattr(hit, "fit", None) for hit in hits]
        return list(shares_said(hits, self.engine, self.prepare(item).terms, reasons))

    def fitting(self, hits: Sequence[Any], query: PreparedQuery, least: float, k: int) -> list[Any]:
        """Return the first `k` hits that fit at least so well; fits are asked for one by one.

        Raises
        ------
        LexLIPError
            When hits of a speaker with vectors were not ordered by these.
        """
        if self.manifest.get("said") is not None:
            raise LexLIPError("this order does not tell how well a hit fits: order by vectors")
        fits = shares_said(hits, self.engine, query.terms)
        good = (hit for hit, fit in zip(hits, fits, strict=True) if (fit or 0) >= least)
        return list(islice(good, k))

    @property
    def weak_below(self) -> float:
        """Fit below which hits are mostly wrong."""
        return WEAK if self.manifest.get("said") is not None else WEAK_SHARE
