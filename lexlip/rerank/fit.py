"""Fit of a hit: how well a document answers a query, on a scale that is the same for every query.

Where vectors order, the fit comes with them (`lexlip.rerank.phases.fits`): standard deviations.
For words alone it is the share of what a query asks that a document says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lexlip.errors import LexLIPError
from lexlip.rerank.phases import OrderedHit

if TYPE_CHECKING:
    from lexlip.engines.base import Engine

WEAK = 3.0
"""Fit by vectors below which hits are mostly wrong: of one threshold for 166 names in 1,085
photographs the best was 3.3 (python -m eval.studies.names), and 98 of 100 captions fit their
picture better."""

WEAK_SHARE = 0.7
"""Fit by words below which hits are mostly wrong: the best threshold for 169 queries on 600 scenes
(python -m eval.studies.stopping)."""


def share_said(terms: Mapping[int, int], held: Mapping[int, int]) -> float | None:
    """Return the share of a query's weight whose words a document has, 0..1.

    Only words that are wanted count; None where a query wants none.

    Parameters
    ----------
    terms : mapping
        {term id: weight} of the query.
    held : mapping
        {term id: impact} of the document.

    Examples
    --------
    >>> share_said({1: 60, 2: 20, 3: -9}, {1: 200, 3: 7})
    0.75
    """
    wanted = {term: weight for term, weight in terms.items() if weight > 0}
    if not wanted:
        return None
    said = sum(weight for term, weight in wanted.items() if held.get(term, 0) > 0)
    return said / sum(wanted.values())


def fits_of(hits: Sequence[Any], engine: Engine, terms: Mapping[int, int]) -> list[float | None]:
    """Return the fit of each hit, None where it is not known.

    Parameters
    ----------
    hits : sequence of Hit, OrderedHit or RerankedHit
    engine : Engine
        Asked for the words of hits that vectors did not order.
    terms : mapping
        {term id: weight} of the query.
    """
    return [
        hit.fit if isinstance(hit, OrderedHit)
        else share_said(terms, engine.contributions(hit.id, terms))
        for hit in hits
    ]  # fmt: skip


def fitting(hits: Sequence[Any], fits: Sequence[float | None], least: float) -> list[Any]:
    """Return the hits that fit at least so well.

    Raises
    ------
    LexLIPError
        When it is not known how well hits fit.
    """
    if hits and all(fit is None for fit in fits):
        raise LexLIPError("this order does not tell how well a hit fits: order by vectors")
    return [hit for hit, fit in zip(hits, fits, strict=True) if fit is not None and fit >= least]


def weak_from(fits: Sequence[float | None], weak: float | None) -> int | None:
    """Return the place from which on no hit fits well, None where there is none.

    Examples
    --------
    >>> weak_from((4.1, 2.0, 3.5, 2.9, 1.0), 3.0)
    3
    """
    if weak is None:
        return None
    last = max((n for n, fit in enumerate(fits) if fit is None or fit >= weak), default=-1)
    return last + 1 if last + 1 < len(fits) else None
