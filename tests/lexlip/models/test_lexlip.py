"""The encoders: what may not matter does not, and other people's code gets the same numbers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image
from scipy.sparse import csr_array
from sentence_transformers.sparse_encoder.modules import SpladePooling
from transformers import AutoModel, BertForMaskedLM

from lexlip.errors import LexLIPError
from lexlip.models.dense_control import DenseDualEncoder
from lexlip.models.lexlip import LexLIP
from lexlip.models.pooling import log_saturate

close = {"rtol": 1e-4, "atol": 1e-5}


def tokens(model, texts):
    return model.processor.tokenize(texts, model.config.max_text_length)


def some_texts(n, seed=0):
    """Texts of 0 to 20 known words: some longer than the model reads."""
    rng = np.random.default_rng(seed)
    known = "a red circle two blue squares large green star triangles snow dark wall".split()
    return [" ".join(rng.choice(known, size=rng.integers(0, 21))) for _ in range(n)]


def test_texts_and_pictures_have_words_and_differ(model, captions, images):
    for weights in (model.encode_text(captions), model.encode_image(images)):
        assert weights.dtype == np.float32
        assert weights.shape[1] == len(model.processor.tokenizer)
        assert (weights.data > 0).all()
        assert (np.diff(weights.indptr) > 0).all()
        assert len({row.tobytes() for row in weights.toarray()}) == weights.shape[0]


@pytest.mark.parametrize("size", [1, 3, 64])
def test_a_text_does_not_depend_on_its_batch(model, size):
    texts = some_texts(80)
    alone = np.concatenate([model.encode_text([text]).toarray() for text in texts])
    assert alone.any()
    assert_allclose(model.encode_text(texts, batch_size=size).toarray(), alone, **close)


@pytest.mark.parametrize("size", [1, 5, 12])
def test_a_picture_does_not_depend_on_its_batch(model, images, size):
    alone = np.concatenate([model.encode_image([image]).toarray() for image in images])
    assert_allclose(model.encode_image(images, batch_size=size).toarray(), alone, **close)


@torch.no_grad()
def test_padding_does_not_matter(model):
    batch = tokens(model, some_texts(6))
    plain, winner, _ = model.pool_text(**batch)
    pad = torch.full((6, 5), model.processor.tokenizer.pad_token_id)
    longer = {
        "input_ids": torch.cat([batch["input_ids"], pad], 1),
        "attention_mask": torch.cat([batch["attention_mask"], torch.zeros_like(pad)], 1),
    }
    padded, padded_winner, _ = model.pool_text(**longer)
    assert_allclose(padded, plain, **close)
    assert torch.equal(winner, padded_winner)


@torch.no_grad()
@pytest.mark.parametrize("n", [1, 31, 64, 80])
def test_groups_of_like_length_give_the_states_of_one_text_at_a_time(model, n):
    batch = tokens(model, some_texts(n, seed=n))
    states = model.text(**batch)
    assert states.shape[:2] == batch["input_ids"].shape
    lengths = batch["attention_mask"].sum(1)
    assert n == 1 or len(set(lengths.tolist())) > 3
    for row, length in enumerate(lengths):
        ids = batch["input_ids"][row : row + 1, :length]
        alone = model.text.trunk(input_ids=ids).last_hidden_state[0]
        assert_allclose(states[row, :length], alone, **close)


def test_the_same_twice_gives_the_same_bits(model, captions, images):
    for encode, items in ((model.encode_text, captions), (model.encode_image, images)):
        first, second = encode(items), encode(items)
        assert np.array_equal(first.toarray(), second.toarray())


@torch.no_grad()
def test_special_positions_never_speak(model):
    tokenizer = model.processor.tokenizer
    batch = tokens(model, ["a red xyzzy circle", "red"])
    positions = model.text.positions(**batch)
    spoken = [
        tokenizer.convert_ids_to_tokens(row[keep])
        for row, keep in zip(batch["input_ids"], positions, strict=True)
    ]
    assert "[UNK]" in tokenizer.convert_ids_to_tokens(batch["input_ids"][0])
    assert spoken == [["a", "red", "circle"], ["red"]]

    pooled, winner, hidden = model.pool_text(**batch)
    assert positions.gather(1, winner.long()).all()
    # However loud their states are, nothing changes.
    loud = torch.where(positions[..., None], hidden, 1e3 * torch.ones_like(hidden))
    own = model.own_words(batch["input_ids"], positions) * torch.relu(model.own_word_boost)
    again = model.text_head.pool(loud, positions)[0] + own
    assert torch.equal(pooled, again)


def test_only_allowed_ids_carry_weight(model, captions, images):
    allowed = set(model.lexicon_ids.tolist())
    assert len(allowed) < len(model.processor.tokenizer)
    for weights in (model.encode_text(captions), model.encode_image(images)):
        assert set(weights.indices.tolist()) <= allowed
    spoken = {word for row in model.decode(model.encode_text(captions)) for word, _ in row}
    assert not spoken & {"a", "the", "of", ",", "[UNK]", "[CLS]"}


@pytest.mark.parametrize("text", ["", "   ", "xyzzy quux", "漢字"])
def test_a_text_without_a_known_word_is_an_empty_row(model, text):
    weights = model.encode_text(["a red circle", text])
    assert np.diff(weights.indptr).tolist()[1] == 0 < weights.nnz


def test_nothing_to_encode_is_no_row(model):
    assert model.encode_text([]).shape == (0, len(model.processor.tokenizer))
    assert model.encode_image([]).shape == (0, len(model.processor.tokenizer))


@torch.no_grad()
def test_own_words_are_boosted_and_no_others(make_model):
    plain, boosted = make_model(own_word_boost=False), make_model(own_word_boost=True)
    assert not hasattr(plain, "own_word_boost")
    boosted.own_word_boost.copy_(torch.linspace(-1, 2, len(boosted.lexicon)))
    boosted.text_head.load_state_dict(plain.text_head.state_dict())
    text = "the red circle above one green star"
    batch = tokens(plain, [text])
    bare, found = (m.pool_text(**batch)[0][0].tolist() for m in (plain, boosted))
    allowed = [boosted.lexicon.tokens[i] for i in boosted.lexicon.ids]
    # Added after the relu: an own word is never lost, however far below zero its logit lies.
    wanted = [
        max(0.0, logit) + max(0.0, boost) if word in text.split() else logit
        for word, logit, boost in zip(allowed, bare, boosted.own_word_boost.tolist(), strict=True)
    ]
    assert sum(a != b for a, b in zip(wanted, bare, strict=True)) >= 3
    assert_allclose(found, wanted, atol=1e-4)


@pytest.fixture(scope="module")
def masked_lm(make_model):
    """A LexLIP without own-word boost, and transformers' BERT with the same weights."""
    model = make_model(own_word_boost=False)
    config = copy.deepcopy(model.config.text_config)
    config.tie_word_embeddings = False
    bert = BertForMaskedLM(config).eval()
    bert.bert.load_state_dict(model.text.trunk.state_dict())
    head = bert.cls.predictions
    head.transform.load_state_dict(model.text_head.transform.state_dict())
    with torch.no_grad():
        noise = torch.randn(model.text_head.words.shape, generator=torch.Generator().manual_seed(0))
        model.text_head.words.add_(0.02 * noise)  # away from the input embeddings
        head.decoder.weight.zero_()[model.lexicon_ids] = model.text_head.words
        head.bias.zero_()[model.lexicon_ids] = model.text_head.bias
        head.decoder.bias = head.bias
    return model, bert


