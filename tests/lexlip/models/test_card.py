"""What a checkpoint says about itself, and what is uploaded of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi, ModelCard

from lexlip.models.card import model_card
from lexlip.models.dense_control import DenseDualEncoder
from lexlip.models.lexlip import LexLIP
from lexlip.storage.files import write_json
from tests.support.cone_speaker import cone_speaker

RECORD = {
    "step": 12,
    "steps": 12,
    "seconds": 34.5,
    "dev": {"t2i_R@1": 0.25, "grounded_p10": 0.5},
    "settings": {
        "name": "small",
        "seed": 3,
        "precision": "no",
        "data": {
            "source": "flickr8k", "train": "train", "dev": "dev",
            "texts": ["$LEXLIP_DATA/captions/more.txt"],
        },
        "model": {
            "vision": {"name": "owner/vit", "use_mean_pooling": False},
            "text": "package:some_words/model",
        },
    },
}  # fmt: skip


@pytest.fixture
def known(make_model):
    model = make_model()
    model.record = RECORD
    return model


def test_a_card_says_what_training_noted(known):
    card = model_card(known)
    assert card.data.base_model == ["owner/vit"]
    assert card.data.base_model_relation == "finetune"
    for fact in (
        "# LexLIP, small",
        "flickr8k, split `train`",
        "12 of 12 steps",
        "seed 3",
        "| t2i_R@1 | 0.25 |",
        "more.txt",
        "non-commercial research only",
        "began as owner/vit",
        "some_words/model",
        f"{known.config.lexicon_size} words",
    ):
        assert fact in card.text, fact
    assert "LEXLIP_DATA" not in card.text


def test_a_card_without_a_record_claims_nothing(make_model):
    for kind, use in ((LexLIP, "from lexlip import Index, LexLIP"), (DenseDualEncoder, "dense")):
        card = model_card(make_model(kind=kind))
        assert "Nothing is known of its training" in card.text
        assert use in card.text and kind.__name__ in card.text
        assert "Measured" not in card.text and "began as: not known" in card.text


def test_the_hub_lists_models_with_words_among_its_sparse_encoders(known, make_model):
    speaker, _ = cone_speaker(30, 20)
    speaker.facts["encoder_name"] = "owner/clip"
    for card in (model_card(known), speaker.card("me/words")):
        # https://huggingface.co/models?library=sentence-transformers&other=sparse-encoder
        assert card.data.library_name == "sentence-transformers"
        assert {"sparse-encoder", "image-text-retrieval", "lexlip"} <= set(card.data.tags)
        assert card.data.pipeline_tag == "feature-extraction"
        first, second = (
            card.text.index(f"With {it}:") for it in ("sentence-transformers", "lexlip")
        )
        assert first < card.text.index("trust_remote_code=True") < second
    assert card.data.base_model == "owner/clip" and card.data.base_model_relation == "adapter"
    assert 'SparseEncoder("me/words"' in card.text and 'load("me/words")' in card.text
    known.record = {**RECORD, "settings": {**RECORD["settings"], "data": {
        **RECORD["settings"]["data"], "source": "owner/pictures"}}}  # fmt: skip
    assert model_card(known).data.datasets == ["owner/pictures"]
    dense = model_card(make_model(kind=DenseDualEncoder))
    assert dense.data.library_name == "lexlip" and "sparse-encoder" not in dense.data.tags
    assert "SparseEncoder" not in dense.text


@pytest.mark.parametrize("source", ["/home/someone/holiday", "~/holiday", "../photos/holiday"])
def test_a_card_names_no_folder_of_this_machine(known, source):
    known.record = {**RECORD, "settings": {**RECORD["settings"], "data": {
        "source": source, "train": "train", "dev": "dev"}}}  # fmt: skip
    text = model_card(known).text
    assert "holiday" in text and source not in text
    assert "The licence of holiday is not known" in text


@pytest.mark.parametrize("kind", [LexLIP, DenseDualEncoder])
def test_a_card_is_saved_with_the_model_and_outlives_loading(make_model, kind, tmp_path):
    model = make_model(kind=kind)
    model.record = RECORD
    model.save_pretrained(tmp_path / "a")
    first = ModelCard.load(tmp_path / "a" / "README.md")
    assert "12 of 12 steps" in first.text and kind.__name__ in first.text
    write_json(tmp_path / "a" / "manifest.json", RECORD)  # as a checkpoint of training has it
    again = kind.from_pretrained(tmp_path / "a")
    again.save_pretrained(tmp_path / "b")
    assert (tmp_path / "b" / "README.md").read_text() == first.content


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The hub's side: what it was asked to make, and a copy of what was uploaded."""
    calls: dict = {"files": {}}

    def create_repo(self, repo_id, **options):
        calls["repo"] = (repo_id, options, self.token)
        return SimpleNamespace(repo_id=f"me/{repo_id}")

    def upload_folder(self, *, repo_id, folder_path, **options):
        for file in Path(folder_path).rglob("*"):
            if file.is_file():
                calls["files"][file.relative_to(folder_path).as_posix()] = file.read_bytes()
        calls["upload"] = (repo_id, options)
        return "commit"

    def create_branch(self, repo_id, *, branch, exist_ok):
        calls["branch"] = (repo_id, branch)

    for call in (create_repo, upload_folder, create_branch):
        monkeypatch.setattr(HfApi, call.__name__, call)
    return calls


def test_what_is_uploaded_is_a_model_that_loads_and_nothing_else(known, hub, tmp_path):
    assert known.push_to_hub("small", private=True, token="secret", revision="v1") == "commit"
    assert hub["repo"] == ("small", {"private": True, "exist_ok": True}, "secret")
    assert hub["branch"] == ("me/small", "v1")
    repo, options = hub["upload"]
    assert repo == "me/small" and options["commit_message"] == "Upload LexLIP"
    assert set(hub["files"]) == {
        "README.md", "config.json", "config_sentence_transformers.json", "lexlip_config.json",
        "model.safetensors", "modules.json", "preprocessor_config.json",
        "sentence_bert_config.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert b'LexLIP.from_pretrained("me/small")' in hub["files"]["README.md"]
    for name, content in hub["files"].items():
        (tmp_path / name).write_bytes(content)
    assert LexLIP.from_pretrained(tmp_path).fingerprint == known.fingerprint


def test_saving_never_uploads_by_the_way(known, hub, tmp_path):
    with pytest.raises(ValueError, match=r"push_to_hub\(repo_id\)"):
        known.save_pretrained(tmp_path / "model", push_to_hub=True)
    assert not hub["files"] and not (tmp_path / "model").exists()
