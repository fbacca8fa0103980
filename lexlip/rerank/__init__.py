"""The second stage: how well a few candidates fit a query, from dense views of both.

Nothing here reads an index. `late_interaction` (FILIP), `gaussian` (PCME), `naaf` and `scan` score
batches of tensors, all pairs at once; `late_scores` is the fast way from stored codes to the late
interaction of one query; `fuse` and `rerank` join the result to the first stage. `RERANKERS` names
what ``Index.search(rerank=...)`` takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lexlip.rerank import gaussian
from lexlip.rerank.fuse import fuse, rerank, reranked
from lexlip.rerank.gaussian import Gaussians
from lexlip.rerank.late import Alignment, alignment, late_interaction, template_ensemble
from lexlip.rerank.naaf import naaf, optimal_threshold, scan, threshold_cost

if TYPE_CHECKING:
    from lexlip.rerank.kernel import late_scores
    from lexlip.rerank.rerankers import RERANKERS

__all__ = [
    "RERANKERS",
    "Alignment",
    "Gaussians",
    "alignment",
    "fuse",
    "gaussian",
    "late_interaction",
    "late_scores",
    "naaf",
    "optimal_threshold",
    "rerank",
    "reranked",
    "scan",
    "template_ensemble",
    "threshold_cost",
]


def __getattr__(name: str) -> Any:
    """Import on first use what numba compiles."""
    if name == "late_scores":
        from lexlip.rerank.kernel import late_scores

        return late_scores
    if name == "RERANKERS":
        from lexlip.rerank.rerankers import RERANKERS

        return RERANKERS
    raise AttributeError(f"module 'lexlip.rerank' has no attribute {name!r}")
