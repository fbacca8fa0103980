"""Other systems beside an index: the lists they give, what is left out, and what is refused."""

from __future__ import annotations

import json
import logging
import math
import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lexlip import Index
from lexlip.cli import app
from lexlip.data.originals import Originals
from lexlip.errors import LexLIPError
from lexlip.measure.bm25 import tokens
from lexlip.measure.systems import CaptionIndex, DenseVectors
from lexlip.models.dense_control import DenseDualEncoder
from lexlip.server.picture_files import token_of
from lexlip.storage.files import read_json, write_json

TEXT = "a red circle above two blue squares"


@pytest.fixture(scope="module")
def encoder(make_model):
    """A tiny dense dual encoder, loud enough that pictures differ."""
    import torch

    model = make_model(kind=DenseDualEncoder)
    with torch.no_grad():
        for parameter in model.vision.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)
    return model


@pytest.fixture(scope="module")
def dense_checkpoint(encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense") / "tiny"
    encoder.save_pretrained(folder)
    return folder


@pytest.fixture
def dense_index(make_index, model, dense_checkpoint):
    """An index of eight pictures with dense vectors."""
    path = make_index()
    with Index.open(path, model) as index:
        assert DenseVectors.create(index, dense_checkpoint) == (8, [])
    return path


def lexlip(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def compared(client, q=TEXT, **others):
    answer = client.get("/compare", params={"q": q, **others})
    assert answer.status_code == 200, answer.text
    return {system["name"]: system["hits"] for system in answer.json()["systems"]}


def by_hand(encoder, pictures, text=TEXT):
    """(id, cosine) of every picture, best first: one at a time, without a matrix."""
    (asked,) = encoder.encode_query([text])
    found = []
    for path in sorted(pictures.rglob("*.png")):
        (row,) = encoder.encode_document([Image.open(path)])
        cosine = sum(float(a) * float(b) for a, b in zip(asked, row, strict=True))
        found.append((path.relative_to(pictures).as_posix(), cosine))
    return sorted(found, key=lambda one: -one[1])


def caption_the_pictures(folder, captions):
    rows = ["file_name,caption", *(f'{name},"{text}"' for name, text in captions.items())]
    (folder / "metadata.csv").write_text("\n".join(rows))


def test_dense_is_the_exact_order_of_cosines(dense_index, serve, encoder, pictures):
    client = serve(dense_index)
    assert client.get("/stats").json()["compare"] is True
    expected = by_hand(encoder, pictures)
    assert expected[0][1] - expected[-1][1] > 1e-3  # they differ
    found = compared(client)
    assert found.keys() == {"dense"}  # these pictures have no captions
    assert [hit["id"] for hit in found["dense"]] == [id for id, _ in expected]
    np.testing.assert_allclose(
        [hit["score"] for hit in found["dense"]], [score for _, score in expected], atol=1e-5
    )
    for rank, hit in enumerate(found["dense"], 1):
        assert (hit["rank"], hit["image"]) == (rank, token_of(hit["id"]))
        assert hit.keys() == {"rank", "id", "image", "score"}
        assert client.get(f"/images/{hit['image']}").status_code == 200
    assert compared(client, k=3)["dense"] == found["dense"][:3]


def test_what_the_index_no_longer_holds_is_left_out(dense_index, serve, model, encoder, pictures):
    client = serve(dense_index)
    ids = [id for id, _ in by_hand(encoder, pictures)]
    with Index.open(dense_index, model, "w") as index:
        index.delete(ids[:2])
    assert [hit["id"] for hit in compared(client, k=3)["dense"]] == ids[2:5]


def test_only_the_texts_of_a_query_count(dense_index, serve, encoder, pictures):
    client = serve(dense_index)
    whole = compared(client, '2:"red circle" + star -0.5:blue -square must:green')["dense"]
    expected = by_hand(encoder, pictures, "red circle star")
    assert [hit["id"] for hit in whole] == [id for id, _ in expected]
    for q in ("red^40 circle^3", "must:red", "-0.5:red + blue^3"):
        assert compared(client, q) == {"dense": []}


def bm25(captions, text, k1=0.9, b=0.4):
    """Lucene's formula, written out."""
    documents = {id: tokens(" ".join(texts)) for id, texts in captions.items()}
    mean = sum(map(len, documents.values())) / len(documents)
    scores = {}
    for id, words in documents.items():
        for word in tokens(text):
            n = sum(word in other for other in documents.values())
            idf = math.log(1 + (len(documents) - n + 0.5) / (n + 0.5))
            tf = words.count(word)
            length = 1 - b + b * len(words) / mean
            scores[id] = scores.get(id, 0) + idf * tf / (tf + k1 * length)
    return {id: score for id, score in scores.items() if score > 0}


def test_captions_are_scored_as_the_formula_says():
    captions = {
        "b": ["a red circle", "the red shape above"],
        "a": ["two blue squares and a red star"],
        "d": ["nothing"],
        "c": ["a circle"],
        "e": [],
    }
    index = CaptionIndex(captions)
    assert index.ids == ["a", "b", "c", "d"]
    del captions["e"]
    for text in ("red circle", "red red star", "circle unknown"):
        hits = index.best(index.scores(text), 10, lambda ids: ids)
        expected = bm25(captions, text)
        assert [hit.id for hit in hits] == sorted(expected, key=lambda id: -expected[id])
        np.testing.assert_allclose(
            [hit.score for hit in hits], [expected[hit.id] for hit in hits], rtol=1e-5
        )
    for text in ("unknown", "the of", ""):
        assert index.best(index.scores(text), 10, lambda ids: ids) == []


def test_ties_come_in_order_of_the_id_and_holes_are_filled():
    index = CaptionIndex({f"{n:03}": ["a star"] for n in range(300)[::-1]})
    scores = index.scores("star")
    gone = {f"{n:03}" for n in range(250)}
    hits = index.best(scores, 3, lambda ids: [None if id in gone else {} for id in ids])
    assert [hit.id for hit in hits] == ["250", "251", "252"]


def test_captions_without_a_word_find_nothing():
    index = CaptionIndex({"a": ["the"], "b": ["..."]})
    assert index.best(index.scores("the star"), 3, lambda ids: ids) == []


def test_bm25_reads_the_captions_of_what_was_indexed(make_index, serve, pictures):
    captions = {
        "home/00.png": "one red star",
        "trip/01.png": "a red star and a red circle",
        "home/02.png": "the dark wall",
    }
    caption_the_pictures(pictures, captions)
    client = serve(make_index())
    assert client.get("/stats").json()["compare"] is True
    expected = bm25({id: [text] for id, text in captions.items()}, "red circle")
    (found,) = compared(client, "red circle").values()
    assert [hit["id"] for hit in found] == ["trip/01.png", "home/00.png"]
    np.testing.assert_allclose([hit["score"] for hit in found], [*expected.values()][::-1])
    assert compared(client, "red^40") == {"BM25 over captions": []}


def test_without_others_there_is_nothing(make_index, serve):
    client = serve(make_index())
    assert client.get("/stats").json()["compare"] is False
    assert client.get("/compare", params={"q": TEXT}).json() == {"systems": []}


@pytest.mark.parametrize(
    "params, status",
    [
        ({"q": "red", "k": 201}, 400),
        ({"q": "x" * 2001}, 400),
        ({"q": "img:/etc/passwd"}, 400),
        ({"q": ""}, 400),
        ({"q": "red", "k": 0}, 422),
        ({}, 422),
    ],
)
def test_what_is_refused(make_index, serve, params, status):
    answer = serve(make_index()).get("/compare", params=params)
    assert answer.status_code == status
    assert answer.json().keys() == {"error"} and "\n" not in answer.json()["error"]


def test_the_key_is_asked_for(make_index, serve):
    client = serve(make_index(), api_key="open sesame")
    assert client.get("/compare", params={"q": "red"}).status_code == 401
    headers = {"X-API-Key": "open sesame"}
    assert client.get("/compare", params={"q": "red"}, headers=headers).status_code == 200


def other_format(folder):
    write_json(folder / "manifest.json", {"format": "faiss/1"})


def no_manifest(folder):
    (folder / "manifest.json").unlink()


def manifest_of_another_kind(folder):
    (folder / "manifest.json").write_text("[]")


def cut_off(folder):
    data = (folder / "vectors.npy").read_bytes()
    (folder / "vectors.npy").write_bytes(data[:-64])


def an_id_less(folder):
    write_json(folder / "ids.json", read_json(folder / "ids.json")[:-1])


def ids_of_another_kind(folder):
    write_json(folder / "ids.json", list(range(8)))


def not_unit(folder):
    np.save(folder / "vectors.npy", 3 * np.load(folder / "vectors.npy"))


def no_numbers(folder):
    np.save(folder / "vectors.npy", np.nan * np.load(folder / "vectors.npy"))


def of_another_model(folder):
    facts = read_json(folder / "manifest.json")
    write_json(folder / "manifest.json", {**facts, "fingerprint": "0" * 64})


def model_gone(folder):
    facts = read_json(folder / "manifest.json")
    write_json(folder / "manifest.json", {**facts, "checkpoint": str(folder / "gone")})


@pytest.mark.parametrize(
    "spoil",
    [other_format, no_manifest, manifest_of_another_kind, cut_off, an_id_less, ids_of_another_kind,
     not_unit, no_numbers, of_another_model, model_gone],
)  # fmt: skip
def test_vectors_that_do_not_fit_are_one_line(dense_index, serve, caplog, spoil):
    spoil(dense_index / "dense")
    with caplog.at_level(logging.WARNING, "lexlip.server"):
        client = serve(dense_index)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "dense" in line and "\n" not in line
    assert client.get("/stats").json()["compare"] is False
    assert compared(client) == {}
    assert client.get("/search", params={"q": TEXT}).status_code == 200


def test_the_command_writes_what_is_found_and_says_what_is_not(
    make_index, serve, encoder, dense_checkpoint, pictures
):
    path = make_index()
    (pictures / "home/00.png").unlink()
    (pictures / "home/02.png").write_bytes(b"no picture")
    shutil.copy(pictures / "home/04.png", pictures / "new.png")  # not in the index
    result = lexlip("compare", path, "--dense", dense_checkpoint)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{path / 'dense'}: 6 pictures (2 skipped)\n"
    broken, gone = [line for line in result.stderr.splitlines() if "skipped" in line]
    assert "02.png" in broken and gone == f"skipped: 1 pictures that are not in {pictures}"
    folder = path / "dense"
    assert {file.name for file in folder.iterdir()} == {"ids.json", "manifest.json", "vectors.npy"}
    assert json.loads((folder / "manifest.json").read_text()) == {
        "format": "lexlip-dense/1",
        "checkpoint": str(dense_checkpoint),
        "fingerprint": encoder.fingerprint,
    }
    ids = json.loads((folder / "ids.json").read_text())
    assert ids == sorted(ids) and len(ids) == 6 and "new.png" not in ids
    vectors = np.load(folder / "vectors.npy")
    assert vectors.dtype == np.float32
    for id, row in zip(ids, vectors, strict=True):
        (alone,) = encoder.encode_document([pictures / id])
        np.testing.assert_allclose(row, alone, atol=1e-5)
    assert len(compared(serve(path))["dense"]) == 6


def test_moved_pictures_are_given(make_index, dense_checkpoint, pictures):
    path = make_index()
    moved = pictures.rename(pictures.with_name("moved"))
    result = lexlip("compare", path, "--dense", dense_checkpoint)
    assert result.exit_code == 2 and "--pictures" in result.stderr
    assert not (path / "dense").exists()
    result = lexlip("compare", path, "--dense", dense_checkpoint, "--pictures", moved)
    assert result.exit_code == 0 and "8 pictures (0 skipped)" in result.stdout


def test_mistakes_are_one_line_and_leave_what_was_there(
    dense_index, checkpoint, dense_checkpoint, tmp_path
):
    before = {file.name: file.read_bytes() for file in (dense_index / "dense").iterdir()}
    empty = tmp_path / "empty"
    empty.mkdir()
    Image.new("RGB", (8, 8)).save(empty / "other.png")
    for arguments, said in [
        ((dense_index, "--dense", tmp_path / "none"), "no checkpoint"),
        ((dense_index, "--dense", checkpoint), "is not a DenseDualEncoder checkpoint"),
        ((tmp_path / "no.lex", "--dense", dense_checkpoint), "no index at"),
        ((dense_index, "--dense", dense_checkpoint, "--pictures", empty), "has no picture of"),
    ]:
        result = lexlip("compare", *arguments)
        assert result.exit_code == 2 and said in result.stderr, result.output
        assert len(result.stderr.strip().splitlines()) == 1
    assert before == {file.name: file.read_bytes() for file in (dense_index / "dense").iterdir()}


def test_texts_have_no_pictures_to_encode(make_index, model, dense_checkpoint):
    path = make_index(source={"a": "a red star", "b": "a blue star"})
    with Index.open(path, model) as index, pytest.raises(LexLIPError, match="give --pictures"):
        DenseVectors.create(index, dense_checkpoint, Originals.of(index.path, index.manifest))
