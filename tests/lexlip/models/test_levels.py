"""Levels: lengths that keep hubs down, the same on every path from a checkpoint to an index."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sentence_transformers import SparseEncoder

from lexlip import Index, LexLIP
from lexlip.build.encode import encode_pictures
from lexlip.build.encoded_parts import Encoded
from lexlip.build.recipe import Recipe
from lexlip.data.collection import load_collection
from lexlip.data.crops import with_crops
from lexlip.errors import LexLIPError
from lexlip.explain.explanation import explain
from lexlip.impacts import document_impacts, unit_normalise
from lexlip.measure.curve import read_impacts
from lexlip.models import load
from lexlip.models.export import keep_export
from lexlip.models.levels import MOST, Levels, has_levels
from lexlip.models.speaker import bank_of, levelled


def rows(*lines):
    return csr_array(np.array(lines, np.float32))


@pytest.fixture(scope="module")
def levels(model, images, captions):
    bank = {"pictures": model.encode_image(images[:6]), "texts": model.encode_text(captions)}
    return Levels.fit(bank, model.fingerprint, 0.05, 0.5, model.rounded)


@pytest.fixture(scope="module")
def folder(checkpoint, levels, tmp_path_factory):
    """A checkpoint with a bank, and an export."""
    place = tmp_path_factory.mktemp("levelled") / "tiny"
    shutil.copytree(checkpoint, place)
    levels.save_pretrained(place)
    keep_export(LexLIP.from_pretrained(place), place)
    return place


def test_lengths_by_hand():
    bank = {"pictures": rows([1, 0, 0]), "texts": rows([3, 4, 0], [0, 0, 2])}
    levels = Levels.fit(bank, "m", temperature=0.1, power=0.7)
    document = rows([0, 5, 0])

    def near(cosines):
        return 0.1 * math.log(sum(math.exp(c / 0.1) for c in cosines) / len(cosines))

    wanted = (near([0.6, 0.0]) / near([0.8, 0.0])) ** 0.7  # a typical picture is the bank's own
    assert levels.lengths(document, texts=False).tolist() == pytest.approx([wanted], rel=1e-5)
    typical = (near([0.6]) + near([0.0])) / 2
    wanted = (typical / near([0.6])) ** 0.7
    assert levels.lengths(rows([3, 4, 0]), texts=True).tolist() == pytest.approx([wanted], rel=1e-5)


def test_a_hub_is_made_shorter_and_nothing_else_changes(levels):
    size = levels.bank["texts"].shape[1]
    hub = csr_array(levels.bank["texts"].mean(0).reshape(1, -1))  # near to all queries
    rare = csr_array(([1.0], ([0], [size - 1])), shape=(1, size))
    both = csr_array(np.vstack([hub.toarray(), rare.toarray()]).astype(np.float32))
    first, second = levels.lengths(both, texts=False)
    assert 1 / MOST <= first < second <= MOST
    found = levels.levelled(both, texts=False)
    assert np.allclose(unit_normalise(found).toarray(), unit_normalise(both).toarray(), atol=1e-6)
    # Neither the length that they had, nor their neighbours, nor how many there are, counts.
    assert np.allclose(levels.lengths(both * 7, texts=False), [first, second])
    many = csr_array(np.repeat(both.toarray(), 300, axis=0))
    assert np.allclose(levels.lengths(many, texts=False)[[0, 599]], [first, second])


def test_empty_documents_and_none(levels):
    size = levels.bank["texts"].shape[1]
    assert levels.lengths(csr_array((2, size), dtype=np.float32), texts=True).tolist() == [1, 1]
    assert levels.levelled(csr_array((0, size), dtype=np.float32), texts=False).shape == (0, size)
    flat = Levels.fit(levels.bank, "m", power=0.0)
    assert flat.lengths(levels.bank["pictures"], texts=False).tolist() == [1] * 6


def test_a_bank_goes_with_its_checkpoint(folder, levels, model):
    assert has_levels(folder) and bank_of(model) is None
    network, export = LexLIP.from_pretrained(folder), load(folder)
    for speaker in (network, export):
        found = bank_of(speaker)
        assert found.digest and (found.temperature, found.power) == (0.05, 0.5)
        for texts in (True, False):
            some = levels.bank["pictures"]
            near = found.lengths(some, texts), levels.lengths(some, texts)
            assert np.allclose(*near, rtol=2e-3)  # the file has 16 bits
    copy = LexLIP.from_pretrained(folder, dtype=torch.bfloat16)  # the same model, rounded
    assert copy.levels.digest == found.digest
    # The checkpoint of another model says so, and so does a file that is not what was written.
    network.text_head.bias.data += 1
    del network.__dict__["_levels"]
    with pytest.raises(LexLIPError, match="was built by another model"):
        _ = network.levels


@pytest.mark.parametrize("change", ["cut", "format", "missing"])
def test_a_corrupted_bank_is_one_line(folder, tmp_path, change):
    place = tmp_path / "copy"
    shutil.copytree(folder, place)
    bank, manifest = place / "levels" / "bank.safetensors", place / "levels" / "manifest.json"
    if change == "cut":
        bank.write_bytes(bank.read_bytes()[:-9])
    elif change == "format":
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": "x/9"}))
    else:
        bank.unlink()
    with pytest.raises(LexLIPError) as told:
        _ = LexLIP.from_pretrained(place).levels
    assert "levels" in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("terms", [64, 3])
@pytest.mark.parametrize("crops", [0, 4])
def test_an_index_has_the_lengths_whatever_it_keeps(folder, photos, tmp_path, terms, crops):
    model = load(folder)
    index = Index.create(
        tmp_path / "x.lex", model, photos, engine="postings", max_terms=terms, crops=crops
    )
    collection = load_collection(photos)
    whole = [collection.image(i) for i in range(12)]
    weights = levelled(model, with_crops(model.encode_image, whole, crops), texts=False)
    wanted, scale = document_impacts(weights, terms, normalise="kept")
    ids, held = read_impacts(index.engine, model.lexicon.ids.tolist(), len(model.lexicon.tokens))
    assert ids == collection.ids[:12] and index.manifest["scale"] == pytest.approx(scale, rel=1e-5)
    assert np.abs((held - wanted).toarray()).max() <= 1
    lengths = np.sqrt(held.power(2).sum(1)) / scale
    assert np.allclose(lengths, model.levels.lengths(weights, texts=False), rtol=0.05)
    assert lengths.std() > 0.001
    # In parts, as other machines encode, and added later: the same.
    with Encoded.plan(
        tmp_path / "parts", model, collection, Recipe(max_terms=terms, crops=crops), folder, 5
    ) as parts:
        for number in parts.missing():
            chunk = encode_pictures(model, collection, parts.rows(number), recipe=parts.recipe)
            parts.write(number, chunk)
    again = Index.from_encoded(tmp_path / "y.lex", tmp_path / "parts", model, engine="postings")
    same = read_impacts(again.engine, model.lexicon.ids.tolist(), len(model.lexicon.tokens))
    theirs = same[1] / again.manifest["scale"]
    # A scale is fitted to the first documents: heavier words of later ones are at its end.
    ours = np.minimum(held.toarray() / scale, 255 / again.manifest["scale"])
    assert np.abs(theirs.toarray() - ours).max() <= 2 / scale
    index.close()
    again.close()


def test_an_explanation_adds_up_and_finds_the_picture_again(folder, photos, tmp_path):
    model = LexLIP.from_pretrained(folder)
    with Index.create(tmp_path / "x.lex", model, photos, engine="postings") as index:
        best = index.search("a red circle", k=1)[0]
        told = explain(index, best.id, "a red circle", photos / best.id)
        assert told.changed is False
        assert sum(word.score for word in told.words) == best.score


def test_documents_with_other_lengths_are_not_mixed(folder, checkpoint, photos, images, tmp_path):
    path = tmp_path / "x.lex"
    Index.create(path, load(folder), photos, engine="postings").close()
    with Index.open(path, load(checkpoint), mode="w") as index:  # the same network, without a bank
        with pytest.raises(LexLIPError, match="was built with other levels"):
            index.add({"new": images[0]})
        assert len(index.search("a red circle")) > 0
    Index.create(path, load(checkpoint), photos, engine="postings", replace=True).close()
    with Index.open(path, load(folder), mode="w") as index:
        with pytest.raises(LexLIPError, match="was built with other levels"):
            index.add({"new": images[0]})


def test_sentence_transformers_gives_documents_their_lengths(folder, images, captions, tmp_path):
    model = LexLIP.from_pretrained(folder)
    encoder = SparseEncoder(str(folder), device="cpu", trust_remote_code=True)
    for items, texts in ((images[:4], False), (list(captions[:4]), True)):
        raw = model.encode_text(items) if texts else model.encode_image(items)
        wanted = model.levels.levelled(raw, texts).toarray()
        found = encoder.encode_document(items, convert_to_sparse_tensor=False).numpy()
        assert np.allclose(found, wanted, atol=2e-3)
    asked = encoder.encode_query(list(captions[:4]), convert_to_sparse_tensor=False).numpy()
    assert np.allclose(np.linalg.norm(asked, axis=1), 1, atol=1e-5)
    encoder.save_pretrained(str(tmp_path / "saved"))
    assert has_levels(tmp_path / "saved")


def test_texts_as_documents_are_levelled_by_pictures(folder, captions, tmp_path):
    model = load(folder)
    documents = {f"{i}": text for i, text in enumerate(captions)}
    rows = model.levels.levelled(model.encode_text(list(captions)), texts=True)
    wanted, _ = document_impacts(rows, 64, normalise="kept")
    with Index.create(tmp_path / "t.lex", model, documents, engine="postings") as index:
        terms, size = model.lexicon.ids.tolist(), len(model.lexicon.tokens)
        ids, held = read_impacts(index.engine, terms, size)
    assert ids == list(documents)
    assert np.abs((held - wanted).toarray()).max() <= 1
