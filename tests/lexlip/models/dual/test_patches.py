"""Patches in the space of texts (MaskCLIP), against loops over the layer's own weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from lexlip.errors import LexLIPError
from lexlip.models.dual import open_dual_encoder
from tests.support.duals import small_dual


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def noise(seed=0, size=(40, 24)):
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    return Image.fromarray(values)


def opened(family, tmp_path):
    return open_dual_encoder(small_dual(family, tmp_path / family))


def norm(row, weights, name):
    centred = row - row.mean()
    scaled = centred / np.sqrt((centred**2).mean() + 1e-5)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(row, weights, name):
    return weights[f"{name}.weight"] @ row + weights.get(f"{name}.bias", 0)


@pytest.mark.parametrize("family", ["clip", "chinese-clip", "altclip", "metaclip-2", "owlvit"])
def test_a_patch_goes_alone_through_the_last_attention(family, tmp_path):
    encoder = opened(family, tmp_path)
    images = [noise(0), noise(1)]
    rows, grid = encoder.embed_patches(images, batch_size=1)
    assert grid == (2, 2) and rows.shape == (2, 4, encoder.width) and rows.dtype == np.float32

    model = encoder.model
    tower = model.vision_model
    weights = {name: part.double().numpy() for name, part in model.state_dict().items()}
    with torch.no_grad():
        states = tower(**encoder.pixels(images), output_hidden_states=True).hidden_states[-2]
    layer = "vision_model.encoder.layers.1"
    for picture, patches in zip(rows, states.double().numpy()[:, 1:], strict=True):
        for found, state in zip(picture, patches, strict=True):
            value = linear(
                norm(state, weights, f"{layer}.layer_norm1"), weights, f"{layer}.self_attn.v_proj"
            )
            mixed = linear(value, weights, f"{layer}.self_attn.out_proj")
            pooled = norm(mixed, weights, "vision_model.post_layernorm")
            np.testing.assert_allclose(
                found, unit(linear(pooled, weights, "visual_projection")), atol=1e-5
            )


@pytest.mark.parametrize("family", ["siglip", "siglip2", "siglip2-naflex"])
def test_a_pooling_head_sees_one_patch_at_a_time(family, tmp_path):
    encoder = opened(family, tmp_path)
    picture = noise()
    rows, (height, width) = encoder.embed_patches([picture])
    pixels = encoder.pixels([picture])
    tower = encoder.model.vision_model
    with torch.no_grad():
        output = tower(**pixels) if family != "siglip2-naflex" else tower(
            pixels["pixel_values"], pixels["pixel_attention_mask"], pixels["spatial_shapes"]
        )  # fmt: skip
        states = output.last_hidden_state[0, : height * width]
        alone = [tower.head(state[None, None])[0].numpy() for state in states]
    np.testing.assert_allclose(rows[0], unit(alone), atol=1e-5)
    if family == "siglip2-naflex":
        assert (height, width) == tuple(pixels["spatial_shapes"][0].tolist())
        assert height > width  # as in the picture


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_halves_of_a_picture_are_told_apart(family, tmp_path):
    encoder = opened(family, tmp_path)
    dark, light = noise(1, (16, 16)), noise(2, (16, 16))
    halves = Image.fromarray(np.hstack([np.asarray(dark)[:, :8], np.asarray(light)[:, 8:]]))
    rows, grid = encoder.embed_patches([halves, dark, light])
    mixed, first, second = rows.reshape(3, *grid, -1)
    for column, (own, other) in enumerate([(first, second), (second, first)]):
        for line in range(2):
            near = mixed[line, column] @ own[line, column]
            assert near > mixed[line, column] @ other[line, column]


def test_pictures_with_different_grids_are_refused(tmp_path):
    encoder = opened("siglip2-naflex", tmp_path)
    with pytest.raises(LexLIPError, match="one at a time"):
        encoder.embed_patches([noise(0, (40, 24)), noise(0, (24, 40))])
    with pytest.raises(LexLIPError, match="one at a time"):
        encoder.embed_patches([noise(0, (40, 24)), noise(0, (24, 40))], batch_size=1)


def test_no_picture_has_no_patch(tmp_path):
    rows, grid = opened("clip", tmp_path).embed_patches([])
    assert rows.shape == (0, 0, 8) and grid == (0, 0)


def test_patches_of_half_precision_weights_are_finite(tmp_path):
    folder = small_dual("clip", tmp_path / "clip")
    transformers.CLIPModel.from_pretrained(folder).half().save_pretrained(folder)
    encoder = open_dual_encoder(folder)
    assert next(encoder.network.parameters()).dtype == torch.float32
    assert np.isfinite(encoder.embed_patches([noise()])[0]).all()
