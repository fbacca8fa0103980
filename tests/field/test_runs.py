"""TREC files: read in every dialect, written so that any evaluator ranks as lexlip does."""

from __future__ import annotations

import gzip
import unicodedata
from itertools import pairwise
from pathlib import Path

import ir_measures
import numpy as np
import pytest
import pytrec_eval
from hypothesis import example, given
from hypothesis import strategies as st
from ir_measures import RR, P
from typer.testing import CliRunner

from eval.bench.baselines.clip import read_queries
from eval.metrics import write_qrels, write_trec_run
from lexlip import Index, LexLIPError
from lexlip.cli import app
from lexlip.data.qrels import read_qrels
from lexlip.data.trec import from_word, one_word, read_topics, run_lines

WANTED = {"301": "a red circle", "q 2": "two “stars” – at night"}

TREC = """<top>

<num> Number: 301
<title> a red
circle

<desc> Description:
no

</top>

<top>
<num> Number: q 2
<title> Topic:  two “stars” – at night
<narr> no
</top>
"""

XML = """<?xml version="1.0"?>
<topics task="x">
<topic number="301"><query>a red circle</query><question>no</question></topic>
<topic number='q%202'>
<query>two &#8220;stars&#8221; – at night</query></topic></topics>"""

TOPICS = {
    "tabs": "301\ta red circle\nq 2\ttwo “stars” – at night\n",
    "byte order mark": "\ufeff301\ta red circle\nq 2\ttwo “stars” – at night\n",
    "CRLF and blank lines": "\r\n301\ta red circle\r\n\r\nq 2\ttwo “stars” – at night\r\n\r\n",
    "old Macs": "301\ta red circle\rq 2\ttwo “stars” – at night\r",
    "no end of line": "301\ta red circle\n\n  \nq 2\ttwo “stars” – at night",
    "names of columns": "qid\ttext\n301\ta red circle\nq 2\ttwo “stars” – at night\n",
    "ids in per cent": "301\ta red circle\nq%202\ttwo “stars” – at night\n",
    "TREC": TREC,
    "TREC without ends": TREC.replace("</top>", ""),
    "XML": XML,
    "JSON lines": '{"_id": 301, "text": "a red circle", "metadata": {}}\n\n'
                  '{"_id": "q 2", "text": "two “stars” – at night"}\n',
    "JSON of other names": '{"query_id": "301", "query": "a red circle"}\n'
                           '{"qid": "q 2", "title": "two “stars” – at night"}',
}  # fmt: skip


@pytest.mark.parametrize("dialect", TOPICS)
def test_topics_of_every_dialect_are_read(tmp_path, dialect):
    path = tmp_path / "topics"
    path.write_bytes(TOPICS[dialect].encode())
    assert read_topics(path) == WANTED
    with gzip.open(tmp_path / "topics.gz", "wb") as file:
        file.write(TOPICS[dialect].encode())
    assert read_topics(tmp_path / "topics.gz") == WANTED


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "no query"), ("\n\n", "no query"), ("1 red\n", "line 1"), ("1\tred\n\n2 blue", "line 3"),
     ("1\tred\n1\tblue", "line 2"), ("<top><num>1</top>", "topic 1"), ('{"id": 1}', "line 1"),
     ('{"id": 1, "text": "a"}\n{', "line 2"), ("1\t\n", "line 1"), ("\tred", "line 1")],
)  # fmt: skip
def test_topics_that_are_none_name_the_line(tmp_path, text, said):
    (tmp_path / "topics").write_text(text)
    with pytest.raises(LexLIPError, match=said):
        read_topics(tmp_path / "topics")
    with pytest.raises(LexLIPError, match="does not exist"):
        read_topics(tmp_path / "none")


QRELS = {
    "spaces": "q%202 0 my%20dog.jpg 1\nq%202 0 b.jpg 0\n301 0 b.jpg 2\n",
    "tabs": "q 2\t0\tmy dog.jpg\t1\nq 2\t0\tb.jpg\t0\n301\t0\tb.jpg\t2\n",
    "columns in line": "q%202   0   my%20dog.jpg     1\n301     Q0  b.jpg            2\n",
    "BEIR": "query-id\tcorpus-id\tscore\nq 2\tmy dog.jpg\t1\n301\tb.jpg\t2\n",
    "BEIR without names": "q 2\tmy dog.jpg\t1\n301\tb.jpg\t2\n",
    "byte order mark, CRLF": "\ufeffq%202 0 my%20dog.jpg 1\r\n\r\n301 0 b.jpg 2\r\n",
    "fractions and negatives": "q%202 0 my%20dog.jpg 1.0\nq%202 0 c.jpg -2\n301 0 b.jpg 0.5\n",
}


@pytest.mark.parametrize("dialect", QRELS)
def test_judgements_of_every_dialect_are_read(tmp_path, dialect):
    path = tmp_path / "qrels"
    path.write_bytes(QRELS[dialect].encode())
    assert read_qrels(path) == {"q 2": {"my dog.jpg"}, "301": {"b.jpg"}}


@pytest.mark.parametrize("line", ["q 0 my dog.jpg 1", "q 0 a x", "q a", "query grade", "q\t\t1"])
def test_judgements_that_are_none_name_the_line(tmp_path, line):
    (tmp_path / "qrels").write_text(f"q 0 a 1\n\n{line}\n")
    with pytest.raises(LexLIPError, match="line 3"):
        read_qrels(tmp_path / "qrels")


