from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from eval.bench.sparse import LexLIPSystem
from eval.bench.task import Task
from eval.studies import budget
from lexlip.engines import PostingsEngine
from lexlip.errors import LexLIPError

NUMBER = 30


@pytest.fixture
def task(make_gallery, captions):
    rng = np.random.default_rng(1)
    ids = [f"p{i}" for i in rng.permutation(NUMBER)]
    texts = [[captions[i % 8], captions[(i + 3) % 8]] for i in range(NUMBER)]
    gallery = make_gallery(ids, texts)
    pictures = [Image.fromarray(p) for p in rng.integers(0, 256, (NUMBER, 8, 8, 3), np.uint8)]
    gallery.image = pictures.__getitem__
    return Task(gallery, gallery.queries, gallery.qrels)


class Counted:
    """A model that says how many pictures and texts it was given."""

    def __init__(self, model):
        self.model, self.pictures, self.texts = model, 0, 0

    def encode_document(self, images):
        self.pictures += len(images)
        return self.model.encode_document(images)

    def encode_query(self, texts):
        self.texts += len(texts)
        return self.model.encode_query(texts)


def brute_force(model, task, most):
    """Cut, normalise, quantise and rank dense arrays; return recalls and terms a picture."""
    weights = model.encode_document([task.gallery.image(i) for i in range(NUMBER)]).toarray()
    for row in weights:
        row[np.argsort(-row, kind="stable")[most:]] = 0
    unit = weights.astype(np.float64) / np.linalg.norm(weights, axis=1, keepdims=True)
    impacts = np.minimum(np.rint(unit * (255 / unit.max())), 255)
    hits = []
    for query, text in task.queries.items():
        asked = model.encode_query([text]).toarray()[0].astype(np.float64)
        asked[np.argsort(-asked, kind="stable")[64:]] = 0
        scores = impacts @ np.rint(asked / asked.max() * 64)
        order = sorted(range(NUMBER), key=lambda i: (-scores[i], task.gallery.ids[i]))
        found = [task.gallery.ids[i] for i in order if scores[i]]
        hits.append([query.partition("#")[0] in found[:k] for k in (1, 5, 10)])
    return np.mean(hits, axis=0).tolist(), np.count_nonzero(impacts) / NUMBER


def test_rows_are_those_of_brute_force(model, task, tmp_path):
    counted = Counted(model)
    rows = budget.measure(LexLIPSystem(counted), task, ["postings"], [3, 8])
    assert (counted.pictures, counted.texts) == (NUMBER, 8)  # once, whatever the budgets
    assert [row["max_terms"] for row in rows] == [None, 8, 3]
    full = list(rows[0]["t2i"].values())
    for row in rows:
        recalls, terms = brute_force(model, task, row["max_terms"] or 10**6)
        assert list(row["t2i"].values()) == pytest.approx(recalls)
        assert row["terms_per_image"] == pytest.approx(terms)
        assert row["loss"] == pytest.approx(full[2] - recalls[2])
        assert 0 < row["p_value"] <= 1
        assert row["dense_ratio"] == pytest.approx(2048 / row["bytes_per_image"])
    assert rows[0]["terms_per_image"] > 8 > 3 == rows[2]["terms_per_image"]
    assert len({tuple(row["t2i"].values()) for row in rows}) > 1  # the budgets did matter


def test_every_file_of_the_index_is_weighed(model, task, tmp_path, monkeypatch):
    kept = []

    class Watched(PostingsEngine):
        def close(self):
            super().close()
            kept.append([p.stat().st_size for p in self.path.rglob("*") if p.is_file()])

    monkeypatch.setattr("lexlip.engines.PostingsEngine", Watched)
    rows = budget.measure(LexLIPSystem(model), task, ["postings"], [4])
    assert [row["bytes_per_image"] * NUMBER for row in rows] == [sum(sizes) for sizes in kept]
    assert len(kept[0]) > 8


@pytest.mark.java
def test_lucene_finds_the_same(model, task):
    try:
        rows = budget.measure(LexLIPSystem(model), task, ["lucene", "postings"], [5])
    except (LexLIPError, ImportError) as error:
        pytest.skip(str(error))
    lucene, ours = rows[:2], rows[2:]
    for one, two in zip(lucene, ours, strict=True):
        for key in ("max_terms", "terms_per_image", "t2i", "loss", "p_value"):
            assert one[key] == two[key]
        assert one["bytes_per_image"] > 0 and one["bytes_per_image"] != two["bytes_per_image"]


@pytest.mark.parametrize(
    ("engines", "budgets", "message"),
    [(["postings"], [3, 0], "1 or more"), (["postings"], [], "1 or more"), (["x"], [3], "engine")],
)
def test_wrong_budgets_and_engines(model, task, engines, budgets, message):
    with pytest.raises(LexLIPError, match=message):
        budget.measure(LexLIPSystem(model), task, engines, budgets)


# --- command ------------------------------------------------------------------------------------


@pytest.fixture
def command():
    return lambda *arguments: CliRunner().invoke(budget.app, list(arguments))


def test_the_command_from_end_to_end(command, table, checkpoint, tmp_path):
    options = (f"data={table}", f"model={checkpoint}", f"out={tmp_path}")
    found = command(*options, "engine=postings", "terms=4,8")
    assert found.exit_code == 0, found.output
    results = json.loads((tmp_path / "budget.json").read_text())
    assert (results["images"], results["queries"], results["dense_bytes"]) == (12, 24, 2048)
    assert [row["max_terms"] for row in results["rows"]] == [None, 8, 4]
    lines = [line.split() for line in found.output.splitlines() if line.startswith("postings")]
    assert [line[1] for line in lines] == ["all", "8", "4"]
    assert [float(line[2]) for line in lines[1:]] == [8.0, 4.0]
    assert results["settings"]["model"] == str(checkpoint)


def test_wrong_options_are_one_line(command, table, checkpoint, tmp_path):
    options = (f"data={table}", f"out={tmp_path / 'out'}")
    for more, message in (
        ((f"model={checkpoint}", "terms=4,x"), "terms must be int, not 'x'"),
        ((), "give model=CHECKPOINT, or --run"),
        ((f"model={tmp_path}",), "no checkpoint in"),
    ):
        found = command(*options, *more)
        assert found.exit_code == 2 and message in found.output
    assert not (tmp_path / "out").exists()
