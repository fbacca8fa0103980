"""lexlip, sentence-transformers and mteb judge the same checkpoint alike."""

from __future__ import annotations

import json
from importlib.util import find_spec

import numpy as np
import pytest

from eval.studies import agreement
from lexlip import LexLIP
from lexlip.data.scenes import make_scenes
from lexlip.models.sentence_files import MODALITIES, MODULES, SETTINGS
from lexlip.models.shipped import SHIPPED
from lexlip.sentence_transformers import mteb_model, sparse_encoder

# Importing it makes a folder, which the tests have elsewhere (tests/conftest.py).
pytestmark = pytest.mark.skipif(find_spec("mteb") is None, reason="pip install mteb")


@pytest.fixture(scope="module")
def pairs():
    return agreement.Pairs(make_scenes(40, 9))


@pytest.mark.parametrize("kind", ["shipped", "network"])
def test_three_libraries_find_the_same(kind, checkpoint, pairs):
    found = agreement.judged(str(SHIPPED if kind == "shipped" else checkpoint), pairs)
    own = found["lexlip, products"]
    assert own.scores.shape == (len(pairs.captions), 40) and np.ptp(own.scores) > 0.01
    for name in ("sentence-transformers", "mteb"):
        np.testing.assert_allclose(found[name].scores, own.scores, atol=1e-6, err_msg=name)
        # mteb rounds to five digits.
        assert found[name].metrics == pytest.approx(own.metrics, abs=1e-5), name
    index = found["lexlip, index"].metrics
    assert index == pytest.approx(own.metrics, abs=0.03)
    if kind == "shipped":
        assert own.metrics["R@1"] > 0.9
    else:  # weights are random: nothing is perfect by accident
        assert 0 < own.metrics["R@10"] < 0.9


def test_the_table_has_a_row_each(capsys):
    agreement.main(["scenes=12", "seed=3"])
    rows = capsys.readouterr().out.splitlines()
    assert [row.split("  R@1")[0].strip() for row in rows] == [
        "lexlip, products", "lexlip, index", "sentence-transformers", "mteb"
    ]  # fmt: skip
    assert all("nDCG@10" in row for row in rows)


def test_mteb_takes_a_bare_sparse_encoder_for_one_of_texts(pairs):
    import mteb
    from mteb.models import SparseEncoderWrapper

    bare = SparseEncoderWrapper(sparse_encoder(SHIPPED))
    with pytest.raises(ValueError, match="none overlap|partially"):
        mteb.evaluate(bare, agreement.task_of(pairs), cache=None, show_progress_bar=False)
    facts = mteb_model(SHIPPED).mteb_model_meta
    assert facts.modalities == ["text", "image"] and facts.embed_dim == 94
    assert facts.name == "lexlip/demo" and facts.training_datasets is None


def test_mteb_is_told_what_a_model_was_trained_on(checkpoint):
    model = LexLIP.from_pretrained(checkpoint)
    model.record = {"settings": {"data": {"source": "flickr8k"}}}
    facts = mteb_model(model).mteb_model_meta
    assert "Flickr30kT2IRetrieval" in facts.training_datasets  # it holds Flickr8k's pictures
    assert facts.revision == model.fingerprint[:40]
    assert facts.n_parameters == sum(part.numel() for part in model.parameters())


def test_mteb_reads_a_folder_of_the_hub_as_one_of_pictures(checkpoint, pairs, monkeypatch):
    import mteb
    from mteb.models import ModelMeta, SparseEncoderWrapper

    read = {name: json.loads((checkpoint / name).read_text()) for name in
            (SETTINGS, MODALITIES, MODULES, "config.json")}  # fmt: skip
    loader, kind, modalities = ModelMeta._resolve_loader("me/model", *read.values(), None)
    assert (loader, kind, modalities) == (SparseEncoderWrapper, "sparse", ["image", "text"])
    # What mteb.get_model does with that; only the name is a folder here, and torchvision, which it
    # asks for, is not needed by this model.
    monkeypatch.setattr(ModelMeta, "_check_requirements", lambda self: None)
    facts = {"name": str(checkpoint), "loader": loader, "modalities": modalities}
    model = ModelMeta.create_empty(overwrites=facts).load_model(trust_remote_code=True)
    task = agreement.task_of(pairs)
    result = mteb.evaluate(model, task, cache=None, show_progress_bar=False)
    assert result.task_results[0].get_score() > 0
