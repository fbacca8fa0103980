"""The dense branch: what padding, order and company may not change, and words that stay."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.nn.functional import normalize
from transformers import AutoModel

from lexlip.build.encode import check_heads
from lexlip.build.recipe import Recipe
from lexlip.errors import LexLIPError
from lexlip.models.config import LexLIPConfig
from lexlip.models.dense_branch import Dense, GaussianHead, TokenHead, TokenReduction, to_views
from lexlip.models.lexlip import LexLIP

close = {"rtol": 1e-4, "atol": 1e-5}
TEXTS = ["a red circle", "", "two blue squares and a green star in the snow", "xyzzy", "dark wall"]


def shake(module, seed=0):
    """Large random weights everywhere, so that nothing is hidden by zeros or near-equal rows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


@pytest.fixture(scope="module")
def with_heads(make_model):
    """Return a function: a tiny model with shaken heads."""

    def make(token_size=8, gaussian_size=6, token_count=0, layers=1, **changes):
        model = make_model(**changes)
        model.add_heads(token_size, gaussian_size, token_count, layers)
        shake(model.heads)
        with torch.no_grad():
            for parameter in model.vision.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(5)
        return model.eval()

    return make


@pytest.fixture(scope="module")
def model(with_heads):
    return with_heads()


def same(a, b):
    for name in ("tokens", "counts", "mean", "log_variance"):
        assert_allclose(getattr(a, name), getattr(b, name), **close)


def test_views_have_the_shapes_of_the_config(model, images):
    words, seen = model.represent_image(images)
    assert words.shape[0] == len(seen) == 12
    assert seen.tokens.shape == (12, 16, 8) and set(seen.counts) == {16}
    assert seen.mean.shape == seen.log_variance.shape == (12, 6)
    _, said = model.represent_text(TEXTS)
    # "and" is no word that the captions know.
    assert said.counts.tolist() == [3, 0, 9, 0, 2]
    assert said.tokens.shape == (5, 9, 8)
    for views in (seen, said):
        lengths = np.linalg.norm(views.tokens, axis=2)
        own = np.arange(lengths.shape[1]) < views.counts[:, None]
        assert_allclose(lengths, own, atol=1e-5)  # unit vectors first, then zeros
        assert_allclose(np.linalg.norm(views.mean, axis=1), 1, rtol=1e-5)
        assert np.isfinite(views.log_variance).all()
    assert len({row.tobytes() for row in seen.tokens}) == 12


def test_words_are_those_of_the_model_without_heads(model, images):
    assert np.array_equal(
        model.represent_text(TEXTS)[0].toarray(), model.encode_text(TEXTS).toarray()
    )
    assert np.array_equal(
        model.represent_image(images)[0].toarray(), model.encode_image(images).toarray()
    )


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_adding_heads_changes_no_word_but_the_fingerprint(make_model, images, layers):
    bare = make_model()
    words, print_ = (bare.encode_text(TEXTS), bare.encode_image(images)), bare.fingerprint
    bare.add_heads(8, 6, layers=layers)
    for before, after in zip(
        words, (bare.represent_text(TEXTS)[0], bare.represent_image(images)[0]), strict=True
    ):
        assert np.array_equal(before.toarray(), after.toarray())
    assert bare.fingerprint != print_
    assert len(bare.heads.text.layers.layer) == min(layers, 2)  # as many as the tower has
    assert len(bare.heads.image.layers.layer) == layers


@torch.no_grad()
@pytest.mark.parametrize("layers", [1, 2])
def test_private_layers_begin_as_copies(make_model, images, layers):
    model = make_model(neck_layers=layers)
    model.add_heads(8, 6, layers=layers)
    batch = model.processor.tokenize(["a red circle", "two blue squares in the snow"], 16)
    last, lower = model.text.states(**batch, below=(0, model.heads.depth))
    heads = []
    model.heads.text.register_forward_pre_hook(lambda module, args: heads.append(args[0]))
    model.heads.of_text(lower, batch["attention_mask"], model.text.positions(**batch))
    real = batch["attention_mask"].bool()
    assert_allclose(heads[0][real], last[real], **close)
    assert not torch.allclose(lower[real], last[real], atol=1e-2)
    features = model.vision.features(model.processor.pixels(images[:2]))
    model.heads.image.register_forward_pre_hook(lambda module, args: heads.append(args[0]))
    model.heads.of_image(model.vision, features)
    assert_allclose(heads[1], model.vision.neck(features).last_hidden_state[:, 1:], **close)


def test_a_text_does_not_depend_on_its_company_nor_on_padding(model):
    rng = np.random.default_rng(0)
    known = "a red circle two blue squares large green star triangles snow".split()
    texts = [" ".join(rng.choice(known, size=rng.integers(0, 15))) for _ in range(80)]
    _, together = model.represent_text(texts)
    for size in (1, 7):
        same(model.represent_text(texts, batch_size=size)[1].take(slice(None)), together)


