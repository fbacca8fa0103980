"""Numbers that a search is given, checked before anything is encoded."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from lexlip.errors import LexLIPError, check_count
from lexlip.impacts import MAX_QUERY_TERMS, MAX_QUERY_WEIGHT


def check_search(
    k: Any,
    rescore: Any = 0,
    max_terms: Any = None,
    rerank: str | None = None,
    depth: Any = None,
    min_fit: Any = None,
) -> None:
    """Check the numbers of `lexlip.index.Index.search`.

    Raises
    ------
    LexLIPError
        For anything but numbers in their range, and for two that do not go together.

    Examples
    --------
    >>> check_search(10, rescore=100)
    >>> check_search("10")
    Traceback (most recent call last):
    lexlip.errors.LexLIPError: k is '10': give a whole number, 1 or more
    """
    check_count("k", k)
    check_count("rescore", rescore, 0)
    check_terms(max_terms)
    if depth is not None:
        check_count("depth", depth)
    if rerank not in (None, "none") and rescore:
        raise LexLIPError("rescore and rerank both order the best hits: leave out one of the two")
    number = isinstance(min_fit, Real) and not isinstance(min_fit, bool)
    if min_fit is not None and not (number and math.isfinite(min_fit)):
        raise LexLIPError(f"min_fit is {min_fit!r:.60}: give a number such as 2")


def check_terms(max_terms: Any, max_weight: Any = MAX_QUERY_WEIGHT) -> None:
    """Check how many terms a query keeps, None for the default, and how heavy they are.

    Raises
    ------
    LexLIPError
        For anything but whole numbers in their range.
    """
    if max_terms is not None:
        check_count("max_terms", max_terms, most=MAX_QUERY_TERMS)
    check_count("max_weight", max_weight, most=MAX_QUERY_WEIGHT)