def test_queries_of_a_pool_are_read_alike(tmp_path):
    (tmp_path / "queries.tsv").write_bytes("\ufeffa.jpg\tone\r\n\r\na.jpg\ttwo\r\n".encode())
    assert read_queries(tmp_path / "queries.tsv") == {"a#0": "one", "a#1": "two"}


# --- ids ------------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@example("my dog.jpg")
@example("a%20b.jpg")
@example("100%.jpg")
@example("%25 %2520")
@example("\u00a0\u3000\t\n\x1c\x85\u2028")
def test_every_id_has_one_spelling_without_spaces(id):
    word = one_word(id)
    assert word.split() == [word]
    assert from_word(word) == unicodedata.normalize("NFC", id)


def test_an_empty_id_is_refused():
    with pytest.raises(LexLIPError, match="empty id"):
        list(run_lines("q", [("", 1)], "tag"))


# --- scores ---------------------------------------------------------------------------------------


def ranked(lines):
    """The order that an evaluator sees: by score, equal ones by id from the end."""
    rows = [line.split() for line in lines]
    return [row[2] for row in sorted(rows, key=lambda r: (np.float32(r[4]), r[2]), reverse=True)]


SCORES = st.one_of(
    st.lists(st.integers(-(2**24), 2**24), min_size=1),
    st.lists(st.floats(-1, 1), min_size=1),
    st.lists(st.floats(), min_size=1),
    st.lists(st.sampled_from([0, 7, 2**24, 2**24 - 1, -(2**24)]), min_size=1),
)


@given(SCORES)
@example([7, 7, 7, 6])
@example([0.8312345678, 0.8312345677, 0.8312345677])
@example([float("inf"), float("nan"), -float("inf"), -float("inf")])
def test_scores_of_a_run_fall_strictly(scores):
    scores = sorted(scores, key=lambda score: (score != score, -score))
    names = [f"{number:05}" for number in range(len(scores))]  # ties by id would turn them around
    lines = list(run_lines("q", zip(names, scores, strict=True), "tag"))
    said = [float(line.split()[4]) for line in lines]
    assert all(np.float32(a) > np.float32(b) and a > b for a, b in pairwise(said))
    assert ranked(lines) == names
    assert [line.split()[3] for line in lines] == [str(n) for n in range(1, len(names) + 1)]


def test_scores_that_fall_are_written_as_they_are():
    lines = run_lines("q", [("a", 31875), ("b", 208), ("c", 0.30000000000000004), ("d", -3)], "t")
    assert [line.split()[4] for line in lines] == ["31875", "208", "0.30000000000000004", "-3"]


@pytest.fixture(scope="module")
def tied(model, photos, checkpoint, tmp_path_factory) -> Path:
    """An index of one picture under three names, one of them with spaces."""
    path = tmp_path_factory.mktemp("tied") / "tied.lex"
    source = {name: photos / "04.png" for name in ("a one.png", "b.png", "c.png")}
    options = {"engine": "postings", "keep_floats": True, "checkpoint": checkpoint}
    Index.create(path, model, source, **options).close()
    return path


def evaluated(lines, right):
    """P@1 and RR of a run as two evaluators see it."""
    run = list(ir_measures.read_trec_run("\n".join(lines)))
    qrels = {"q": {right: 1}}
    first = ir_measures.calc_aggregate([P @ 1, RR], qrels, run)
    table = {"q": {row.doc_id: row.score for row in run}}
    second = pytrec_eval.RelevanceEvaluator(qrels, {"P_1", "recip_rank"}).evaluate(table)["q"]
    assert (first[P @ 1], first[RR]) == (second["P_1"], second["recip_rank"])
    return first[P @ 1], first[RR]


@pytest.mark.parametrize("options", [[], ["--rescore", "3"]], ids=["words", "rescored"])
def test_evaluators_rank_ties_as_search_does(tied, tmp_path, options):
    lines = CliRunner().invoke(app, ["search", str(tied), "red", "--trec", "q", *options])
    lines = lines.stdout.splitlines()
    order = [line.split()[2] for line in lines]
    assert order == ["a%20one.png", "b.png", "c.png"]
    for place, id in enumerate(order, 1):
        assert evaluated(lines, id) == (float(place == 1), 1 / place)
    write_qrels(tmp_path / "qrels", {"q": {"a one.png"}})
    assert list(ir_measures.read_trec_qrels(str(tmp_path / "qrels")))[0].doc_id == order[0]


def test_runs_of_the_bench_rank_ties_too(tmp_path):
    run = {"q": [("z one", 7.0), ("a", 7.0), ("m", 7.0), ("b", 1.0)]}
    write_trec_run(tmp_path / "x.run", run, "my system")
    lines = (tmp_path / "x.run").read_text().splitlines()
    assert evaluated(lines, "z%20one") == (1, 1) and evaluated(lines, "m") == (0, 1 / 3)
    assert all(len(line.split()) == 6 for line in lines)


def test_tune_reads_what_search_wrote(tied, tmp_path):
    (tmp_path / "topics").write_bytes("\ufeff\r\nq 1\tred\r\n\r\n".encode())
    run = CliRunner().invoke(app, ["search", str(tied), "red", "--trec", "q 1"]).stdout
    query, _, item, *_ = run.split()
    (tmp_path / "qrels").write_text(f"{query} 0 {item} 1\n")
    line = ["tune", tied, "--queries", tmp_path / "topics", "--qrels", tmp_path / "qrels", "--json"]
    result = CliRunner().invoke(app, list(map(str, line)))
    assert result.exit_code == 0, result.output
    assert '"R@1": 1.0' in result.stdout