def test_a_picture_does_not_depend_on_its_company(model, images):
    _, together = model.represent_image(images)
    same(model.represent_image(images, batch_size=5)[1], together)
    features = model.vision.features(model.processor.pixels(images)).detach().numpy()
    words, cached = model.represent_features(features, batch_size=5)
    same(cached, together)
    assert_allclose(words.toarray(), model.encode_image(images).toarray(), **close)


@torch.no_grad()
def test_the_order_of_patches_permutes_tokens_and_nothing_else(with_heads, images):
    model, reduced = with_heads(), with_heads(token_count=3)
    features = model.vision.features(model.processor.pixels(images[:3]))
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    mixed = torch.cat([features[:, :1], features[:, 1:][:, order]], dim=1)
    plain, permuted = (model.heads.of_image(model.vision, f) for f in (features, mixed))
    assert_allclose(permuted.tokens, plain.tokens[:, order], **close)
    assert_allclose(permuted.mean, plain.mean, **close)
    assert_allclose(permuted.log_variance, plain.log_variance, **close)
    plain, permuted = (reduced.heads.of_image(reduced.vision, f) for f in (features, mixed))
    assert plain.tokens.shape == (3, 3, 8)
    assert_allclose(permuted.tokens, plain.tokens, **close)


@torch.no_grad()
def test_kept_patches_are_all_that_the_branch_sees(model, images):
    features = model.vision.features(model.processor.pixels(images[:2]))
    kept = torch.tensor([1, 4, 9])
    found = model.heads.of_image(model.vision, features, kept)
    loud = features.clone()
    loud[:, 1:][:, [i for i in range(16) if i not in (1, 4, 9)]] = 9.0
    assert found.tokens.shape[1] == 3
    assert torch.equal(found.tokens, model.heads.of_image(model.vision, loud, kept).tokens)


@torch.no_grad()
def test_special_positions_take_no_part(model):
    batch = model.processor.tokenize(["a red xyzzy circle"], 16)
    positions = model.text.positions(**batch)
    states = torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(0))
    loud = torch.where(positions.unsqueeze(-1), states, 50.0)
    one, other = model.heads.text(states, positions), model.heads.text(loud, positions)
    assert positions.tolist() == [[False, True, True, False, True, False]]
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a, b)
    # The unknown word leaves no gap.
    assert_allclose(one.views().tokens, one.tokens[:, [1, 2, 4]].numpy())


@pytest.mark.parametrize("nothing", [[], ["", "xyzzy"]])
def test_nothing_to_represent(model, nothing):
    words, views = model.represent_text(nothing)
    assert words.nnz == 0 and len(views) == len(nothing)
    assert views.tokens.shape == (len(nothing), 0, 8) and not views.counts.any()
    assert views.mean.shape == (len(nothing), 6) and np.isfinite(views.mean).all()


def test_a_model_without_heads_gives_empty_views(make_model, images):
    model = make_model()
    assert model.heads is None
    for words, views in (model.represent_text(TEXTS), model.represent_image(images[:5])):
        assert words.shape[0] == len(views) == 5
        assert not views.has_tokens and not views.has_gaussians
    with pytest.raises(LexLIPError, match="no heads"):
        check_heads(model, Recipe(keep_views=True))


@pytest.mark.parametrize(("tokens", "gaussians"), [(8, 0), (0, 6)])
def test_either_head_alone(with_heads, images, tokens, gaussians):
    model = with_heads(tokens, gaussians)
    for views in (model.represent_text(TEXTS)[1], model.represent_image(images[:5])[1]):
        assert views.has_tokens == bool(tokens) and views.has_gaussians == bool(gaussians)
        assert views.tokens.shape[2] == tokens and views.mean.shape == (5, gaussians)
        assert bool(views.counts.any()) == bool(tokens)
    check_heads(model, Recipe(keep_views=True))


@pytest.mark.parametrize("count", [0, 3])
def test_a_checkpoint_gives_the_same_views(with_heads, images, tmp_path, count):
    model = with_heads(token_count=count)
    model.config.naaf_threshold = 0.125
    model.save_pretrained(tmp_path)
    for load in (LexLIP, AutoModel):
        again = load.from_pretrained(tmp_path)
        assert again.fingerprint == model.fingerprint and again.config.naaf_threshold == 0.125
        for name, items in (("represent_text", TEXTS), ("represent_image", images)):
            (words, views), (ours, theirs) = (getattr(m, name)(items) for m in (model, again))
            assert np.array_equal(words.toarray(), ours.toarray())
            assert np.array_equal(views.tokens, theirs.tokens)
            assert np.array_equal(views.mean, theirs.mean)
            assert np.array_equal(views.log_variance, theirs.log_variance)


