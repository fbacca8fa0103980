"""Float vectors beside an index: rescored searches are exact cosines, whatever was killed when."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256

import numpy as np
import pytest
from scipy.sparse import csr_array
from typer.testing import CliRunner

from lexlip import Index
from lexlip.cli import app
from lexlip.engines import Hit, LuceneEngine, PostingsEngine
from lexlip.errors import LexLIPError
from lexlip.impacts import quantise, top_terms, unit_normalise
from lexlip.rerank.rescore import rescore_hits
from lexlip.storage import floats
from lexlip.storage.floats import FloatVectors

V = 30


def some(rng, n):
    """Return [n, V] float32 weights, a third of them there."""
    dense = rng.random((n, V), dtype=np.float32) * (rng.random((n, V)) < 0.3)
    return csr_array(dense.astype(np.float32))


# --- the store


@pytest.mark.parametrize("small", [0, 2048])
def test_the_newest_vector_of_an_id_is_read(tmp_path, monkeypatch, no_flush, small):
    monkeypatch.setattr(floats, "_SMALL", small)
    rng = np.random.default_rng(3)
    wanted = {}
    names = [f"é{i}" for i in range(60)]
    vectors = FloatVectors(tmp_path / "v", "w")
    reader = FloatVectors(tmp_path / "v")
    for turn in range(12):
        ids = rng.choice(names, size=rng.integers(1, 25), replace=False).tolist()
        rows = some(rng, len(ids))
        before = reader.read(names).toarray()
        vectors.write(ids, rows)
        wanted |= dict(zip(ids, rows.toarray(), strict=True))
        assert np.array_equal(reader.read(names).toarray(), before)  # until it reopens
        assert reader.reopen() and not reader.reopen()
        if turn == 8:
            gone = set(rng.choice(names, 20, replace=False).tolist())
            vectors.keep(lambda ids, gone=gone: [None if name in gone else {} for name in ids])
            wanted = {name: row for name, row in wanted.items() if name not in gone}
            reader.reopen()
        # Small parts are merged, so their number grows as the logarithm of the number of vectors.
        assert len(list((tmp_path / "v").glob("part-*"))) <= (1 if small else 5)
        asked = rng.permutation([*names, "nobody"]).tolist()
        empty = np.zeros(V, np.float32)
        exact = np.array([wanted.get(name, empty) for name in asked])
        for store in (vectors, reader):
            found = store.read(asked).toarray()
            assert found.dtype == np.float32 and np.array_equal(found, exact)
    assert vectors.bytes > 0 and vectors.verify() == []
    vectors.close(), reader.close()
    with pytest.raises(LexLIPError, match="closed"):
        vectors.read(["é1"])


def test_of_an_id_that_comes_twice_the_last_vector_stays(tmp_path):
    vectors = FloatVectors(tmp_path / "v", "w")
    vectors.write(["a", "a"], csr_array(np.array([[1.0, 0], [0, 0.5]], np.float32)))
    assert vectors.read(["a"]).toarray().tolist() == [[0.0, 0.5]]
    vectors.close()


def test_wide_vocabularies_keep_their_terms(tmp_path):
    vectors = FloatVectors(tmp_path / "v", "w")
    wide = csr_array((np.ones(2, np.float32), ([0, 0], [3, 99_999])), shape=(1, 100_000))
    vectors.write(["a"], wide)
    assert vectors.read(["a"]).indices.tolist() == [3, 99_999]
    vectors.close()


def test_a_write_that_fails_changes_nothing(tmp_path, monkeypatch):
    vectors = FloatVectors(tmp_path / "v", "w")
    vectors.write(["a"], csr_array([[1.0, 0]]))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np.lib.format, "write_array_header_1_0", full)
        with pytest.raises(LexLIPError, match="keeps what it had.*No space"):
            vectors.write(["a", "b"], csr_array([[0, 1.0], [0, 1.0]]))
    before = sorted((tmp_path / "v").rglob("*"))
    assert vectors.read(["a", "b"]).toarray().tolist() == [[1.0, 0.0], [0.0, 0.0]]
    with pytest.raises(LexLIPError, match="2 ids but 1 vectors"):
        vectors.write(["a", "b"], csr_array([[1.0]]))
    with pytest.raises(LexLIPError, match="open for writing elsewhere"):
        FloatVectors(tmp_path / "v", "w")
    reader = FloatVectors(tmp_path / "v")
    with pytest.raises(LexLIPError, match="open for reading"):
        reader.write(["a"], csr_array([[1.0]]))
    assert sorted((tmp_path / "v").rglob("*")) == before
    vectors.close(), reader.close()
    with pytest.raises(LexLIPError, match="no index"):
        FloatVectors(tmp_path / "nowhere")


def test_damage_is_said(tmp_path):
    vectors = FloatVectors(tmp_path / "v", "w")
    vectors.write(["a"], csr_array([[1.0, 0.5]]))
    vectors.close()
    (file,) = (tmp_path / "v").glob("part-*/weights.npy")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    vectors = FloatVectors(tmp_path / "v")
    assert ["weights.npy is damaged" in line for line in vectors.verify()] == [True]
    vectors.close()
    file.write_bytes(data[:-4])
    with pytest.raises(LexLIPError, match="weights.npy is damaged"):
        FloatVectors(tmp_path / "v")


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": -9},
        {"rows": True},
        {"rows": "x"},
        {"width": 94.0},
        {"width": 10**30},
        {"parts": {}},
        {"parts": "part-000001"},
    ],
)
def test_a_signed_manifest_that_is_no_store_has_is_said(tmp_path, wrong):
    vectors = FloatVectors(tmp_path / "v", "w")
    vectors.write(["a"], csr_array([[1.0, 0.5]]))
    vectors.close()
    current = tmp_path / "v" / "CURRENT"
    manifest = tmp_path / "v" / current.read_text().split()[0]
    facts = json.loads(manifest.read_text())
    facts["data"] |= wrong
    manifest.write_text(json.dumps(facts))
    current.write_text(f"{manifest.name} {sha256(manifest.read_bytes()).hexdigest()}\n")
    with pytest.raises(LexLIPError, match="damaged"):
        FloatVectors(tmp_path / "v")


# --- rescoring


def test_what_rounding_made_equal_is_told_apart(tmp_path, kind):
    """Vectors that differ by less than a step, and a query whose weights round to the same."""
    engine = {"postings": PostingsEngine, "lucene": LuceneEngine}[kind](tmp_path / "engine")
    ids = [f"{i:02}" for i in range(40)]
    dense = np.full((40, 2), 0.7, np.float32)
    rng = np.random.default_rng(0)
    dense[:, 1] += rng.permutation(40).astype(np.float32) * np.float32(2e-5)
    dense /= np.linalg.norm(dense, axis=1, keepdims=True)
    impacts = quantise(csr_array(dense), 300.0)
    assert len(np.unique(impacts.toarray(), axis=0)) == 1
    engine.add(ids, impacts)
    engine.commit()
    vectors = FloatVectors(tmp_path / "v", "w")
    vectors.write(ids, csr_array(dense))
    terms, exact = {0: 64, 1: 64}, {0: 1.0, 1: 1.003}
    hits = engine.search(terms, 100)
    assert [hit.id for hit in hits] == ids  # all equal: by id
    found = rescore_hits(hits, terms, exact, vectors, 300.0, engine)
    cosines = dense.astype(np.float64) @ [1.0, 1.003] / np.linalg.norm([1.0, 1.003])
    assert [hit.id for hit in found] == [ids[i] for i in np.argsort(-cosines)] != ids
    assert np.allclose([hit.score for hit in found], np.sort(cosines)[::-1], atol=1e-12)
    engine.close(), vectors.close()


def oracle(model, pictures, text, max_terms=8):
    """Hits by cosine, from the encoders alone."""
    names = sorted(path.relative_to(pictures).as_posix() for path in pictures.rglob("*.png"))
    weights = model.encode_image([pictures / name for name in names])
    unit = unit_normalise(top_terms(weights, max_terms)).astype(np.float64)
    query = unit_normalise(model.encode_query([text]).astype(np.float64))
    scores = (unit @ query.T).toarray()[:, 0]
    hits = [Hit(name, score) for name, score in zip(names, scores, strict=True) if score]
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))


def assert_exact(index, model, pictures):
    for text in ("a red circle", "two blue squares in the snow", "star"):
        exact = oracle(model, pictures, text)
        for k in (1, 4, 100):
            found = index.search(text, k, rescore=50)
            assert [hit.id for hit in found] == [hit.id for hit in exact[:k]]
            scores = [hit.score for hit in found]
            assert scores == pytest.approx([hit.score for hit in exact[:k]], abs=1e-6)


@pytest.fixture
def pictures(photos, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        shutil.copy2(photos / f"{number:02}.png", folder)
    return folder


@pytest.fixture
def index(model, pictures, kind, tmp_path):
    path = tmp_path / "i.lex"
    options = {"engine": kind, "max_terms": 8, "keep_floats": True}
    with Index.create(path, model, pictures, **options) as made:
        yield made


def test_a_rescored_search_is_the_exact_cosine(index, model, pictures, photos):
    assert_exact(index, model, pictures)
    integers = index.search("a red circle")
    assert all(type(hit.score) is int for hit in integers)
    kept = index.search("a red circle", 10, "bytes > 0 and folder == 'no'", rescore=20)
    assert kept == [] == index.search("xyzzy", rescore=20)
    # A mapping is a query as well; a picture finds itself.
    terms = index.query("star")
    norm = np.sqrt(sum(w * w for w in terms.values()))
    best = index.search(terms, 1, rescore=6)[0]
    row = index.side_stores.floats.read([best.id]).toarray()[0]
    assert best.score == pytest.approx(sum(row[t] * w for t, w in terms.items()) / norm)
    assert index.search(pictures / "03.png", 1, rescore=6)[0].id == "03.png"
    assert index.search("star", 6, rescore=1) == index.search("star", 6, rescore=6)
    stats = index.stats()
    assert stats["float_bytes"] == index.side_stores.floats.bytes > 0


def test_floats_follow_what_is_added_replaced_and_deleted(index, model, pictures, photos):
    shutil.copy2(photos / "08.png", pictures)
    shutil.copy(photos / "09.png", pictures / "02.png")
    with Index.open(index.path, model) as reader:
        index.add(pictures, force=True)
        assert_exact(index, model, pictures)
        assert reader.reopen()
        assert_exact(reader, model, pictures)
    index.delete(["01.png"])
    (pictures / "01.png").unlink()
    assert_exact(index, model, pictures)
    index.compact()
    assert_exact(index, model, pictures)
    assert (
        index.side_stores.floats.read(["01.png"]).nnz
        == 0
        < index.side_stores.floats.read(["00.png"]).nnz
    )
    assert index.check() == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_writer_leaves_no_wrong_scores(index, model, pictures, photos, monkeypatch, when):
    """Vectors lie there before the engine commits: then they are those of no document yet."""
    queries = ("a red circle", "two blue squares in the snow", "star")
    before = [index.search(text, rescore=50) for text in queries]
    changed = {f"{number:02}.png": photos / f"{number + 6:02}.png" for number in range(3)}

    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        target = index.side_stores.floats if when == "before" else index.engine
        patch.setattr(target, "write" if when == "before" else "commit", dies)
        with pytest.raises(KeyboardInterrupt):
            index.update(changed)
    index.close()
    step = 1 / index.manifest["scale"]
    with Index.open(index.path, model, mode="w") as again:
        for text, hits in zip(queries, before, strict=True):
            found = {hit.id: hit.score for hit in again.search(text, rescore=50)}
            # Eight terms, each off by half a step at the most: by the impacts, not by others.
            assert found == pytest.approx({hit.id: hit.score for hit in hits}, abs=4 * step)
            exact = found == pytest.approx({hit.id: hit.score for hit in hits}, abs=1e-6)
            assert exact == (when == "before")
        again.update(changed)
        for name, path in changed.items():
            shutil.copy(path, pictures / name)
        assert_exact(again, model, pictures)


def test_lost_vectors_are_replaced_by_impacts(index, model, pictures):
    exact = {hit.id: hit.score for hit in index.search("star", rescore=50)}
    index.side_stores.floats.keep(lambda ids: [None for _ in ids])
    assert index.side_stores.floats.read(list(exact)).nnz == 0
    found = {hit.id: hit.score for hit in index.search("star", rescore=50)}
    assert found == pytest.approx(exact, abs=4 / index.manifest["scale"]) and found != exact


def test_on_the_command_line(photos, checkpoint, model, tmp_path):
    def lexlip(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    path, plain = tmp_path / "i.lex", tmp_path / "plain.lex"
    command = ("index", photos, "-m", checkpoint, "--engine", "postings", "-o")
    assert lexlip(*command, path, "--keep-floats").exit_code == 0
    asked = ("search", path, "a red circle", "-k", 3, "--rescore", 12)
    with Index.open(path, model) as index:
        hits = index.search("a red circle", 3, rescore=12)
        fits = [f"{100 * fit:.0f}%" for fit in index.fits(hits, "a red circle")]
        short = index.search(index.query("a red circle", max_terms=1), 3)
    found = json.loads(lexlip(*asked, "--json").stdout)["hits"]
    assert [hit["id"] for hit in found] == [hit.id for hit in hits]
    scores = [hit.score for hit in hits]
    assert [hit["score"] for hit in found] == pytest.approx(scores, abs=1e-4)
    rows = lexlip(*asked).stdout.partition("rank")[2].splitlines()[1:]
    rows = [row.split()[1:] for row in rows if row.split()[0].isdigit()]
    for (score, shown, id), hit, fit in zip(rows, hits, fits, strict=True):
        assert float(score) == pytest.approx(hit.score, abs=1e-3) and (shown, id) == (fit, hit.id)
    result = lexlip(*asked[:5], "--query-terms", 1, "--json")
    assert [(hit["id"], hit["score"]) for hit in json.loads(result.stdout)["hits"]] == short
    assert len(json.loads(result.stdout)["query"]) == 1
    assert lexlip(*command, plain).exit_code == 0
    result = lexlip("search", plain, *asked[2:])
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "keeps no float vectors" in result.stderr and "--keep-floats" in result.stderr
