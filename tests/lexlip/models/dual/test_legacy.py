"""CLIPs inside of checkpoints that earlier versions of lexlip wrote."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file

from lexlip.errors import LexLIPError
from lexlip.models import load
from lexlip.models.dual import is_dual_encoder, open_dual_encoder

OLD = Path(__file__).parents[3] / "fixtures/before_packages/clip"


def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8))


def test_the_clip_inside_has_its_own_vectors():
    encoder = open_dual_encoder(OLD)
    config = transformers.CLIPConfig.from_dict(
        transformers.PreTrainedConfig.get_config_dict(OLD)[0]["clip_config"]
    )
    clip = transformers.CLIPModel(config).eval()
    weights = load_file(OLD / "model.safetensors")
    clip.load_state_dict({k[5:]: v for k, v in weights.items() if k.startswith("clip.")})
    tokenizer = transformers.AutoTokenizer.from_pretrained(OLD / "clip")
    eye = transformers.AutoImageProcessor.from_pretrained(OLD, backend="pil")
    with torch.no_grad():
        asked = clip.get_text_features(**tokenizer(["a red dog"], return_tensors="pt"))
        shown = clip.get_image_features(**eye(picture(), return_tensors="pt"))
    for found, theirs in (
        (encoder.embed_text(["a red dog"]), asked),
        (encoder.embed_image([picture()]), shown),
    ):
        expected = torch.nn.functional.normalize(theirs.pooler_output, dim=-1).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert is_dual_encoder(OLD) and encoder.family == "clip"


def test_it_is_saved_as_a_clip_like_any_other(tmp_path):
    encoder = open_dual_encoder(OLD)
    encoder.save_pretrained(tmp_path)
    copy = open_dual_encoder(tmp_path)
    assert copy.fingerprint == encoder.fingerprint
    shown = encoder.embed_image([picture()])
    np.testing.assert_allclose(copy.embed_image([picture()]), shown, atol=1e-6)
    assert transformers.CLIPModel.from_pretrained(tmp_path).config.projection_dim == encoder.width


@pytest.mark.parametrize(
    "part", ["model.safetensors", "clip/tokenizer.json", "clip", "config.json"]
)
def test_what_is_missing_is_one_line(part, tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(OLD, folder)
    path = folder / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(LexLIPError) as raised:
        open_dual_encoder(folder)
    assert "\n" not in str(raised.value)


def test_corrupted_weights_are_one_line(tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(OLD, folder)
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(LexLIPError, match="corrupted"):
        open_dual_encoder(folder)


def test_loading_names_the_command_that_renews_it():
    with pytest.raises(LexLIPError, match="lexlip lexicalise PICTURES --clip .* -o clip-renewed"):
        load(OLD)
