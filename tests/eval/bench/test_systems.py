from __future__ import annotations

import shutil

import numpy as np
import pytest
from scipy.sparse import csr_array

from eval.bench.benchmark import load_systems
from eval.bench.sparse import LexLIPSystem
from eval.bench.systems import best, check_gallery, search_all
from eval.bench.task import Settings
from eval.metrics import recall_at
from lexlip.errors import LexLIPError
from lexlip.impacts import (
    document_impacts,
    fit_scale,
    quantise,
    quantise_query,
    top_terms,
    unit_normalise,
)
from lexlip.models.levels import Levels

VOCABULARY = ["red", "green", "blue", "dark", "bright"]
BRIGHT = {"red": (250, 0, 0), "green": (0, 250, 0), "blue": (0, 0, 250)}


class ColourModel:
    """A stand-in for LexLIP: pictures say their colour channels, texts the words they hold."""

    fingerprint = "colours"

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode_query(self, texts):
        self.encoded += texts
        rows = [[float(text.split().count(word)) for word in VOCABULARY] for text in texts]
        return csr_array(np.array(rows, dtype=np.float32))

    def encode_document(self, images):
        rows = []
        for image in images:
            r, g, b = (value / 255 for value in image.getpixel((0, 0)))
            rows.append([r, g, b, 1 - max(r, g, b), (r + g + b) / 3])
        return csr_array(np.array(rows, dtype=np.float32))

    def decode(self, matrix, top_k=None):
        rows = csr_array(matrix).toarray()
        return [
            [(VOCABULARY[j], float(row[j])) for j in np.argsort(-row, kind="stable") if row[j]][
                :top_k
            ]
            for row in rows
        ]


@pytest.fixture
def gallery(make_gallery):
    ids = ["z", "m", "a", "k"]
    captions = [["red bright"], ["green"], ["blue blue dark"], ["red"]]
    colours = [(250, 10, 0), (0, 200, 0), (0, 0, 90), (250, 10, 0)]  # z and k look the same
    return make_gallery(ids, captions, colours)


@pytest.fixture
def system(gallery):
    system = LexLIPSystem(ColourModel(), engine="postings", max_terms=3, batch_size=3)
    system.index(gallery)
    yield system
    system.close()


def oracle(queries, documents, ids):
    """Dense integer products, ordered by score and id: what any engine must return."""
    unit = unit_normalise(documents)
    scores = quantise_query(queries).toarray() @ quantise(unit, fit_scale(unit)).toarray().T
    return [
        [(name, float(s)) for s, name in sorted((-row[j], ids[j]) for j in range(len(ids)))]
        for row in scores
    ]


def ordered(rows):
    return [[(name, -score) for name, score in row if score] for row in rows]


def test_text_to_picture_equals_integer_products(system, gallery):
    model = ColourModel()
    pictures = model.encode_document([gallery.image(i) for i in range(4)])
    expected = oracle(
        model.encode_query(list(gallery.queries.values())),
        top_terms(pictures, 3),
        gallery.ids,
    )
    run = system.t2i(gallery.queries)
    assert list(run.values()) == ordered(expected)
    # k and z are the same picture: the smaller id comes first.
    assert [name for name, _ in run["k#0"]][:2] == ["k", "z"]


def test_picture_to_text_equals_integer_products(system, gallery):
    model = ColourModel()
    pictures = top_terms(model.encode_document([gallery.image(i) for i in range(4)]), 3)
    captions = gallery.queries
    expected = oracle(pictures, model.encode_query(list(captions.values())), list(captions))
    run = system.i2t(gallery.ids, captions)
    assert dict(zip(gallery.ids, ordered(expected), strict=True)) == run
    assert list(system.i2t(["a"], captions)) == ["a"]


def test_a_query_without_known_words_finds_nothing(system):
    run = system.t2i({"q": "zebra", "r": "green"})
    assert run["q"] == []
    assert recall_at(run, {"q": {"m"}, "r": {"m"}}, ks=(1,)) == {"R@1": 0.5}


def test_costs_and_words(system, gallery):
    system.t2i(gallery.queries)
    assert system.terms_per_image == pytest.approx(3.0)
    assert system.bytes_per_image > 0
    assert system.p50_ms >= 0 and system.encode_ms >= 0
    assert system.words()[1] == [
        ("green", pytest.approx(200 / 255)),
        ("bright", pytest.approx(200 / 765)),
        ("dark", pytest.approx(55 / 255)),
    ]
    assert [len(row) for row in system.words(1)] == [1, 1, 1, 1]
    assert "postings engine" in system.note and "3 terms" in system.note
    assert system.fingerprint == "colours"


def test_each_text_is_encoded_once(system, gallery):
    system._encode_texts(["red", "green", "red"])
    system._encode_texts(["green", "blue"])
    assert system.model.encoded == ["red", "green", "blue"]
    vectors = system._encode_texts(["blue", "red", "blue"]).toarray()
    assert (
        vectors.tolist() == ColourModel().encode_query(["blue", "red", "blue"]).toarray().tolist()
    )


@pytest.mark.java
def test_lucene_gives_the_same_runs(gallery, system):
    try:
        lucene = LexLIPSystem(ColourModel(), engine="lucene", max_terms=3)
        lucene.index(gallery)
    except (LexLIPError, ImportError) as error:
        pytest.skip(str(error))
    try:
        assert "Lucene" in lucene.note
        assert lucene.t2i(gallery.queries) == system.t2i(gallery.queries)
        assert lucene.i2t(gallery.ids, gallery.queries) == system.i2t(gallery.ids, gallery.queries)
    finally:
        lucene.close()


