"""Provenance against all logits of the model, made without its pooling."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BertTokenizer

from lexlip.errors import LexLIPError
from lexlip.models.lexlip import LexLIP
from lexlip.models.localisation.occlusion import occlusion
from lexlip.models.localisation.patches import layout, provenance
from lexlip.models.localisation.results import Raised
from lexlip.models.localisation.texts import text_attention, text_provenance

TEXTS = (
    "a red circle above two blue squares",
    "three striped triangles in the snow",
    "red red xyzzy red , blue",
    "the dark wall " * 12,
)


def logits(head, hidden):
    """Every logit [positions, words], by hand: no pooling, no tiles."""
    with torch.no_grad():
        return (head.transform(hidden.float()) @ head.words.T + head.bias).numpy()


def picture_logits(model, image):
    with torch.no_grad():
        features = model.vision.features(model.processor.pixels([image]))
        states = model.vision.neck(model.vision.seen(features)).last_hidden_state[:, 1:]
        return logits(model.image_head, model.vision.out(states)[0])


def text_logits(model, text):
    """Logits and token ids of the positions that count; padding is not even made."""
    tokens = model.processor.tokenize([text], model.config.max_text_length)
    ids = tokens["input_ids"][0].tolist()
    with torch.no_grad():
        hidden = model.text.trunk(input_ids=tokens["input_ids"]).last_hidden_state[0]
    kept = [at for at, token in enumerate(ids) if token not in model.text.excluded]
    return logits(model.text_head, hidden)[kept], [ids[at] for at in kept], kept


def test_the_winner_is_the_arg_max_of_all_logits(model, images):
    terms = model.lexicon.ids.tolist()
    seen = set()
    for image in images:
        every = picture_logits(model, image)
        found = provenance(model, image, terms)
        weights = model.encode_image([image]).toarray()[0]
        assert found.grid == (4, 4) and found.box == (0, 0, 1, 1)
        assert list(found.patches) == list(found.heat) == terms
        for column, term in enumerate(terms):
            heat = np.log1p(np.maximum(every[:, column], 0)).reshape(4, 4)
            np.testing.assert_allclose(found.heat[term], heat, atol=1e-5)
            assert found.heat[term].max() == pytest.approx(weights[term], abs=1e-5)
            if weights[term] > 0:
                assert found.heat[term].dtype == np.float32
                assert every[found.patches[term], column] == pytest.approx(every[:, column].max())
                seen.add(found.patches[term])
            else:
                assert found.patches[term] == -1 and not found.heat[term].any()
    assert len(seen) > 5


def test_the_winner_is_that_of_the_pooling(model, images):
    terms = model.lexicon.ids.tolist()
    with torch.no_grad():
        features = model.vision.features(model.processor.pixels(images[:3]))
        pooled, winner = model.pool_image(features)
    for row, image in enumerate(images[:3]):
        found = provenance(model, image, terms)
        wanted = torch.where(pooled[row] > 0, winner[row], -1).tolist()
        assert list(found.patches.values()) == wanted


def test_shares_add_up_to_the_score(model, images):
    rng = np.random.default_rng(0)
    terms = model.lexicon.ids.tolist()
    found = provenance(model, images[0], terms)
    scores = {term: int(rng.integers(-999, 9999)) for term in terms}
    shares = found.shares(scores)
    assert shares.shape == (4, 4)
    assert shares.sum() == sum(s for t, s in scores.items() if found.patches[t] >= 0)
    for patch in range(16):
        won = sum(scores[term] for term in terms if found.patches[term] == patch)
        assert shares.flat[patch] == won


def test_words_that_no_picture_can_have(model, images):
    mask = model.processor.tokenizer.mask_token_id
    found = provenance(model, images[0], [mask])
    assert found.patches == {mask: -1} and not found.heat[mask].any()
    assert provenance(model, images[0], []).patches == {}
    for term in (-1, len(model.lexicon.tokens), 2.5, "red"):
        with pytest.raises(LexLIPError, match="not a term id"):
            provenance(model, images[0], [term])
        with pytest.raises(LexLIPError, match="not a term id"):
            text_provenance(model, "a red circle", [term])


def test_a_picture_that_cannot_be_read(model, photos):
    with pytest.raises(LexLIPError, match=r"broken\.png"):
        provenance(model, photos / "broken.png", [9])
    with pytest.raises(LexLIPError, match="no such file"):
        provenance(model, photos / "gone.png", [9])


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (64, 64), (31, 17), (3000, 1000)])
def test_the_grid_lies_on_what_the_preprocessor_keeps(model, size):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    assert layout(model, size, 16) == ((4, 4), (0, 0, 1, 1))
    crop = CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32})
    other = copy.copy(model)
    other.processor = copy.copy(model.processor)
    other.processor.image_processor = crop
    width, height = size
    shares = [32 / 40 * min(size) / side for side in size]  # 32 of the short side's 40 pixels
    grid, box = layout(other, size, 16)
    wanted = [0.5 - shares[0] / 2, 0.5 - shares[1] / 2, 0.5 + shares[0] / 2, 0.5 + shares[1] / 2]
    assert grid == (4, 4)
    # A pixel of the resized picture, which is also what an odd margin is rounded to.
    pixel = [min(size) / 40 / width, min(size) / 40 / height] * 2
    assert np.all(np.abs(np.array(box) - wanted) <= pixel)


def test_wide_pictures_have_wide_grids(make_model):
    model = make_model()
    model.processor.image_processor.size = {"height": 16, "width": 64}
    assert layout(model, (100, 100), 16)[0] == (2, 8)
    assert layout(model, (100, 100), 15)[0] == (1, 15)  # no rectangle of that shape


@pytest.mark.parametrize("text", TEXTS[:3])  # the last one is longer than a window
def test_texts_are_raised_by_the_winner_or_by_their_own_word(model, text):
    every, ids, kept = text_logits(model, text)
    _, words, numbers = model.read_text(text)
    weights = model.encode_text([text]).toarray()[0]
    boost = torch.relu(model.own_word_boost).detach().numpy()
    found = text_provenance(model, text, model.lexicon.ids.tolist())
    assert words == found.words
    for column, term in enumerate(model.lexicon.ids.tolist()):
        it = found.raised[term]
        best = max(0.0, float(every[:, column].max()))
        own = [numbers[at] for at, token in zip(kept, ids, strict=True) if token == term]
        assert it.logit == pytest.approx(best, abs=1e-5)
        assert it.boost == pytest.approx(boost[column] if own else 0.0)
        assert it.weight == pytest.approx(weights[term], abs=1e-5)
        winners = [numbers[at] for at, row in zip(kept, every, strict=True)
                   if row[column] == pytest.approx(best, abs=1e-6)]  # fmt: skip
        if it.weight == 0:
            assert it.word == -1
        elif own and it.boost > it.logit:
            assert it.word in own
        else:
            assert it.word in winners
    had = text_provenance(model, text)
    assert set(had.raised) == set(np.flatnonzero(weights).tolist())
    assert {t for _, terms in had.by_word() for t in terms} == set(had.raised)


def test_without_a_boost_only_the_maximum_counts(make_model):
    model = make_model(own_word_boost=False)
    with torch.no_grad():
        model.text_head.bias.add_(1.0)
    every, _, kept = text_logits(model, TEXTS[0])
    _, _, numbers = model.read_text(TEXTS[0])
    found = text_provenance(model, TEXTS[0]).raised
    assert len(found) > 5 and all(it.boost == 0 for it in found.values())
    for term, it in found.items():
        column = every[:, model.lexicon.compact[term]]
        assert it.word == numbers[kept[int(column.argmax())]]


def test_provenance_does_not_depend_on_padding(model):
    """Words of a text are the same when it stands beside a longer one."""
    together = model.encode_text(list(TEXTS)).toarray()
    for row, text in enumerate(TEXTS):
        raised = text_provenance(model, text).raised
        assert set(np.flatnonzero(together[row]).tolist()) == set(raised)
        for term, it in raised.items():
            assert it.weight == pytest.approx(together[row, term], abs=1e-5)


def test_texts_without_words(model):
    for text in ("", "   ", "xyzzy"):
        found = text_provenance(model, text)
        assert found.raised == {} and all(not terms for _, terms in found.by_word())
    assert text_attention(model, "") == []
    red = model.lexicon.tokens.index("red")
    assert text_provenance(model, "xyzzy", [red]).raised == {red: Raised(-1, 0.0, 0.0)}


def test_a_long_text_is_traced_to_its_end(model):
    found = text_provenance(model, TEXTS[3])
    assert list(found.words) == TEXTS[3].split()
    assert len(found.words) > model.config.max_text_length
    assert len(text_attention(model, TEXTS[3])) == len(found.words)


@pytest.fixture(scope="module")
def in_pieces(model, tmp_path_factory):
    """The model with a tokenizer that takes "squares" and "striped" apart."""
    folder = tmp_path_factory.mktemp("pieces")
    model.save_pretrained(folder)
    other = LexLIP.from_pretrained(folder)
    vocabulary = dict(other.processor.tokenizer.get_vocab())
    for whole, piece in (("squares", "##s"), ("striped", "str"), ("spotted", "##iped")):
        vocabulary[piece] = vocabulary.pop(whole)
    other.processor.tokenizer = BertTokenizer(vocab=vocabulary, do_lower_case=True)
    return other


def test_pieces_are_joined_to_words(in_pieces):
    text = "Two striped  squares, a red circle"
    pieces = ["two", "str", "##iped", "square", "##s", ",", "a", "red", "circle"]
    assert in_pieces.processor.tokenizer.tokenize(text)[:5] == pieces[:5]
    tokens, words, numbers = in_pieces.read_text(text)
    assert words == ("Two", "striped", "squares", ",", "a", "red", "circle")
    assert numbers == [-1, 0, 1, 1, 2, 2, 3, 4, 5, 6, -1]
    assert len(tokens) == 11
    every, ids, kept = text_logits(in_pieces, text)
    for term, it in text_provenance(in_pieces, text).raised.items():
        column = every[:, in_pieces.lexicon.compact[term]]
        own = [numbers[at] for at, token in zip(kept, ids, strict=True) if token == term]
        assert it.word in (numbers[kept[int(column.argmax())]], *own)
    raised = text_provenance(in_pieces, text)
    tail = in_pieces.processor.tokenizer.convert_tokens_to_ids("##iped")
    assert words[raised.raised[tail].word] == "striped"  # a piece of it, and its own


def test_attention_is_that_of_the_last_layer(in_pieces):
    """By hand: softmax of scaled products of the last layer's queries and keys, [CLS]'s row."""
    text = "two striped squares"
    ids = in_pieces.processor.tokenize([text], 16)["input_ids"]
    trunk = in_pieces.text.trunk
    with torch.no_grad():
        states = trunk(input_ids=ids, output_hidden_states=True).hidden_states[-2]
        part = trunk.encoder.layer[-1].attention.self
        heads, size = part.num_attention_heads, part.attention_head_size
        query, key = (
            layer(states)[0].unflatten(1, (heads, size)).transpose(0, 1)
            for layer in (part.query, part.key)
        )
        row = (query @ key.transpose(1, 2) / math.sqrt(size)).softmax(-1).mean(0)[0].numpy()
    joined = np.array([row[1], row[2] + row[3], row[4] + row[5]])
    found = text_attention(in_pieces, text)
    assert [word for word, _ in found] == ["two", "striped", "squares"]
    np.testing.assert_allclose([share for _, share in found], joined / joined.sum(), atol=1e-6)


def test_hiding_a_patch_takes_what_it_gave(model, images):
    terms = [*model.lexicon.ids.tolist(), model.processor.tokenizer.mask_token_id]
    lost = occlusion(model, images[0], terms, batch_size=5)
    before = model.encode_image([images[0]]).toarray()[0]
    pixels = model.processor.pixels([images[0]])
    median = pixels[0].flatten(1).median(1).values
    for patch in (0, 6, 15):
        row, column = divmod(patch, 4)
        hidden = pixels.clone()
        for x in range(8):
            for y in range(8):
                hidden[0, :, 8 * row + y, 8 * column + x] = median
        with torch.no_grad():
            features = model.vision.features(hidden)
        after = model.encode_features(features.numpy()).toarray()[0]
        for term in terms:
            wanted = max(0.0, before[term] - after[term])
            assert lost[term].flat[patch] == pytest.approx(wanted, abs=1e-5)
    assert max(heat.max() for heat in lost.values()) > 0.01


def test_pictures_of_any_kind_are_explained_alike(model, photos, images):
    terms = model.lexicon.ids.tolist()
    path = photos / "03.png"
    kinds = (path, path.read_bytes(), np.asarray(images[3]), Image.open(path))
    first, *others = (provenance(model, kind, terms) for kind in kinds)
    for other in others:
        assert other.patches == first.patches
