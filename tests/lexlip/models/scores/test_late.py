"""Late interaction against loops, published numbers, and pairs that must not become NaN."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, normalize
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from lexlip.models.scores import pairs
from lexlip.models.scores.late import late_interaction
from tests.support import rerank_oracles as oracles

FILIP = (
    torch.tensor([[0.87694947, 0.71720032], [0.73217510, 0.56339820]], dtype=torch.float64),
    torch.tensor([[0.95762615, 0.93070588], [0.81029139, 0.59717351]], dtype=torch.float64),
)


def full(tokens):
    return torch.ones(tokens.shape[:2], dtype=torch.bool)


def by_hand(image, image_mask, text, text_mask):
    table = [
        [oracles.late(i, t) for t in oracles.items(text, text_mask)]
        for i in oracles.items(image, image_mask)
    ]
    return torch.tensor(table, dtype=torch.float64).unbind(-1)


def test_the_numbers_of_the_authors_programs():
    i2t, t2i = late_interaction(*oracles.two_by_two())
    assert_close(i2t, FILIP[0], atol=5e-9, rtol=0)
    assert_close(t2i, FILIP[1], atol=5e-9, rtol=0)
    average = torch.tensor([[0.91728781, 0.82395310], [0.77123325, 0.58028586]]).double()
    assert_close((i2t + t2i) / 2, average, atol=6e-8, rtol=0)
    # Each direction of the training loss has its own similarities.
    own = torch.arange(2)
    losses = [cross_entropy(scores / 0.07, own).item() for scores in (i2t, t2i.T)]
    assert losses == pytest.approx([1.297102, 2.444118], abs=5e-7)
    assert sum(losses) / 2 == pytest.approx(1.870610, abs=5e-7)


def test_padding_is_not_a_word_at_cosine_0():
    image = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    text, mask = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]), torch.tensor([[True, False]])
    i2t, t2i = late_interaction(image, full(image), text, mask)
    assert (i2t.item(), t2i.item()) == (0.0, 1.0)


@pytest.mark.parametrize("tile", [1, 70, 2**21])
@pytest.mark.parametrize(("pictures", "texts"), [(4, 3), (1, 5), (5, 1)])
def test_values_are_those_of_loops(monkeypatch, tile, pictures, texts):
    monkeypatch.setattr(pairs, "TILE", tile)
    for seed in range(4):
        given = *oracles.batch(seed, pictures), *oracles.batch(seed + 9, texts, width=4)
        for ours, wanted in zip(late_interaction(*given), by_hand(*given), strict=True):
            assert_close(ours, wanted, atol=1e-12, rtol=0)
        single = [t.float() if t.is_floating_point() else t for t in given]
        for ours, wanted in zip(late_interaction(*single), by_hand(*given), strict=True):
            assert ours.dtype == torch.float32
            assert_close(ours.double(), wanted, atol=1e-6, rtol=0)


@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 6), st.integers(1, 8))
def test_invariances(seed, patches, words, size):
    image, image_mask = oracles.batch(seed, 2, patches, size, empty=False)
    text, text_mask = oracles.batch(seed + 1, 3, words, size, empty=False)
    i2t, t2i = late_interaction(image, image_mask, text, text_mask)
    assert i2t.abs().max() <= 1 + 1e-12 and t2i.abs().max() <= 1 + 1e-12
    swapped = late_interaction(text, text_mask, image, image_mask)
    assert_close((swapped[1].T, swapped[0].T), (i2t, t2i))
    order = torch.randperm(patches, generator=torch.Generator().manual_seed(seed))
    assert_close(
        late_interaction(image[:, order], image_mask[:, order], text, text_mask), (i2t, t2i)
    )
    twice = torch.cat([image, image[:, :1]], 1), torch.cat([image_mask, image_mask[:, :1]], 1)
    assert_close(late_interaction(*twice, text, text_mask)[1], t2i)
    longer = [
        torch.nn.functional.pad(text, (0, 0, 1, 2)),
        torch.nn.functional.pad(text_mask, (1, 2)),
    ]
    assert_close(late_interaction(image, image_mask, *longer), (i2t, t2i))
    same = late_interaction(image, image_mask, image, image_mask)
    assert_close([s.diagonal() for s in same], [torch.ones(2, dtype=torch.float64)] * 2)
    one = late_interaction(image[:, :1], image_mask[:, :1], text, text_mask)[1]
    kept = [t[m].mean(0) for t, m in zip(text, text_mask, strict=True)]
    assert_close(one, image[:, 0] @ torch.stack(kept).T)


@pytest.mark.parametrize("tile", [1, 2**21])
def test_gradients(monkeypatch, tile):
    monkeypatch.setattr(pairs, "TILE", tile)
    image, image_mask = oracles.batch(1, 3, 4, 3)
    text, text_mask = oracles.batch(2, 2, 3, 3)
    image, text = normalize(image, dim=-1), normalize(text, dim=-1)
    inputs = [image.requires_grad_(), text.requires_grad_()]
    assert torch.autograd.gradcheck(
        lambda i, t: late_interaction(i, image_mask, t, text_mask), inputs
    )


def test_a_pair_without_tokens_scores_lowest_and_gives_no_gradient():
    image, image_mask = oracles.batch(3)
    text, text_mask = oracles.batch(4)
    image[~image_mask] = torch.nan
    text[~text_mask] = torch.inf
    image.requires_grad_(), text.requires_grad_()
    i2t, t2i = late_interaction(image, image_mask, text, text_mask)
    for scores in (i2t, t2i):
        assert (scores[-1] == -1).all() and (scores[:, -1] == -1).all()
        assert (scores[:-1, :-1] > -1).all()
    (i2t.exp() + t2i.exp()).sum().backward()
    for tensor, mask in ((image, image_mask), (text, text_mask)):
        assert (tensor.grad[~mask] == 0).all() and tensor.grad.isfinite().all()
        assert tensor.grad[mask].any()


@pytest.mark.parametrize(("pictures", "patches"), [(0, 3), (3, 0), (2, 2)])
@pytest.mark.parametrize(("texts", "words"), [(0, 2), (2, 0)])
def test_nothing_to_compare(pictures, patches, texts, words):
    image, text = torch.ones(pictures, patches, 4), torch.ones(texts, words, 4).requires_grad_()
    scores = late_interaction(image, full(image), text, full(text))
    assert all(s.shape == (pictures, texts) and (s == -1).all() for s in scores)
    sum(s.sum() for s in scores).backward()


class Largest(TorchDispatchMode):
    """Remember the size of the largest tensor that any kernel made, backward passes included."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, torch.Tensor):
                self.numel = max(self.numel, value.numel())
        return result