def test_an_old_checkpoint_loads_and_gets_heads(make_model, tmp_path, images):
    import json

    old = make_model()
    old.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("token_size", "token_count", "gaussian_size", "head_layers", "naaf_threshold"):
        config.pop(name, None)  # which older versions did not write
    (tmp_path / "config.json").write_text(json.dumps(config))
    again = LexLIP.from_pretrained(tmp_path)
    assert again.heads is None and again.fingerprint == old.fingerprint
    again.add_heads(8, 6, layers=1)
    again.save_pretrained(tmp_path / "new")
    assert LexLIP.from_pretrained(tmp_path / "new").represent_image(images[:1])[1].has_tokens


def test_the_fingerprint_knows_the_heads(with_heads):
    model = with_heads()
    prints = {model.fingerprint}
    for name in ("heads.image.tokens.projection.weight", "heads.text.gaussian.level"):
        with torch.no_grad():
            model.get_parameter(name).view(-1)[-1].add_(1e-3)
        prints.add(model.fingerprint)
    assert len(prints) == 3


def pool(attention, hidden):
    """PCME's local attention of one item's states, by the formula."""
    first, second = attention.inner.weight, attention.outer.weight
    scores = [float(second @ torch.tanh(first @ z)) for z in hidden]
    total = sum(math.exp(s) for s in scores)
    return sum(math.exp(s) / total * z for s, z in zip(scores, hidden, strict=True))


@torch.no_grad()
def test_the_gaussian_head_is_pcmes_formula():
    torch.manual_seed(0)
    head = GaussianHead(10, 4)
    shake(head)
    hidden = torch.randn(3, 6, 10)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0]]).bool()
    mean, log_variance = head(hidden, mask)
    for row in (0, 1):
        own = hidden[row, mask[row]]
        average = own.mean(0)
        local = torch.sigmoid(head.mean_residual(pool(head.mean_attention, own)))
        added = head.mean.weight @ average + head.mean.bias + local
        spread = (added - added.mean()) / (added.var(unbiased=False) + 1e-5).sqrt()
        wanted = normalize(spread * head.norm.weight + head.norm.bias, dim=0)
        assert_allclose(mean[row], wanted, **close)
        wanted = head.variance.weight @ average + head.level
        wanted = wanted + head.variance_residual.weight @ pool(head.variance_attention, own)
        assert_allclose(log_variance[row], wanted, **close)
    assert torch.isfinite(mean[2]).all() and torch.equal(log_variance[2], head.level)


def test_variances_add_up_to_one_at_first(make_model, images):
    model = make_model()
    model.add_heads(8, 16, layers=1)
    _, seen = model.represent_image(images)
    assert np.exp(seen.log_variance).sum(1) == pytest.approx(1, rel=0.3)


@torch.no_grad()
def test_the_token_reduction_is_attention_of_its_queries():
    torch.manual_seed(0)
    reduction = TokenReduction(10, 3)
    hidden = torch.randn(2, 7, 10)
    found = reduction(hidden)
    normal = reduction.norm(hidden)
    for item in range(2):
        for query in range(3):
            scores = [float(reduction.queries[query] @ z) for z in normal[item]]
            total = sum(math.exp(s) for s in scores)
            wanted = sum(math.exp(s) / total * z for s, z in zip(scores, hidden[item], strict=True))
            assert_allclose(found[item, query], wanted, **close)


def test_no_gradient_comes_from_what_does_not_count():
    head, gaussian = TokenHead(10, 4), GaussianHead(10, 4)
    hidden = torch.randn(2, 5, 10, requires_grad=True)
    mask = torch.tensor([[1, 1, 0, 0, 1], [0, 0, 0, 0, 0]]).bool()
    mean, log_variance = gaussian(hidden, mask)
    (head(hidden, mask).sum() + (mean * torch.randn(4)).sum() + log_variance.sum()).backward()
    assert torch.isfinite(hidden.grad).all()
    assert (hidden.grad.abs().sum(2) > 0).tolist() == mask.tolist()


def test_views_of_batches_of_unlike_length_join():
    def batch(*lengths):
        mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        tokens = torch.ones(*mask.shape, 2) * mask.unsqueeze(-1)
        return Dense(tokens, mask, torch.zeros(len(lengths), 0), torch.zeros(len(lengths), 0))

    views = to_views([batch(2, 1), batch(4), batch(0, 3)], 5, LexLIPConfig())
    assert views.counts.tolist() == [2, 1, 4, 0, 3]
    assert views.tokens.sum((1, 2)).tolist() == [4, 2, 8, 0, 6]