@torch.no_grad()
def test_logits_are_those_of_transformers_masked_language_model(masked_lm, captions):
    model, bert = masked_lm
    batch = tokens(model, captions)
    wanted = bert(**batch).logits[..., model.lexicon_ids]
    hidden = model.text(**batch)
    real = batch["attention_mask"].bool()
    ours = model.text_head.logits(hidden[real])
    assert_allclose(ours, wanted[real], **close)


@torch.no_grad()
def test_words_do_not_depend_on_the_precision_of_training(make_model):
    """Far from zero, where training lets it drift, bf16 would leave the transform 5 bits."""
    head = make_model().text_head
    head.transform.dense.bias.fill_(12.0)
    hidden = torch.randn(64, 9, head.words.shape[1], generator=torch.Generator().manual_seed(0))
    exact, _ = head.pool(hidden)
    with torch.autocast("cpu", torch.bfloat16):
        trained, _ = head.pool(hidden)
        drowned = head.transform(hidden).float()
    assert (trained - exact).norm() < 0.01 * exact.norm()
    clean = head.transform(hidden)
    assert (drowned - clean).norm() > 0.01 * clean.norm()  # what the float32 is there for


@torch.no_grad()
def test_texts_are_those_of_sentence_transformers_splade(masked_lm):
    model, bert = masked_lm
    texts = [text for text in some_texts(40) if model.windows(text).parts == [text]]
    assert len(texts) >= 10
    batch = tokens(model, texts)
    spoken = model.text.positions(**batch)
    features = {"token_embeddings": bert(**batch).logits, "attention_mask": spoken}
    splade = SpladePooling("max")(features)["sentence_embedding"]
    wanted = np.zeros(splade.shape)
    wanted[:, model.lexicon_ids] = splade[:, model.lexicon_ids]
    assert (wanted > 0).mean() > 0.05
    assert_allclose(model.encode_text(texts).toarray(), wanted, **close)


