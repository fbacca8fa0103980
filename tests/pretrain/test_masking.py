"""Whole-word masking: which tokens, how many, and what becomes of them."""

from __future__ import annotations

import pytest
import torch
from transformers import BertTokenizer

from pretrain.data import Tokens
from pretrain.masking import IGNORE, Masker, kept_patches

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = ["snow", "##board", "##ing", "dog", "two", "the", *(f"w{i}" for i in range(200))]
VOCABULARY = [*SPECIAL, *PIECES]
MASK = VOCABULARY.index("[MASK]")


def masker(off=("the",)):
    """Every id but the special ones and `off` may carry a weight, in the order of ids."""
    compact = torch.full((len(VOCABULARY),), -1)
    on = [i for i, t in enumerate(VOCABULARY) if t not in SPECIAL and t not in off]
    compact[on] = torch.arange(len(on))
    return Masker(MASK, compact)


@pytest.fixture(scope="module")
def batch():
    """4,000 texts of different lengths, through the tokenizer and the batches of training."""
    tokenizer = BertTokenizer(vocab={t: i for i, t in enumerate(VOCABULARY)}, do_lower_case=True)
    texts = ["snowboarding the two dog", "the dog snowboard w1 w2 w3 w4"] * 2000
    rows = Tokens.of(texts, tokenizer, 16).rows(torch.arange(4000).numpy())
    pieces = tokenizer.convert_ids_to_tokens(rows["input_ids"][0])
    assert pieces[1:4] == ["snow", "##board", "##ing"] and pieces[-1] == "[PAD]"
    return rows


def draw(batch, share, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return masker(**options)(batch["input_ids"], batch["word_ids"], share, generator)


def test_special_tokens_and_padding_are_never_touched(batch):
    masked, labels = draw(batch, 1.0)
    special = batch["input_ids"] < len(SPECIAL)
    assert torch.equal(masked[special], batch["input_ids"][special])
    assert (labels[special] == IGNORE).all()
    assert (labels[~special & (batch["input_ids"] != VOCABULARY.index("the"))] >= 0).all()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_the_share_of_chosen_words_is_what_was_asked(batch, share):
    _, labels = draw(batch, share, off=())
    starts = (batch["word_ids"] >= 0) & (batch["word_ids"] != batch["word_ids"].roll(1, 1))
    # 22,000 words: three standard deviations are one per cent at most.
    assert (labels[starts] != IGNORE).float().mean().item() == pytest.approx(share, abs=0.01)


def test_whole_words_are_chosen_together(batch):
    _, labels = draw(batch, 0.3)
    word = labels[::2, 1:4] != IGNORE
    assert torch.equal(word.any(1), word.all(1))
    assert 0.2 < word.all(1).float().mean() < 0.4
    others = labels[::2, 5] != IGNORE  # words are drawn one by one, not texts
    assert 0.05 < (word[:, 0] & others).float().mean() < 0.13


def test_labels_are_lexicon_columns_of_the_original_tokens(batch):
    _, labels = draw(batch, 0.5)
    chosen = labels != IGNORE
    assert torch.equal(labels[chosen], masker().compact[batch["input_ids"][chosen]])
    assert (labels[chosen] >= 0).all()


def test_a_word_off_the_lexicon_is_masked_but_not_predicted(batch):
    masked, labels = draw(batch, 0.5)
    the = batch["input_ids"] == VOCABULARY.index("the")
    assert (labels[the] == IGNORE).all()
    assert 0.3 < (masked[the] == MASK).float().mean() < 0.5


def test_chosen_tokens_become_mask_random_or_stay(batch):
    masked, labels = draw(batch, 0.5)
    chosen = labels != IGNORE
    before, after = batch["input_ids"][chosen], masked[chosen]
    shares = {
        "mask": (after == MASK).float().mean(),
        "same": (after == before).float().mean(),
        "other": ((after != MASK) & (after != before)).float().mean(),
    }
    for kind, wanted in (("mask", 0.8), ("same", 0.1), ("other", 0.1)):
        assert shares[kind].item() == pytest.approx(wanted, abs=0.015), kind
    replaced = after[(after != MASK) & (after != before)]
    assert len(set(replaced.tolist())) > 150  # of 211 ids


def test_what_is_not_chosen_stays(batch):
    masked, labels = draw(batch, 0.3, off=())
    kept = labels == IGNORE
    assert torch.equal(masked[kept], batch["input_ids"][kept])


def test_the_generator_alone_decides(batch):
    first, again, other = (draw(batch, 0.3, seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], other[1])
    generator = torch.Generator().manual_seed(1)
    arguments = batch["input_ids"], batch["word_ids"], 0.3, generator
    assert not torch.equal(masker()(*arguments)[1], masker()(*arguments)[1])


def test_patches_are_drawn_anew_each_step_and_evenly():
    counts = torch.zeros(10)
    for seed in range(2000):
        kept = kept_patches(10, 0.6, torch.Generator().manual_seed(seed))
        assert len(kept) == 6 and kept.tolist() == sorted(set(kept.tolist()))
        counts[kept] += 1
    assert (counts / 2000 - 0.6).abs().max() < 0.05
    same = [kept_patches(10, 0.6, torch.Generator().manual_seed(3)).tolist() for _ in range(2)]
    assert same[0] == same[1]


@pytest.mark.parametrize(("share", "left"), [(1.0, None), (1.5, None), (0.01, 1), (0.5, 5)])
def test_a_share_of_the_patches_is_at_least_one(share, left):
    kept = kept_patches(10, share, torch.Generator())
    assert kept is None if left is None else len(kept) == left
