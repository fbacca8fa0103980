from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from eval.bench import benchmark
from eval.bench.benchmark import run_benchmark
from eval.bench.systems import System
from eval.bench.task import Part, Settings, Task, load_task, read_settings
from eval.metrics import recall_at
from eval.race import engines, store
from eval.race.base import Vectors
from lexlip.data.qrels import read_qrels
from lexlip.errors import LexLIPError
from lexlip.settings import Data
from tests.support.runs import read_trec_run


class Listed(System):
    """Ranks pictures in the order it was told, for every query; texts the other way about."""

    def __init__(self, name: str, order: list[str], words=None) -> None:
        self.name, self.order = name, order
        self.note = "made up"
        self._words = words
        self.closed = False

    def index(self, gallery) -> None:
        self.bytes_per_image, self.p50_ms = 4.0, 0.0

    def t2i(self, queries, k=100):
        return {query: [(name, 1.0) for name in self.order[:k]] for query in queries}

    def i2t(self, image_ids, captions, k=100):
        return {name: [(c, 1.0) for c in list(captions)[:k]] for name in image_ids}

    def words(self, k=None):
        return self._words

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def task(make_gallery):
    gallery = make_gallery(["a", "b"], [["red dog", "the dog"], ["blue car", "a car"]])
    return Task(gallery, gallery.queries, gallery.qrels)


def test_numbers_and_files_by_hand(task, tmp_path):
    words = [[("dog", 2.0), ("boat", 1.0)], [("the", 3.0), ("car", 1.0)]]
    systems = [Listed("first one", ["a", "b"], words), Listed("second", ["b", "a"])]
    settings = Settings(out=str(tmp_path / "out"), seed=7)
    results = run_benchmark(systems, task, settings)
    first, second = results["systems"].values()
    # Both systems always say the same: right for half of the captions, both right at 5.
    assert first["t2i"] == second["t2i"] == {"R@1": 0.5, "R@5": 1.0, "R@10": 1.0}
    # The first caption of the list is a's: right for a, wrong for b.
    assert first["i2t"] == {"R@1": 0.5, "R@5": 1.0, "R@10": 1.0}
    assert first["rsum"] == 500.0
    # a: dog yes, boat no. b: "the" is no word, car yes.
    assert first["grounded_p10"] == pytest.approx((0.5 + 1.0) / 2)
    assert second["grounded_p10"] is None
    assert (first["seed"], first["split"], first["queries"]) == (7, "dev", 4)
    assert results["chance"]["t2i"] == {"R@1": 0.5, "R@5": 1.0, "R@10": 1.0}
    # Two relevant among four captions.
    assert results["chance"]["i2t"]["R@1"] == 0.5
    (pair,) = results["paired"]
    assert (pair["a"], pair["b"], pair["difference"], pair["units"]) == (
        "first one",
        "second",
        0,
        2,
    )
    assert all(system.closed for system in systems)

    out = tmp_path / "out"
    assert json.loads((out / "metrics.json").read_text()) == json.loads(json.dumps(results))
    assert {path.name for path in out.iterdir()} == {
        *("metrics.json", "t2i.qrels", "i2t.qrels"),
        *("first-one.t2i.run", "first-one.i2t.run", "second.t2i.run", "second.i2t.run"),
    }
    # The files alone give the numbers again.
    qrels = read_qrels(out / "t2i.qrels")
    assert qrels == task.qrels
    assert recall_at(read_trec_run(out / "second.t2i.run"), qrels) == second["t2i"]


def test_a_system_is_counted_over_the_queries_it_answers(task, tmp_path):
    system = Listed("some", ["a", "b"])
    system.answers = lambda query_ids: [q for q in query_ids if q.startswith("a#")]
    results = run_benchmark([system], task, Settings(out=str(tmp_path)))
    entry = results["systems"]["some"]
    assert entry["queries"] == 2 and entry["t2i"]["R@1"] == 1.0 and entry["i2t"]["R@1"] == 1.0


def test_rankings_with_copies_leave_no_results(task, tmp_path):
    system = Listed("copies", ["a", "b", "a"])
    with pytest.raises(LexLIPError, match="twice"):
        run_benchmark([system], task, Settings(out=str(tmp_path / "out")))
    assert not (tmp_path / "out" / "metrics.json").exists()
    assert system.closed


def test_two_systems_of_one_name_are_refused(task, tmp_path):
    with pytest.raises(LexLIPError, match="share a name"):
        run_benchmark([Listed("X", []), Listed("x", [])], task, Settings(out=str(tmp_path)))


