"""Batches: in an order that seed and epoch fix, each caption with its own picture."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from lexlip.data.collection import Collection
from pretrain.data import Pairs, Tokens, join
from pretrain.task import for_captions


@pytest.fixture(scope="module")
def owned(captions):
    """Pictures 0 to 12 with one to four captions, some of which are equal."""
    rng = np.random.default_rng(0)
    return [[str(c) for c in rng.choice(captions, size=1 + i % 4)] for i in range(13)]


@pytest.fixture(scope="module")
def pairs(model, owned, captions):
    """Views that say which they are: pixel value 10 i + v for view v of picture i."""
    collection = Collection([f"p{i}" for i in range(13)], owned, [b""] * 13)
    views = np.array([[[10 * i + v] for v in range(2)] for i in range(13)], dtype=np.uint8)
    extra = ["a red star", *captions]
    return Pairs.of(collection, views, model.processor.tokenizer, model.lexicon, 16, extra)


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return np.array_equal(np.asarray(a), np.asarray(b))


def test_a_batch_holds_captions_beside_their_own_pictures(pairs, owned, model):
    tokenizer = model.processor.tokenizer
    for batch in pairs.batches(0, 0, 7):
        owners = batch["owner"].numpy()
        assert np.array_equal(batch["pictures"][:, 0] // 10, owners)
        texts = tokenizer.batch_decode(batch["captions"]["input_ids"], skip_special_tokens=True)
        for owner, text in zip(owners, texts, strict=True):
            assert text.replace(" ", "") in [c.replace(" ", "") for c in owned[owner]]
        assert (
            batch["captions"]["attention_mask"].sum(1).max()
            == (batch["captions"]["input_ids"].shape[1])
        )


def test_both_views_are_used(pairs):
    seen = {int(p) % 10 for b in pairs.batches(0, 0, 7) for p in b["pictures"][:, 0]}
    assert seen == {0, 1}


def test_each_caption_comes_at_most_once_an_epoch(pairs, owned):
    total = sum(map(len, owned))
    assert len(pairs.captions) == total and pairs.steps(7) == total // 7
    for epoch in range(3):
        batches = list(pairs.batches(0, epoch, 7))
        assert len(batches) == total // 7
        counts = np.bincount(np.concatenate([b["owner"] for b in batches]), minlength=13)
        assert (counts <= [len(c) for c in owned]).all() and counts.sum() == 7 * (total // 7)


def test_a_collection_smaller_than_a_batch_is_one_batch(pairs):
    assert pairs.steps(10**6) == 1
    (batch,) = pairs.batches(0, 0, 10**6)
    assert len(batch["owner"]) == len(pairs.captions)


def test_seed_and_epoch_fix_the_order(pairs):
    first, again = (list(pairs.batches(3, 2, 7, texts=4)) for _ in range(2))
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    for seed, epoch in ((4, 2), (3, 1)):
        assert not same(first[0], next(pairs.batches(seed, epoch, 7, texts=4)))


@pytest.mark.parametrize("start", [0, 1, 3])
def test_going_on_in_the_middle_gives_the_rest(pairs, start):
    whole = list(pairs.batches(1, 5, 7, texts=4))
    rest = list(pairs.batches(1, 5, 7, texts=4, start=start))
    assert len(rest) == len(whole) - start > 0
    assert all(same(a, b) for a, b in zip(islice(whole, start, None), rest, strict=True))


def test_equal_captions_and_only_they_share_a_number(pairs, owned):
    texts = [text for captions in owned for text in captions]
    assert len(set(texts)) < len(texts)
    for i, text in enumerate(texts):
        assert [pairs.text[i] == pairs.text[j] for j in range(len(texts))] == [
            text == other for other in texts
        ]


def test_words_are_counted_over_all_captions_of_a_picture(pairs, owned, model):
    lexicon = model.lexicon
    for row, captions in enumerate(owned):
        said = " ".join(captions).split()
        wanted = [said.count(lexicon.tokens[i]) for i in lexicon.ids]
        assert pairs.words[[row]].toarray()[0].tolist() == wanted
    assert pairs.words.sum() > 100
    batch = next(pairs.batches(0, 0, 7))
    assert same(batch["words"], pairs.words.toarray()[batch["owner"]])


def test_extra_captions_come_with_every_batch_if_asked_for(pairs):
    assert "extra" not in next(pairs.batches(0, 0, 7))
    assert "extra" not in next(replace(pairs, extra=None).batches(0, 0, 7, texts=4))
    batches = list(pairs.batches(0, 0, 7, texts=4))
    assert all(len(b["extra"]["input_ids"]) == 4 for b in batches)
    assert not same(batches[0]["extra"], batches[1]["extra"])


def test_tokens_are_what_the_tokenizer_says(model, captions):
    tokenizer = model.processor.tokenizer
    texts = [*captions, "red xyzzy", ""]
    rows = Tokens.of(texts, tokenizer, 6).rows(np.arange(len(texts)))
    wanted = tokenizer(texts, truncation=True, max_length=6, padding=True, return_tensors="pt")
    assert torch.equal(rows["input_ids"], wanted["input_ids"])
    assert torch.equal(rows["attention_mask"], wanted["attention_mask"])
    assert rows["word_ids"][-2].tolist() == [-1, 0, 1, -1, -1, -1]
    short = Tokens.of(texts, tokenizer, 6).rows(np.array([len(texts) - 1]))
    assert short["input_ids"].tolist() == [[tokenizer.cls_token_id, tokenizer.sep_token_id]]


def test_joining_pads_the_shorter_batch(model):
    tokens = Tokens.of(["red", "a red circle"], model.processor.tokenizer, 16)
    a, b = tokens.rows(np.array([0])), tokens.rows(np.array([1]))
    for first, second in ((a, b), (b, a)):
        joined = join(first, second)
        assert {v.shape for v in joined.values()} == {(2, 5)}
        short = 0 if first is a else 1
        assert joined["attention_mask"].sum(1).tolist() == ([3, 5] if first is a else [5, 3])
        assert joined["word_ids"][short].tolist() == [-1, 0, -1, -1, -1]
        assert joined["input_ids"][1 - short].tolist() == b["input_ids"][0].tolist()


@pytest.mark.parametrize("together", [2, 3])
def test_captions_taken_together_share_one_look_at_their_picture(pairs, owned, together):
    numbers = np.arange(len(pairs.captions))
    counted = replace(pairs, text=numbers)  # each caption has a number of its own
    rows = 4 * together
    batches = list(counted.batches(0, 1, rows, together=together))
    assert len(batches) == counted.steps(rows, together)
    for batch in batches:
        owners = batch["owner"].numpy().reshape(together, 4)
        assert (owners == batch["pictures"][:, 0] // 10).all()
    taken = np.concatenate([b["text"] for b in counted.batches(0, 1, together, together=together)])
    assert set(taken) == set(numbers)  # one look a batch: an epoch leaves no caption out
    looks = [-(-len(captions) // together) for captions in owned]
    assert len(taken) == together * sum(looks) == counted.rows(together)
    assert np.bincount(taken).max() <= together


def test_a_look_is_encoded_once_for_all_its_captions():
    looks = torch.arange(6.0).view(3, 2)
    assert for_captions(looks, 3) is looks
    assert torch.equal(for_captions(looks, 6), torch.cat([looks, looks]))


def test_looks_are_the_whole_and_others_of_the_same_picture(pairs):
    views = np.arange(len(pairs.views) * 4).reshape(-1, 4, 1)
    many = replace(pairs, views=views)
    plain, batches = (list(many.batches(3, 0, 4, looks=looks)) for looks in (0, 3))
    drawn = set()
    for before, batch in zip(plain, batches, strict=True):
        assert "looks" not in before  # and nothing else is drawn in another way
        assert np.array_equal(before["pictures"], batch["pictures"])
        assert torch.equal(before["owner"], batch["owner"])
        seen = batch["looks"][..., 0]
        assert np.array_equal(seen // 4, np.repeat(batch["owner"].numpy()[:, None], 3, axis=1))
        assert (seen[:, 0] % 4 == 0).all() and all(len(set(row)) == 3 for row in seen.tolist())
        drawn |= set((seen[0] % 4).tolist())
    assert drawn == {0, 1, 2, 3}
    # Asked for more than there are, all are taken; going on in the middle gives the same.
    assert next(many.batches(3, 0, 4, looks=9))["looks"].shape[1] == 4
    rest = list(many.batches(3, 0, 4, looks=3, start=1))
    for old, new in zip(batches[1:], rest, strict=True):
        assert np.array_equal(old["looks"], new["looks"])