@pytest.mark.parametrize(("count", "other"), [(32, 32), (400, 2), (2, 400)])
def test_no_tensor_as_large_as_all_cosines_is_made(monkeypatch, count, other):
    monkeypatch.setattr(pairs, "TILE", 2**14)
    image, image_mask = oracles.batch(1, count, 9, 3)
    text, text_mask = oracles.batch(2, other, 8, 3)
    image.requires_grad_(), text.requires_grad_()
    with Largest() as largest:
        scores = late_interaction(image, image_mask, text, text_mask)
        sum(s.sum() for s in scores).backward()
    assert image.grad.any() and text.grad.any()
    assert 2**13 < largest.numel <= 2**14 < count * other * 9 * 8


def test_mixed_precision_trains():
    image, image_mask = oracles.batch(1)
    text, text_mask = oracles.batch(2)
    image, text = image.float().requires_grad_(), text.float()
    with torch.autocast("cpu", torch.bfloat16):
        scores = late_interaction(image, image_mask, text, text_mask)
    wanted = by_hand(image.double(), image_mask, text.double(), text_mask)
    for ours, exact in zip(scores, wanted, strict=True):
        assert ours.dtype == torch.float32
        assert_close(ours.double(), exact, atol=0.02, rtol=0)
    sum(s.sum() for s in scores).backward()
    assert image.grad.isfinite().all() and image.grad.any()
