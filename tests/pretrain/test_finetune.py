"""Stage 2 once more on larger pictures, and the paper's own setting, both from random weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BeitConfig, BeitModel, BertConfig, BertForMaskedLM
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from lexlip import LexLIP
from lexlip.errors import LexLIPError
from pretrain import finetune, settings, stage1, stage2
from pretrain.build import caption_tokenizer


@pytest.fixture(scope="module")
def towers(tmp_path_factory, captions):
    """Folders of a tiny BEiT without final normalisation and a tiny BERT, as the hub has them."""
    folder = tmp_path_factory.mktemp("towers")
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(3)
    beit = BeitModel(
        BeitConfig(image_size=32, patch_size=8, intermediate_size=64,
                   use_relative_position_bias=True, **shape)
    )  # fmt: skip
    with torch.no_grad():
        for layer in beit.layers:
            layer.relative_position_bias.relative_position_bias_table.normal_()
    beit.save_pretrained(folder / "beit")
    ViTImageProcessorPil(image_mean=[0.5] * 3, image_std=[0.5] * 3, size=32).save_pretrained(
        folder / "beit"
    )
    tokenizer = caption_tokenizer(captions)
    bert = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), intermediate_size=64, **shape))
    bert.save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    return folder


@pytest.fixture(scope="module")
def overrides(towers):
    """What makes a test of the paper's setting: towers, pictures and batches are smaller."""
    small = {
        "data.source": "scenes",
        "data.scenes": {"train": 24, "dev": 6, "test": 0, "size": 32},
        "data.cache": str(towers / "cache"),
        "model.vision.name": str(towers / "beit"),
        "model.text": str(towers / "bert"),
        "model.image_size": 32,
        "finetune.image_size": 48,
        "precision": "no",
    }
    for stage in ("stage1", "stage2", "finetune"):
        small |= {f"{stage}.steps": 2, f"{stage}.batch_size": 12, f"{stage}.micro_batch": 6}

    def toml(value):
        if isinstance(value, dict):
            return "{" + ", ".join(f"{k} = {v}" for k, v in value.items()) + "}"
        return json.dumps(value)

    return [f"{key}={toml(value)}" for key, value in small.items()]


@pytest.fixture(scope="module")
def run(towers, overrides):
    """The folder of a run through all three stages, two steps each."""
    folder = towers / "run"
    for job in (stage1, stage2, finetune):
        job.main("lexlip-base", str(folder), False, overrides)
    return folder


@pytest.mark.parametrize("stage", ["stage1", "stage2", "finetune"])
def test_the_papers_own_setting_runs(run, stage):
    rows = [json.loads(line) for line in Path(f"{run}/{stage}.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 2
    assert all(np.isfinite(value) for value in rows[-1].values())


def test_its_numbers_are_the_papers():
    chosen = settings.load("lexlip-base")
    assert (chosen.stage1.batch_size, chosen.stage1.epochs, chosen.stage1.lr) == (800, 20, 5e-5)
    assert (chosen.stage2.batch_size, chosen.stage2.steps) == (2880, 40000)
    assert chosen.stage2.queue_size == 11520
    assert (chosen.finetune.image_size, chosen.finetune.batch_size) == (384, 1536)
    assert chosen.model.pretrained == {
        "vision": "microsoft/beit-base-patch16-224-pt22k-ft22k",
        "text": "google-bert/bert-base-uncased",
    }


def test_finetuning_goes_on_at_the_larger_size(run):
    before, after = (LexLIP.from_pretrained(run / name) for name in ("stage2", "finetune"))
    sizes = [model.config.vision_config.image_size for model in (before, after)]
    assert sizes == [32, 48]
    assert after.processor.image_processor.size == {"height": 48, "width": 48}
    old, new = before.state_dict(), after.state_dict()
    assert old.keys() == new.keys()
    for name in old:
        if name.endswith("relative_position_bias_table"):
            assert (len(old[name]), len(new[name])) == (7 * 7 + 3, 11 * 11 + 3)
            assert (old[name][-3:] - new[name][-3:]).abs().max() < 0.01
        elif old[name].is_floating_point():
            assert (old[name] - new[name]).abs().max() < 0.01  # two small steps


def test_the_final_normalisation_that_the_checkpoint_lacks_is_there_and_learns(run):
    model = LexLIP.from_pretrained(run / "stage1")
    assert isinstance(model.vision.trunk.layernorm, torch.nn.LayerNorm)
    assert not torch.equal(model.vision.trunk.layernorm.weight, torch.ones(32))


def test_finetuning_wants_a_finished_stage_2(overrides, tmp_path):
    with pytest.raises(LexLIPError, match="run make pretrain-stage2 first"):
        finetune.main("lexlip-base", str(tmp_path), False, overrides)


def test_without_a_size_of_its_own_pictures_stay_as_they_are(overrides):
    chosen = settings.load("lexlip-base", [*overrides, "finetune.image_size=0"])
    assert finetune.settings_for(chosen).model.image_size == 32
