"""Run files, read as their format says: the rank column decides."""

from __future__ import annotations


def read_trec_run(path):
    """Return {query: [(item, score)]}, best first."""
    ranked = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        query, _, item, rank, score, _ = line.split()
        ranked.setdefault(query, {})[int(rank)] = item, float(score)
    return {query: [rows[rank] for rank in sorted(rows)] for query, rows in ranked.items()}
