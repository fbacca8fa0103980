"""Uncertainty study: recall of queries, the surest tenth first."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval import metrics
from lexlip.storage.files import write_bytes
from lexlip.storage.views import Views

BINS = 10


def deciles(
    queries: Views, names: Sequence[str], run: metrics.Run, qrels: metrics.Qrels
) -> dict[str, Any]:
    """Recall at 1 of a run by the uncertainty of its queries.

    Parameters
    ----------
    queries : Views
        Gaussians of Q queries.
    names : sequence of str
        Their ids.
    run, qrels
        The ranking and its judgements.

    Returns
    -------
    dict
        ``uncertainty`` and ``R@1``, the means of ten bins of equal size, the surest first, and
        ``spearman``, between the number of the bin and its recall: -1 where recall falls from bin
        to bin.
    """
    from scipy.stats import spearmanr

    unsure = queries.log_variance.mean(1) / 2  # mean log standard deviation
    hit = [metrics.recall_at({q: run[q]}, {q: qrels[q]}, (1,))["R@1"] for q in names]
    bins = np.array_split(np.argsort(unsure, kind="stable"), min(BINS, len(names)))
    recall = [float(np.mean([hit[i] for i in rows])) for rows in bins]
    level = [float(unsure[rows].mean()) for rows in bins]
    related = float(spearmanr(range(len(bins)), recall).statistic) if len(bins) > 2 else 0.0
    return {"uncertainty": level, "R@1": recall, "spearman": related if related == related else 0.0}


def plot(found: dict[str, Any], path: str | Path) -> None:
    """Draw recall per decile."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axis = figure.subplots()
    numbers = range(1, len(found["R@1"]) + 1)
    axis.bar(numbers, [100 * share for share in found["R@1"]], color="C0")
    axis.set(xlabel="decile of the queries, the surest first", ylabel="T2I R@1 (%)")
    axis.set_title(f"Spearman {found['spearman']:.2f}", fontsize=10)
    axis.set_xticks(numbers)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_bytes(path, buffer.getvalue())
