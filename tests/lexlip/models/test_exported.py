"""An exported LexLIP: the network's numbers without torch, and what is asked of the network."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from lexlip import Index, LexLIP, Query
from lexlip.errors import LexLIPError
from lexlip.impacts import quantise_query, query_terms
from lexlip.models import load
from lexlip.models.export import export, keep_export
from lexlip.models.export_files import FOLDER, GRAPHS, cached_export, export_folder
from lexlip.models.exported import ExportedLexLIP
from lexlip.models.query_table import QueryTable
from lexlip.models.speaker import EncodesImages, HasViews, Localises

TEXTS = (
    "a red circle above two blue squares",
    "three striped triangles in the snow",
    "red red xyzzy red , blue",
    "",
    "the dark wall " * 12,
)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of these tests: others may have exported the same model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache-of-exports")))
        yield


@pytest.fixture(scope="module")
def home(cache, checkpoint, tmp_path_factory):
    """A checkpoint of its own, with its export."""
    folder = tmp_path_factory.mktemp("exported") / "tiny"
    shutil.copytree(checkpoint, folder)
    assert keep_export(LexLIP.from_pretrained(folder), folder) == folder / FOLDER
    return folder


@pytest.fixture(scope="module")
def exported(home):
    loaded = load(home)
    assert isinstance(loaded, ExportedLexLIP)
    return loaded


def dense(rows):
    return rows.toarray()


@pytest.mark.parametrize("size", [1, 3, 128])
def test_texts_have_the_weights_of_the_network(model, exported, size):
    found, wanted = exported.encode_text(TEXTS, size), model.encode_text(TEXTS)
    np.testing.assert_allclose(dense(found), dense(wanted), rtol=1e-4, atol=1e-5)
    assert found.nnz == wanted.nnz and found.dtype == np.float32
    for row in range(len(TEXTS)):
        ours, theirs = (query_terms(quantise_query(it[[row]])) for it in (found, wanted))
        assert ours.keys() == theirs.keys()
        assert all(abs(ours[term] - weight) <= 1 for term, weight in theirs.items())


@pytest.mark.parametrize("size", [1, 5, 32])
def test_pictures_have_the_weights_of_the_network(model, exported, images, photos, size):
    wanted = dense(model.encode_image(images))
    np.testing.assert_allclose(dense(exported.encode_image(images, size)), wanted, atol=1e-4)
    files = [photos / f"{number:02}.png" for number in range(12)]
    np.testing.assert_allclose(dense(exported.encode_image(files)), wanted, atol=1e-4)
    prepared = [exported.prepare_image(file) for file in files]
    np.testing.assert_allclose(dense(exported.encode_image(prepared)), wanted, atol=1e-4)
    assert exported.encode_image([]).shape == (0, wanted.shape[1])
    assert exported.image_side == model.image_side


def test_it_is_the_same_model(model, exported):
    assert exported.fingerprint == model.fingerprint
    assert exported.lexicon.hash == model.lexicon.hash
    assert exported.rounded == model.rounded and exported.precision == "float32"
    ours, theirs = exported.words_of(TEXTS[0], 5), model.words_of(TEXTS[0], 5)
    assert [word for word, _ in ours] == [word for word, _ in theirs]
    for capability in (EncodesImages, HasViews, Localises):
        assert isinstance(exported, capability)


def test_places_are_those_of_the_network(model, exported, images):
    terms = model.lexicon.ids.tolist()
    for image in images[:3]:
        ours, theirs = exported.locate(image, terms), model.locate(image, terms)
        assert ours.grid == theirs.grid and ours.box == theirs.box
        assert ours.patches == theirs.patches
        for term in terms:
            np.testing.assert_allclose(ours.heat[term], theirs.heat[term], atol=1e-4)
    ours, theirs = (it.locate_pixels(images[0], terms[:5]) for it in (exported, model))
    for term in terms[:5]:
        np.testing.assert_allclose(ours[term], theirs[term], atol=1e-4)
    crops = exported.locate(images[0], terms, crops=2)
    assert crops.patches == model.locate(images[0], terms, crops=2).patches


@pytest.mark.parametrize("text", [TEXTS[0], TEXTS[2], TEXTS[4]])
def test_texts_are_traced_as_by_the_network(model, exported, text):
    ours, theirs = exported.trace_text(text), model.trace_text(text)
    assert ours.words == theirs.words and ours.raised.keys() == theirs.raised.keys()
    for term, it in theirs.raised.items():
        assert ours.raised[term].word == it.word
        assert ours.raised[term].weight == pytest.approx(it.weight, abs=1e-4)
    shares = zip(exported.text_attention(text), model.text_attention(text), strict=True)
    for (word, share), (other, wanted) in shares:
        assert word == other and share == pytest.approx(wanted, abs=1e-4)


def test_an_index_of_the_network_is_searched_by_the_export(model, home, exported, photos, tmp_path):
    Index.create(tmp_path / "x", model, photos, engine="postings", checkpoint=home).close()
    with Index.open(tmp_path / "x") as ours, Index.open(tmp_path / "x", model) as theirs:
        assert isinstance(ours.model, ExportedLexLIP)
        for text in (*TEXTS[:3], Query.text("red circle") - Query.image(photos / "03.png")):
            found, wanted = ours.search(text, 10), theirs.search(text, 10)
            assert {hit.id for hit in found} == {hit.id for hit in wanted}
            for hit, other in zip(found, wanted, strict=True):
                assert hit.score == pytest.approx(other.score, abs=64 * 64)


def test_five_hundred_texts_find_the_same_ten(model, home, exported, photos, captions, tmp_path):
    Index.create(tmp_path / "x", model, photos, engine="postings", checkpoint=home).close()
    rng = np.random.default_rng(0)
    known = sorted({word for caption in captions for word in caption.split()})
    texts = [" ".join(rng.choice(known, rng.integers(1, 9))) for _ in range(500)]
    ours, theirs = exported.encode_text(texts), model.encode_text(texts)
    asked = [
        tuple(query_terms(quantise_query(rows[[row]])) for rows in (ours, theirs))
        for row in range(len(texts))
    ]
    assert sum(found == wanted for found, wanted in asked) > 490
    with Index.open(tmp_path / "x", exported) as index:
        for found, wanted in asked:
            assert all(abs(found.get(t, 0) - wanted.get(t, 0)) <= 1 for t in found | wanted)
            first, second = index.search(found, 10), index.search(wanted, 10)
            if found == wanted:
                assert first == second
            # A weight that is rounded the other way may turn two around that are nearly equal.
            scores, slack = {hit.id: hit.score for hit in second}, 255 * len(wanted)
            assert all(scores.get(h.id, second[-1].score) > h.score - slack for h in first)


def test_a_query_table_reads_texts(home, word_table, exported, model, tmp_path):
    folder = tmp_path / "tabled"
    shutil.copytree(home, folder)
    word_table.save_pretrained(folder)
    tabled = load(folder)
    texts = ["red circle", "the dark wall"]
    np.testing.assert_array_equal(
        dense(tabled.encode_text(texts)), dense(word_table.encode_text(texts))
    )
    assert tabled.text_attention("red circle") == []
    plain = load(folder, table=False)
    np.testing.assert_allclose(
        dense(plain.encode_text(texts)), dense(model.encode_text(texts)), atol=1e-4
    )
    # A table of another model is left alone.
    other = QueryTable(
        word_table.tokenizer.raw,
        word_table.lexicon,
        word_table.rows,
        word_table.pairs,
        "0" * 64,
        16,
    )
    other.save_pretrained(folder)
    assert load(folder).table is None


def test_a_table_says_which_word_raised_a_term(word_table):
    found = word_table.trace_text("a red circle, red")
    weights = dense(word_table.encode_text(["a red circle, red"]))[0]
    assert found.words == ("a", "red", "circle", ",", "red")
    assert set(found.raised) == set(np.flatnonzero(weights).tolist())
    for term, it in found.raised.items():
        assert found.words[it.word] == word_table.lexicon.tokens[term]
        assert it.weight == pytest.approx(weights[term])
    star = word_table.tokenizer.raw.token_to_id("star")
    assert word_table.trace_text("red", [star]).raised[star].word == -1
    with pytest.raises(LexLIPError, match="not a term id"):
        word_table.trace_text("red", [-1])


def test_views_are_asked_of_the_network(model_with_heads, images, tmp_path):
    model_with_heads.save_pretrained(tmp_path / "heads")
    keep_export(LexLIP.from_pretrained(tmp_path / "heads"), tmp_path / "heads")
    ours = load(tmp_path / "heads")
    assert isinstance(ours, ExportedLexLIP)
    assert (ours.token_size, ours.gaussian_size, ours.naaf_threshold) == (8, 6, 0.1)
    assert ours.aligns and ours.match_curve() == pytest.approx(model_with_heads.match_curve())
    prepared = [ours.prepare_image(image) for image in images[:2]]
    weights, views = ours.represent_image(prepared)
    wanted, theirs = model_with_heads.represent_image(images[:2])
    np.testing.assert_allclose(dense(weights), dense(wanted), atol=1e-4)
    np.testing.assert_allclose(views.tokens, theirs.tokens, atol=1e-4)
    assert ours.align(images[0], "a red circle").words == ("a", "red", "circle")


def test_an_export_of_other_weights_is_not_taken(home, make_model, tmp_path):
    folder = tmp_path / "trained-anew"
    shutil.copytree(home, folder)
    make_model(seed=5).save_pretrained(folder)
    assert export_folder(folder) is None
    anew = load(folder)
    assert isinstance(anew, LexLIP)
    keep_export(anew, folder)
    assert load(folder).fingerprint == anew.fingerprint


def test_a_checkpoint_that_cannot_be_written_to_has_its_export_in_the_cache(
    checkpoint, make_model, tmp_path, monkeypatch
):
    monkeypatch.setattr("lexlip.models.export.os.access", lambda *_: False)
    folder = tmp_path / "locked"
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns(FOLDER))
    network = LexLIP.from_pretrained(folder)
    assert keep_export(network, folder) == cached_export(network.fingerprint)
    assert not (folder / FOLDER).exists()
    assert isinstance(load(folder), LexLIP)
    assert isinstance(load(folder, network.fingerprint), ExportedLexLIP)
    # Other weights are not taken for these, whatever an index was made with.
    other = tmp_path / "other"
    make_model(seed=3).save_pretrained(other)
    assert isinstance(load(other, network.fingerprint), LexLIP)


def test_an_export_of_another_format_is_made_anew(home, tmp_path):
    folder = tmp_path / "older"
    shutil.copytree(home, folder)
    manifest = folder / FOLDER / "manifest.json"
    manifest.write_text(manifest.read_text().replace("lexlip-exported/1", "lexlip-exported/0"))
    assert export_folder(folder) is None
    keep_export(load(folder), folder)
    assert isinstance(load(folder), ExportedLexLIP)


@pytest.mark.parametrize("name", [*GRAPHS.values(), "manifest.json", "lexicon.safetensors"])
def test_a_corrupted_export_is_one_line(home, tmp_path, name):
    folder = tmp_path / "broken"
    shutil.copytree(home, folder)
    (folder / FOLDER / name).write_bytes(b"{}")
    with pytest.raises(LexLIPError, match="corrupted") as caught:
        broken = load(folder)
        assert isinstance(broken, ExportedLexLIP)
        broken.encode_text(["red"]), broken.encode_image([np.zeros((9, 9, 3), np.uint8)])
    assert "\n" not in str(caught.value)


def test_a_model_that_cannot_be_exported_is_a_line_in_the_log(home, monkeypatch, tmp_path, caplog):
    folder = tmp_path / "odd"
    shutil.copytree(home, folder, ignore=shutil.ignore_patterns(FOLDER))
    network = LexLIP.from_pretrained(folder)
    del network.text.trunk.encoder
    assert keep_export(network, folder) is None
    assert "searches will load torch" in caplog.text
    assert not (folder / FOLDER).exists()


HEAVY = ("torch", "transformers", "pandas", "sklearn", "pyserini", "pyarrow", "datasets")


def test_searching_loads_no_torch(home, photos, tmp_path):
    """A picture is encoded, an index made and searched with a text and a picture."""
    script = f"""
import sys
from pathlib import Path
from lexlip import Index, Query
from lexlip.models import load
model = load({str(home)!r})
index = Index.create({str(tmp_path / "x")!r}, model, {str(photos)!r}, engine="postings")
query = Query.text("a red circle") + Query.image(Path({str(photos / "00.png")!r}))
hits = index.search(query, 3)
assert hits[0].id == "00.png", hits
assert index.explain(hits[0].id, query)
print([name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_an_export_of_half_precision_is_in_float32(make_model, tmp_path):
    half = make_model(seed=2).bfloat16()
    export(half, tmp_path / "half" / FOLDER)
    assert half.precision == "bfloat16"  # as it was
    ours = ExportedLexLIP.from_pretrained(tmp_path / "half")
    assert ours.fingerprint == half.fingerprint and ours.precision == "bfloat16"
    np.testing.assert_allclose(
        dense(ours.encode_text([TEXTS[0]])), dense(half.float().encode_text([TEXTS[0]])), atol=1e-4
    )
    assert json.loads((tmp_path / "half" / FOLDER / "manifest.json").read_text())["weights"] is None
