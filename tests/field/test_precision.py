"""Copies of a model: another precision and constants of the code are no other model."""

from __future__ import annotations

import copy
import json
import logging

import pytest
import torch

from lexlip import Index, LexLIP, LexLIPError
from lexlip.models.query_table import QueryTable

PRECISIONS = ["bfloat16", "float16"]


def rounded(model, precision):
    return copy.deepcopy(model).to(getattr(torch, precision)).eval()


@pytest.fixture
def build(tmp_path, images):
    def build(model, name="photos.lex"):
        source = {f"{number}.png": image for number, image in enumerate(images)}
        Index.create(tmp_path / name, model, source, engine="postings").close()
        return tmp_path / name

    return build


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_copy_in_another_precision_is_named_and_accepted(build, model, precision, caplog):
    path, small = build(model), rounded(model, precision)
    with caplog.at_level(logging.WARNING), Index.open(path, small) as index:
        hits = index.search("a red circle", 5)
    (record,) = caplog.records
    assert f"in float32, this copy is in {precision}" in record.getMessage()
    assert len(record.getMessage().splitlines()) == 1
    with Index.open(path, model) as index:
        assert {hit.id for hit in hits} & {hit.id for hit in index.search("a red circle", 5)}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_index_of_the_copy_takes_the_model(build, model, precision, caplog):
    path = build(rounded(model, precision))
    with caplog.at_level(logging.WARNING), Index.open(path, model) as index:
        assert index.search("a red circle", 5)
    assert f"in {precision}, this copy is in float32" in caplog.text


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_saved_copy_goes_on_with_the_index(build, model, images, tmp_path, precision):
    path = build(model)
    rounded(model, precision).save_pretrained(tmp_path / "copy")
    loaded = LexLIP.from_pretrained(tmp_path / "copy", dtype=getattr(torch, precision))
    with Index.open(path, loaded, "w") as index:
        index.add({"new.png": images[3]})
        assert len(index) == len(images) + 1


def test_another_model_is_refused_in_any_precision(build, make_model, model):
    path = build(model)
    for other in (make_model(seed=3), rounded(make_model(seed=3), "bfloat16")):
        with pytest.raises(LexLIPError, match="built by another model"):
            Index.open(path, other)
    nearly = copy.deepcopy(model)
    with torch.no_grad():
        nearly.text_head.bias[0] += 0.5
    for other in (nearly, rounded(nearly, "float16")):
        with pytest.raises(LexLIPError, match="built by another model"):
            Index.open(path, other)


def test_constants_do_not_count_and_measured_buffers_do(build, model, caplog):
    path, more = build(model), copy.deepcopy(model)
    more.register_buffer("position_ids", torch.arange(40))
    more.text.register_buffer("scale_of_nothing", torch.zeros(3))
    assert more.state_dict().keys() != model.state_dict().keys()
    assert more.fingerprint == model.fingerprint and more.rounded == model.rounded
    with caplog.at_level(logging.WARNING), Index.open(path, more) as index:
        assert index.search("a red circle", 3)
    assert not caplog.records
    more.text.register_buffer("running_mean", torch.zeros(3))
    assert more.fingerprint != model.fingerprint


def test_an_index_that_counted_constants_opens(build, model):
    """Earlier versions took the sum of all buffers."""
    path, more = build(model), copy.deepcopy(model)
    more.register_buffer("position_ids", torch.arange(40))
    (older,) = more.older_fingerprints
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["model"] = older
    del manifest["rounded"], manifest["precision"], manifest["sha256"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    Index.open(path, more).close()
    with pytest.raises(LexLIPError, match="another model"):
        Index.open(path, model)
    assert model.older_fingerprints == ()


def test_an_old_manifest_knows_no_copies(build, model):
    path = build(model)
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["rounded"], manifest["precision"], manifest["sha256"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    Index.open(path, model).close()
    with pytest.raises(LexLIPError, match="another model"):
        Index.open(path, rounded(model, "bfloat16"))


def test_a_query_table_goes_with_copies(build, model, word_table, tmp_path):
    table = QueryTable(
        word_table.tokenizer.raw, word_table.lexicon, word_table.rows, word_table.pairs,
        model.fingerprint, 16, model.rounded,
    )  # fmt: skip
    table.save_pretrained(tmp_path / "checkpoint")
    read = QueryTable.from_pretrained(tmp_path / "checkpoint")
    with Index.open(build(rounded(model, "bfloat16")), read) as index:
        assert index.search("red circle", 3)


def test_rerankers_take_copies(model_with_heads, images, tmp_path):
    source = {f"{number}.png": image for number, image in enumerate(images)}
    options = {"engine": "postings", "keep_views": True}
    Index.create(tmp_path / "photos.lex", model_with_heads, source, **options).close()
    with Index.open(tmp_path / "photos.lex", rounded(model_with_heads, "bfloat16")) as index:
        for name in ("filip", "csd"):
            assert len(index.search("a red circle", 3, rerank=name)) == 3
