"""An index of a speaker with vectors: made, changed, built in bulk, and asked."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from indexing.build import build
from indexing.settings import Settings
from lexlip import Index
from lexlip.build.encode import encode_pictures
from lexlip.build.encoded_parts import Encoded
from lexlip.build.recipe import Recipe
from lexlip.cli import app
from lexlip.data.collection import Collection
from lexlip.errors import LexLIPError
from lexlip.models.lexical.lexicalise import lexicalise
from lexlip.server import Settings as Served
from lexlip.server import create_app
from lexlip.settings import Data
from lexlip.storage.vectors import CodedVectors, compare
from tests.support.clips import WORDS, small_clip, small_tokenizer
from tests.support.cone_speaker import cone_speaker, picture


@pytest.fixture(scope="module")
def speaker():
    return cone_speaker(120, 80)[0]


def pictures(numbers):
    return {f"p{number:03}.jpg": picture(number) for number in numbers}


def collection(numbers):
    some = pictures(numbers)
    return Collection(list(some), [[] for _ in some], list(some.values()))


def assert_scores(index, speaker, wanted):
    """Every document of {id: picture} has the score of its own vector, and no other is there."""
    query = index.prepare("caption 3")
    found = {hit.id: hit.score for hit in index.search(query, 1000)}
    ids = list(wanted)
    vectors = speaker.represent([wanted[name] for name in ids], max_terms=9).vectors
    coded, every = CodedVectors.encode(vectors), np.arange(len(ids))
    near = compare([(coded, every, every)], len(ids), query.vector)
    scores = dict(zip(ids, (near.cosine - near.constant).tolist(), strict=True))
    assert len(index) == len(wanted) and len(found) > len(wanted) // 2
    assert found == {name: scores[name] for name in found}


def test_vectors_follow_what_is_added_replaced_and_deleted(speaker, kind, tmp_path, no_flush):
    path, wanted = tmp_path / "i.lex", pictures(range(60))
    with Index.create(path, speaker, wanted, engine=kind, max_terms=9) as index:
        assert_scores(index, speaker, wanted)
        reader = Index.open(path, speaker)
        more = pictures(range(40, 100))
        index.add(more)
        wanted |= more
        assert_scores(index, speaker, wanted)
        swapped = {name: picture(int(name[1:4]) + 7) for name in list(wanted)[::3]}
        index.update(swapped)
        wanted |= swapped
        gone = list(wanted)[::4]
        assert index.delete(gone) == len(gone)
        wanted = {name: it for name, it in wanted.items() if name not in gone}
        assert_scores(index, speaker, wanted)
        assert reader.reopen()
        assert_scores(reader, speaker, wanted)
        index.compact()
        reader.reopen()
        assert not reader.reopen()
        assert_scores(reader, speaker, wanted)
        reader.close()
        assert index.check() == []
        facts = index.stats()
        assert facts["vector_size"] == speaker.vector_size
        assert facts["vector_bytes"] >= len(wanted) * (speaker.vector_size + 8)
        assert Recipe.of(index.manifest) == Recipe(max_terms=9, engine=kind)
    assert (path / "vectors").exists() == (kind == "lucene")


def test_weights_are_kept_as_long_as_they_are(speaker, kind, tmp_path, no_flush):
    wanted = pictures(range(30))
    with Index.create(tmp_path / "i.lex", speaker, wanted, engine=kind, max_terms=9) as index:
        found = speaker.represent(list(wanted.values()), max_terms=9)
        size, scale = len(speaker.lexicon.tokens), index.manifest["scale"]
        assert index.manifest["said"] == size
        for row, name in enumerate(wanted):
            weights, said = found.weights[[row]], found.said[[row]]
            held = index.engine.contributions(name, range(size))
            exact = dict(zip(weights.indices.tolist(), weights.data.tolist(), strict=True))
            assert held.keys() <= exact.keys()
            assert all(abs(held[t] - exact[t] * scale) <= 0.5 + 1e-3 for t in held)
            shown = index.engine.contributions(name, range(size, 2 * size))
            assert {t - size for t in shown} == set(said.indices.tolist())
            cosines = dict(zip(said.indices.tolist(), said.data.tolist(), strict=True))
            assert all(
                impact == max(1, round(255 * cosines[t - size])) for t, impact in shown.items()
            )


@pytest.mark.parametrize("vectors", ["auto", "yes", "no"])
def test_a_bulk_build_is_the_same_index(speaker, kind, tmp_path, no_flush, vectors):
    source = collection(range(50))
    recipe = Recipe(max_terms=9, engine=kind, vectors=vectors, keep_floats=True)
    for size in (50, 20):
        with Encoded.plan(tmp_path / f"{size}", speaker, source, recipe, part_size=size) as encoded:
            for number in encoded.missing():
                rows = encoded.rows(number)
                encoded.write(number, encode_pictures(speaker, source, rows, recipe=recipe))
            assert encoded.missing() == []
    path = tmp_path / "20"
    names = {file.name for file in (path / "part-000001").iterdir()}
    assert "said.npz" in names and ("vectors.safetensors" in names) == (vectors != "no")
    made = [Index.create(tmp_path / "a.lex", speaker, source, recipe)]
    # The first part fixes the scale, so only a part of all documents gives the index of `create`.
    for size, shards in ((50, 1), (20, 1), (20, 3)):
        target, parts = tmp_path / f"{size}-{shards}.lex", tmp_path / f"{size}"
        made.append(Index.from_encoded(target, parts, speaker, recipe, shards=shards))
    for number in range(12):
        hits = [
            [
                (hit.id, hit.words, round(hit.score, 2))
                for hit in index.search(f"caption {number}", 12)
            ]
            for index in made
        ]
        assert hits[0] == hits[1] and hits[2] == hits[3]
    for index in made:
        assert index.has_vectors == (vectors != "no")
        index.close()
    other = "no" if vectors != "no" else "auto"
    with pytest.raises(LexLIPError, match=f"encoded with vectors={vectors}, not {other}"):
        Index.from_encoded(tmp_path / "x.lex", path, speaker, recipe, vectors=other)


def test_texts_have_vectors_too(speaker, kind, tmp_path, no_flush):
    texts = {f"t{number}": f"caption {number}" for number in range(40)}
    with Index.create(tmp_path / "i.lex", speaker, texts, engine=kind) as index:
        for number in (3, 17):
            hit = index.search(f"caption {number}", 1)[0]
            assert hit.id == f"t{number}" and hit.score > 0.7


def test_what_cannot_be_kept_is_refused_before_anything_is_encoded(speaker, model, tmp_path):
    for asked, source, options, message in (
        (model, {"a": "a red circle"}, {"vectors": "yes"}, "LexLIP has no vectors"),
        (speaker, pictures(range(2)), {"crops": 2}, "codes a picture as a whole"),
        (speaker, pictures(range(2)), {"vectors": "maybe"}, "choose one of auto, yes, no"),
    ):
        with pytest.raises(LexLIPError, match=message) as raised:
            Index.create(tmp_path / "x.lex", asked, source, engine="postings", **options)
        assert "\n" not in str(raised.value) and not list(tmp_path.iterdir())


def test_a_trained_model_has_none_and_is_ordered_by_its_words(model, tmp_path, no_flush):
    source = {"a": "a red circle", "b": "a blue square"}
    with Index.create(tmp_path / "i.lex", model, source, engine="postings") as index:
        assert index.manifest["said"] is None and not index.has_vectors and index.phases == ()
        query = index.prepare("a red circle")
        assert index.ordered_by(query) == "none"
        assert index.search(query, 5) == query.search(index.engine, 5)
        assert index.account("a", query).as_dict() is None
        # All its terms can order as well.
        assert {hit.id for hit in index.search(query, 5, rerank="terms")} <= {"a", "b"}


# --- a real dual encoder: the command line, the server, the bulk job


@pytest.fixture(scope="module")
def checkpoint(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    clip = lexicalise(small_clip(folder / "clip", small_tokenizer()), images, WORDS)
    clip.save_pretrained(folder / "words")
    return folder / "words"


@pytest.fixture(scope="module")
def photo_index(checkpoint, photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("made") / "photos.lex"
    result = CliRunner().invoke(
        app, ["index", str(photos), "-o", str(path), "-m", str(checkpoint), "--engine", "postings"]
    )
    assert result.exit_code == 0, result.output
    return path


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_line_orders_by_vectors(photo_index):
    with Index.open(photo_index) as index:
        hits = index.search("a red dog", 5)
    found = json.loads(run("search", photo_index, "a red dog", "-k", 5, "--json").stdout)
    assert found["ordered_by"] == "vectors"
    assert [(h["id"], h["words"]) for h in found["hits"]] == [(h.id, h.words) for h in hits]
    for shown, hit in zip(found["hits"], hits, strict=True):  # numpy adds up in another order
        assert (shown["score"], shown["fit"]) == pytest.approx((hit.score, hit.fit), rel=1e-4)
    for rerank in ("terms", "none"):
        other = run("search", photo_index, "a red dog", "--json", "--rerank", rerank)
        assert json.loads(other.stdout)["ordered_by"] == rerank
    explained = run("search", photo_index, "a red dog", "--json", "--explain", "-k", 5)
    first = json.loads(explained.stdout)["hits"][0]
    assert sum(first["words"].values()) == first["first_stage"] == hits[0].words
    middle = sorted(hit.fit for hit in hits)[2]
    fitting = run("search", photo_index, "a red dog", "-k", 5, "--min-fit", middle, "--json")
    shown = [hit["fit"] for hit in json.loads(fitting.stdout)["hits"]]
    assert shown and min(shown) >= middle
    table = run("search", photo_index, "a red dog").stdout
    assert "fit" in table and f"{hits[0].score:.4f}" in table and f"{hits[0].fit:.1f}" in table
    wrong = run("search", photo_index, "a red dog", "--rerank", "none", "--min-fit", 1)
    assert wrong.exit_code and "how well a hit fits" in wrong.stderr


def test_the_command_line_explains_both_phases(photo_index):
    with Index.open(photo_index) as index:
        best = index.search("a red dog", 1)[0]
    found = json.loads(run("explain", photo_index, "a red dog", best.id, "--json").stdout)
    assert found["ordered_by"] == "vectors" and found["score"] == best.words
    order = found["order"]
    total = sum(word["score"] for word in order["words"])
    total += order["beyond_words"] + order["constant"]
    assert total == pytest.approx(best.score, abs=1e-6) and order["fit"] == best.fit
    table = run("explain", photo_index, "a red dog", best.id).stdout
    assert "ordered by vectors" in table and "beyond words" in table
    assert f"{best.score:.4f}" in table
    plain = run("explain", photo_index, "a red dog", best.id, "--json", "--rerank", "none").stdout
    assert json.loads(plain)["order"] is None


def test_the_server_orders_by_vectors(photo_index):
    from starlette.testclient import TestClient

    with Index.open(photo_index) as index:
        every = index.search("a red dog", 12, depth=4)
        hits = index.search("a red dog", 5)
        plain = index.search("a red dog", 5, rerank="none")
    served = create_app(photo_index, None, Served())
    with TestClient(served, base_url="http://127.0.0.1") as client:
        found = client.get("/search", params={"q": "a red dog", "k": 5}).json()
        assert found["ordered_by"] == "vectors"
        assert [(h["id"], h["score"], h["first_stage"], h["fit"]) for h in found["hits"]] == [
            tuple(hit) for hit in hits
        ]
        pages = [
            client.post(
                "/search", json={"q": "a red dog", "k": 3, "offset": offset, "depth": 4}
            ).json()["hits"]
            for offset in range(0, 12, 3)
        ]
        assert [hit["id"] for page in pages for hit in page] == [hit.id for hit in every]
        asked = {"q": "a red dog", "k": 5, "rerank": "none"}
        found = client.get("/search", params=asked).json()
        assert found["ordered_by"] == "none"
        assert [(hit["id"], hit["score"]) for hit in found["hits"]] == [tuple(h) for h in plain]
        fit = hits[1].fit
        found = client.get("/search", params={"q": "a red dog", "min_fit": fit}).json()
        assert found["hits"] and all(hit["fit"] >= fit for hit in found["hits"])
        asked = {"q": "a red dog", "image": found["hits"][0]["image"]}
        explained = client.get("/explain", params=asked).json()
        order = explained["order"]
        total = sum(word["score"] for word in order["words"])
        total += order["beyond_words"] + order["constant"]
        assert explained["ordered_by"] == "vectors"
        assert total == pytest.approx(found["hits"][0]["score"], abs=1e-6)
        wrong = client.get("/search", params=asked | {"rerank": "filip"})
        assert wrong.status_code == 400 and "rerank" in wrong.json()["error"]
        assert client.get("/stats").json()["rerankers"] == ["vectors", "terms", "none"]


def test_the_bulk_job_keeps_vectors(checkpoint, photos, photo_index, tmp_path, no_flush):
    settings = Settings(
        engine="postings", data=str(photos), model=str(checkpoint), out=str(tmp_path / "b.lex")
    )
    with build(settings, Data()) as index, Index.open(photo_index) as other:
        assert index.search("a red dog", 20) == other.search("a red dog", 20)


def test_what_measures_words_alone_says_so(photo_index):
    refused = run("tune", photo_index)
    assert refused.exit_code == 2 and refused.stderr.count("\n") == 1
    assert "tune measures words alone" in refused.stderr


def test_bytes_per_document_count_vectors_once(speaker, kind, tmp_path, no_flush):
    sizes = {}
    for vectors in ("auto", "no"):
        recipe = Recipe(engine=kind, vectors=vectors)
        with Index.create(tmp_path / vectors, speaker, collection(range(60)), recipe) as index:
            sizes[vectors] = index.stats()["bytes_per_image"]
    kept = sizes["auto"] - sizes["no"]
    width = speaker.vector_size + 8  # a byte a number, a scale and three marks in two bytes each
    assert width <= kept < width + 60  # headers of files, and ids where vectors are kept by id
