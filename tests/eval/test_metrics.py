from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from eval import metrics
from eval.metrics import (
    chance_recall,
    grounded_precision,
    invert,
    paired_test,
    recall_at,
    rsum,
    write_qrels,
    write_trec_run,
)
from lexlip.data.qrels import read_qrels
from lexlip.errors import LexLIPError
from tests.support.runs import read_trec_run


def ranking(*items: str) -> list[tuple[str, float]]:
    return [(item, float(-i)) for i, item in enumerate(items)]


def test_recall_by_hand():
    run = {
        "first": ranking("a", "b"),
        "sixth": ranking("b", "c", "d", "e", "f", "a"),
        "never": ranking("b", "c"),
    }
    qrels = {query: {"a"} for query in (*run, "missing")}
    assert recall_at(run, qrels) == {"R@1": 0.25, "R@5": 0.25, "R@10": 0.5}


def test_any_relevant_item_counts_once():
    run = {"picture": ranking("x", "c3", "c1", "c2")}
    assert recall_at(run, {"picture": {"c1", "c2", "c3"}}, ks=(1, 2, 3)) == {
        "R@1": 0.0,
        "R@2": 1.0,
        "R@3": 1.0,
    }


@pytest.mark.parametrize("score", [lambda i: 0.0, lambda i: float(i), lambda i: math.nan])
def test_the_order_given_is_the_ranking_whatever_the_scores(score):
    run = {"q": [(item, score(i)) for i, item in enumerate(["z", "m", "a"])]}
    for place, item in enumerate(["z", "m", "a"], start=1):
        recalls = recall_at(run, {"q": {item}}, ks=(1, 2, 3))
        assert recalls == {f"R@{k}": float(k >= place) for k in (1, 2, 3)}


def test_queries_without_judgements_are_ignored():
    run = {"q": ranking("a"), "other": ranking("a")}
    assert recall_at(run, {"q": {"a"}}, ks=(1,)) == {"R@1": 1.0}


def test_duplicates_are_refused():
    with pytest.raises(LexLIPError, match="'q' ranks 'a' twice"):
        recall_at({"q": ranking("a", "b", "a")}, {"q": {"a"}})


@pytest.mark.parametrize("qrels", [{}, {"q": set()}])
def test_nothing_to_judge_is_refused(qrels):
    with pytest.raises(LexLIPError, match="nothing to judge"):
        recall_at({"q": ranking("a")}, qrels)


def test_recall_equals_a_plain_loop_on_random_runs():
    rng = np.random.default_rng(5)
    items = [f"i{n}" for n in range(30)]
    run, qrels = {}, {}
    for q in range(80):
        shown = rng.permutation(30)[: rng.integers(0, 30)]
        run[f"q{q}"] = [(items[i], 0.0) for i in shown]
        qrels[f"q{q}"] = {items[i] for i in rng.permutation(30)[: rng.integers(1, 6)]}
    expected = {
        f"R@{k}": sum(any(i in qrels[q] for i, _ in run[q][:k]) for q in qrels) / 80
        for k in (1, 3, 10)
    }
    assert recall_at(run, qrels, ks=(1, 3, 10)) == pytest.approx(expected)


# Random rankings: Flickr30k's test split (1,000 pictures, 5,000 captions) and COCO's (5,000).
@pytest.mark.parametrize(
    ("gallery", "relevant", "expected"),
    [
        (1_000, 1, (0.001, 0.005, 0.010)),
        (5_000, 5, (0.0010, 0.004992, 0.009964)),
        (5_000, 1, (0.0002, 0.001, 0.002)),
        (25_000, 5, (0.0002, 0.0009997, 0.0019986)),
    ],
)
def test_chance_recall_analytically(gallery, relevant, expected):
    found = [chance_recall(gallery, relevant, k) for k in (1, 5, 10)]
    # The published oracle has four significant digits at the worst place.
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("gallery", "relevant"), [(1_000, 1), (5_000, 5), (25, 3)])
def test_chance_recall_by_simulation(gallery, relevant):
    rng = np.random.default_rng(17)
    queries = 3_000
    qrels = {f"q{q}": {f"i{i}" for i in range(relevant)} for q in range(queries)}
    run = {
        query: [(f"i{i}", 0.0) for i in rng.choice(gallery, size=10, replace=False)]
        for query in qrels
    }
    for name, found in recall_at(run, qrels).items():
        p = chance_recall(gallery, relevant, int(name[2:]))
        assert abs(found - p) < 4 * math.sqrt(p * (1 - p) / queries)


def test_rsum_is_600_for_perfect_runs():
    perfect = {"R@1": 1.0, "R@5": 1.0, "R@10": 1.0}
    assert rsum(perfect, perfect) == 600.0


def test_invert_gives_every_picture_its_captions():
    qrels = {"a#0": {"a"}, "a#1": {"a", "b"}, "b#0": {"b"}}
    assert invert(qrels) == {"a": {"a#0", "a#1"}, "b": {"a#1", "b#0"}}
    assert invert(invert(qrels)) == qrels


# --- groundedness -------------------------------------------------------------------------------


