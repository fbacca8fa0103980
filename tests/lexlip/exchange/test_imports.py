"""Imports of vectors from elsewhere: what is wrong with them is counted and named."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from lexlip import Index, Query
from lexlip.cli import app
from lexlip.errors import LexLIPError
from lexlip.exchange import export, import_vectors
from lexlip.models import load
from lexlip.models.word_list import NO_PICTURES
from lexlip.server import Settings, create_app
from tests.support.cone_speaker import cone_speaker


def lines(path, *rows):
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8"
    )
    return path


def row(id="a", /, metadata=None, **vector):
    return {
        "id": id,
        "contents": "",
        "vector": vector,
        **({"metadata": metadata} if metadata else {}),
    }


WRONG = (
    ("{", "is not JSON"),
    ("[1]", 'no "vector"'),
    ({"id": "b"}, 'no "vector"'),
    ({"vector": {"red": 1}}, 'no "id"'),
    ({"id": "", "vector": {"red": 1}}, "is no id"),
    (row("a", red=7), "there before: 'a'"),
    (row("b", red=-1), "weight -1 is no number from 0"),
    (row("b", red=True), "weight True"),
    (row("b", red=10**400), "weight 1000"),
    (row("b", red=1, metadata={"year": 10**400}), "beyond 2"),
    ({"id": "b", "vector": {"\ud800": 3}}, "not valid Unicode"),
    ({"id": "b", "vector": {"": 3}}, "an empty word"),
    ('{"id": "b", "vector": {"red": 1, "red": 2}}', "'red' twice"),
    ('{"id": "b", "vector": {"red": 1' + "0" * 5000 + "}}", "a number of too many digits"),
    ('{"id": "b", "vector": ' + "[" * 10**5 + "}", "nested too deeply"),
    ({**row("b", red=1), "metadata": {"\udc00": 1}}, "not valid Unicode: mend the text"),
    ({**row("b", red=1), "metadata": {"year": "\udc00"}}, "not valid Unicode: mend the text"),
    (row("b", red="5"), "weight '5'"),
    ('{"id": "b", "vector": {"red": NaN}}', "weight nan"),
    ('{"id": "b", "vector": {"red": 1e999}}', "weight inf"),
    ({**row("b", red=1), "metadata": [1]}, "no object"),
    (row("b", red=1, metadata={"year": [1]}), "is a list"),
    (row("b", red=1, metadata={"year": "x"}), "do not go into one column"),
)


@pytest.mark.parametrize(("wrong", "reason"), WRONG)
def test_a_wrong_line_is_named_and_nothing_is_written(tmp_path, wrong, reason, no_flush):
    file = lines(tmp_path / "v.jsonl", row("a", red=5, metadata={"year": 1}), "", wrong)
    with pytest.raises(
        LexLIPError, match=rf"^1 document of .*v.jsonl, line 3 .*{reason}.*skip-wrong"
    ):
        import_vectors(tmp_path / "i.lex", file)
    assert sorted(it.name for it in tmp_path.iterdir()) == ["v.jsonl"]
    index, done = import_vectors(tmp_path / "i.lex", file, skip_wrong=True)
    with index:
        assert index.engine.ids() == ["a"] and len(done.wrong) == done.documents == 1
        noted = json.loads((tmp_path / "i.lex/skipped.jsonl").read_text())
        assert noted["id"] == "v.jsonl, line 3" and reason.split()[-1] in noted["reason"]


def test_unknown_words_are_counted_and_named(tmp_path, model, no_flush):
    file = lines(tmp_path / "v.jsonl", *(row(str(n), red=9, foo=n, bar=1) for n in range(1, 4)))
    index, done = import_vectors(tmp_path / "i.lex", file, model)
    with index:
        assert done.unknown == {"foo": 3, "bar": 3}
        assert done.lines() == ["2 words that the lexicon lacks were left out ('foo' 3x, 'bar' 3x)"]
        assert [hit.score for hit in index.search(Query.from_words({"red": 2}))] == [18, 18, 18]
    lines(file, row("a", foo=3))
    with pytest.raises(LexLIPError, match="no word of theirs .'foo', ...."):
        import_vectors(tmp_path / "j.lex", file, model)
    for nothing in ((), (row("a"),), (row("a", red=0),)):
        lines(file, *nothing)
        with pytest.raises(LexLIPError, match="no document in|finds no weight"):
            import_vectors(tmp_path / "j.lex", file, model)
    assert not (tmp_path / "j.lex").exists()


def test_weights_that_are_no_impacts_are_scaled(tmp_path, no_flush):
    rng = np.random.default_rng(0)
    weights = rng.random((40, 6)) * 3
    words = [f"w{n}" for n in range(6)]
    rows = [
        {"id": f"{n:02}", "vector": dict(zip(words, it.tolist(), strict=True))}
        for n, it in enumerate(weights)
    ]  # fmt: skip
    index, done = import_vectors(tmp_path / "i.lex", lines(tmp_path / "v.jsonl", *rows))
    with index:
        factor = 255 / weights.max()
        assert f"multiplied by {factor:.6g} and rounded" in done.lines()[0]
        assert index.manifest["scale"] == pytest.approx(factor)
        found = index.engine.impacts([f"{n:02}" for n in range(40)]).toarray()
        assert np.array_equal(found, np.rint(weights * factor))
    whole = lines(tmp_path / "w.jsonl", row("a", red=1000, blue=10), row("b", red=1))
    index, done = import_vectors(tmp_path / "j.lex", whole)
    with index:
        assert index.search({"red": 1, "blue": 1}) == [("a", 258), ("b", 1)]
        assert "multiplied by 0.255" in done.lines()[0]


def test_pictures_can_be_added_to_an_import_of_the_same_model(
    tmp_path, model, photos, images, no_flush
):
    with Index.create(tmp_path / "old.lex", model, photos) as old:
        export(old, tmp_path / "v.npz", "npz")
        index, _ = import_vectors(tmp_path / "new.lex", tmp_path / "v.npz", model)
        with index:
            index.add({"again": images[3]})
            (row,) = index.engine.impacts(["again"]).toarray()
            (same,) = old.engine.impacts(["03.png"]).toarray()
            assert np.array_equal(row[: len(same)], same)


def test_what_is_there_is_not_overwritten(tmp_path, model, photos, no_flush):
    with Index.create(tmp_path / "i.lex", model, photos) as index:
        for name, format in (
            ("v.jsonl", "anserini"), ("v.npz", "npz"), ("v.ciff", "ciff"), ("v", "opensearch"),
        ):  # fmt: skip
            target = tmp_path / name
            target.write_text("mine")
            with pytest.raises(LexLIPError, match="there|file"):
                export(index, target, format)
            assert target.read_text() == "mine"
            if format != "opensearch":
                assert export(index, target, format, replace=True).documents == 12
        with pytest.raises(LexLIPError, match="no format 'x': choose one of anserini"):
            export(index, tmp_path / "new", "x")
        with pytest.raises(LexLIPError, match="leave out .gz"):
            export(index, tmp_path / "new.gz", "npz")
    with pytest.raises(LexLIPError, match="there is an index"):
        import_vectors(tmp_path / "i.lex", tmp_path / "v.npz", model)
    assert not [it for it in tmp_path.iterdir() if it.name.startswith(".")]


def test_a_failure_in_the_middle_leaves_nothing(tmp_path, model, photos, monkeypatch, no_flush):
    with Index.create(tmp_path / "i.lex", model, photos) as index:
        monkeypatch.setattr(
            index.engine, "fetch", lambda ids: (_ for _ in ()).throw(LexLIPError("gone"))
        )
        for name, format in (("a.jsonl", "anserini"), ("a.npz", "npz"), ("a", "opensearch")):
            with pytest.raises(LexLIPError, match="gone"):
                export(index, tmp_path / name, format)
    assert [it.name for it in tmp_path.iterdir()] == ["i.lex"]


def test_damaged_archives_are_one_line(tmp_path, model, photos, no_flush):
    good = tmp_path / "v.npz"
    with Index.create(tmp_path / "i.lex", model, photos) as index:
        export(index, good, "npz")
    data = good.read_bytes()
    with np.load(good) as found:
        whole = {name: found[name] for name in found.files}
    whole = {name: array for name, array in whole.items() if isinstance(array, np.ndarray)}
    wrongs = [data[: len(data) // 2], b"", b"PK"]
    for name, array in (
        ("ids", whole["ids"][1:]), ("words", whole["words"][1:]), ("format", np.array(b"csc")),
        ("indices", whole["indices"] + 10**6), ("indices", whole["indices"][1:]),
        ("data", whole["data"].astype("U3")), ("indptr", whole["indptr"][::-1]),
    ):  # fmt: skip
        np.savez(tmp_path / "w.npz", **{**whole, name: array})
        wrongs.append((tmp_path / "w.npz").read_bytes())
    for wrong in wrongs:
        (tmp_path / "w.npz").write_bytes(wrong)
        with pytest.raises(LexLIPError, match=r"w\.npz (is no archive|cannot be read)"):
            import_vectors(tmp_path / "j.lex", tmp_path / "w.npz", model)
    np.savez(tmp_path / "w.npz", **{**whole, "data": -whole["data"]})
    with pytest.raises(LexLIPError, match="no number from 0"):
        import_vectors(tmp_path / "j.lex", tmp_path / "w.npz", model)
    del whole["words"]
    np.savez(tmp_path / "w.npz", **whole)
    with pytest.raises(LexLIPError, match="has no words"):
        import_vectors(tmp_path / "j.lex", tmp_path / "w.npz")
    import_vectors(tmp_path / "j.lex", tmp_path / "w.npz", model)[0].close()


def test_a_model_with_vectors_is_refused(tmp_path):
    file = lines(tmp_path / "v.jsonl", row("a", red=5))
    with pytest.raises(LexLIPError, match="orders hits by vectors"):
        import_vectors(tmp_path / "i.lex", file, cone_speaker(60, 40)[0])


def test_the_command_line(tmp_path, model, checkpoint, photos, no_flush):
    path, run = tmp_path / "i.lex", CliRunner().invoke
    Index.create(path, model, photos, checkpoint=checkpoint).close()
    out = tmp_path / "v.ciff"
    done = run(app, ["export", str(path), "-o", str(out)])
    assert done.exit_code == 0 and "v.ciff: 12 documents, ciff" in done.stdout
    assert "metadata (folder, bytes, modified)" in done.stderr
    assert "is there" in run(app, ["export", str(path), "-o", str(out)]).stderr
    assert run(app, ["export", str(path), "-o", str(out), "--replace"]).exit_code == 0
    assert "says no format" in run(app, ["export", str(path), "-o", str(tmp_path / "x")]).stderr
    done = run(app, ["import", str(out), "-o", str(tmp_path / "j.lex")])
    assert done.exit_code == 0 and "j.lex: 12 documents" in done.stdout
    found = run(app, ["search", str(tmp_path / "j.lex"), "red^3 circle^1", "--json"])
    assert json.loads(found.stdout)["query"] == {"red": 3, "circle": 1}
    assert json.loads(found.stdout)["hits"]
    done = run(app, ["import", str(out), "-o", str(tmp_path / "k.lex"), "-m", str(checkpoint)])
    assert done.exit_code == 0
    there = [
        run(app, ["search", str(tmp_path / n), "a red circle", "--json"]).stdout
        for n in ("i.lex", "k.lex")
    ]
    hits = [[(hit["id"], hit["score"]) for hit in json.loads(it)["hits"]] for it in there]
    assert hits[0] == hits[1] != []


def archive(path, metadata=None, **changed):
    """Write an archive of two documents over three words."""
    arrays = {
        "format": np.array(b"csr"), "shape": np.array([2, 3]), "indptr": np.array([0, 2, 3]),
        "indices": np.array([0, 2, 1]), "data": np.array([5, 6, 7]),
        "words": np.array(["red", "blue", "green"]), "ids": np.array(["a", "b"]), **changed,
    }  # fmt: skip
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    if metadata is not None:
        with zipfile.ZipFile(path, "a") as file:
            file.writestr("metadata.jsonl", metadata)
    return path


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"words": np.array(["red", "blue", "red"])}, "the word 'red' twice"),
        ({"words": np.array(["red", "", "green"])}, "an empty word"),
        ({"words": np.array(["red", "\ud800", "green"])}, "not valid Unicode"),
        ({"metadata": "{}\n"}, "has 1 lines for 2 documents"),
        ({"metadata": "{}\n{}\n{}\n"}, "more lines than there are documents"),
        ({"metadata": "{}\n\n"}, "metadata.jsonl, line 2 is not JSON"),
        ({"metadata": b"{}\n\xff\n"}, "metadata.jsonl, line 2 is not UTF-8"),
        ({"format": np.array([b"csr", b"csr"])}, "format is 2 values, not one"),
        ({"scale": np.array([1.0, 2.0])}, "scale is 2 values, not one"),
        ({"shape": np.array(2)}, "shape is no row of whole numbers"),
        ({"shape": np.array([2])}, "another shape"),
        ({"indptr": np.array([1, 2, 3])}, "another shape"),
        ({"words": np.array("red")}, "words is no row of texts"),
        ({"format": None}, "it has no format$"),
        ({"data": None}, "it has no data$"),
        ({"ids": np.array(["a", None])}, "ids: Python objects"),
    ],
)
def test_an_archive_that_contradicts_itself_is_one_line(tmp_path, wrong, said, no_flush):
    path = archive(tmp_path / "v.npz", **wrong)
    with pytest.raises(LexLIPError, match=said):
        import_vectors(tmp_path / "i.lex", path, skip_wrong=True)
    assert [it.name for it in tmp_path.iterdir()] == ["v.npz"]


def test_a_row_with_a_word_twice_is_named(tmp_path, no_flush):
    path = archive(tmp_path / "v.npz", indices=np.array([2, 2, 1]), metadata="{}\n{}\n")
    with pytest.raises(LexLIPError, match="^1 document of .*'a' has a word twice"):
        import_vectors(tmp_path / "i.lex", path)
    index, done = import_vectors(tmp_path / "i.lex", path, skip_wrong=True)
    with index:
        assert index.engine.ids() == ["b"] and len(done.wrong) == 1


def files_of(folder):
    """Return the bytes of all files, but for the notes of who writes."""
    files = (it for it in folder.rglob("*") if it.is_file() and it.name != "OWNER")
    return {it.relative_to(folder): it.read_bytes() for it in files}


def test_an_index_takes_no_export_and_no_other_index(tmp_path, model, photos, no_flush):
    path = tmp_path / "i.lex"
    with Index.create(path, model, photos) as index:
        export(index, tmp_path / "v.npz", "npz")
        before = files_of(path)
        (tmp_path / "link").symlink_to(path)
        for place in (path / "manifest.json", path / "engine/x", tmp_path / "link/manifest.json"):
            for format in ("anserini", "npz", "ciff", "opensearch"):
                with pytest.raises(LexLIPError, match="inside of the index"):
                    export(index, place, format, replace=True)
    for place in (path / "sub", path / "engine", tmp_path / "link/sub/sub"):
        with pytest.raises(LexLIPError, match="inside of the index"):
            import_vectors(place, tmp_path / "v.npz", replace=True)
        with pytest.raises(LexLIPError, match="inside of the index"):
            Index.create(place, model, photos, replace=True)
    assert files_of(path) == before


def test_exports_for_opensearch_are_not_imported(tmp_path, model, photos, no_flush):
    bodies = tmp_path / "X.opensearch"
    with Index.create(tmp_path / "i.lex", model, photos) as index:
        export(index, bodies, "opensearch")
    for source, format in (
        (bodies, None), (bodies / "000001.ndjson", None), (bodies, "opensearch"),
    ):  # fmt: skip
        with pytest.raises(LexLIPError, match="cannot be imported"):
            import_vectors(tmp_path / "j.lex", source, format=format)


def test_an_index_of_words_alone_takes_no_picture(tmp_path, photos, no_flush):
    path, run = tmp_path / "i.lex", CliRunner().invoke
    import_vectors(path, lines(tmp_path / "v.jsonl", row("a", red=5)))[0].close()
    picture, before = str(next(photos.rglob("*.png"))), files_of(path)
    for asked in (
        ["search", str(path), "--image", picture], ["search", str(path), f"red + img:{picture}"],
        ["search", str(path), picture], ["index", str(photos), "-o", str(path)],
        ["index", picture, "-o", str(path)],
    ):  # fmt: skip
        done = run(app, asked)
        assert done.exit_code == 2 and done.stderr.strip().endswith(NO_PICTURES), done.stderr
    assert files_of(path) == before


def test_a_server_of_words_alone_takes_no_picture(tmp_path, photos, no_flush):
    path = tmp_path / "i.lex"
    import_vectors(path, lines(tmp_path / "v.jsonl", row("a", red=5)))[0].close()
    before, picture = files_of(path), next(photos.rglob("*.png")).read_bytes()
    server = create_app(path, load(path / "words"), Settings())
    with TestClient(server, base_url="http://127.0.0.1") as client:
        for place, field in (("/search", "file"), ("/words", "file"), ("/images", "file")):
            answer = client.post(place, files={field: ("a.png", picture)})
            assert answer.status_code == 400 and NO_PICTURES in answer.text, (place, answer.text)
    assert not [it for it in files_of(path).keys() - before.keys() if it.suffix == ".png"]
    assert not (path / "sources.json").exists()