@torch.no_grad()
@pytest.mark.parametrize("grid", [0, 2])
def test_features_are_the_trunks_own_patches(make_model, images, grid):
    model = make_model(patch_grid=grid)
    pixels = model.processor.pixels(images[:3])
    states = model.vision.trunk(pixel_values=pixels).last_hidden_state
    patches = states[:, 1:].unflatten(1, (4, 4))
    if grid:
        patches = torch.stack(
            [
                torch.stack([patches[:, r : r + 2, c : c + 2].mean((1, 2)) for c in (0, 2)], 1)
                for r in (0, 2)
            ],
            1,
        )
    wanted = torch.cat([states[:, :1], patches.flatten(1, 2)], 1)
    assert_allclose(model.vision.features(pixels), wanted, **close)


@torch.no_grad()
@pytest.mark.parametrize("places", [False, True])
def test_kept_patches_are_all_that_is_looked_at(make_model, images, places):
    model = make_model(neck_positions=places)
    if places:
        model.vision.places.normal_(generator=torch.Generator().manual_seed(0))
    features = model.vision.features(model.processor.pixels(images[:3]))
    count = features.shape[1] - 1
    everything = model.vision(features)
    assert_allclose(model.vision(features, torch.arange(count)), everything, **close)
    kept = torch.tensor([0, 2, count - 1])
    found = model.vision(features, kept)
    changed = features.clone()
    changed[:, 1:][:, [i for i in range(count) if i not in kept.tolist()]] = 7.0
    assert found.shape[1] == 3 and torch.equal(model.vision(changed, kept), found)
    if not places:  # the neck does not know where a patch lies: a smaller picture of these
        assert_allclose(model.vision(features[:, [0, *(kept + 1)]]), found, **close)


@torch.no_grad()
def test_cached_features_give_what_the_pictures_give(model, images):
    features = model.vision.features(model.processor.pixels(images))
    pooled = log_saturate(model.pool_image(features)[0])
    assert_allclose(model.encode_image(images).toarray()[:, model.lexicon_ids], pooled, **close)
    cached = model.encode_features(features.numpy(), batch_size=5)
    assert_allclose(cached.toarray(), model.encode_image(images).toarray(), **close)


def test_a_picture_may_come_in_any_form(model, images, tmp_path):
    path = tmp_path / "a.png"
    images[0].save(path)
    forms = [images[0], path, path.read_bytes(), np.asarray(images[0])]
    rows = model.encode_document(forms).toarray()
    assert (rows == rows[0]).all() and rows.any()


def test_pixels_are_the_whole_picture_squeezed(model):
    wide = Image.new("RGB", (64, 32), "white")
    wide.paste((0, 0, 0), (60, 0, 64, 32))  # a border that a crop would lose
    pixels = model.processor.pixels([wide])
    assert pixels.shape == (1, 3, 32, 32)
    assert pixels[..., 0].max() == pixels.max() == pytest.approx(1.0)  # mean and deviation 0.5
    assert pixels[..., -1].max() < -0.9


def test_documents_are_texts_or_pictures_but_not_both(model, captions, images):
    texts = model.encode_document(list(captions))
    assert np.array_equal(texts.toarray(), model.encode_query(captions).toarray())
    with pytest.raises(LexLIPError, match="texts and pictures in one list"):
        model.encode_document(["a red circle", images[0]])


