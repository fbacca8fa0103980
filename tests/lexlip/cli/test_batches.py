"""``lexlip search --queries``: a run of many queries, batch by batch."""

from __future__ import annotations

import gzip
import json

import pytest
from typer.testing import CliRunner

from lexlip import Index
from lexlip.cli import app

ASKED = {
    "q1": "a red circle", "a b": "two blue squares -0.5:star", "3": "star must:green",
    "q4": "nothingofit", "q5": "large red star", "q6": "a red circle",
}  # fmt: skip


@pytest.fixture(scope="module")
def path(model, checkpoint, photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("queries") / "i.lex"
    Index.create(folder, model, photos, checkpoint=checkpoint).close()
    return folder


def run(*args):
    return CliRunner().invoke(app, ["search", *map(str, args)])


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr("lexlip.cli.batches.BATCH", 2)


@pytest.mark.parametrize("kind", ["tabs", "json", "gzip"])
def test_a_run_is_that_of_each_query_alone(path, tmp_path, kind):
    file = tmp_path / ("queries.tsv.gz" if kind == "gzip" else "queries.tsv")
    lines = [f"{id}\t{text}" for id, text in ASKED.items()]
    if kind == "json":
        lines = [json.dumps({"_id": id, "text": text}) for id, text in ASKED.items()]
    text = "\n".join(lines) + "\n"
    file.write_bytes(gzip.compress(text.encode()) if kind == "gzip" else text.encode())
    alone = "".join(run(path, it, "--trec", id, "-k", 5).stdout for id, it in ASKED.items())
    assert alone.count(" Q0 ") > 10
    for flags in (["--trec"], []):
        found = run(path, "--queries", file, "-k", 5, *flags)
        assert found.exit_code == 0 and found.stdout == alone
    assert run("--queries", file, path, "-k", 5, "--trec").stdout == alone
    found = run(path, "--queries", file, "-k", 5, "--json", "--where", "bytes > 0")
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert [row["id"] for row in rows] == list(ASKED)
    for row, text in zip(rows, ASKED.values(), strict=True):
        one = json.loads(run(path, text, "-k", 5, "--json").stdout)
        for hit in one["hits"]:
            del hit["fit"]
        assert {**one, "id": row["id"]} == row


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["q1\tred", "no tab"], "line 2 is not 'id <tab> text'"),
        (["q1\tred", "", "q2\ta -"], "line 3: "),
        (["q1\tred", "q2\tblue", "q3\t-red"], "line 3: .*only what is not wanted"),
        (["q1\tred", "q2\tred must:zzz"], "line 2: .*not in the model's lexicon"),
        (["q1\tred", "q2\timg:no.png"], "line 2: .*no.png"),
        (["q1\tred", "q1\tblue"], "line 2 has an id that was there before"),
        (['{"id": 1, "text": "red"}', "{"], "line 2 is not JSON"),
        (['{"id": 1, "text": "red"}', '{"id": ' + "1" * 5000 + "}"], "line 2 .*too many digits"),
        (['{"id": "\\ud800", "text": "red"}'], "line 1 has an id that is not valid Unicode"),
        (['{"id": "q1", "text": "\\ud800"}'], "line 1 has a text that is not valid Unicode"),
        (["q1\tred", "q2\tr\udcfcd"], "line 2 is not UTF-8"),
        ([], "has no query"),
    ],
)
def test_errors_name_the_line(path, tmp_path, lines, said):
    import re

    file = tmp_path / "queries.tsv"
    text = "".join(line + "\n" for line in lines)
    file.write_bytes(text.encode(errors="surrogateescape"))
    found = run(path, "--queries", file)
    assert found.exit_code == 2 and re.search(said, found.stderr), found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


def test_options_that_do_not_go_together(path, tmp_path):
    file = tmp_path / "queries.tsv"
    file.write_text("q1\tred\n")
    for wrong in ("--explain", "--paths", "-t"):
        assert "--queries prints a TREC run" in run(path, "--queries", file, wrong).stderr
    assert "write --trec alone" in run(path, "--queries", file, "--trec=q7").stderr
    assert "leave out 'a heart'" in run(path, "a heart", "--queries", file).stderr
    assert "does not exist" in run(path, "--queries", tmp_path / "none.tsv").stderr


def test_queries_come_from_the_standard_input(path, tmp_path):
    file, text = tmp_path / "queries.tsv", "".join(f"{id}\t{it}\n" for id, it in ASKED.items())
    file.write_text(text)
    asked = ["search", str(path), "--queries", "-", "--trec"]
    found = CliRunner().invoke(app, asked, input=text)
    assert found.exit_code == 0 and found.stdout == run(path, "--queries", file).stdout != ""
    for wrong, said in ((b"", "has no query"), (b"q1\tred\nq2\t\xff\n", "line 2 is not UTF-8")):
        found = CliRunner().invoke(app, asked, input=wrong)
        assert found.exit_code == 2 and f"standard input {said}"[:14] in found.stderr
        assert said in found.stderr and len(found.stderr.strip().splitlines()) == 1
