"""Dual encoders in onnxruntime against the torch models that they were exported from."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lexlip.models.dual import open_dual_encoder
from lexlip.models.dual.export import export_dual
from lexlip.models.dual.files import kind_of
from lexlip.models.dual.onnx_models import OnnxDual
from lexlip.models.windows import reading, windows
from tests.support.duals import BUILDERS, CHINESE, TEXTS, small_dual

LONG = "the red dog runs over a green star at night 12345 " * 12
HARD = ("A RED Dog!", "don't  stop,  it's 3.5", "über naïve 狗 \n tab\t", "_x_ [SEP] ...", LONG)
FAMILIES = sorted(BUILDERS.keys() - {"siglip2-naflex"})


def pictures():
    noise = np.random.default_rng(0)
    sizes = ((20, 30), (30, 20), (16, 16), (300, 200), (5, 7))
    return [Image.fromarray(noise.integers(0, 256, (*size, 3), np.uint8)) for size in sizes]


def texts_of(family):
    return (*(CHINESE if family == "chinese-clip" else TEXTS), *HARD)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def network(family, tmp_path_factory):
    return open_dual_encoder(small_dual(family, tmp_path_factory.mktemp("duals") / family))


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "dual"
    export_dual(network, folder)
    return open_dual_encoder(folder)


def test_vectors_are_those_of_the_network(family, network, exported):
    assert type(exported) is OnnxDual and kind_of(exported.folder) == "onnx"
    for ours, theirs in (
        (exported.embed_text(texts_of(family)), network.embed_text(texts_of(family))),
        (exported.embed_image(pictures()), network.embed_image(pictures())),
    ):
        assert ours.dtype == np.float32 and ours.shape == theirs.shape
        assert (ours.astype(np.float64) * theirs).sum(1).min() > 0.99999


def test_tokens_are_those_of_transformers(family, network, exported):
    theirs = network.tokens(texts_of(family))
    ids, mask = exported.tokens.batch(exported.tokens.rows(texts_of(family)))
    np.testing.assert_array_equal(ids, theirs["input_ids"].numpy())
    if "attention_mask" in theirs:
        np.testing.assert_array_equal(mask, theirs["attention_mask"].numpy())


def test_facts_are_those_of_the_network(family, network, exported):
    for name in ("family", "prompt", "languages", "max_text_length", "width", "image_side",
                 "fingerprint"):  # fmt: skip
        assert getattr(exported, name) == getattr(network, name), name


def test_rows_do_not_depend_on_their_neighbours(family, exported):
    texts, together = texts_of(family), exported.embed_text(texts_of(family))
    np.testing.assert_allclose(exported.embed_text(texts, batch_size=2), together, atol=1e-5)
    np.testing.assert_allclose(exported.embed_text(texts[1:2])[0], together[1], atol=1e-5)
    shown = exported.embed_image(pictures())
    prepared = [exported.prepare_image(picture) for picture in pictures()]
    np.testing.assert_allclose(exported.embed_image(prepared, batch_size=1), shown, atol=1e-5)
    assert prepared[0].pixels.dtype == np.uint8
    assert exported.embed_text([]).shape == exported.embed_image([]).shape == (0, exported.width)


def test_long_texts_are_read_in_windows_of_its_tokenizer(family, exported):
    read = reading(exported.tokenizer)
    room = exported.max_text_length - exported.tokenizer.num_special_tokens_to_add(False)
    text = "狗红夜" * 80 if family == "chinese-clip" else LONG * 2
    parts = windows(text, read, room)
    assert len(parts) > 1
    assert max(len(read(part).ids) for part in parts) <= room
    assert "".join("".join(parts).split()) == "".join(text.split())
