"""A dual encoder in words: its checkpoint, its queries, and an index that it speaks for."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lexlip import Index, Query
from lexlip.cli import app
from lexlip.errors import LexLIPError
from lexlip.measure.systems import DenseVectors
from lexlip.models import load
from lexlip.models.dual import open_dual_encoder
from lexlip.models.lexical.lexicalise import lexicalise
from lexlip.models.lexical.speaker import LexicalSpeaker
from lexlip.models.lexical.words import asked_texts, everyday_words
from lexlip.models.lexlip import LexLIP
from lexlip.models.speaker import (
    EncodesImages,
    HasVectors,
    HasViews,
    require_views,
    said_term,
)
from lexlip.models.word_tokenizer import lexicon_tokenizer
from lexlip.storage.files import read_json, write_json
from tests.support.clips import WORDS, small_clip, small_tokenizer


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory) -> Path:
    return small_clip(tmp_path_factory.mktemp("clip"), small_tokenizer())


@pytest.fixture(scope="module")
def speaker(clip_folder, images) -> LexicalSpeaker:
    return lexicalise(clip_folder, images, WORDS)


@pytest.fixture(scope="module")
def saved(speaker, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("words") / "ckpt"
    speaker.save_pretrained(folder)
    return folder


def test_its_vectors_are_the_encoders_own(speaker, clip_folder, images):
    encoder = open_dual_encoder(clip_folder)
    assert (speaker.embed_image(images) == encoder.embed_image(images)).all()
    assert (speaker.embed_text(["red dog"]) == encoder.embed_text(["red dog"])).all()
    centred = encoder.embed_image(images) - speaker.code.image_mean
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    assert speaker.vectors_of(images) == pytest.approx(centred, abs=1e-6)
    with pytest.raises(ValueError, match="not both"):
        speaker.vectors_of(["red", images[0]])


def test_documents_are_words_to_find_words_to_show_and_vectors(speaker, images):
    found = speaker.represent(images, max_terms=3)
    size = len(speaker.lexicon.tokens)
    assert found.weights.shape == found.said.shape == (12, size)
    assert np.diff(found.weights.indptr).max() <= 3 and found.weights.data.min() > 0
    sums = found.weights[:, speaker.lexicon.ids] @ speaker.code.decoder
    assert np.linalg.norm(sums, axis=1) == pytest.approx(1, abs=1e-4)
    assert found.vectors.width == speaker.vector_size == 8
    assert (speaker.encode_image(images) != speaker.represent(images).weights).nnz == 0
    shown = speaker.words_of(images[0])
    cosines = speaker.vectors_of(images[:1]) @ speaker.code.atoms.T
    for word, cosine in shown:
        assert cosine == pytest.approx(cosines[0][list(WORDS).index(word)], abs=1e-6)
    assert [c for _, c in shown] == sorted((c for _, c in shown), reverse=True)
    empty = speaker.represent([], max_terms=3)
    assert empty.weights.shape == (0, size) and len(empty.vectors) == 0


def test_a_text_is_its_projections(speaker):
    (vector,) = speaker.vectors_of(["a red dog"])
    projections = speaker.project(vector)
    assert projections.shape == (len(speaker.lexicon.tokens),) and (projections < 0).any()
    asked = speaker.encode_text(["a red dog", " "])
    assert asked[[1]].nnz == 0 and asked[[0]].nnz == (projections > 0).sum()
    assert asked.toarray()[0] == pytest.approx(np.maximum(projections, 0), abs=1e-6)
    prepared = Query.text("a red dog").prepare(speaker)
    assert prepared.exact == pytest.approx(
        {int(t): float(projections[t]) for t in np.flatnonzero(projections)}
    )
    assert set(prepared.terms) <= {t for t, p in prepared.exact.items() if p > 0}
    assert max(prepared.terms.values()) == 64 and prepared.vector == pytest.approx(vector)
    assert prepared.picture_scores == speaker.picture_scores(vector)


def test_sums_are_of_vectors_each_centred_by_its_own_mean(speaker, images):
    query = Query.text("a red dog") + 2 * Query.image(images[0]) - 0.5 * Query.text("night")
    texts, pictures = speaker.vectors_of(["a red dog", "night"]), speaker.vectors_of(images[:1])
    total = texts[0] + 2 * pictures[0] - 0.5 * texts[1]
    found = query.prepare(speaker)
    assert found.vector == pytest.approx(total / np.linalg.norm(total), abs=1e-5)
    words = Query.from_words({"red": 3, "night": -1}).prepare(speaker)
    numbers = speaker.lexicon.numbers
    assert words.exact[numbers["red"]] > 0 > words.exact[numbers["night"]]
    nothing = (Query.text("dog") - Query.text("dog")).prepare(speaker)
    assert not nothing.terms and not nothing.vector.any()


def test_a_boost_multiplies_the_projection_on_its_word(speaker):
    red = speaker.lexicon.numbers["red"]
    plain, more = (
        Query.text("a red dog").boost("red", factor).prepare(speaker) for factor in (1, 3)
    )
    before, after = plain.exact[red], more.exact[red]
    assert abs(after) > abs(before) and np.sign(after) == np.sign(before)


def test_conditions_ask_what_is_said_of_a_picture(speaker):
    query = Query.text("dog").must("red").exclude("night", at_least=40).prepare(speaker)
    red, night = (said_term(speaker.lexicon, speaker.lexicon.numbers[w]) for w in ("red", "night"))
    assert [condition.terms for condition in query.conditions] == [(red,), (night,)]
    with pytest.raises(LexLIPError, match="not in the model's lexicon"):
        Query.text("dog").must("zebra").prepare(speaker)


def test_a_checkpoint_stands_alone(speaker, saved, images):
    again = load(saved)
    assert type(again) is LexicalSpeaker and again.fingerprint == speaker.fingerprint
    ours, theirs = again.encode_image(images), speaker.encode_image(images)
    np.testing.assert_allclose(ours.toarray(), theirs.toarray(), atol=1e-4)  # of graphs
    words = [dict(model.words_of("red dog")) for model in (again, speaker)]
    assert words[0] == pytest.approx(words[1], abs=1e-5)
    card, config = ((saved / name).read_text() for name in ("README.md", "config.json"))
    assert "A dual encoder in words" in card
    assert str(saved.parents[1]) not in card + config  # no folder of this machine
    assert isinstance(again, EncodesImages | HasVectors) and not isinstance(again, HasViews)
    with pytest.raises(LexLIPError, match="LexicalSpeaker has no heads"):
        require_views(again)


def test_another_encoder_in_its_place_is_refused(saved, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(saved, copy)
    shutil.rmtree(copy / "encoder")
    other = small_clip(copy / "encoder", small_tokenizer())
    weights = (other / "model.safetensors").read_bytes()
    (other / "model.safetensors").write_bytes(weights[:-4] + b"\0\0\0\x3f")
    with pytest.raises(LexLIPError, match="corrupted: its checksum differs"):
        load(copy).words_of("red dog")
    facts = read_json(copy / "config.json")
    write_json(copy / "config.json", {**facts, "files": {}})  # as an older lexlip wrote it
    with pytest.raises(LexLIPError, match="another encoder"):
        load(copy).words_of("red dog")


@pytest.mark.parametrize("damage", ["gone", "cut", "format", "words"])
def test_a_corrupted_checkpoint_is_one_line(saved, tmp_path, damage):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(saved, copy)
    file, config = copy / "words.safetensors", copy / "config.json"
    facts = json.loads(config.read_text())
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "format":
        config.write_text(json.dumps(facts | {"format": "lexlip-words/99"}))
    else:
        config.write_text(json.dumps(facts | {"words": facts["words"][:-1]}))
    with pytest.raises(LexLIPError) as caught:
        load(copy)
    assert "\n" not in str(caught.value)


def test_other_checkpoints_are_what_they_were(checkpoint, model, clip_folder, tmp_path):
    loaded = load(checkpoint)
    assert type(loaded) is LexLIP and loaded.fingerprint == model.fingerprint
    with pytest.raises(LexLIPError, match="no checkpoint"):
        load(tmp_path)
    with pytest.raises(LexLIPError, match=f"lexlip lexicalise PICTURES --clip {clip_folder}"):
        load(clip_folder)


def test_an_old_checkpoint_names_the_command_that_renews_it(images):
    old = Path(__file__).parents[3] / "fixtures" / "before_packages" / "clip"
    with pytest.raises(LexLIPError, match=f"renew it with lexlip lexicalise PICTURES --clip {old}"):
        load(old)


def test_from_the_command_line_to_an_explained_hit(clip_folder, photos, tmp_path):
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    runner = CliRunner()
    done = runner.invoke(
        app,
        ["lexicalise", str(photos), "--clip", str(clip_folder), "-o", str(tmp_path / "ckpt"),
         "--words", str(tmp_path / "words.txt")],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "8 words, fitted to 12 pictures and" in done.stdout
    assert "12 pictures are few" in done.stderr and "1 pictures were skipped" in done.stderr
    again = load(tmp_path / "ckpt")
    with Index.create(tmp_path / "photos.lex", again, photos, engine="postings") as index:
        assert len(index) == 12 and len(index.skipped) == 1
    with Index.open(tmp_path / "photos.lex") as index:  # finds the checkpoint by itself
        hits = index.search("red dog", k=3)
        assert hits and type(index.model) is LexicalSpeaker
        pictures = [photos / f"{i:02}.png" for i in range(12)]
        cosines = again.vectors_of(pictures) @ again.vectors_of(["red dog"])[0]
        assert int(hits[0].id[:2]) in np.argsort(-cosines)[:3]


def test_its_encoder_can_be_compared_with(speaker, saved, photos, tmp_path):
    with Index.create(tmp_path / "i.lex", speaker, photos, engine="postings") as index:
        assert DenseVectors.create(index, saved)[0] == 12
        dense = DenseVectors(tmp_path / "i.lex")
        hits = dense.best(dense.scores("red dog"), 12, index.engine.fetch)
    (asked,) = speaker.embed_text(["red dog"])
    cosines = {
        path.name: float(speaker.embed_image([path])[0] @ asked) for path in photos.glob("[01]*")
    }
    assert dict(hits) == pytest.approx(cosines, abs=1e-5)


def test_mistakes_are_one_line(clip_folder, images, photos, tmp_path):
    with pytest.raises(LexLIPError, match="no dual encoder at"):
        lexicalise(tmp_path, images, WORDS)
    with pytest.raises(LexLIPError, match="no picture"):
        lexicalise(clip_folder, [], WORDS)
    with pytest.raises(LexLIPError, match="no word to speak with"):
        lexicalise(clip_folder, images, ["", " "])
    with pytest.raises(LexLIPError, match="no word frequencies for language 'xx'"):
        lexicalise(clip_folder, images, languages=["xx"])
    arguments = ["lexicalise", str(photos), "--clip", str(clip_folder), "-o", str(tmp_path / "x")]
    bad = CliRunner().invoke(app, [*arguments, "--words", str(tmp_path / "none.txt")])
    assert bad.exit_code == 2 and "give a text file" in bad.stderr
    assert not (tmp_path / "x").exists()


def test_names_of_several_words_are_words(clip_folder, images):
    speaker = lexicalise(clip_folder, images, ["Alarm  Clock", "red", "straße", "狗"])
    assert set(speaker.lexicon.numbers) == {"alarm clock", "red", "straße", "狗"}
    query = Query.text("x").must("alarm clock").must("狗").must("Straße").prepare(speaker)
    wanted = ("alarm clock", "狗", "straße")
    assert [c.terms for c in query.conditions] == [
        (said_term(speaker.lexicon, speaker.lexicon.numbers[word]),) for word in wanted
    ]


@pytest.mark.parametrize(
    ("language", "known"), [("en", "running"), ("de", "fenster"), ("zh", "图")]
)
def test_lexicons_are_whole_everyday_words(language, known):
    words = everyday_words([language], 3000)
    assert len(set(words)) == len(words) == 3000 and known in words
    assert not {"ments", "bber", "the", "und"} & set(words)


def test_banks_are_many_different_texts():
    texts = asked_texts(["en"])
    assert len(set(texts)) == len(texts) >= 300
    assert len(set(asked_texts(["zh"]))) >= 100
    words = {word for text in texts for word in text.split()}
    assert len(words) > 800 and {"two", "seven", "red", "jumps", "mountain"} <= words


@pytest.mark.parametrize("language", ["de", "fr", "cs"])
def test_lexicons_of_other_languages_have_the_words_of_captions(language, clip_folder, images):
    """Captions in German, French and Czech, where they are at hand, through the whole path."""
    source = Path(os.environ.get("LEXLIP_DATA", "../shared/data")) / "multilingual"
    if not source.is_dir():
        pytest.skip("no multilingual captions in LEXLIP_DATA")
    (file,) = source.glob("*.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    captions = [text for row in rows for text in _texts(row[language])]
    words = everyday_words([language], 6000)
    tokenizer = lexicon_tokenizer(words)
    found = [token for text in captions[:1000] for token in tokenizer.encode(text).tokens]
    known = sum(token != "[UNK]" for token in found) / len(found)
    print(language, len(captions), f"{known:.2f} of all tokens")
    assert known > 0.3  # the function words of a language are left out, and most tokens are such
    speaker = lexicalise(clip_folder, images, words[:200], captions[:50], languages=[language])
    assert speaker.facts["languages"] == [language] and speaker.facts["texts"] == 50
    assert Query.text(captions[0]).prepare(speaker).terms


def _texts(found):
    return [found] if isinstance(found, str) else list(found)


def test_pictures_and_their_vectors_give_the_same_words(speaker, clip_folder, images):
    vectors = open_dual_encoder(clip_folder).embed_image(images)
    assert lexicalise(clip_folder, vectors, WORDS).fingerprint == speaker.fingerprint
    with pytest.raises(LexLIPError, match="no picture"):
        lexicalise(clip_folder, vectors[:0], WORDS)