# --- settings -----------------------------------------------------------------------------------


def test_options_override_the_file(tmp_path):
    path = tmp_path / "bench.toml"
    path.write_text('[bench]\nmodel = "m"\nmax-terms = 32\n'.replace("-", "_") + "bm25 = true\n")
    found = read_settings(Settings, path, ["max_terms=16"])
    assert found == Settings(model="m", max_terms=16, bm25=True)
    assert read_settings(Settings) == Settings()


def test_a_run_brings_its_checkpoints_and_its_seed(tmp_path):
    for stage in ("stage2", "dense"):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "config.json").write_text("{}")
    (tmp_path / "stage2" / "manifest.json").write_text('{"settings": {"seed": 7}}')
    found = read_settings(Settings, None, ["max_terms=8"], run=str(tmp_path))
    wanted = {"model": f"{tmp_path}/stage2", "dense": f"{tmp_path}/dense", "out": str(tmp_path)}
    assert found == Settings(**wanted, seed=7, max_terms=8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[bench]\nmax_term = 3", "did you mean bench.max_terms"),
        ('[bench]\nmax_terms = "3"', "max_terms must be int"),
        ("[bench]\nbm25 = 1", "bm25 must be bool"),
        ("[bench", "not valid TOML"),
    ],
)
def test_bad_files_are_errors_for_people(tmp_path, text, message):
    path = tmp_path / "bench.toml"
    path.write_text(text)
    with pytest.raises(LexLIPError, match=message):
        read_settings(Settings, path)


# --- collections --------------------------------------------------------------------------------


@pytest.fixture
def collections(make_gallery, monkeypatch):
    """Stand in for the library's reader with two splits in memory."""
    splits = {
        "train": make_gallery(["a", "b"], [["a0", "a1"], ["b0", "b1"]], [(1, 0, 0), (2, 0, 0)]),
        "dev": make_gallery(
            ["c", "d"],
            [["c0", "c1"], ["d0", "d1"]],
            [(3, 0, 0), (4, 0, 0)],
            # c0 is true of d as well, and of a picture outside the split
            qrels={"c#0": {"c", "d", "x"}, "c#1": {"c"}, "d#0": {"d"}, "d#1": {"d"}},
        ),
    }
    monkeypatch.setattr(Data, "open", lambda self, split: splits[split])
    return splits


def test_a_split_is_one_task(collections):
    task = load_task(Settings(split="dev"))
    assert task.queries == {"c#0": "c0", "c#1": "c1", "d#0": "d0", "d#1": "d1"}
    assert task.qrels == {"c#0": {"c", "d"}, "c#1": {"c"}, "d#0": {"d"}, "d#1": {"d"}}


def test_splits_are_joined(collections):
    task = load_task(Settings(split="train+dev"))
    assert task.gallery.ids == ["a", "b", "c", "d"]
    assert [task.gallery.image(i).getpixel((0, 0))[0] for i in range(4)] == [1, 2, 3, 4]
    assert len(task.queries) == 8


def test_a_pool_restricts_gallery_and_queries(collections, tmp_path, capsys):
    pool = tmp_path / "pool.json"
    pool.write_text(json.dumps(["b", "d", "elsewhere"]))
    assert set(load_task(Settings(split="train+dev", pool=str(pool))).queries) == {
        *("b#0", "b#1", "d#0", "d#1")
    }
    (tmp_path / "queries.tsv").write_text("d.jpg\tasked of d\nelsewhere.jpg\tlost\n")
    task = load_task(Settings(split="train+dev", pool=str(pool)))
    assert task.gallery.ids == ["b", "d"]
    assert task.queries == {"d#0": "asked of d"} and task.qrels == {"d#0": {"d"}}
    assert "2 of 3 pictures, 1 of 2 queries" in capsys.readouterr().out


def test_a_pool_elsewhere_is_an_error(collections, tmp_path):
    (tmp_path / "pool.json").write_text('["nowhere"]')
    with pytest.raises(LexLIPError, match="no queries"):
        load_task(Settings(split="dev", pool=str(tmp_path / "pool.json")))
    (tmp_path / "pool.json").write_text('{"a": 1}')
    with pytest.raises(LexLIPError, match="not a JSON list"):
        load_task(Settings(split="dev", pool=str(tmp_path / "pool.json")))


