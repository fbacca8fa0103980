"""Families of trunks: each becomes a LexLIP, and reads pictures of another size when asked to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from transformers import AutoConfig

from lexlip.errors import LexLIPError
from lexlip.models.lexlip import LexLIP
from lexlip.models.trunks import at_size, copy_weights, freeze_lowest, interpolate_grid, tower

close = {"rtol": 1e-4, "atol": 1e-5}
SHAPE = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64
}  # fmt: skip
TRANSFORMER = {"image_size": 32, "patch_size": 8, **SHAPE}
VISION = {
    "vit": TRANSFORMER,
    "deit": TRANSFORMER,
    "beit": {**TRANSFORMER, "use_relative_position_bias": True},
    "dinov2": TRANSFORMER,
    "clip_vision_model": TRANSFORMER,
    "siglip_vision_model": TRANSFORMER,
    "swin": {
        "image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2],
        "window_size": 2,
    },
    "resnet": {
        "embedding_size": 8, "hidden_sizes": [8, 32], "depths": [1, 1], "layer_type": "basic"
    },
    "convnext": {"image_size": 32, "hidden_sizes": [8, 32], "depths": [1, 1], "num_stages": 2},
    "mobilenet_v2": {"image_size": 32, "depth_multiplier": 0.1, "finegrained_output": False},
}  # fmt: skip
WIDTH = {"mobilenet_v2": 128}
TEXT = {
    "bert": {**SHAPE, "max_position_embeddings": 32},
    "distilbert": {
        "dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2, "max_position_embeddings": 32
    },
    "clip_text_model": {
        **SHAPE, "max_position_embeddings": 32, "bos_token_id": 2, "eos_token_id": 3
    },
}  # fmt: skip


def vision_trunk(family, **changes):
    """A trunk with random weights, tables of positions included (some families start at zero)."""
    torch.manual_seed(0)
    trunk = tower(AutoConfig.for_model(family, **{**VISION[family], **changes}))
    with torch.no_grad():
        for name, parameter in trunk.named_parameters():
            if "position" in name:
                parameter.normal_()
    return trunk.eval()


@pytest.mark.parametrize("family", VISION)
def test_every_vision_family_is_a_checkpoint_that_loads(make_model, family, images, tmp_path):
    model = make_model(vision={"model_type": family, **VISION[family]}, neck_heads=1)
    pixels = model.processor.pixels(images[:3])
    with torch.no_grad():
        features = model.vision.features(pixels)
        states = model.vision.trunk(pixel_values=pixels).last_hidden_state
    patches = states.flatten(2).transpose(1, 2) if states.ndim == 4 else states
    rows = int(np.sqrt(patches.shape[1]))
    assert features.shape == (3, 1 + rows**2, WIDTH.get(family, 32))
    assert_allclose(features[:, 1:], patches[:, -(rows**2) :], **close)
    if patches.shape[1] == rows**2:
        assert_allclose(features[:, 0], patches.mean(1), **close)
    else:
        assert_allclose(features[:, 0], patches[:, 0], **close)
    model.save_pretrained(tmp_path)
    again = LexLIP.from_pretrained(tmp_path)
    assert again.fingerprint == model.fingerprint
    rows = (m.encode_image(images[:3]).toarray() for m in (model, again))
    assert np.array_equal(*rows)


@pytest.mark.parametrize("family", TEXT)
def test_every_text_family_is_a_checkpoint_that_loads(make_model, family, captions, tmp_path):
    model = make_model(text={"model_type": family, **TEXT[family]})
    together = model.encode_text(captions).toarray()
    alone = np.concatenate([model.encode_text([c]).toarray() for c in captions])
    assert together.any(1).all()
    assert_allclose(together, alone, **close)
    model.save_pretrained(tmp_path)
    again = LexLIP.from_pretrained(tmp_path)
    assert again.fingerprint == model.fingerprint
    assert np.array_equal(again.encode_text(captions).toarray(), together)


@pytest.mark.parametrize("family", TEXT)
def test_heads_for_rerankers_read_every_text_family(make_model, family, captions):
    model = make_model(text={"model_type": family, **TEXT[family]})
    model.add_heads(token_size=4, gaussian_size=3, layers=1)
    words, views = model.eval().represent_text(captions)
    assert_allclose(words.toarray(), model.encode_text(captions).toarray(), **close)
    assert len(views.counts) == len(captions) and np.isfinite(views.tokens).all()


@torch.no_grad()
def test_a_causal_text_trunk_stays_causal(make_model):
    model = make_model(text={"model_type": "clip_text_model", **TEXT["clip_text_model"]})
    texts = ["red circle above two blue squares", "red circle above one green star"]
    states = model.text(**model.processor.tokenize(texts, 16))
    assert_allclose(states[0, :4], states[1, :4], **close)
    assert not np.allclose(states[0, 4], states[1, 4], atol=1e-3)


def cubic(table, new):
    """Catmull-Rom's relative with a = -0.75, one axis at a time, pixel centres aligned."""
    old, a = len(table), -0.75
    weights = np.zeros((new, old))
    for i in range(new):
        x = (i + 0.5) * old / new - 0.5
        for k in range(int(np.floor(x)) - 1, int(np.floor(x)) + 3):
            d = abs(x - k)
            near = (a + 2) * d**3 - (a + 3) * d**2 + 1
            far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
            weights[i, min(max(k, 0), old - 1)] += near if d <= 1 else far if d < 2 else 0
    return np.einsum("io,jp,opd->ijd", weights, weights, table)


