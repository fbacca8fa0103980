"""Index: the integers of a dot product, and nothing left behind when something is wrong."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from lexlip import Index
from lexlip.data.collection import load_collection
from lexlip.engines import Hit
from lexlip.engines.lucene.java import find_java
from lexlip.engines.postings.engine import PostingsEngine
from lexlip.errors import LexLIPError
from lexlip.impacts import document_impacts, quantise_query

QUERIES = ["a red circle", "two blue squares in the snow", "star", "red red red xyzzy", "the"]


@pytest.fixture(scope="module")
def folder(model, checkpoint, photos, tmp_path_factory):
    """An index of the twelve pictures; for reading only."""
    path = tmp_path_factory.mktemp("index") / "photos.lex"
    Index.create(path, model, photos, engine="postings", max_terms=8, checkpoint=checkpoint).close()
    return path


@pytest.fixture
def index(folder, model):
    with Index.open(folder, model) as opened:
        yield opened


def wanted(model, images, query, max_terms=8):
    """Ids and scores by a dense integer product, best first."""
    impacts, _ = document_impacts(model.encode_image(images), max_terms)
    weights = quantise_query(query)
    scores = (impacts.toarray().astype(int) @ weights.toarray().astype(int).T)[:, 0]
    hits = [Hit(f"{i:02}.png", int(score)) for i, score in enumerate(scores) if score]
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))


@pytest.mark.parametrize("k", [1, 5, 100])
@pytest.mark.parametrize("text", QUERIES)
def test_scores_are_the_integer_dot_product(index, model, images, text, k):
    exact = wanted(model, images, model.encode_query([text]))
    assert index.search(text, k) == exact[:k]
    assert len({hit.score for hit in exact}) > 3


def test_a_picture_is_a_query_and_finds_itself(index, model, images, photos):
    for i in range(0, 12, 3):
        exact = wanted(model, images, model.encode_image([images[i]]))
        assert index.search(photos / f"{i:02}.png", 100) == index.search(images[i], 100) == exact
        # Quantising a query may swap near-equal pictures, but hardly its own.
        assert exact[0].id == f"{i:02}.png"


def test_weighted_words_are_a_query(index, model):
    terms = index.query("a red circle")
    assert terms and index.search(terms, 4) == index.search("a red circle", 4)
    assert all(1 <= weight <= 64 for weight in terms.values())
    words = index.words(terms)
    assert [w for _, w in words] == sorted(terms.values(), reverse=True)
    assert {model.lexicon.tokens.index(word) for word, _ in words} == set(terms)


@pytest.mark.parametrize("text", ["xyzzy", "", "漢字 quux"])
def test_a_query_without_a_known_word_finds_nothing(index, text):
    assert index.query(text) == {} and index.search(text) == []


def test_the_manifest_says_what_is_inside(folder, model, checkpoint, photos, images):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["model"] == model.fingerprint
    assert manifest["vocabulary"] == model.lexicon.hash
    assert manifest["checkpoint"] == str(checkpoint) and manifest["source"] == str(photos)
    assert manifest["max_terms"] == 8 and manifest["engine"] == "postings"
    impacts, scale = document_impacts(model.encode_image(images), 8)
    assert manifest["scale"] == pytest.approx(scale)
    assert manifest["quantisation"]["cosine"] > 0.99
    with Index.open(folder, model) as index:
        stats = index.stats()
    assert stats["documents"] == 12 and stats["scale"] == manifest["scale"]
    assert stats["terms_per_image"] == pytest.approx(impacts.nnz / 12)
    assert stats["bytes_per_image"] > 0


def test_an_unreadable_picture_is_left_out_and_named(folder, index):
    (line,) = (folder / "skipped.jsonl").read_text().splitlines()
    skipped = json.loads(line)
    assert skipped["id"] == "broken.png" and "damaged" in skipped["reason"]
    assert len(index) == 12


def test_an_index_finds_its_own_model(folder, index):
    with Index.open(folder) as again:
        assert again.search(QUERIES[0]) == index.search(QUERIES[0]) != []


def test_a_collection_can_be_given_itself(model, photos, images, tmp_path):
    part = load_collection(photos).select([3, 5])
    with Index.create(tmp_path / "part", model, part, engine="postings") as index:
        assert len(index) == 2 and index.search(images[5], 1)[0].id == "05.png"


def test_another_model_is_refused(folder, make_model):
    with pytest.raises(LexLIPError, match="built by another model .*--model"):
        Index.open(folder, make_model(seed=1))
    other = make_model()
    other.lexicon_ids[0] += 1
    with pytest.raises(LexLIPError, match="built by another vocabulary"):
        Index.open(folder, other)


def changed(folder, target, **values):
    """A copy of the manifest with other values; the engine is not needed to refuse it."""
    manifest = json.loads((folder / "manifest.json").read_text())
    target.mkdir()
    del manifest["sha256"]
    (target / "manifest.json").write_text(json.dumps(manifest | values))
    return target


def test_another_format_and_a_missing_checkpoint_are_refused(folder, model, tmp_path):
    newer = changed(folder, tmp_path / "newer", format="lexlip-index/9")
    with pytest.raises(LexLIPError, match="lexlip-index/9.*build the index again"):
        Index.open(newer, model)
    moved = changed(folder, tmp_path / "moved", checkpoint=str(tmp_path / "gone"))
    shutil.copytree(folder / "engine", moved / "engine")
    with Index.open(folder, model) as whole:
        terms = whole.query("a red circle")
        wanted = whole.search(terms)
    with Index.open(moved) as index:
        assert index.search(terms) == wanted != []  # weighted words need no model
        with pytest.raises(LexLIPError, match="no checkpoint at .*gone"):
            index.search("a red circle")


def test_no_index_is_said_so(tmp_path, model):
    with pytest.raises(LexLIPError, match="no index at .*nowhere: make one with"):
        Index.open(tmp_path / "nowhere", model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "lucine"}, "no engine 'lucine': choose one of lucene, postings"),
        ({"max_terms": 0}, "max_terms is 0"),
        ({"source": "empty"}, "no picture in"),
        ({"source": "broken"}, "no readable picture in .*broken.png"),
        ({"source": "missing"}, "does not exist"),
    ],
)
def test_what_cannot_be_indexed_leaves_nothing_behind(model, tmp_path, options, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "broken.png").write_bytes(b"no picture")
    source = tmp_path / options.pop("source", "empty")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(LexLIPError, match=message):
        Index.create(tmp_path / "out", model, source, **{"engine": "postings", **options})
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_is_no_index_is_not_overwritten(model, photos, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(LexLIPError, match="not made here"):
        Index.create(tmp_path, model, photos, engine="postings")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_index_is_replaced_only_by_a_whole_one(model, photos, tmp_path, monkeypatch):
    path = tmp_path / "photos.lex"
    Index.create(path, model, load_collection(photos, limit=3), engine="postings").close()
    with pytest.raises(LexLIPError, match="there is an index at .*replace"):
        Index.create(path, model, photos, engine="postings")

    def breaks(*_):
        raise RuntimeError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(PostingsEngine, "add", breaks)
        with pytest.raises(RuntimeError, match="disk"):
            Index.create(path, model, photos, engine="postings", replace=True)
    with Index.open(path, model) as index:
        assert len(index) == 3
    assert list(tmp_path.iterdir()) == [path]
    with Index.create(path, model, photos, engine="postings", replace=True) as index:
        assert len(index) == 12
    assert list(tmp_path.iterdir()) == [path]


def test_too_old_a_java_is_noticed_before_anything_is_encoded(model, tmp_path, monkeypatch):
    def too_old():
        raise LexLIPError("found Java 17, need >= 21")

    monkeypatch.setattr("lexlip.engines.lucene.java.find_java", too_old)
    with pytest.raises(LexLIPError, match="Java 17"):
        Index.create(tmp_path / "out", model, tmp_path / "not even read", engine="lucene")
    assert not list(tmp_path.iterdir())


@pytest.mark.java
def test_lucene_finds_the_same(index, model, photos, images, tmp_path):
    try:
        find_java()
        import jnius_config  # noqa: F401
    except (LexLIPError, ImportError) as error:
        pytest.skip(str(error))
    with Index.create(
        tmp_path / "photos.lex", model, photos, max_terms=8, engine="lucene"
    ) as lucene:
        assert len(lucene) == 12
        for query in [*QUERIES, *images[:3]]:
            assert lucene.search(query, 7) == index.search(query, 7)
    with Index.open(tmp_path / "photos.lex", model) as again:
        assert again.search(QUERIES[0]) == index.search(QUERIES[0])


def test_pictures_of_one_colour_can_be_found(model, tmp_path):
    (tmp_path / "plain").mkdir()
    for name in ("black", "white"):
        Image.new("RGB", (50, 20), name).save(tmp_path / "plain" / f"{name}.jpg")
    with Index.create(tmp_path / "out", model, tmp_path / "plain", engine="postings") as index:
        hits = index.search(tmp_path / "plain" / "black.jpg", 2)
        assert hits[0].id == "black.jpg"
        assert all(np.isfinite(hit.score) and hit.score > 0 for hit in hits)