def test_part_keeps_captions_with_their_pictures(collections):
    part = Part(list(collections.values()), {"b", "c"})
    assert (part.ids, part.captions, len(part)) == (["b", "c"], [["b0", "b1"], ["c0", "c1"]], 2)


# --- command ------------------------------------------------------------------------------------


@pytest.fixture
def command():
    return lambda *arguments: CliRunner().invoke(benchmark.app, list(arguments))


def test_a_missing_checkpoint_exits_with_2(command, tmp_path):
    for key in ("model", "dense"):
        found = command(f"{key}={tmp_path / 'none'}", f"out={tmp_path / 'out'}")
        assert found.exit_code == 2
        assert "no checkpoint in" in found.output
    assert not (tmp_path / "out").exists()


def test_no_system_exits_with_2(command, tmp_path):
    found = command(f"out={tmp_path / 'out'}")
    assert found.exit_code == 2 and "nothing to measure" in found.output


def test_the_command_from_end_to_end(command, collections, tmp_path):
    out = tmp_path / "out"
    found = command("split=train", "bm25=true", f"out={out}", "seed=3")
    assert found.exit_code == 0, found.output
    assert "bm25 captions" in found.output and "chance" in found.output
    results = json.loads((out / "metrics.json").read_text())
    assert results["settings"]["seed"] == 3
    # The held-out caption shares no word with the others here: nothing can be found.
    assert results["systems"]["bm25 captions"]["rsum"] == 0.0


def test_vectors_alone_give_the_runs_again_and_engines_race_over_them(
    command, table, checkpoint, make_model, tmp_path
):
    from lexlip.models.dense_control import DenseDualEncoder

    make_model(kind=DenseDualEncoder).save_pretrained(tmp_path / "dense")
    out, file = tmp_path / "out", tmp_path / "out" / "vectors.npz"
    options = (f"data={table}", f"model={checkpoint}", f"dense={tmp_path / 'dense'}")
    options += ("engine=postings", "max_terms=20", f"vectors={file}", f"out={out}")
    found = command(*options)
    assert found.exit_code == 0, found.output

    place = tmp_path / "arrays"
    place.mkdir()
    assert store.unpack(file, place) == 12
    vectors = Vectors(place)
    matrices = []
    for prefix in ("", "q_"):
        matrix = np.zeros((12 if not prefix else 24, int(vectors.array("width"))), dtype=int)
        for row, (terms, weights) in zip(matrix, vectors.rows(prefix), strict=True):
            row[terms] = weights
        matrices.append(matrix)
    documents, queries = matrices
    assert (documents > 0).sum(axis=1).max() == 20
    ids = [f"p{i}" for i in (7, 3, 11, 0, 5, 1, 10, 2, 9, 4, 8, 6)]
    asked = [f"{name}#{i}" for name in ids for i in (0, 1)]

    def ranked(scores):
        return [(n, s) for s, n in sorted(zip(-scores, ids, strict=True)) if s]

    run = read_trec_run(out / "lexlip.t2i.run")
    for query, scores in zip(asked, queries @ documents.T, strict=True):
        assert run[query] == [(name, -score) for name, score in ranked(scores)]
    run = read_trec_run(out / "dense-dual-encoder.t2i.run")
    cosines = vectors.array("queries") @ vectors.array("documents").T
    for query, scores in zip(asked, cosines, strict=True):
        assert [name for name, _ in run[query]] == [name for name, _ in ranked(scores)]
    with np.load(file, allow_pickle=False) as arrays:
        judged = [(asked[query], ids[document]) for query, document in arrays["qrels"]]
    qrels = read_qrels(out / "t2i.qrels")
    assert judged == [(query, name) for query in asked for name in sorted(qrels[query])]

    settings = engines.Settings(
        out=str(tmp_path / "race"), engine=("postings", "numpy"), vectors=str(file),
        scratch=str(tmp_path), rounds=1, seconds=2.0, checked=24,
    )  # fmt: skip
    rows = engines.run(settings)["rows"]
    assert [(r["engine"], r["n"], r["queries"]) for r in rows] == [
        ("postings", 12, 24),
        ("numpy", 12, 24),
    ]


def test_vectors_need_a_model_before_anything_is_measured(command, collections, tmp_path):
    options = ("split=train", "bm25=true", f"vectors={tmp_path / 'v.npz'}", f"out={tmp_path}")
    found = command(*options)
    assert found.exit_code == 2 and "give model=CHECKPOINT" in found.output
    assert list(tmp_path.iterdir()) == []
