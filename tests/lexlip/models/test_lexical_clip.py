"""A CLIP with a lexicon: its words, its checkpoint, and an index that it speaks for."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from typer.testing import CliRunner

from lexlip import Index, Query
from lexlip.cli import app
from lexlip.compare.systems import DenseVectors
from lexlip.errors import LexLIPError
from lexlip.explain.explanation import explain
from lexlip.models import load
from lexlip.models.lexical_clip import LexicalCLIP, clip_words, lexicalise
from lexlip.models.lexlip import LexLIP
from lexlip.models.speaker import HasViews, Localises, require_places, require_views
from tests.support.clips import WORDS, small_clip, small_tokenizer


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory) -> Path:
    return small_clip(tmp_path_factory.mktemp("clip"), small_tokenizer())


@pytest.fixture(scope="module")
def speaker(clip_folder, images) -> LexicalCLIP:
    return lexicalise(clip_folder, images, WORDS)


def test_words_are_the_nearest_not_negative_sum(speaker, images):
    """The residual of sparse coding leaves no word that would help: the conditions of Karush,
    Kuhn and Tucker."""
    vectors = speaker.embed_image(images) - speaker.head.image_mean.numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    weights = speaker.encode_image(images)
    assert weights.shape == (12, len(speaker.lexicon.tokens)) and weights.dtype == np.float32
    compact = weights[:, speaker.lexicon.ids].toarray()
    words = speaker.head.words.detach().numpy()
    gain = (vectors - compact @ words) @ words.T - speaker.head.penalty
    assert gain.max() < 5e-3
    assert np.abs(gain[compact > 0]).max() < 5e-3
    assert compact.min() >= 0 and (compact > 0).any(1).all()


def test_embeddings_are_those_of_clip(speaker, clip_folder, images):
    clip = transformers.CLIPModel.from_pretrained(clip_folder).eval()
    tokens = small_tokenizer()(["red dog"], return_tensors="pt")
    squares = [image.resize((16, 16), Image.Resampling.BICUBIC) for image in images[:2]]
    mean, std = (
        np.array([0.48145466, 0.4578275, 0.40821073]),
        np.array([0.26862954, 0.26130258, 0.27577711]),
    )
    pixels = np.stack([(np.asarray(s) / 255 - mean) / std for s in squares]).transpose(0, 3, 1, 2)
    with torch.no_grad():
        output = clip(input_ids=tokens["input_ids"], pixel_values=torch.tensor(pixels).float())
    assert speaker.embed_text(["red dog"]) == pytest.approx(output.text_embeds.numpy(), abs=1e-5)
    assert speaker.embed_image(images[:2]) == pytest.approx(output.image_embeds.numpy(), abs=1e-3)


def test_texts_do_not_depend_on_their_neighbours(speaker):
    texts = ["a red dog", "", "the dog and the red star at night are running"]
    together = speaker.encode_text(texts).toarray()
    alone = np.concatenate([speaker.encode_text([text]).toarray() for text in texts])
    assert together == pytest.approx(alone, abs=1e-4)
    assert not together[1].any() and together[0].any()
    assert speaker.encode_text([]).shape == (0, together.shape[1])


def test_its_clip_can_be_compared_with(speaker, photos, tmp_path):
    speaker.save_pretrained(tmp_path / "ckpt")
    with Index.create(tmp_path / "i.lex", speaker, photos, engine="postings") as index:
        assert DenseVectors.create(index, tmp_path / "ckpt")[0] == 12
        dense = DenseVectors(tmp_path / "i.lex")
        hits = dense.best(dense.scores("red dog"), 12, index.engine.fetch)
    (asked,) = speaker.embed_text(["red dog"])
    cosines = {
        path.name: float(speaker.embed_image([path])[0] @ asked) for path in photos.glob("[01]*")
    }
    assert dict(hits) == pytest.approx(cosines, abs=1e-5)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_checkpoint_stands_alone(speaker, images, tmp_path):
    speaker.save_pretrained(tmp_path / "ckpt")
    again = load(tmp_path / "ckpt")
    assert type(again) is LexicalCLIP and again.fingerprint == speaker.fingerprint
    assert (again.encode_image(images) - speaker.encode_image(images)).nnz == 0
    for mine, its in zip(speaker.words_of("red dog"), again.words_of("red dog"), strict=True):
        assert mine[0] == its[0] and mine[1] == pytest.approx(its[1], rel=1e-4)
    (tmp_path / "ckpt" / "clip" / "tokenizer.json").unlink()
    (tmp_path / "ckpt" / "clip" / "tokenizer_config.json").unlink()
    with pytest.raises(LexLIPError, match="tokenizer is missing"):
        load(tmp_path / "ckpt")


def test_other_checkpoints_are_what_they_were(checkpoint, model, tmp_path):
    loaded = load(checkpoint)
    assert type(loaded) is LexLIP and loaded.fingerprint == model.fingerprint
    with pytest.raises(LexLIPError, match="no checkpoint"):
        load(tmp_path)


def test_from_the_command_line_to_an_explained_hit(clip_folder, photos, tmp_path):
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    runner = CliRunner()
    done = runner.invoke(
        app,
        ["lexicalise", str(photos), "--clip", str(clip_folder), "-o", str(tmp_path / "ckpt"),
         "--words", str(tmp_path / "words.txt")],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "8 words, means of 12 pictures" in done.stdout
    again = load(tmp_path / "ckpt")
    with Index.create(tmp_path / "photos.lex", again, photos, engine="postings") as index:
        weights = again.encode_image([photos / f"{i:02}.png" for i in range(12)])
        assert len(index) == 12 and len(index.skipped) == 1
    with Index.open(tmp_path / "photos.lex") as index:  # finds the checkpoint by itself
        hits = index.search("red dog", k=3)
        assert hits and type(index.model) is LexicalCLIP
        scores = again.similarity(again.encode_text(["red dog"]), weights)[0]
        assert int(hits[0].id[:2]) in np.argsort(-scores)[:2]
        reasons = index.explain(hits[0].id, "red dog")
        assert sum(r.score for r in reasons) == hits[0].score
        found = explain(index, hits[0].id, Query.text("red dog"), photos / hits[0].id)
        assert found.score == hits[0].score and found.patches is None and not found.texts
        with pytest.raises(LexLIPError, match="its words have no place"):
            explain(index, hits[0].id, Query.text("red dog"), photos / hits[0].id, pixels=True)
        with pytest.raises(LexLIPError, match="not in the model's lexicon"):
            index.search(Query.text("dog").must("zebra"))
    assert not isinstance(again, Localises | HasViews | LexLIP)
    for require, complaint in ((require_places, "have no place"), (require_views, "no heads")):
        with pytest.raises(LexLIPError, match=f"LexicalCLIP .*{complaint}"):
            require(again)
    asked = ["explain", str(tmp_path / "photos.lex"), "red dog", hits[0].id]
    shown = runner.invoke(app, [*asked, "-o", str(tmp_path / "why.png")])
    assert shown.exit_code == 0 and "no patches to draw" in shown.stderr
    assert str(hits[0].score) in shown.stdout and not (tmp_path / "why.png").exists()


def test_mistakes_are_one_line(clip_folder, images, photos, tmp_path):
    with pytest.raises(LexLIPError, match="no CLIP at"):
        lexicalise(tmp_path, images, WORDS)
    with pytest.raises(LexLIPError, match="no picture"):
        lexicalise(clip_folder, [], WORDS)
    with pytest.raises(LexLIPError, match="no word to speak with"):
        lexicalise(clip_folder, images, ["a", " "])
    arguments = ["lexicalise", str(photos), "--clip", str(clip_folder), "-o", str(tmp_path / "x")]
    bad = CliRunner().invoke(app, [*arguments, "--words", str(tmp_path / "none.txt")])
    assert bad.exit_code == 2 and "give a text file" in bad.stderr
    assert not (tmp_path / "x").exists()


def test_words_of_a_tokenizer_come_by_frequency():
    assert clip_words(small_tokenizer(), 5) == ["dog", "red"]  # not "the"
    assert clip_words(small_tokenizer(), 1) == ["dog"]
    bert = transformers.BertTokenizer(vocab={"[PAD]": 0, "[UNK]": 1, "dog": 2})
    with pytest.raises(LexLIPError, match="--words"):
        clip_words(bert, 5)


def test_the_real_tokenizer_has_thousands_of_words():
    source = Path(os.environ.get("LEXLIP_WEIGHTS", "../shared/weights")) / "clip-tokenizer"
    if not source.is_dir():
        pytest.skip("no clip-tokenizer in LEXLIP_WEIGHTS")
    words = clip_words(transformers.AutoTokenizer.from_pretrained(source), 8000)
    assert len(set(words)) == 8000 and {"dog", "beach", "running", "red"} <= set(words)
