"""The losses: identities, published numbers, and rows that must not become NaN."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from pretrain import objectives


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def weights(*shape, seed=0):
    """Sparse non-negative rows, as encoders give them."""
    return torch.log1p(torch.relu(normal(*shape, seed=seed)))


def test_contrast_of_two_orthogonal_pairs():
    # In float64, as the value lies below the resolution of float32 near 1.
    pair = torch.eye(2, 7, dtype=torch.float64)
    loss = objectives.contrast(pair, pair, 0.05)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-20)), rel=1e-6)


@pytest.mark.parametrize("n", [1, 2, 9])
def test_contrast_of_equal_vectors_is_log_n(n):
    rows = objectives.unit(torch.ones(n, 5))
    assert objectives.contrast(rows, rows, 0.05).item() == pytest.approx(math.log(n), abs=1e-5)


def by_hand(queries, keys, temperature, same):
    """InfoNCE in both directions with plain loops."""
    scores = [[float(q @ k) / temperature for k in keys] for q in queries]
    n, total = len(scores), 0.0
    for i in range(n):
        row = [scores[i][j] for j in range(n) if j == i or not same[i][j]]
        column = [scores[j][i] for j in range(n) if j == i or not same[j][i]]
        for line in (row, column):
            total += math.log(sum(math.exp(s) for s in line)) - scores[i][i]
    return total / n / 2


@pytest.mark.parametrize("twins", [[], [(0, 1)], [(0, 1), (1, 2), (0, 2), (3, 4)]])
def test_contrast_leaves_out_pairs_that_belong_together(twins):
    queries, keys = (objectives.unit(weights(5, 12, seed=s)) for s in (1, 2))
    same = torch.eye(5, dtype=torch.bool)
    for i, j in twins:
        same[i, j] = same[j, i] = True
    loss = objectives.contrast(queries, keys, 0.2, same)
    assert loss.item() == pytest.approx(by_hand(queries, keys, 0.2, same.tolist()), rel=1e-5)
    plain = objectives.contrast(queries, keys, 0.2)
    assert loss < plain if twins else loss == plain


def test_contrast_falls_when_the_right_pairs_agree():
    rows = objectives.unit(weights(6, 20))
    right = objectives.contrast(rows, rows, 0.05)
    assert right < 0.5 < objectives.contrast(rows, rows.roll(1, 0), 0.05)


def test_flops_of_published_rows():
    left = torch.tensor([[2.0, 0.0], [4.0, 4.0]])
    right = torch.tensor([[2.0, 2.0], [3.0, 4.0], [4.0, 4.0], [4.0, 4.0]])
    assert objectives.flops(left).item() == 13
    assert objectives.flops(right).item() == 22.8125
    assert objectives.flops(-left).item() == 13


@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 10**6))
def test_flops_of_unit_rows_is_their_mean_cosine(n, width, seed):
    rows = objectives.unit(weights(n, width, seed=seed).double())
    rows = rows[rows.norm(dim=1) > 0]
    if len(rows):
        flops = objectives.flops(rows).item()
        assert flops == pytest.approx((rows @ rows.T).mean().item(), rel=1e-9)
        assert flops == pytest.approx(rows.mean(0).norm().item() ** 2, rel=1e-9)
        assert 1 / len(rows) - 1e-9 <= flops <= 1 + 1e-9


def test_flops_between_its_bounds():
    assert objectives.flops(torch.eye(8)).item() == pytest.approx(1 / 8)
    assert objectives.flops(objectives.unit(torch.ones(8, 3))).item() == pytest.approx(1)


@pytest.mark.parametrize("cosine", [0.0, 0.3, 0.8])
def test_queue_of_noise_gives_the_loss_that_theory_says(cosine):
    # Cosines with random directions are normal with variance 1 / V, so exp(20 cos) has the mean
    # exp(200 / V): 1.0066 for the 30,522 words of the paper.
    size, width = 3000, 3000
    queue = objectives.unit(normal(size, width))
    query = objectives.unit(normal(8, width, seed=1))
    noise = normal(8, width, seed=2)
    noise = objectives.unit(noise - (noise * query).sum(1, keepdim=True) * query)
    keys = cosine * query + math.sqrt(1 - cosine**2) * noise
    wanted = math.log1p(math.exp(200 / width) * size * math.exp(-20 * cosine))
    assert objectives.queue_contrast(query, keys, [queue], 0.05).item() == pytest.approx(
        wanted, rel=0.01
    )


def test_queue_contrast_by_hand_and_masked():
    query, key = (objectives.unit(weights(3, 6, seed=s)) for s in (1, 2))
    queue = objectives.unit(weights(4, 6, seed=3))
    same = torch.zeros(3, 4, dtype=torch.bool)
    same[0, 2] = same[2] = True
    losses = []
    for i in range(3):
        scores = [float(query[i] @ key[i])]
        scores += [float(query[i] @ queue[j]) for j in range(4) if not same[i, j]]
        losses.append(math.log(sum(math.exp(s / 0.2) for s in scores)) - scores[0] / 0.2)
    assert losses[2] == pytest.approx(0)  # without a negative nothing can be wrong
    loss = objectives.queue_contrast(query, key, [queue[:1], queue[1:]], 0.2, same)
    assert loss.item() == pytest.approx(sum(losses) / 3, rel=1e-5)


def test_no_gradient_reaches_keys_or_queue():
    query, key, queue = (normal(3, 5, seed=s).requires_grad_() for s in range(3))
    objectives.queue_contrast(query, key, [queue], 0.05).backward()
    assert query.grad is not None and query.grad.any()
    assert key.grad is None and queue.grad is None


def test_grounding_by_hand():
    pooled = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [5.0, 5.0, 5.0]])
    target = torch.tensor([[1.0, 3.0, 0.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]])
    total = math.exp(1) + math.exp(2) + 1
    first = -(0.25 * (1 - math.log(total)) + 0.75 * (2 - math.log(total)))
    # The third row has no word and is left out of the mean.
    wanted = (first + math.log(3)) / 2
    assert objectives.grounding(pooled, target).item() == pytest.approx(wanted, rel=1e-6)


def test_grounding_is_least_where_the_words_are_those_of_the_caption():
    target = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    best = objectives.grounding(torch.tensor([[9.0, 9.0, -9.0, -9.0]]), target)
    assert best.item() == pytest.approx(math.log(2), abs=1e-6)
    assert objectives.grounding(torch.zeros(1, 4), target) > best


def test_masked_language_is_the_mean_over_labelled_positions():
    logits, labels = normal(4, 6), torch.tensor([2, -100, 0, -100])
    wanted = -torch.log_softmax(logits, 1)[[0, 2], [2, 0]].mean()
    assert_close(objectives.masked_language(logits, labels), wanted)


def test_bottleneck_of_a_certain_word_is_its_vector():
    words, pooled = normal(9, 4), normal(3, 9, seed=1)
    pooled[0, 5] = 1e4
    squeezed = objectives.bottleneck(pooled, words)
    assert_close(squeezed[0], words[5])
    # With one-hot word vectors the result is the distribution itself.
    shares = objectives.bottleneck(pooled, torch.eye(9))
    assert_close(shares.sum(1), torch.ones(3))
    assert (shares >= 0).all()
    assert_close(squeezed, shares @ words)


def test_bottleneck_teaches_the_distribution_and_not_the_words():
    words, pooled = normal(9, 4).requires_grad_(), normal(3, 9, seed=1).requires_grad_()
    objectives.bottleneck(pooled, words).square().sum().backward()
    assert words.grad is None
    assert pooled.grad.abs().sum() > 0


def test_unit_rows():
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert_close(objectives.unit(rows), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


def test_empty_rows_and_empty_targets_give_no_nan():
    rows = weights(4, 6)
    rows[1] = 0
    rows.requires_grad_()
    none = torch.full((4,), -100)
    units = objectives.unit(rows)
    losses = [
        objectives.contrast(units, units, 0.05),
        objectives.queue_contrast(units, units, [units], 0.05, torch.ones(4, 4).bool()),
        objectives.flops(rows),
        objectives.grounding(rows, torch.zeros(4, 6)),
        objectives.masked_language(rows, none),
        objectives.masked_language(rows[:0], none[:0]),
        objectives.bottleneck(rows, torch.eye(6)).sum(),
    ]
    sum(losses).backward()
    assert all(loss.isfinite() for loss in losses)
    assert rows.grad.isfinite().all()
    assert losses[3] == losses[4] == losses[5] == 0


def test_taught_is_a_divergence_in_both_directions():
    scores, teacher = normal(5, 5, seed=8), normal(5, 5, seed=9)
    assert objectives.taught(teacher, teacher).item() == pytest.approx(0, abs=1e-6)

    def kl(p, q):
        p, q = p.softmax(-1).double(), q.softmax(-1).double()
        return (p * (p / q).log()).sum(-1).mean().item()

    wanted = (kl(teacher, scores) + kl(teacher.T, scores.T)) / 2
    assert objectives.taught(scores, teacher).item() == pytest.approx(wanted, rel=1e-5)
    # The teacher is a constant, and pairs that belong together do not count.
    teacher.requires_grad_()
    student = scores.clone().requires_grad_()
    same = torch.eye(5, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True
    objectives.taught(student, teacher, same).backward()
    assert teacher.grad is None
    assert student.grad[0, 1] == student.grad[1, 0] == 0 and student.grad[0, 0] != 0


@pytest.mark.parametrize("terms", [1, 3, 9, 20])
def test_kept_are_the_largest(terms):
    rows = weights(4, 9, seed=3) + torch.arange(9) * 1e-6
    found = objectives.kept(rows, terms)
    for row, all_of_it in zip(found.tolist(), rows.tolist(), strict=True):
        assert sorted(row, reverse=True)[:terms] == sorted(all_of_it, reverse=True)[:terms]
        assert sum(x > 0 for x in row) <= terms