@pytest.mark.parametrize(("old", "new"), [(4, 6), (14, 24), (7, 7), (6, 4), (1, 3)])
def test_a_grid_is_stretched_in_two_dimensions(old, new):
    table = np.random.default_rng(0).normal(size=(old, old, 3)).astype(np.float32)
    found = interpolate_grid(torch.from_numpy(table.reshape(old**2, 3)), old, new)
    assert_allclose(found, cubic(table, new).reshape(new**2, 3), atol=1e-5)
    if old == new:
        assert_allclose(found, table.reshape(old**2, 3), atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("family", ["vit", "deit", "dinov2", "clip_vision_model"])
@pytest.mark.parametrize("size", [48, 24])
def test_another_size_gives_what_transformers_interpolates_on_the_fly(family, size):
    trunk = vision_trunk(family)
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    on_the_fly = {} if family == "dinov2" else {"interpolate_pos_encoding": True}
    wanted = trunk(pixel_values=pixels, **on_the_fly).last_hidden_state
    resized = at_size(trunk, size)
    assert resized.config.image_size == size
    assert_allclose(resized(pixel_values=pixels).last_hidden_state, wanted, **close)


def test_distances_are_stretched_and_the_entries_of_cls_are_not():
    trunk = vision_trunk("beit")
    resized = at_size(trunk, 48)
    tables = 0
    for name, table in trunk.state_dict().items():
        found = resized.state_dict()[name]
        if name.endswith("relative_position_bias_table"):
            tables += 1
            assert table.shape == (7 * 7 + 3, 2) and found.shape == (11 * 11 + 3, 2)
            wanted = cubic(table[:-3].view(7, 7, 2).numpy(), 11).reshape(121, 2)
            assert_allclose(found[:-3], wanted, atol=1e-5)
            assert torch.equal(found[-3:], table[-3:])
        else:
            assert torch.equal(found, table)
    assert tables == 3


@torch.no_grad()
def test_a_bias_by_distance_alone_still_depends_on_distance_alone():
    """Official LexLIP reads wrong rows: the offsets of [CLS] are those of the old table."""
    trunk = vision_trunk("beit")
    for layer in trunk.layers:
        away = torch.arange(-3, 4).abs().float()
        table = layer.relative_position_bias.relative_position_bias_table
        table[:-3] = (away[:, None] + away[None]).view(-1, 1)
        table[-3:] = torch.tensor([[7.0], [8.0], [9.0]])
    bias = at_size(trunk, 48).layers[0].relative_position_bias((6, 6))[0, 0]
    assert bias[0, 0] == 9 and (bias[0, 1:] == 7).all() and (bias[1:, 0] == 8).all()
    row = bias[1:, 1:].view(6, 6, 6, 6)[2, 2]  # seen from row 2, column 2
    assert_allclose(row, row.T, atol=1e-5)
    assert_allclose(row[:, 1], row[:, 3], atol=1e-5)
    assert row.argmin() == 2 * 6 + 2


@pytest.mark.parametrize("family", VISION)
def test_the_same_size_is_the_same_trunk(family):
    trunk = vision_trunk(family)
    assert at_size(trunk, 32) is trunk


@torch.no_grad()
@pytest.mark.parametrize("family", ["swin", "resnet", "convnext", "mobilenet_v2"])
def test_without_positions_another_size_changes_no_weight(family):
    trunk = vision_trunk(family)
    resized = at_size(trunk, 64)
    for name, value in trunk.state_dict().items():
        assert torch.equal(resized.state_dict()[name], value)
    pixels = torch.randn(1, 3, 64, 64)
    assert torch.isfinite(resized(pixel_values=pixels).last_hidden_state).all()


def test_a_model_at_another_size_is_a_checkpoint_of_its_own(make_model, images, tmp_path):
    model = make_model()
    before = model.fingerprint
    model.resize_images(48)
    assert model.fingerprint != before
    assert model.processor.pixels(images[:1]).shape == (1, 3, 48, 48)
    assert model.vision.features(model.processor.pixels(images[:1])).shape[1] == 1 + 6 * 6
    model.save_pretrained(tmp_path)
    again = LexLIP.from_pretrained(tmp_path)
    assert again.config.vision_config.image_size == 48
    assert again.fingerprint == model.fingerprint
    rows = (m.encode_image(images[:3]).toarray() for m in (model, again))
    assert np.array_equal(*rows)


@pytest.mark.parametrize("family", VISION)
@pytest.mark.parametrize("count", [0, 1])
def test_the_lowest_layers_stay_with_what_lies_below_them(family, count):
    trunk = vision_trunk(family).train()
    freeze_lowest(trunk, count)
    still = {name for name, p in trunk.named_parameters() if not p.requires_grad}
    stack = next(n for n, part in trunk.named_modules() if isinstance(part, torch.nn.ModuleList))
    below = {n for n in dict(trunk.named_parameters()) if n.startswith(("embed", "conv_stem"))}
    lowest = {n for n in dict(trunk.named_parameters()) if n.startswith(f"{stack}.0.")}
    assert below and lowest
    wanted = below | lowest if count else set()
    assert still - {"pre_layrnorm.weight", "pre_layrnorm.bias"} == wanted
    before = {name: p.detach().clone() for name, p in trunk.named_parameters()}
    trunk(pixel_values=torch.randn(2, 3, 32, 32)).last_hidden_state.square().mean().backward()
    torch.optim.SGD(trunk.parameters(), lr=1.0).step()
    moved = {n for n, p in trunk.named_parameters() if not torch.equal(p, before[n])}
    assert moved and not moved & still


def test_more_layers_than_there_are_is_one_line():
    with pytest.raises(LexLIPError, match="freeze_layers=4: this trunk has 3 layers"):
        freeze_lowest(vision_trunk("vit"), 4)


def test_frozen_batch_statistics_stay(make_model):
    model = make_model(
        vision={"model_type": "resnet", **VISION["resnet"]}, freeze_layers=1, neck_heads=1
    )
    names = [name for name, _ in model.vision.trunk.named_buffers() if "running" in name]
    before = {name: model.vision.trunk.get_buffer(name).clone() for name in names}
    model.train()
    model.vision.features(torch.randn(2, 3, 32, 32))
    moved = {n for n in names if not torch.equal(before[n], model.vision.trunk.get_buffer(n))}
    assert moved == {name for name in names if "stages.1." in name} != set()


def test_weights_of_another_shape_are_refused():
    with pytest.raises(LexLIPError, match="give settings that fit the weights"):
        copy_weights(vision_trunk("vit"), vision_trunk("vit", intermediate_size=32))


def test_what_has_encoded_can_be_trained(make_model, images):
    """BEiT keeps the index of its table of positions from the first pass in the process."""
    # A size of its own: the table of no other test.
    vision = {"model_type": "beit", **VISION["beit"], "image_size": 56}
    model = make_model(vision=vision, neck_heads=1, image_size=56)
    before = model.encode_image(images[:2])
    assert before.nnz
    model.train()
    model.pool_image(model.vision.features(model.processor.pixels(images[:2])))[0].sum().backward()
    tables = [p for n, p in model.named_parameters() if n.endswith("relative_position_bias_table")]
    assert tables and all(table.grad is not None for table in tables)
