"""Weights become impacts: normalise, prune, quantise, and measure what that cost.

All matrices are `scipy.sparse.csr_array` of shape [N, V]: one row an item, one column a
vocabulary term, non-negative. Impacts are integers, and every rounding is half to even
(`numpy.rint`), so that two machines give the same index.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack

from lexlip.errors import LexLIPError, check_count

MAX_IMPACT = 255
"""A document's impacts are 1..255: one byte, and exact in Lucene's 9-bit feature encoding."""

MAX_QUERY_WEIGHT = 64
"""A query's weights are 1..64: more is refused by the feature queries of Lucene's family."""

MAX_QUERY_TERMS = 1024
"""Terms in one query. 1024 * 255 * 64 = 16,711,680 < 2**24, so a score is an integer that
float32 holds exactly in any order of the sum: all engines agree to the last bit."""

_UNSATURATED = 0.9999
"""Share of postings which `fit_scale` keeps from being clipped."""


Lengths = bool | Literal["kept"]
"""Lengths of an index's documents: one, as they are after a cut, or as they were before it."""


def _checked(weights: csr_array) -> csr_array:
    """Return `weights` as canonical CSR: sorted, no duplicates, no stored zeros, all >= 0."""
    if not (isinstance(weights, csr_array) and weights.has_canonical_format):
        weights = csr_array(weights, copy=True)
        weights.sum_duplicates()
    if weights.ndim != 2:
        raise LexLIPError(f"weights need shape [N, V], these have {weights.shape}")
    if weights.nnz and not (np.isfinite(weights.data).all() and weights.data.min() >= 0):
        raise LexLIPError("weights must be finite and not negative: check the encoder's output")
    if np.count_nonzero(weights.data) < weights.data.size:
        weights = weights.copy()
        weights.eliminate_zeros()
    return weights


def _rows(weights: csr_array) -> NDArray[np.int64]:
    """Return the row number of each stored posting, shape [nnz]."""
    return np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))


def _row_max(weights: csr_array) -> NDArray[np.float64]:
    """Return the heaviest weight of each row, 0 for empty rows, shape [N]."""
    peak = np.zeros(weights.shape[0])
    np.maximum.at(peak, _rows(weights), weights.data)
    return peak


def _ranks(weights: csr_array) -> NDArray[np.int64]:
    """Return each posting's place in its row, 0 the heaviest, ties to the smaller term; [nnz]."""
    rows = _rows(weights)
    order = np.lexsort((weights.indices, -weights.data.astype(np.float64), rows))
    ranks = np.empty(weights.nnz, dtype=np.int64)
    ranks[order] = np.arange(weights.nnz) - weights.indptr[rows]  # rows[order] == rows
    return ranks


def _with_data(like: csr_array, data: NDArray[np.generic]) -> csr_array:
    """Return a matrix with the places of `like` and other values, zeros dropped."""
    result = csr_array((data, like.indices.copy(), like.indptr.copy()), shape=like.shape)
    result.eliminate_zeros()
    return result