def test_intersection_adds_up_to_the_similarity(model, captions, images):
    query, document = model.encode_query(captions[:1]), model.encode_document(images[:1])
    shared = model.intersection(query, document, top_k=10**6)
    a, b = query.toarray()[0].astype(float), document.toarray()[0].astype(float)
    wanted = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert model.similarity(query, document)[0, 0] == pytest.approx(wanted, rel=1e-5)
    assert sum(weight for _, weight in shared[0]) == pytest.approx(wanted, rel=1e-5)


def test_an_empty_vector_is_similar_to_nothing(model, images):
    similarity = model.similarity(model.encode_query([""]), model.encode_document(images[:2]))
    assert similarity.tolist() == [[0.0, 0.0]]


def test_words_of_are_the_heaviest(model, images):
    weights = model.encode_image(images[:1])
    everything = model.decode(weights)[0]
    assert model.words_of(images[0], 3) == everything[:3]
    assert everything[0][1] == pytest.approx(weights.data.max())


def test_a_checkpoint_gives_the_same_model(model, checkpoint, captions, images):
    for load in (LexLIP, AutoModel):
        again = load.from_pretrained(checkpoint)
        assert type(again) is LexLIP and not again.training
        assert again.fingerprint == model.fingerprint
        assert again.lexicon.hash == model.lexicon.hash
        for encode, items in (("encode_text", captions), ("encode_image", images)):
            ours, theirs = (getattr(m, encode)(items).toarray() for m in (model, again))
            assert np.array_equal(ours, theirs)


def test_the_fingerprint_knows_every_weight_and_the_vocabulary(make_model):
    model = make_model()
    prints = {model.fingerprint}
    for name in ("text_head.bias", "own_word_boost", "vision.neck.layer.0.output.dense.weight"):
        with torch.no_grad():
            model.get_parameter(name).view(-1)[-1].add_(1e-3)
        prints.add(model.fingerprint)
    model.lexicon_ids[-1] -= 1
    prints.add(model.fingerprint)
    model.processor.tokenizer.add_tokens(["xyzzy"])
    prints.add(model.fingerprint)
    assert len(prints) == 6


@pytest.mark.parametrize("fault", ["missing", "empty", "damaged", "other kind"])
def test_what_is_no_checkpoint_is_one_line(make_model, model, tmp_path, fault):
    folder = tmp_path / "checkpoint"
    if fault == "empty":
        folder.mkdir()
    elif fault == "damaged":
        model.save_pretrained(folder)
        (folder / "model.safetensors").write_bytes(b"no weights")
    elif fault == "other kind":
        make_model(kind=DenseDualEncoder).save_pretrained(folder)
    with pytest.raises(
        LexLIPError, match="not a LexLIP checkpoint|no checkpoint|is corrupted"
    ) as error:
        LexLIP.from_pretrained(folder)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_the_dense_control_averages_what_lexlip_pools(make_model, captions, images, tmp_path):
    model = make_model(kind=DenseDualEncoder)
    rows = model.encode_query([*captions, ""])
    assert_allclose(np.linalg.norm(rows, axis=1)[:-1], 1, rtol=1e-5)
    assert not rows[-1].any()  # no word, no direction, and no NaN
    batch = tokens(model, captions)
    with torch.no_grad():
        states, spoken = model.text(**batch), model.text.positions(**batch)
        means = torch.stack([s[p].mean(0) for s, p in zip(states, spoken, strict=True)])
        wanted = (means @ model.text_projection.weight.T).numpy()
        patches = model.vision(model.vision.features(model.processor.pixels(images)))
        seen = (patches.mean(1) @ model.image_projection.weight.T).numpy()
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    assert_allclose(rows[:-1], wanted, **close)
    assert_allclose(model.encode_document(images, batch_size=5), seen, **close)
    model.save_pretrained(tmp_path)
    again = DenseDualEncoder.from_pretrained(tmp_path)
    assert np.array_equal(again.encode_query(captions), model.encode_query(captions))


def test_similarity_takes_unsorted_sparse_rows(model):
    a = csr_array((np.array([3.0, 4.0]), np.array([7, 2]), np.array([0, 2])), shape=(1, 9))
    b = csr_array((np.array([1.0]), np.array([2]), np.array([0, 1])), shape=(1, 9))
    assert model.similarity(a, b)[0, 0] == pytest.approx(0.8)
