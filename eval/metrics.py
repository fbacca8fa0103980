"""Metrics: recall of a run, groundedness of words, and significance of a difference.

A run maps a query id to its ranking, best first. The order of the list *is* the ranking: scores
are kept for people and files, and nothing here sorts by them again. That matters because sparse
engines produce many equal scores, and a tool with its own tie rule would silently reorder them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path

import numpy as np

from lexlip.data.trec import one_word, run_lines
from lexlip.errors import LexLIPError
from lexlip.lexicon import split_words
from lexlip.storage.files import write_text

Run = dict[str, list[tuple[str, float]]]
Qrels = Mapping[str, set[str]]

KS = (1, 5, 10)

# Function words occur in captions of any picture: they would make all of them look grounded.
# Not `lexlip.lexicon.STOP_WORDS`: the measure must stay the same when a model's lexicon changes.
# Numbers and words of place ("two", "under") say something about a picture and count.
IGNORED_WORDS = frozenset(
    """a am an and another any are as at be been being but by can could do does for from had has
    have he her hers him his i if in into is it its itself me my no nor not of off on onto or other
    our she so some such than that the their them themselves then there these they this those to
    too us very was we were what when where which while who whom whose will with would you
    your""".split()
)


def recall_at(run: Run, qrels: Qrels, ks: Sequence[int] = KS) -> dict[str, float]:
    """Share of queries with at least one relevant item among the first k.

    This is the recall of the image-text retrieval tables (a caption has one picture; a
    picture is found when any of its five captions is). A query of ``qrels`` that the run lacks
    counts as a miss; a query without judgements is ignored.

    Parameters
    ----------
    run : Run
        Query id -> [(item id, score)], best first.
    qrels : Mapping[str, set[str]]
        Query id -> relevant item ids, at least one each.
    ks : Sequence[int]
        Cut-offs.

    Returns
    -------
    dict[str, float]
        ``{"R@1": ..., ...}`` as fractions of 1.

    Raises
    ------
    LexLIPError
        A ranking names an item twice, or there is nothing to judge.

    Examples
    --------
    >>> recall_at({"q": [("b", 2.0), ("a", 2.0)], "r": [("a", 1.0)]}, {"q": {"a"}, "r": {"a"}})
    {'R@1': 0.5, 'R@5': 1.0, 'R@10': 1.0}
    """
    hits = _successes(run, qrels, ks)
    return {f"R@{k}": float(np.mean(list(hits[k].values()))) for k in ks}


def _successes(run: Run, qrels: Qrels, ks: Sequence[int]) -> dict[int, dict[str, float]]:
    """Per cut-off and query of the judgements: 1.0 for a hit, 0.0 for a miss."""
    import ir_measures

    if not qrels or not all(qrels.values()):
        raise LexLIPError("nothing to judge: give every query at least one relevant item")
    check_run(run)
    judged = {query: dict.fromkeys(items, 1) for query, items in qrels.items()}
    # The negated rank replaces the score, so that the library sees no ties.
    ranked = {
        query: {item: float(-rank) for rank, (item, _) in enumerate(run.get(query, [])[: max(ks)])}
        for query in qrels
    }
    measures = [ir_measures.Success @ k for k in ks]
    hits = {k: dict.fromkeys(qrels, 0.0) for k in ks}
    for value in ir_measures.iter_calc(measures, judged, ranked):
        hits[value.measure.params["cutoff"]][value.query_id] = value.value
    return hits


def check_run(run: Run) -> None:
    """Refuse a ranking that names an item twice: copies push real items out of the top k.

    Raises
    ------
    LexLIPError
        With the query and the item.
    """
    for query, ranking in run.items():
        seen: set[str] = set()
        for item, _ in ranking:
            if item in seen:
                raise LexLIPError(
                    f"query {query!r} ranks {item!r} twice: a ranking must name every item once"
                )
            seen.add(item)


def rsum(t2i: Mapping[str, float], i2t: Mapping[str, float]) -> float:
    """Sum of all recalls of both directions in percent, at most 600 for the usual three.

    Examples
    --------
    >>> rsum({"R@1": 0.5, "R@5": 1.0}, {"R@1": 0.25, "R@5": 0.75})
    250.0
    """
    return 100.0 * (sum(t2i.values()) + sum(i2t.values()))


def chance_recall(gallery: int, relevant: int, k: int) -> float:
    """Expected recall at k of a random ranking: one minus the chance to draw k misses.

    Examples
    --------
    >>> round(chance_recall(5000, 5, 10), 6)
    0.009964
    """
    return 1.0 - comb(gallery - relevant, k) / comb(gallery, k)


def invert(qrels: Qrels) -> dict[str, set[str]]:
    """Turn caption -> pictures into picture -> captions, which judges the other direction.

    Examples
    --------
    >>> invert({"a#0": {"a"}, "a#1": {"a"}}) == {"a": {"a#0", "a#1"}}
    True
    """
    inverted: dict[str, set[str]] = {}
    for query, items in qrels.items():
        for item in items:
            inverted.setdefault(item, set()).add(query)
    return inverted


# --- groundedness ---------------------------------------------------------------------------


def grounded_precision(
    words: Sequence[Sequence[str]],
    captions: Sequence[Sequence[str]],
    k: int = 10,
    tokenize: Callable[[str], Iterable[str]] = split_words,
) -> float:
    """Share of a picture's k heaviest words that occur in any of its captions, over pictures.

    Stop words and punctuation are left out before the first k are taken. A picture with fewer
    than k words divides by what it has; one without words counts 0.

    Parameters
    ----------
    words : Sequence[Sequence[str]]
        For each picture its decoded terms, heaviest first.
    captions : Sequence[Sequence[str]]
        For each picture its captions.
    k : int
        Number of heaviest words that are judged.
    tokenize : Callable[[str], Iterable[str]]
        Cuts a caption into the same kind of tokens as ``words``: pass the model's word-piece
        tokeniser so that a piece is compared with a piece.

    Examples
    --------
    >>> grounded_precision([["dog", "the", "boat"]], [["A dog runs.", "The brown dog"]])
    0.5
    """
    if len(words) != len(captions):
        raise LexLIPError(f"{len(words)} pictures with words but {len(captions)} with captions")
    if not words:
        raise LexLIPError("no pictures to judge the words of: give at least one")
    shares = []
    for terms, texts in zip(words, captions, strict=True):
        heaviest = [t for t in terms if t not in IGNORED_WORDS and any(c.isalnum() for c in t)][:k]
        said = {token for text in texts for token in tokenize(text)}
        shares.append(sum(t in said for t in heaviest) / len(heaviest) if heaviest else 0.0)
    return float(np.mean(shares))


# --- significance ---------------------------------------------------------------------------


@dataclass(frozen=True)
class PairedTest:
    """Result of `paired_test`: recall of a minus recall of b, and how surprising it is."""

    difference: float
    p_value: float
    queries: int
    units: int


def paired_test(
    run_a: Run, run_b: Run, qrels: Qrels, k: int = 1, seed: int = 0, rounds: int = 10_000
) -> PairedTest:
    """Two-sided paired randomisation test of the difference in recall at k.

    Under the null hypothesis the two systems are exchangeable, so the outcomes of a unit may be
    swapped. A unit is one picture: the captions ``x#0 .. x#4`` share a picture and fail together,
    so they are swapped together (a query id without ``#`` is a unit by itself). Every round swaps
    each unit with probability one half; the p-value is (1 + rounds at least as extreme) /
    (1 + rounds), which never claims less than the number of rounds can show.

    Parameters
    ----------
    run_a, run_b : Run
        Rankings for the same judgements.
    qrels : Mapping[str, set[str]]
        Judgements; a query missing from a run is a miss for it.
    k : int
        Cut-off.
    seed : int
        Of the random swaps.
    rounds : int
        Number of random swaps.

    Examples
    --------
    >>> paired_test({"q": [("a", 1.0)]}, {"q": [("a", 9.0)]}, {"q": {"a"}}).p_value
    1.0
    """
    a, b = _successes(run_a, qrels, [k])[k], _successes(run_b, qrels, [k])[k]
    units: dict[str, float] = {}
    for query in sorted(qrels):
        unit = query.rpartition("#")[0] or query
        units[unit] = units.get(unit, 0.0) + a[query] - b[query]
    # Units without a difference change nothing in any round: leave them out of the arithmetic.
    moved = np.array([d for d in units.values() if d], dtype=np.float64)
    rng = np.random.default_rng(seed)
    extreme = 0
    for start in range(0, rounds, 1000):
        signs = rng.integers(0, 2, size=(min(1000, rounds - start), len(moved))) * 2 - 1
        # The sums are whole numbers in float64, so the comparison is exact.
        extreme += int(np.sum(np.abs(signs @ moved) >= abs(moved.sum())))
    p_value = (1 + extreme) / (1 + rounds)
    return PairedTest(float(moved.sum()) / len(qrels), p_value, len(qrels), len(units))


# --- files ----------------------------------------------------------------------------------


def write_trec_run(path: str | Path, run: Run, tag: str) -> None:
    """Write ``query Q0 item rank score tag`` lines, ranks from 1, in the order of the run.

    Scores fall strictly, so that any evaluator sees this order (`lexlip.data.trec.run_lines`).
    """
    check_run(run)
    lines = [line for query, ranking in run.items() for line in run_lines(query, ranking, tag)]
    write_text(path, "".join(f"{line}\n" for line in lines))


def write_qrels(path: str | Path, qrels: Qrels) -> None:
    """Write ``query 0 item 1`` lines, items in order of their ids."""
    write_text(
        path,
        "".join(
            f"{one_word(query)} 0 {one_word(item)} 1\n"
            for query, items in qrels.items()
            for item in sorted(items)
        ),
    )
