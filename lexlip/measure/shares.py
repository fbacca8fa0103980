"""Shares: the weight of a reranker's score against the words' score, from judged queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from lexlip.errors import LexLIPError
from lexlip.rerank.fuse import reranked
from lexlip.rerank.stage import DEPTH

if TYPE_CHECKING:
    from lexlip.index import Index

SHARES = tuple(round(0.1 * step, 1) for step in range(11))
AMBIGUOUS = 0.9
"""Queries whose uncertainty is above this quantile count as ambiguous."""


@dataclass(frozen=True)
class Chosen:
    """Measurements of one reranker.

    Attributes
    ----------
    name : str
    share : float
        Of the reranker's score; the best one.
    recall : float
        At 1, with this share.
    alone, words : float
        At 1, by the reranker alone and by the first stage.
    """

    name: str
    share: float
    recall: float
    alone: float
    words: float


def choose(
    index: Index,
    names: Sequence[str],
    queries: Mapping[str, str],
    qrels: Mapping[str, set[str]],
    depth: int = DEPTH,
) -> list[Chosen]:
    """Measure shares from 0 to 1 by steps of 0.1, and save the best with the index.

    Parameters
    ----------
    index : Index
        With views.
    names : sequence of str
        Rerankers.
    queries : mapping of str to str
        Texts by id.
    qrels : mapping of str to set of str
        Relevant documents of each; queries without judgements are skipped.
    depth : int
        Candidates that are reranked.

    Raises
    ------
    LexLIPError
        No judged query, an unknown reranker, or an index without views. Nothing is saved then.
    """
    asked = {query: text for query, text in queries.items() if qrels.get(query)}
    if not asked:
        raise LexLIPError("no query has a judgement: give queries and judgements that go together")
    stage = index.second_stage
    right: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in names}
    words, vague = [], []
    for query, text in tqdm(asked.items(), "reranking", unit="query", disable=None):
        prepared = index.prepare(text, views=True)
        hits = prepared.search(index.engine, depth)
        ids, scores = [hit.id for hit in hits], [hit.score for hit in hits]
        good = np.array([name in qrels[query] for name in ids], dtype=bool)
        words.append(bool(good[:1].any()))
        vague += [] if prepared.uncertainty is None else [prepared.uncertainty]
        for name in names:
            likeness = stage.likeness(name, prepared, ids)
            orders = (reranked(scores, likeness, share) for share in SHARES)
            right[name].append(np.array([bool(good[order[:1]].any()) for order in orders]))
    found = []
    for name in names:
        recall = np.mean(right[name], axis=0)
        best = int(recall.argmax())
        figures = float(recall[best]), float(recall[-1]), float(np.mean(words))
        found.append(Chosen(name, SHARES[best], *figures))
    limit = float(np.quantile(vague, AMBIGUOUS)) if vague else None
    stage.save({chosen.name: chosen.share for chosen in found}, limit)
    return found
