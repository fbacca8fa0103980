from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from eval.bench import report
from eval.bench.picture import ResultRow, draw_results
from lexlip.errors import LexLIPError

SIDE = {"R@1": 0.25, "R@5": 0.5, "R@10": 0.75}
RESULTS = {
    "settings": {"data": "scenes", "split": "dev", "limit": None, "pool": None},
    "images": 1000,
    "queries": 5000,
    "chance": {"t2i": {"R@1": 0.001, "R@5": 0.005, "R@10": 0.01}, "i2t": SIDE},
    "systems": {
        "lexlip": {
            "t2i": SIDE,
            "i2t": {"R@1": 0.3, "R@5": 0.6, "R@10": 0.9},
            "grounded_p10": 0.4321,
            "terms_per_image": 63.5,
            "bytes_per_image": 1234.4,
            "p50_ms": 0.456,
            "seed": 0,
            "queries": 5000,
            "note": "pictures only",
        },
        "dense dual encoder": {
            "t2i": SIDE,
            "i2t": SIDE,
            "grounded_p10": None,
            "terms_per_image": None,
            "bytes_per_image": 1024.0,
            "p50_ms": 0.1,
            "seed": 0,
            "queries": 5000,
            "note": "pictures only too",
        },
    },
    "paired": [
        {
            "a": "lexlip",
            "b": "dense dual encoder",
            "measure": "t2i R@1",
            "difference": -0.012,
            "p_value": 0.04321,
            "queries": 5000,
            "units": 1000,
        }
    ],
}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_text_table_is_aligned_and_complete():
    lines = report.table({"run": RESULTS}).splitlines()
    head, ruler, lexlip, dense, chance = lines[:5]
    assert lexlip.split() == [
        *["lexlip", "25.0", "50.0", "75.0", "30.0", "60.0", "90.0", "330.0"],
        *["0.432", "63.5", "1,234", "0.46"],
    ]
    assert dense.split()[-4:] == ["-", "-", "1,024", "0.10"]
    assert chance.split()[:4] == ["chance", "0.1", "0.5", "1.0"]
    assert len(ruler) == len(head)
    # Numbers end where their column ends.
    for column in ("T2I@1", "RSUM", "bytes"):
        end = head.index(column) + len(column)
        assert all(line[end - 1] != " " for line in (lexlip, dense))
    assert lines[5] == ""
    assert "scenes, split dev: 1,000 pictures, 5,000 captions" in lines
    assert "lexlip: pictures only (5,000 queries)" in lines
    assert any("-1.2 points, p = 0.0432" in line for line in lines)


def test_markdown_table():
    lines = report.table({"run": RESULTS}, markdown=True).splitlines()
    assert cells(lines[0]) == list(report.HEADS)
    assert cells(lines[1]) == ["---", *["---:"] * (len(report.HEADS) - 1)]
    assert cells(lines[2])[:3] == ["lexlip", "25.0", "50.0"]
    assert len({line.count("|") for line in lines[:5]}) == 1


def test_seeds_stand_side_by_side_with_their_mean():
    other = copy.deepcopy(RESULTS)
    del other["systems"]["dense dual encoder"]
    other["paired"] = []
    other["systems"]["lexlip"] |= {"seed": 1, "t2i": {"R@1": 0.27, "R@5": 0.5, "R@10": 0.75}}
    lines = report.table({"s0": RESULTS, "s1": other}, markdown=True).splitlines()
    rows = [cells(line) for line in lines[2:] if line.startswith("|")]
    assert [row[:3] for row in rows[:4]] == [
        ["s0", "lexlip", "25.0"],
        ["s0", "dense dual encoder", "25.0"],
        ["s1", "lexlip", "27.0"],
        # sample standard deviation of 25 and 27 is the square root of 2
        ["mean of 2 seeds", "lexlip", "26.0 ±1.4"],
    ]


def test_different_questions_are_not_averaged():
    other = copy.deepcopy(RESULTS)
    other["settings"]["split"] = "test"
    other["systems"]["lexlip"]["seed"] = 1
    assert "mean of" not in report.table({"s0": RESULTS, "s1": other})


def test_command_reads_folders(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps(RESULTS))
    found = CliRunner().invoke(report.app, [str(tmp_path), "markdown=true"])
    assert found.exit_code == 0 and "| lexlip |" in found.output
    missing = CliRunner().invoke(report.app, [str(tmp_path / "none")])
    assert missing.exit_code == 2 and "does not exist" in missing.output
    for words, message in (
        (["markdown=true"], "give folders"), (["x", "mark=1"], "did you mean markdown?")
    ):  # fmt: skip
        wrong = CliRunner().invoke(report.app, words)
        assert wrong.exit_code == 2 and message in wrong.output


def test_a_json_without_results_is_refused(tmp_path):
    (tmp_path / "metrics.json").write_text("[1]")
    with pytest.raises(LexLIPError, match="holds no results"):
        report.load(tmp_path)


# --- picture ------------------------------------------------------------------------------------


def row(relevant: list[bool], **more) -> ResultRow:
    images = [Image.new("RGB", (20, 10 + i), (200, 30, 30)) for i in range(len(relevant))]
    words = [("red", 2.0), ("circle", 0.5)]
    return ResultRow("a red circle", words, images, relevant, **more)


def green_pixels(path) -> int:
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    target = np.array([0x2E, 0x9E, 0x5B])
    return int((np.abs(pixels - target).max(axis=2) <= 2).sum())


def test_only_relevant_pictures_have_green_frames(tmp_path):
    counts = []
    for n in range(3):
        path = tmp_path / f"{n}.png"
        draw_results(path, [row([i < n for i in range(5)], scores=[5, 4, 3, 2, 1])])
        counts.append(green_pixels(path))
    assert counts[0] == 0
    assert 0 < counts[1] < counts[2]


def test_every_query_gets_its_line(tmp_path):
    heights = []
    for n in (1, 3):
        draw_results(tmp_path / "x.png", [row([True, False])] * n, title="results")
        with Image.open(tmp_path / "x.png") as image:
            heights.append(image.height)
    assert heights[1] > 2 * heights[0]


def test_rows_without_words_or_pictures_are_drawn(tmp_path):
    draw_results(tmp_path / "x.png", [ResultRow("$ nothing_{known", [], [], [])])
    assert (tmp_path / "x.png").stat().st_size > 0


def test_bad_rows_write_nothing(tmp_path):
    with pytest.raises(LexLIPError, match="at least one query"):
        draw_results(tmp_path / "x.png", [])
    bad = ResultRow("q", [], [Image.new("RGB", (4, 4))], [])
    with pytest.raises(LexLIPError, match="1 pictures, 0 judgements"):
        draw_results(tmp_path / "x.png", [bad])
    assert list(tmp_path.iterdir()) == []