def test_without_java_the_exact_engine_steps_in_and_says_so(gallery, monkeypatch):
    import lexlip.engines

    def refuse(*args, **kwargs):
        raise LexLIPError("no Java")

    monkeypatch.setattr(lexlip.engines, "LuceneEngine", refuse)
    system = LexLIPSystem(ColourModel(), engine="auto")
    system.index(gallery)
    assert "no Java for Lucene" in system.note
    strict = LexLIPSystem(ColourModel(), engine="lucene")
    with pytest.raises(LexLIPError, match="no Java"):
        strict.index(gallery)


def test_options_are_checked(tmp_path):
    with pytest.raises(LexLIPError, match="no engine 'elastic'"):
        LexLIPSystem(ColourModel(), engine="elastic")
    with pytest.raises(LexLIPError, match="max_terms is 0"):
        LexLIPSystem(ColourModel(), max_terms=0)


def test_a_gallery_with_copies_or_without_pictures_is_refused(make_gallery):
    with pytest.raises(LexLIPError, match="'a' is in the gallery twice"):
        check_gallery(make_gallery(["a", "b", "a"], [[], [], []]))
    with pytest.raises(LexLIPError, match="empty"):
        check_gallery(make_gallery([], []))


@pytest.mark.parametrize("k", [1, 2, 3, 7, 40, 100])
def test_best_equals_a_full_sort(k):
    rng = np.random.default_rng(k)
    ids = [f"i{n:02}" for n in range(40)]
    scores = rng.integers(0, 6, size=40).astype(np.float32)  # many ties
    expected = sorted(zip(ids, scores.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
    assert best(scores, ids, k) == expected[:k]


def test_search_all_warms_up_then_times_every_query():
    calls = []

    def search(i):
        calls.append(i)
        return [("x", float(i))]

    run, p50 = search_all(search, ["a", "b"], "test")
    assert run == {"a": [("x", 0.0)], "b": [("x", 1.0)]}
    assert calls == [0, 1, 0, 1] and p50 >= 0


def test_a_checkpoint_folder_is_loaded_and_remembered(tmp_path, monkeypatch):
    def load(folder):
        assert folder == tmp_path
        return ColourModel()

    monkeypatch.setattr("lexlip.models.load", load)
    with pytest.raises(LexLIPError, match="no checkpoint in"):
        LexLIPSystem.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    system = LexLIPSystem.from_pretrained(tmp_path, max_terms=5)
    assert (system.checkpoint, system.fingerprint) == (str(tmp_path), "colours")
    assert system.max_terms == 5


def test_a_query_table_reads_texts_in_the_place_of_the_network(
    model, checkpoint, word_table, tmp_path, make_gallery
):
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, folder)
    settings = Settings(model=str(folder), engine="postings")
    assert [system.name for system in load_systems(settings)] == ["lexlip"]
    word_table.save_pretrained(folder)
    network, tabled = load_systems(settings)
    assert (network.name, tabled.name) == ("lexlip", "lexlip, query table")
    gallery = make_gallery(["a", "b"], [["red"], ["star"]], [(250, 0, 0), (0, 0, 250)])
    for system in (network, tabled):
        system.index(gallery)
    assert (network._pictures != tabled._pictures).nnz == 0
    asked = {"q": "a red star", "r": "red red"}
    assert (network.query_weights(asked) != tabled.query_weights(asked)).nnz
    run = {name: dict(hits) for name, hits in tabled.t2i(asked, 2).items()}
    red, star = (model.lexicon.tokens.index(word) for word in ("red", "star"))
    stored = document_impacts(tabled._pictures, 64)[0].toarray()
    for name, row in zip(gallery.ids, stored, strict=True):
        assert run["q"].get(name, 0) == 64 * (int(row[red]) + int(row[star]))
        assert run["r"].get(name, 0) == 64 * int(row[red])
    assert "query table" in tabled.note and tabled.encode_ms > 0
    for system in (network, tabled):
        system.close()


def test_documents_have_the_lengths_of_a_bank_unless_told_otherwise(gallery):
    model, texts = ColourModel(), gallery.queries
    pictures = model.encode_document([gallery.image(i) for i in range(4)])
    captions = model.encode_query(list(texts.values()))
    model.levels = Levels.fit({"pictures": pictures, "texts": captions}, "m", power=1.0)
    found = {}
    for levels in (True, False):
        system = LexLIPSystem(model, engine="postings", max_terms=3, levels=levels)
        system.index(gallery)
        assert ("levelled" in system.note) == levels
        found[levels] = system.vectors(gallery.ids, texts)[0], system.i2t(gallery.ids, texts)
        system.close()
    shown = model.levels.levelled(top_terms(pictures, 3), texts=False)
    wanted, _ = document_impacts(shown, 3, normalise="kept")
    assert (found[True][0] != wanted).nnz == 0
    assert (found[False][0] != document_impacts(pictures, 3)[0]).nnz == 0
    read, _ = document_impacts(model.levels.levelled(captions, texts=True), 3, normalise="kept")
    scores = quantise_query(top_terms(pictures, 3)).toarray() @ read.toarray().T
    assert {name: score for name, score in found[True][1]["z"]} == {
        caption: score for caption, score in zip(texts, scores[0], strict=True) if score
    }
    assert found[True][1] != found[False][1]
