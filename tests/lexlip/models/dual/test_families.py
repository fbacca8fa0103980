"""Every family of transformers' dual encoders against transformers' own calls."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from lexlip.errors import LexLIPError
from lexlip.models.dual import export, is_dual_encoder, open_dual_encoder
from lexlip.models.dual.base import AttendsText, SeesPatches
from lexlip.models.dual.families import FAMILIES, MANY
from tests.support.duals import BUILDERS, CHINESE, TEXTS, small_dual

# What the makers' own examples pass to the tokenizer.
SIGLIP = {"padding": "max_length", "max_length": 64}
CALLS = {"siglip": SIGLIP, "siglip2": SIGLIP, "siglip2-naflex": SIGLIP}
PATCHES = {
    "altclip", "chinese-clip", "clip", "clipseg", "metaclip-2", "owlv2", "owlvit", "siglip",
    "siglip2", "siglip2-naflex",
}  # fmt: skip
LIMITS = {
    "align": 64, "altclip": 32, "blip": 35, "chinese-clip": 52, "flava": 77, "metaclip-2": 24,
    "siglip": 64, "siglip2": 64, "siglip2-naflex": 64, "vision-text-dual-encoder": 40,
}  # fmt: skip


def pictures():
    noise = np.random.default_rng(0)
    sizes = ((20, 30), (30, 20), (16, 16))
    return [Image.fromarray(noise.integers(0, 256, (*size, 3), np.uint8)) for size in sizes]


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def texts_of(family):
    return CHINESE if family == "chinese-clip" else TEXTS


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    return small_dual(family, tmp_path_factory.mktemp("duals") / family)


@pytest.fixture(scope="module")
def encoder(folder):
    return open_dual_encoder(folder)


def their_model(folder, family):
    kind = transformers.BlipForImageTextRetrieval if family == "blip" else transformers.AutoModel
    return kind.from_pretrained(folder).eval()


def their_tokens(folder, family, texts):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    if family.startswith("siglip2"):
        texts = [text.lower() for text in texts]
    call = CALLS.get(family, {"padding": True, "max_length": LIMITS.get(family, 24)})
    return tokenizer(list(texts), truncation=True, return_tensors="pt", **call)


def vector(output):
    rows = getattr(output, "pooler_output", output)
    return rows[:, 0] if rows.ndim == 3 else rows


@torch.no_grad()
def their_vectors(folder, family, texts, images):
    model = their_model(folder, family)
    tokens = their_tokens(folder, family, texts)
    eye = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    pixels = eye(images, return_tensors="pt")
    if family == "blip":  # its head gives cosines only
        cosines = model(**tokens, **pixels, use_itm_head=False).itm_score
        return cosines.numpy()
    shown = model.get_image_features(**pixels)
    return unit(vector(model.get_text_features(**tokens))), unit(vector(shown))


def test_vectors_are_those_of_transformers(family, folder, encoder):
    asked, shown = encoder.embed_text(texts_of(family)), encoder.embed_image(pictures())
    theirs = their_vectors(folder, family, texts_of(family), pictures())
    assert asked.dtype == shown.dtype == np.float32
    assert asked.shape == (4, encoder.width) and shown.shape == (3, encoder.width)
    if family == "blip":
        np.testing.assert_allclose(shown @ asked.T, theirs, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(asked, axis=1), 1, atol=1e-5)
        return
    np.testing.assert_allclose(asked, theirs[0], atol=1e-5)
    np.testing.assert_allclose(shown, theirs[1], atol=1e-5)


def test_a_text_and_a_picture_do_not_depend_on_their_neighbours(family, encoder):
    texts, together = texts_of(family), encoder.embed_text(texts_of(family))
    for text, row in zip(texts, together, strict=True):
        np.testing.assert_allclose(encoder.embed_text([text])[0], row, atol=1e-5)
    np.testing.assert_allclose(encoder.embed_text(texts, batch_size=2), together, atol=1e-5)
    shown = encoder.embed_image(pictures())
    np.testing.assert_allclose(encoder.embed_image(pictures(), batch_size=1), shown, atol=1e-5)
    assert encoder.embed_text([]).shape == encoder.embed_image([]).shape == (0, encoder.width)


def test_long_texts_are_cut_at_the_familys_limit(family, encoder):
    limit = LIMITS.get(family, 24)
    word = "狗" if family == "chinese-clip" else "dog "
    texts = [word * 100, word * 200]
    assert encoder.max_text_length == limit
    assert encoder.tokens(texts)["input_ids"].shape == (2, limit)
    first, second = encoder.embed_text(texts)
    np.testing.assert_array_equal(first, second)
    assert np.isfinite(first).all()


def test_pictures_may_be_files_bytes_or_arrays(encoder, tmp_path):
    picture = pictures()[0]
    picture.save(tmp_path / "a.png")
    forms = [picture, tmp_path / "a.png", (tmp_path / "a.png").read_bytes(), np.asarray(picture)]
    rows = encoder.embed_image(forms)
    np.testing.assert_allclose(rows, np.tile(rows[0], (4, 1)), atol=1e-6)


def test_a_saved_encoder_opens_again_with_the_same_fingerprint(family, folder, encoder, tmp_path):
    assert is_dual_encoder(folder) and encoder.family == family.removesuffix("-naflex")
    encoder.save_pretrained(tmp_path / "copy")
    copy = open_dual_encoder(tmp_path / "copy")
    assert copy.fingerprint == encoder.fingerprint
    texts = texts_of(family)
    # Graphs are taken where the family has some; OWLv2's own pixels are fractions of bytes.
    near = {"atol": 2e-3 if family == "owlv2" else 1e-5}
    np.testing.assert_allclose(copy.embed_text(texts), encoder.embed_text(texts), **near)
    np.testing.assert_allclose(
        copy.embed_image(pictures()), encoder.embed_image(pictures()), **near
    )


def test_the_fingerprint_follows_weights_and_preprocessing(
    family, folder, encoder, tmp_path, monkeypatch
):
    if family != "clip":  # an export takes time, and one tells enough of weights that are replaced
        monkeypatch.setattr(export, "export_beside", lambda *_: None)
    encoder.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    # Older versions of transformers saved tables of positions too.
    extra = {"text_model.embeddings.position_ids": torch.arange(9)[None]}
    save_file(weights | extra, tmp_path / "model.safetensors", {"format": "pt"})
    assert open_dual_encoder(tmp_path).fingerprint == encoder.fingerprint
    name = max(weights, key=lambda key: weights[key].numel())
    save_file(weights | {name: weights[name] + 1}, tmp_path / "model.safetensors", {"format": "pt"})
    changed = open_dual_encoder(tmp_path).fingerprint
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    settings["image_mean"] = [0.1, 0.2, 0.3]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    assert len({encoder.fingerprint, changed, open_dual_encoder(tmp_path).fingerprint}) == 3


def test_attention_is_that_of_the_summary_position(family, folder, encoder):
    assert isinstance(encoder, AttendsText)
    text = "红狗夜" if family == "chinese-clip" else "red dog x"
    words = list(text) if family == "chinese-clip" else text.split()
    model, tokens = their_model(folder, family), their_tokens(folder, family, [text])
    model.set_attn_implementation("eager")
    with torch.no_grad():
        if family == "blip":
            output = model.text_encoder(**tokens, output_attentions=True)
        else:
            output = model.get_text_features(**tokens, output_attentions=True)
    weights = output.attentions[-1][0].mean(0).numpy()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def ids(part):
        return tokenizer(part, add_special_tokens=False)["input_ids"]

    joint = "" if family == "chinese-clip" else " "
    ends = [len(ids(joint.join(words[: n + 1]))) for n in range(len(words))]
    everything = tokens["input_ids"][0].tolist()
    start = next(n for n in range(9) if everything[n : n + ends[-1]] == ids(text))
    if family.startswith("siglip"):
        row = weights[-1]
    elif FAMILIES[model.config.model_type].summary == "end":
        row = weights[start + ends[-1]]
    else:
        row = weights[0]
    spans = zip([0, *ends], ends, strict=False)
    shares = np.array([row[start + first : start + last].sum() for first, last in spans])
    found = encoder.text_attention(text)
    assert [word for word, _ in found] == words
    np.testing.assert_allclose([share for _, share in found], shares / shares.sum(), atol=1e-5)
    assert encoder.text_attention("") == []


def test_attention_leaves_vectors_as_they_are(family, encoder):
    before = encoder.embed_text(texts_of(family))
    encoder.text_attention("red")
    np.testing.assert_array_equal(encoder.embed_text(texts_of(family)), before)


def test_patches_where_the_tower_has_them(family, encoder):
    assert isinstance(encoder, SeesPatches) == (family in PATCHES)


def test_languages_and_prompts_fit_the_family(family, encoder):
    assert encoder.prompt.count("{}") == 1
    expected = {"chinese-clip": ("zh",), "altclip": ("en", "zh")}
    many = family in ("metaclip-2", "siglip2", "siglip2-naflex")
    assert encoder.languages == expected.get(family, MANY if many else ("en",))


def test_missing_parts_are_one_line(family, folder, tmp_path):
    for file in folder.iterdir():
        if file.name != "preprocessor_config.json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(LexLIPError, match="complete folder") as raised:
        open_dual_encoder(tmp_path)
    assert "\n" not in str(raised.value)
