"""Checkpoints as SparseEncoders of sentence-transformers: the same numbers as lexlip's own."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder.evaluation import SparseInformationRetrievalEvaluator

from eval.metrics import recall_at
from lexlip import LexLIP
from lexlip.data.scenes import make_scenes
from lexlip.errors import LexLIPError
from lexlip.impacts import top_terms, unit_normalise
from lexlip.models import load
from lexlip.models.dual import is_dual_encoder
from lexlip.models.dual.files import is_sparse_encoder
from lexlip.models.export import keep_export
from lexlip.models.lexical.lexicalise import lexicalise
from lexlip.models.query_table import QueryTable
from lexlip.models.sentence_files import OWN, SENTENCE_FILES, SETTINGS
from lexlip.models.shipped import SHIPPED, load_shipped
from lexlip.models.speaker import HasVectors
from lexlip.sentence_transformers import LexLIPModule, mteb_model, sparse_encoder
from tests.support.clips import WORDS, small_clip, small_tokenizer
from tests.test_layering import modules_after

TEXTS = [
    "a red circle above two blue squares",
    "",
    "the dark wall " * 12,  # of several windows
    "red red xyzzy red , “blue”",
]
KINDS = ("network", "table", "words", "shipped")


@pytest.fixture(scope="module")
def folders(checkpoint, word_table, images, tmp_path_factory):
    """A checkpoint of each kind."""
    home = tmp_path_factory.mktemp("kinds")
    shutil.copytree(checkpoint, home / "network")
    shutil.copytree(checkpoint, home / "table")
    word_table.save_pretrained(home / "table")
    (home / "table" / OWN).write_text('{"table": true}')
    clip = small_clip(home / "clip", small_tokenizer())
    lexicalise(clip, images, WORDS).save_pretrained(home / "words")
    return {**{kind: home / kind for kind in KINDS}, "shipped": SHIPPED}


class Ours:
    """The same checkpoint without sentence-transformers; rows as its `similarity` sees them."""

    def __init__(self, kind, folder):
        self.model = (
            LexLIP.from_pretrained(folder) if kind in ("network", "table") else load(folder)
        )
        self.texts = self.model
        if kind == "table":
            self.texts = QueryTable.from_pretrained(folder)
        self.kept = isinstance(self.model, HasVectors)

    def rows(self, weights):
        return weights if self.kept else unit_normalise(weights)

    def queries(self, texts):
        return self.rows(self.texts.encode_query(texts))

    def documents(self, items):
        side = self.texts if isinstance(items[0], str) else self.model
        return self.rows(side.encode_document(items))


@pytest.fixture(scope="module", params=KINDS)
def ours(request, folders):
    return Ours(request.param, folders[request.param])


@pytest.fixture(params=["flag", "helper"])
def theirs(request, ours, folders):
    folder = str(ours.model.name_or_path)
    if request.param == "helper":
        return sparse_encoder(folder, device="cpu")
    return SparseEncoder(folder, trust_remote_code=True, device="cpu")


def close(tensor, rows):
    dense = tensor.to_dense() if tensor.is_sparse else tensor
    np.testing.assert_allclose(dense.numpy(), rows.toarray(), atol=1e-6)


def test_numbers_are_those_of_lexlip(ours, theirs, images):
    close(theirs.encode_query(TEXTS), ours.queries(TEXTS))
    close(theirs.encode_document(images), ours.documents(images))
    close(theirs.encode_document(TEXTS), ours.documents(TEXTS))
    close(theirs.encode_document([{"image": one} for one in images]), ours.documents(images))
    close(theirs.encode_query([{"text": one} for one in TEXTS], batch_size=1), ours.queries(TEXTS))
    one = theirs.encode_query(TEXTS[0])
    assert one.shape == (theirs.get_embedding_dimension(),) == (len(ours.model.lexicon.tokens),)
    (alone,) = theirs.encode_document(images[:1], convert_to_tensor=False)
    close(alone[None], ours.documents(images[:1]))


def test_what_is_read_off_them_is_that_of_lexlip(ours, theirs, images):
    queries, pictures = theirs.encode_query(TEXTS), theirs.encode_document(images)
    shown = ours.documents(images)
    own = ours.model.similarity(ours.texts.encode_query(TEXTS), ours.model.encode_document(images))
    np.testing.assert_allclose(theirs.similarity(queries, pictures).numpy(), own, atol=1e-6)
    assert np.ptp(own) > 0.01
    for row, words in enumerate(theirs.decode(pictures)):
        (found,) = ours.model.decode(shown[[row]])
        assert dict(words) == pytest.approx(dict(found), abs=1e-6) and words
        weights = [weight for _, weight in words]
        assert weights == sorted(weights, reverse=True)
    text, picture = map(int, np.unravel_index(own.argmax(), own.shape))
    both = theirs.intersection(queries[text].coalesce(), pictures[picture].coalesce())
    asks = ours.texts.encode_query([TEXTS[text]])
    shows = ours.model.encode_document([images[picture]])
    (shared,) = ours.model.intersection(asks, shows, top_k=999)
    assert dict(theirs.decode(both)) == pytest.approx(dict(shared), abs=1e-6) and shared
    assert sum(dict(shared).values()) == pytest.approx(float(own.max()), abs=1e-5)
    assert theirs.sparsity(pictures) == pytest.approx(ours.model.sparsity(shown), rel=1e-6)


def test_a_folder_needs_the_flag_and_the_helper_does_not(folders):
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        SparseEncoder(str(folders["network"]))
    assert type(sparse_encoder(folders["network"])[0]) is LexLIPModule


@pytest.mark.parametrize("kind", KINDS)
def test_older_checkpoints_open_as_before(kind, folders, tmp_path, images):
    if kind == "shipped":
        pytest.skip("the package has one version of it")
    old = tmp_path / "old"
    shutil.copytree(folders[kind], old)
    for name in SENTENCE_FILES:
        (old / name).unlink()
    assert not is_sparse_encoder(folders[kind]) and not is_dual_encoder(folders[kind])
    model, young = load(old), load(folders[kind])
    assert model.fingerprint == young.fingerprint
    encoder = sparse_encoder(old, table=kind == "table")
    again = sparse_encoder(folders[kind])
    assert torch.equal(encoder.encode_query(TEXTS).to_dense(), again.encode_query(TEXTS).to_dense())
    close(encoder.encode_document(images), Ours(kind, old).documents(images))


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_encoder_opens_in_both(kind, folders, tmp_path, images):
    first = sparse_encoder(folders[kind], max_terms=5)
    first.prompts["query"] = "red "
    first.save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    again = SparseEncoder(str(tmp_path / "saved"), trust_remote_code=True)
    assert again.prompts["query"] == "red " and again[0].max_terms == 5
    for texts in (TEXTS, ["circle"]):
        assert torch.equal(
            first.encode_query(texts).to_dense(), again.encode_query(texts).to_dense()
        )
    assert torch.equal(
        first.encode_document(images).to_dense(), again.encode_document(images).to_dense()
    )
    assert sparse_encoder(tmp_path / "saved").prompts["query"] == "red "
    assert load(tmp_path / "saved").fingerprint == load(folders[kind]).fingerprint
    assert json.loads((tmp_path / "saved" / SETTINGS).read_text())["requirements"]["lexlip"]


def test_a_budget_is_cut_before_the_length_is_one(folders, images):
    model = LexLIP.from_pretrained(folders["network"])
    encoder = sparse_encoder(model, max_terms=4, query_terms=3)
    wanted = unit_normalise(top_terms(model.encode_document(images), 4))
    close(encoder.encode_document(images), wanted)
    close(encoder.encode_query(TEXTS), unit_normalise(top_terms(model.encode_query(TEXTS), 3)))
    table = sparse_encoder(folders["shipped"], query_terms=2).encode_query(TEXTS)
    close(table, unit_normalise(top_terms(load_shipped().encode_query(TEXTS), 2)))


def test_raw_weights_compare_by_cosine(folders, images):
    model = LexLIP.from_pretrained(folders["network"])
    encoder = sparse_encoder(folders["network"], normalise=False)
    close(encoder.encode_query(TEXTS), model.encode_query(TEXTS))
    close(encoder.encode_document(images), model.encode_document(images))
    own = model.similarity(model.encode_query(TEXTS), model.encode_document(images))
    found = encoder.similarity(encoder.encode_query(TEXTS), encoder.encode_document(images))
    assert encoder.similarity_fn_name == "cosine"
    np.testing.assert_allclose(found.numpy(), own, atol=1e-6)


def test_signed_queries_are_all_projections_of_a_dual_encoder(folders, images):
    speaker = load(folders["words"])
    encoder = sparse_encoder(folders["words"], signed=True)
    asked = encoder.encode_query(["a red dog"]).to_dense().numpy()
    (vector,) = speaker.vectors_of(["a red dog"])
    np.testing.assert_allclose(asked[0], speaker.project(vector), atol=1e-6)
    assert asked.min() < 0 and encoder.similarity_fn_name == "dot"
    # Pictures ask as well: each side has its own code.
    seen = encoder.encode_query(images).to_dense().numpy()
    vectors = speaker.vectors_of(images)
    np.testing.assert_allclose(seen, np.stack([*map(speaker.project, vectors)]), atol=1e-6)
    shown = speaker.encode_document(images).toarray()
    scores = encoder.similarity(seen, encoder.encode_document(images)).numpy()
    np.testing.assert_allclose(scores, seen @ shown.T, atol=1e-6)
    assert (scores.argmax(1) == np.arange(len(images))).mean() > 0.7  # each finds itself


def test_the_export_answers_for_the_network(checkpoint, tmp_path, images):
    shutil.copytree(checkpoint, tmp_path / "tiny")
    with pytest.raises(LexLIPError, match="no export"):
        LexLIPModule.load(str(tmp_path / "tiny"), backend="onnx")
    keep_export(LexLIP.from_pretrained(tmp_path / "tiny"), tmp_path / "tiny")
    options = {"trust_remote_code": True, "device": "cpu"}
    network = SparseEncoder(str(tmp_path / "tiny"), **options)
    export = SparseEncoder(str(tmp_path / "tiny"), backend="onnx", **options)
    assert not list(export.parameters()) and list(network.parameters())
    for texts in (TEXTS, images):
        found, wanted = (it.encode_document(texts).to_dense() for it in (export, network))
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-5)


def test_pictures_come_in_many_forms(folders, images, tmp_path):
    encoder = sparse_encoder(folders["network"])
    images[0].save(tmp_path / "a dog.png")
    data = (tmp_path / "a dog.png").read_bytes()
    wanted = encoder.encode_document(images[:1]).to_dense()
    pixels = np.asarray(images[0])
    for item in (
        str(tmp_path / "a dog.png"), tmp_path / "a dog.png", data, {"image": pixels},
        {"image": torch.from_numpy(pixels.copy()).permute(2, 0, 1)},
    ):  # fmt: skip
        assert torch.equal(encoder.encode_document([item]).to_dense(), wanted), type(item)
    text = encoder.encode_query([{"text": str(tmp_path / "a dog.png")}])
    assert not torch.equal(text.to_dense(), wanted)


@pytest.mark.parametrize(
    ("items", "error", "says"),
    [
        (["red", Image.new("RGB", (8, 8))], ValueError, "text"),
        (["https://example.org/a.png"], LexLIPError, "fetches no pictures"),
        ([{"image": "missing.png"}], LexLIPError, "missing.png"),
        ([3], LexLIPError, "int is neither"),
        ([b"no picture"], LexLIPError, "picture"),
    ],
)
def test_what_cannot_be_read_is_said(folders, items, error, says):
    with pytest.raises(error, match=says) as raised:
        sparse_encoder(folders["network"]).encode_document(items)
    assert error is ValueError or "\n" not in str(raised.value)


def test_wrong_settings_are_refused(folders, tmp_path, word_table, make_model):
    with pytest.raises(LexLIPError, match="no setting 'terms': there are max_terms"):
        sparse_encoder(folders["network"], terms=3)
    with pytest.raises(LexLIPError, match="signed=True is for a dual encoder"):
        sparse_encoder(folders["network"], signed=True)
    with pytest.raises(LexLIPError, match="max_terms is 0"):
        sparse_encoder(folders["network"], max_terms=0)
    with pytest.raises(LexLIPError, match="no query table"):
        sparse_encoder(folders["network"], table=True)
    with pytest.raises(LexLIPError, match="another model"):
        sparse_encoder(make_model(seed=1), table=word_table)
    with pytest.raises(LexLIPError, match="no checkpoint"):
        sparse_encoder(tmp_path / "nothing")
    with pytest.raises(LexLIPError, match="lexlip lexicalise"):
        sparse_encoder(folders["words"] / "encoder")
    shutil.copytree(folders["network"], tmp_path / "later")
    (tmp_path / "later" / OWN).write_text('{"shards": 3}')
    with pytest.raises(LexLIPError, match="unknown setting 'shards': update lexlip"):
        sparse_encoder(tmp_path / "later")
    (tmp_path / "later" / OWN).write_text("[1")
    with pytest.raises(LexLIPError, match="not valid JSON"):
        sparse_encoder(tmp_path / "later")
    (tmp_path / "later" / OWN).unlink()
    for content in ("[]", '{"prompts": 3}'):
        (tmp_path / "later" / SETTINGS).write_text(content)
        with pytest.raises(LexLIPError, match="is corrupted"):
            sparse_encoder(tmp_path / "later")


def test_precision_is_chosen_as_in_the_library(folders, images):
    encoder = SparseEncoder(
        str(folders["network"]), trust_remote_code=True, device="cpu",
        model_kwargs={"dtype": torch.bfloat16},
    )  # fmt: skip
    assert encoder.dtype == torch.bfloat16
    for items in (TEXTS, images):
        half = encoder.encode_document(items).to_dense()
        whole = sparse_encoder(folders["network"]).encode_document(items).to_dense()
        assert half.dtype == torch.float32
        np.testing.assert_allclose(half.numpy(), whole.numpy(), atol=0.1)


def test_texts_alone_are_enough(word_table):
    encoder = sparse_encoder(word_table)
    assert encoder.modalities == ["text"]
    close(encoder.encode_query(TEXTS), unit_normalise(word_table.encode_query(TEXTS)))
    with pytest.raises(ValueError, match="image"):
        encoder.encode_document([Image.new("RGB", (8, 8))])


def test_the_librarys_trainer_trains_the_network(make_model, images, tmp_path):
    from datasets import Dataset
    from sentence_transformers import SparseEncoderTrainer, SparseEncoderTrainingArguments
    from sentence_transformers.sparse_encoder.losses import (
        SparseMultipleNegativesRankingLoss,
        SpladeLoss,
    )

    encoder = sparse_encoder(make_model(), device="cpu")
    captions = ["a red circle above two blue squares", "the dark wall " * 12]  # one, and windows
    pairs = Dataset.from_dict({"caption": captions * 8, "picture": images[:2] * 8})
    before = encoder.similarity(encoder.encode_query(captions), encoder.encode_document(images[:2]))
    options = SparseEncoderTrainingArguments(
        str(tmp_path), num_train_epochs=6, per_device_train_batch_size=2, learning_rate=0.003,
        batch_sampler="no_duplicates", report_to="none", save_strategy="no", disable_tqdm=True,
        use_cpu=True,
    )  # fmt: skip
    loss = SpladeLoss(
        encoder, SparseMultipleNegativesRankingLoss(encoder), document_regularizer_weight=1e-3
    )
    SparseEncoderTrainer(encoder, options, train_dataset=pairs, loss=loss).train()
    after = encoder.similarity(encoder.encode_query(captions), encoder.encode_document(images[:2]))

    def margin(scores):
        return (scores.diag() - scores.fliplr().diag()).mean()

    assert margin(after) > margin(before) + 0.05
    encoder.save_pretrained(str(tmp_path / "trained"))
    assert load(tmp_path / "trained").fingerprint == encoder[0].model.fingerprint


@pytest.mark.parametrize("signed", [False, True])
def test_the_librarys_evaluator_gives_our_recall(signed, folders):
    scenes = make_scenes(60, 5)
    pictures = {scene.id: scene.draw() for scene in scenes}
    captions = {f"{s.id}#{n}": c.text for s in scenes for n, c in enumerate(s.captions)}
    judged = {query: {query.rpartition("#")[0]} for query in captions}
    model = load(folders["words"]) if signed else load_shipped()
    encoder = sparse_encoder(model, **({"signed": True} if signed else {}))
    evaluator = SparseInformationRetrievalEvaluator(captions, pictures, judged, write_csv=False)
    found = evaluator(encoder)
    asked = model.ask([*captions.values()], count=None) if signed else model.encode_query(
        [*captions.values()])  # fmt: skip
    scores = model.similarity(asked, model.encode_document([*pictures.values()]))
    order, names = np.argsort(-scores, axis=1, kind="stable"), list(pictures)
    run = {
        query: [(names[at], 0.0) for at in row] for query, row in zip(captions, order, strict=True)
    }
    ours = recall_at(run, judged)
    for k in (1, 5, 10):  # a caption has one picture here, so recall is accuracy
        assert found[f"dot_recall@{k}"] == found[f"dot_accuracy@{k}"] == ours[f"R@{k}"]
    assert signed or ours["R@1"] > 0.9


def test_a_missing_mteb_is_said_in_a_line(monkeypatch):
    for name in ("mteb", "mteb.models"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(LexLIPError, match="^mteb is missing: pip install mteb$"):
        mteb_model(SHIPPED)


def test_the_library_is_not_loaded_by_the_way():
    loaded = modules_after("import lexlip.sentence_transformers")
    assert not loaded & {"torch", "transformers", "sentence_transformers", "mteb"}