def unit_normalise(weights: csr_array) -> csr_array:
    """Divide each row by its L2 norm; empty rows stay empty.

    The representation is trained with the cosine, so documents are normalised before
    they are quantised (indexing the raw weights gives another ranking).

    Parameters
    ----------
    weights
        [N, V], non-negative.

    Returns
    -------
    csr_array
        [N, V]; float32 stays float32, everything else becomes float64.

    Examples
    --------
    >>> unit_normalise(csr_array([[3.0, 4.0], [0.0, 0.0]])).toarray().tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    weights = _checked(weights)
    rows = _rows(weights)
    # Dividing by the peak first keeps the squares of tiny or huge weights in range.
    scaled = weights.data / _row_max(weights)[rows]
    norms = np.sqrt(np.bincount(rows, scaled**2, minlength=weights.shape[0]))
    dtype = np.float32 if weights.dtype == np.float32 else np.float64
    return _with_data(weights, (scaled / norms[rows]).astype(dtype))


def top_terms(weights: csr_array, k: int) -> csr_array:
    """Keep the `k` heaviest terms of each row; of equal weights the smaller term id is kept.

    Parameters
    ----------
    weights
        [N, V], non-negative, of any number type.
    k
        Terms a row, at least 1. A row with no more than `k` terms is unchanged.

    Returns
    -------
    csr_array
        [N, V], same type.

    Examples
    --------
    >>> top_terms(csr_array([[5, 7, 5, 1]]), 2).toarray().tolist()
    [[5, 7, 0, 0]]
    """
    k = check_count("the number of terms", k)
    weights = _checked(weights)
    return _with_data(weights, np.where(_ranks(weights) < k, weights.data, weights.dtype.type(0)))


def fit_scale(unit: csr_array, max_impact: int = MAX_IMPACT) -> float:
    """Choose the factor from unit-norm weights to impacts.

    The scale is `max_impact` over the 0.9999 quantile (rounded up to a weight that occurs). Below
    10,000 postings that is the largest weight, and nothing is clipped. In a large collection the
    largest weight is that of some degenerate picture with one single term (weight 1, against some
    0.3 for the heaviest of 64): fitting the scale to it would spend most of the 8 bits on one
    posting. So at most one posting in 10,000 is clipped; `quantisation_error` reports the share.

    Parameters
    ----------
    unit
        [N, V] weights as they are to be quantised.
    max_impact
        The largest integer an impact may have.

    Returns
    -------
    float
        Impacts per unit of weight; `max_impact` itself for a matrix without postings.

    Examples
    --------
    >>> fit_scale(csr_array([[0.5, 0.25]]))
    510.0
    """
    unit = _checked(unit)
    if unit.nnz == 0:
        return float(max_impact)
    return max_impact / float(np.quantile(unit.data, _UNSATURATED, method="higher"))


def quantise(weights: csr_array, scale: float, max_impact: int = MAX_IMPACT) -> csr_array:
    """Turn weights into integer impacts: `min(rint(weight * scale), max_impact)`.

    `rint` rounds half to even. Postings that round to zero are dropped, but a row that had
    postings keeps its heaviest one (smaller term id first) with impact 1: every picture that
    has words can be found.

    Parameters
    ----------
    weights
        [N, V], non-negative; `unit_normalise`d for documents.
    scale
        From `fit_scale`; positive.
    max_impact
        Larger values are clipped to it.

    Returns
    -------
    csr_array
        [N, V] int32, values 1..`max_impact`.

    Examples
    --------
    >>> quantise(csr_array([[0.5, 0.015, 0.001], [0.0, 0.0, 0.002]]), 100).toarray().tolist()
    [[50, 2, 0], [0, 0, 1]]
    """
    if not (np.isfinite(scale) and scale > 0):
        raise LexLIPError(f"the scale is {scale}: it must be a positive number")
    weights = _checked(weights)
    # minimum() before the cast: a huge weight must not overflow int32.
    impacts = np.minimum(np.rint(weights.data.astype(np.float64) * scale), max_impact)
    impacts = impacts.astype(np.int32)
    impacts[(impacts == 0) & (_ranks(weights) == 0)] = 1
    return _with_data(weights, impacts)


def dequantise(impacts: csr_array, scale: float) -> csr_array:
    """Return `impacts / scale`, the float64 weights that the impacts stand for, [N, V]."""
    return _with_data(impacts, impacts.data / float(scale))


def quantise_query(
    weights: csr_array, max_weight: int = MAX_QUERY_WEIGHT, max_terms: int = 64
) -> csr_array:
    """Turn query weights into integers 1..`max_weight`, at most `max_terms` a row.

    Each row is scaled so that its heaviest term gets `max_weight`: a query's norm does not change
    a ranking, so every query may use the whole range.

    Parameters
    ----------
    weights
        [N, V], non-negative.
    max_weight
        1..64, the contract of all engines.
    max_terms
        1..1024; the lightest terms beyond it are dropped. 64 keeps long queries fast.

    Returns
    -------
    csr_array
        [N, V] int32.

    Examples
    --------
    >>> quantise_query(csr_array([[0.2, 0.1, 0.001]])).toarray().tolist()
    [[64, 32, 0]]
    """
    max_weight = check_count("max_weight", max_weight, most=MAX_QUERY_WEIGHT)
    max_terms = check_count("max_terms", max_terms, most=MAX_QUERY_TERMS)
    weights = top_terms(weights, max_terms)
    relative = weights.data / _row_max(weights)[_rows(weights)]
    return _with_data(weights, np.rint(relative * max_weight).astype(np.int32))


def quantisation_error(unit: csr_array, impacts: csr_array, scale: float) -> dict[str, float]:
    """Measure what quantising cost.

    Parameters
    ----------
    unit
        [N, V] the weights before.
    impacts
        [N, V] the result of `quantise(unit, scale)`.
    scale
        The scale used.

    Returns
    -------
    dict
        `mean_abs` and `max_abs`: error of a weight, over the postings of `unit`; `lost`: share of
        postings dropped; `clipped`: share cut down to the largest impact; `cosine`: mean over the
        non-empty rows of the cosine between before and after. No postings: no error, cosine 1.
    """
    unit = _checked(unit)
    if unit.shape != impacts.shape:
        raise LexLIPError(f"shapes differ: weights {unit.shape}, impacts {impacts.shape}")
    if unit.nnz == 0:
        return {"mean_abs": 0.0, "max_abs": 0.0, "lost": 0.0, "clipped": 0.0, "cosine": 1.0}
    after = dequantise(impacts, scale)
    difference = csr_array(unit.astype(np.float64) - after)
    error = np.abs(difference.data)
    # Rounding errs by half a step at most; what lost more (in float64) was clipped.
    clipped = int((difference.data * scale > 0.5 + 1e-6).sum())
    norms = np.sqrt((unit * unit).sum(axis=1)) * np.sqrt((after * after).sum(axis=1))
    filled = norms > 0
    cosines = (unit * after).sum(axis=1)[filled] / norms[filled]
    return {
        "mean_abs": float(error.sum() / unit.nnz),
        "max_abs": float(error.max(initial=0.0)),
        "lost": 1.0 - impacts.nnz / unit.nnz,
        "clipped": clipped / unit.nnz,
        "cosine": float(cosines.mean()) if cosines.size else 0.0,
    }


def overlap(queries: csr_array, documents: csr_array) -> float:
    """Return the mean number of terms that a query shares with a document (co-activation).

    Computed as sum_j df_q(j) * df_d(j) / (|Q| |D|), D2S's measure of dimension co-activation
    (ECIR 2024): the postings that a query touches per document of the collection. Near the
    number of query terms, an inverted index saves nothing.

    Parameters
    ----------
    queries
        [Q, V].
    documents
        [D, V].

    Examples
    --------
    >>> overlap(csr_array([[1, 1, 0]]), csr_array([[1, 0, 0], [2, 9, 0]]))
    1.5
    """
    queries, documents = _checked(queries), _checked(documents)
    if queries.shape[1] != documents.shape[1]:
        raise LexLIPError(
            f"queries have {queries.shape[1]} terms, documents {documents.shape[1]}: "
            "use one vocabulary"
        )
    if not (queries.shape[0] and documents.shape[0]):
        return 0.0
    width = queries.shape[1]
    df_queries = np.bincount(queries.indices, minlength=width).astype(np.float64)
    df_documents = np.bincount(documents.indices, minlength=width).astype(np.float64)
    pairs = queries.shape[0] * documents.shape[0]
    return float(np.dot(df_queries, df_documents) / pairs)


def document_rows(weights: csr_array, max_terms: int, normalise: Lengths = True) -> csr_array:
    """Return the weights that an index quantises: the heaviest terms, mostly at length one.

    Parameters
    ----------
    weights : csr_array [N, V]
    max_terms : int
        Term budget of a document.
    normalise : bool or "kept"
        Bring rows to length one: cosine is what training optimises, so cosine is indexed. False
        for a speaker whose rows have the length that scores need
        (`lexlip.models.speaker.HasVectors`). "kept" for rows that a bank has levelled
        (`lexlip.models.levels`): they have the length again that they had with all their terms.

    Examples
    --------
    >>> document_rows(csr_array([[3.0, 4.0, 0.1]]), 2).toarray().tolist()
    [[0.6, 0.8, 0.0]]
    >>> document_rows(csr_array([[3.0, 4.0, 0.1]]), 2, normalise=False).toarray().tolist()
    [[3.0, 4.0, 0.0]]
    >>> document_rows(csr_array([[3.0, 4.0, 12.0]]), 1, normalise="kept").toarray().tolist()
    [[0.0, 0.0, 13.0]]
    """
    kept = top_terms(weights, max_terms)
    if normalise == "kept":
        rows, unit = _checked(weights), unit_normalise(kept)
        squares = np.bincount(_rows(rows), rows.data.astype(np.float64) ** 2, rows.shape[0])
        lengths = np.sqrt(squares)[_rows(unit)].astype(unit.dtype)
        return _with_data(unit, unit.data * lengths)
    return unit_normalise(kept) if normalise else kept


def document_impacts(
    weights: csr_array, max_terms: int, scale: float | None = None, normalise: Lengths = True
) -> tuple[csr_array, float]:
    """Turn encoder output into what an index stores: the one recipe, for builders and benchmarks.

    Keep the heaviest terms, bring rows to length one, quantise.

    Parameters
    ----------
    weights : csr_array [N, V]
    max_terms : int
        Term budget of a document.
    scale : float, optional
        Scale of an index that these documents join; fitted to the data when left out.
    normalise : bool or "kept"
        As for `document_rows`.

    Returns
    -------
    impacts : csr_array int32 [N, V]
    scale : float

    Examples
    --------
    >>> impacts, scale = document_impacts(csr_array([[3.0, 4.0, 0.1]]), max_terms=2)
    >>> impacts.toarray().tolist(), scale
    ([[191, 255, 0]], 318.75)
    """
    rows = document_rows(weights, max_terms, normalise)
    scale = fit_scale(rows) if scale is None else scale
    return quantise(rows, scale), scale


def with_said(impacts: csr_array, said: csr_array) -> csr_array:
    """Append the words that are said of documents to the impacts that find them.

    What is asked of a word (`must:`, excluding, clouds) asks these: a word that finds may be there
    only to correct a sum. Term j is said as V + j (`lexlip.models.speaker.said_term`).

    Parameters
    ----------
    impacts : csr_array int32 [N, V]
    said : csr_array [N, V]
        Weights 0..1; one of 1 becomes the largest impact. None is lost: the least is 1.

    Returns
    -------
    csr_array int32 [N, 2 V]

    Examples
    --------
    >>> with_said(csr_array([[7, 0]]), csr_array([[0.001, 0.5]])).toarray().tolist()
    [[7, 0, 1, 128]]
    """
    said = _checked(said)
    levels = np.clip(np.rint(said.data * float(MAX_IMPACT)), 1, MAX_IMPACT).astype(np.int32)
    return csr_array(hstack([impacts, _with_data(said, levels)], format="csr"))


def query_terms(weights: csr_array, row: int = 0) -> dict[int, int]:
    """Read one row of quantised query weights as ``{term id: weight}``.

    Examples
    --------
    >>> query_terms(quantise_query(csr_array([[0.0, 2.0, 1.0]])))
    {1: 64, 2: 32}
    """
    span = slice(weights.indptr[row], weights.indptr[row + 1])
    return dict(zip(weights.indices[span].tolist(), weights.data[span].tolist(), strict=True))