def test_grounded_precision_by_hand():
    words = [
        ["dog", "the", ".", "boat", "grass"],  # 2 of 3 after the stop word and the full stop
        [f"w{i}" for i in range(12)],  # only the first ten count: w0 is said, w11 is too late
        ["the", "a"],  # nothing left
        [],
    ]
    captions = [["A dog .", "Green grass"], ["w0 and w11"], ["the a"], ["anything"]]
    expected = (2 / 3 + 1 / 10 + 0 + 0) / 4
    assert grounded_precision(words, captions) == pytest.approx(expected)


def test_grounded_precision_compares_pieces_with_pieces():
    def pieces(text: str) -> list[str]:
        return [p for word in text.split() for p in (word[:4], "##" + word[4:])]

    assert grounded_precision([["play", "##ing"]], [["playing"]], tokenize=pieces) == 1.0
    assert grounded_precision([["play", "##ing"]], [["playing"]]) == 0.0


def test_grounded_precision_refuses_lists_of_different_length():
    with pytest.raises(LexLIPError, match="2 pictures with words but 1 with captions"):
        grounded_precision([["a"], ["b"]], [["a"]])


# --- paired test --------------------------------------------------------------------------------


def exact_p(differences: list[float]) -> float:
    """Share of all sign patterns whose sum is at least as far from zero."""
    observed = abs(sum(differences))
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(differences))
    ]
    return sum(value >= observed for value in sums) / len(sums)


def runs_with(differences: dict[str, int]) -> tuple[metrics.Run, metrics.Run, dict[str, set[str]]]:
    """Two runs whose hit at one differs by 1, 0 or -1 for each query."""
    hit, miss = ranking("x"), ranking("y")
    a = {q: hit if d >= 0 else miss for q, d in differences.items()}
    b = {q: hit if d <= 0 else miss for q, d in differences.items()}
    return a, b, {q: {"x"} for q in differences}


def test_paired_test_agrees_with_all_sign_patterns():
    differences = [1, 1, 1, -1, 1, 1, 0, -1, 1, 1]
    a, b, qrels = runs_with({f"q{i}": d for i, d in enumerate(differences)})
    result = paired_test(a, b, qrels, seed=3, rounds=20_000)
    assert result.difference == pytest.approx(0.5)
    assert (result.queries, result.units) == (10, 10)
    assert result.p_value == pytest.approx(exact_p(differences), abs=0.012)


def test_captions_of_one_picture_are_swapped_together():
    # Five wins, all with one picture: as five independent queries this would be p = 1/16.
    a, b, qrels = runs_with({f"picture#{i}": 1 for i in range(5)})
    result = paired_test(a, b, qrels)
    assert (result.queries, result.units, result.p_value) == (5, 1, 1.0)
    # Two pictures, sums 5 and 2: |5+2| is reached by two of the four sign patterns.
    more = {f"p#{i}": 1 for i in range(5)} | {f"r#{i}": 1 for i in range(2)}
    assert paired_test(*runs_with(more)).p_value == pytest.approx(exact_p([5, 2]), abs=0.02)


def test_paired_test_is_symmetric_and_repeatable():
    a, b, qrels = runs_with({f"q{i}": (1, 1, 0, -1)[i % 4] for i in range(40)})
    forth, back = paired_test(a, b, qrels, seed=1), paired_test(b, a, qrels, seed=1)
    assert forth.p_value == back.p_value
    assert forth.difference == -back.difference
    assert forth == paired_test(a, b, qrels, seed=1)


def test_a_clear_difference_is_seen():
    a, b, qrels = runs_with({f"q{i}": 1 for i in range(30)})
    assert paired_test(a, b, qrels, rounds=999).p_value == 1 / 1000


# --- files --------------------------------------------------------------------------------------


def test_trec_run_round_trip_keeps_order_and_scores(tmp_path):
    run = {
        "q#1": [("b", 7.0), ("a", 6.5), ("c", 0.1 + 0.2)],
        "q#0": [(f"i{n}", 1.0 / (n + 1)) for n in range(12)],
    }
    write_trec_run(tmp_path / "deep" / "x.run", run, "lexlip")
    assert read_trec_run(tmp_path / "deep" / "x.run") == run
    lines = (tmp_path / "deep" / "x.run").read_text().splitlines()
    assert lines[0] == "q#1 Q0 b 1 7.0 lexlip"
    assert [line.split()[3] for line in lines] == [*"123", *map(str, range(1, 13))]


def test_a_bad_run_writes_nothing(tmp_path):
    for run in ({"q": ranking("")}, {"q": ranking("a", "a")}, {"": ranking("a")}):
        with pytest.raises(LexLIPError):
            write_trec_run(tmp_path / "x.run", run, "tag")
    assert list(tmp_path.iterdir()) == []


def test_qrels_round_trip(tmp_path):
    qrels = {"a#0": {"b", "a"}, "b#0": {"b"}}
    write_qrels(tmp_path / "x.qrels", qrels)
    assert (tmp_path / "x.qrels").read_text() == "a#0 0 a 1\na#0 0 b 1\nb#0 0 b 1\n"
    assert read_qrels(tmp_path / "x.qrels") == qrels


def test_grade_zero_is_not_relevant(tmp_path):
    (tmp_path / "x.qrels").write_text("q 0 a 0\nq 0 b 2\n")
    assert read_qrels(tmp_path / "x.qrels") == {"q": {"b"}}
