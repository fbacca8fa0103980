"""Studies of words on vectors alone: folds that share nothing, and figures by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from eval.bench.baselines.clip import precomputed
from eval.studies import names, stopping, words
from lexlip.errors import LexLIPError
from tests.support.cones import cones


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of vectors of 80 pictures, 24 of them with captions, and of words."""
    folder, world = tmp_path_factory.mktemp("vectors"), cones(pictures=80, words=120)
    ids = [f"p{number:02}" for number in range(80)]
    np.save(folder / "all_image_embeddings.npy", world.pictures)
    (folder / "all_image_names.json").write_text(json.dumps([f"{n}.jpg" for n in ids]))
    kept = world.owner < 24
    np.save(folder / "query_text_embeddings.npy", world.captions[kept])
    lines = [f"{ids[o]}.jpg\tcaption {i}" for i, o in enumerate(world.owner[kept])]
    (folder / "queries.tsv").write_text("\n".join(lines))
    np.save(folder / "words.npy", world.words)
    (folder / "names.json").write_text(json.dumps([f"name{n}" for n in range(120)]))
    return folder


@pytest.fixture(scope="module")
def pool(folder):
    return words.read_pool(precomputed(folder), folder / "words.npy")


def test_folds_share_no_picture_and_no_caption(pool):
    first, second = words.folds(pool)
    assert not set(first.owner) & set(second.owner)
    assert set(first.owner) | set(second.owner) == set(range(24))
    for fold, other in ((first, second), (second, first)):
        assert len(fold.gallery) == 80 - 12 and len(fold.bank) == len(fold.queries) == 24
        assert fold.gallery[fold.right] == pytest.approx(pool.pictures[fold.owner])
        banned = {row.tobytes() for row in pool.pictures[np.unique(other.owner)]}
        assert not banned & {row.tobytes() for row in fold.gallery}
    seen = [rows for _, rows in words.codes(first, pool.words, seed=0)]
    assert sorted(np.concatenate(seen)) == list(range(68))


def test_figures_are_those_of_the_rankings(pool):
    found = words.texts_to_pictures(pool, (16, 8), find=32, depth=68, seed=0)
    clip = []
    for fold in words.folds(pool):
        scores = words.unit(fold.queries) @ words.unit(fold.gallery).T
        order = np.argsort(-scores, axis=1)
        clip += [right in row[:5] for right, row in zip(fold.right, order, strict=True)]
    assert found["CLIP"]["R@5"][0] == pytest.approx(100 * np.mean(clip))
    whole, phases = found["one byte, less constant"], found["16 words find 68, vectors order"]
    assert whole == phases  # of all pictures: the order is that of the vectors alone
    assert found["16 words, all of the query's"]["R@10"][0] > found["CLIP"]["R@10"][0] - 10
    back = words.pictures_to_texts(pool, 16, seed=0)
    assert set(back) >= {"CLIP", "16 words"} and all(0 <= r["R@1"] <= 100 for r in back.values())


def test_what_was_not_found_ranks_last():
    found, ordered = np.array([[3.0, 2.0, 1.0]]), np.array([[0.1, 0.2, 0.9]])
    cut = words.two_phases(found, ordered, 2)
    assert words.ranks(cut, np.array([2])).tolist() == [3]
    assert words.ranks(cut, np.array([0])).tolist() == [1]


def test_captions_of_one_picture_are_one_draw():
    hits, owner = np.array([True, True, False, False]), np.array([0, 0, 1, 1])
    mean, error = words.with_error(hits, owner)
    assert mean == 50 and error == pytest.approx(100 * np.sqrt(0.5) / np.sqrt(2))


def test_reach_counts_the_gallery(pool):
    table = words.reach(pool, 16, (32,), (20, 60), seed=0, draws=2)
    assert [row["gallery"] for row in table] == [20, 60]
    assert all(row["best 100"] == 100 for row in table)
    assert table[0]["best 1 %"] <= table[0]["best 10 %"] <= 100


def test_names_said_of_a_picture_are_counted():
    right = np.array([[True, False, True], [False, True, False]])
    order = np.array([[3.0, 2.0, 1.0], [1.0, -np.inf, 3.0]])
    found = names.precision(order, right)
    assert found["P@1"] == 50 and found["P@3"] == pytest.approx(100 * (2 / 3 + 0) / 2)
    assert stopping.f1(right, right) == 100


def test_one_threshold_finds_what_one_threshold_made():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(40, 60))
    right = scores > 1.2
    right[30:] = False
    scores[30:] -= 9  # names of nothing are far below
    table = stopping.stopping({"made": scores}, right, "made", seed=0)
    assert table["made"]["F1"] > 95 and table["made"]["threshold"] == pytest.approx(1.2, abs=0.2)
    assert table["made"]["nothing where nothing is (%)"] == 100
    assert table["the best cut of each query"]["F1"] == pytest.approx(100)
    assert table["the first 10"]["F1"] < 95


def test_commands_print_their_tables(folder, tmp_path, capsys, monkeypatch):
    keys = [f"embeddings={folder}", f"words={folder / 'words.npy'}"]
    words.main([*keys, "terms=8", f"out={tmp_path / 'out.json'}"])
    assert "CLIP centred" in capsys.readouterr().out
    assert set(json.loads((tmp_path / "out.json").read_text())) >= {"texts to pictures", "reach"}
    with pytest.raises(LexLIPError, match="no vectors"):
        words.main([])
    with pytest.raises(LexLIPError, match="no vectors of words"):
        words.main([keys[0], f"words={folder / 'queries.tsv'}"])
    with pytest.raises(LexLIPError, match="120 names"):
        names.read_names(folder / "names.json", 7)
    with pytest.raises(LexLIPError, match="no names"):
        names.read_names(folder / "queries.tsv", 7)


def test_scenes_are_cut_at_one_threshold(model, capsys, checkpoint):
    stopping.main([f"model={checkpoint}", "scenes=60", "size=32"])
    rows = capsys.readouterr().out.splitlines()
    assert [row.split("  F1")[0].strip() for row in rows[:3]] == ["score", "cosine", "fit"]
    figures = [float(row.split("F1 ")[1].split()[0]) for row in rows]
    assert all(0 <= figure <= 100 for figure in figures) and max(figures) == figures[-1]
    with pytest.raises(LexLIPError, match="no model"):
        stopping.main([])
