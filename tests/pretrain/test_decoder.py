"""The weak decoder: it sees the bottleneck instead of [CLS], and it needs it."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from lexlip.models.pooling import NEVER
from pretrain.decoder import WeakDecoder
from pretrain.masking import IGNORE, Masker


@pytest.fixture
def parts(make_model, captions):
    """A model, a decoder and three half-masked captions with random word distributions."""
    model = make_model()
    with torch.no_grad():  # the words of the head are its own
        model.text_head.words.copy_(model.text_head.words.flip(0))
    torch.manual_seed(1)
    decoder = WeakDecoder(32, 1)
    with torch.no_grad():  # loud enough for attention to matter
        for parameter in decoder.parameters():
            if parameter.ndim > 1:
                parameter.mul_(10)
    batch = model.processor.tokenize([captions[i] for i in (0, 6, 7)], 16)
    assert len(set(batch["attention_mask"].sum(1).tolist())) == 3
    labels = torch.full_like(batch["input_ids"], IGNORE)
    labels[:, 2] = torch.tensor([3, 1, 4])
    masked = batch["input_ids"].clone()
    masked[:, 2] = model.processor.tokenizer.mask_token_id
    pooled = torch.randn(3, len(model.lexicon))
    return model, decoder, pooled, masked, batch["attention_mask"], labels


def loss(model, decoder, pooled, masked, attention, labels):
    return decoder(model, [pooled], [masked], [attention], [labels])[0]


def test_the_loss_is_that_of_the_layers_one_after_the_other(parts):
    model, decoder, pooled, masked, attention, labels = parts
    table = model.text.word_embeddings[model.lexicon_ids].detach()
    guesses = []
    for row in range(3):  # one caption at a time, cut to its length: no padding at all
        length = int(attention[row].sum())
        states = model.text.trunk.embeddings(masked[row : row + 1, :length]).clone()
        states[0, 0] = torch.softmax(pooled[row], -1) @ table
        for layer in decoder.encoder.layer:
            states = layer(states)
            states = states[0] if isinstance(states, tuple) else states
        head = model.text_head
        guesses.append(head.transform(states[0, 2]) @ head.words.T + head.bias)
    wanted = cross_entropy(torch.stack(guesses), labels[:, 2])
    assert_close(loss(*parts), wanted, rtol=1e-4, atol=1e-5)


def test_the_cls_token_itself_is_not_seen_but_the_words_are(parts):
    model, decoder, pooled, masked, attention, labels = parts
    other_cls, other_word = masked.clone(), masked.clone()
    other_cls[:, 0] = other_word[:, 1] = model.lexicon_ids[-1]
    assert torch.equal(loss(*parts), loss(model, decoder, pooled, other_cls, attention, labels))
    assert loss(*parts) != loss(model, decoder, pooled, other_word, attention, labels)
    assert loss(*parts) != loss(model, decoder, pooled.flip(1), masked, attention, labels)


def test_sources_do_not_mix(parts):
    model, decoder, pooled, masked, attention, labels = parts
    both = decoder(
        model,
        [pooled, pooled[:2].flip(1)],
        [masked, masked[:2]],
        [attention, attention[:2]],
        [labels, labels[:2]],
    )
    alone = loss(model, decoder, pooled[:2].flip(1), masked[:2], attention[:2], labels[:2])
    assert_close(both[0], loss(*parts), rtol=1e-5, atol=1e-6)
    assert_close(both[1], alone, rtol=1e-5, atol=1e-6)


def test_gradient_reaches_pooled_logits_and_decoder(parts):
    model, decoder, pooled, masked, attention, labels = parts
    pooled.requires_grad_()
    loss(model, decoder, pooled, masked, attention, labels).backward()
    assert pooled.grad.any()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in decoder.parameters())


def test_nothing_masked_and_nothing_said_are_no_nan(parts):
    model, decoder, pooled, masked, attention, labels = parts
    none = torch.full_like(labels, IGNORE)
    assert loss(model, decoder, pooled, masked, attention, none) == 0
    nowhere = torch.full_like(pooled, NEVER)
    assert loss(model, decoder, nowhere, masked, attention, labels).isfinite()


def learn(make_model, informed, steps=80):
    """Train a decoder on captions of random words, and give its loss on unseen ones."""
    model = make_model()
    with torch.no_grad():  # random vectors are shorter than trained ones
        model.text.word_embeddings.mul_(20)
    torch.manual_seed(0)
    decoder = WeakDecoder(32, 1)
    optimizer = torch.optim.Adam([*decoder.parameters(), *model.text_head.parameters()], lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    ids, tokenizer = model.lexicon_ids, model.processor.tokenizer
    masker = Masker(tokenizer.mask_token_id, torch.from_numpy(model.lexicon.compact))
    losses = []
    for _ in range(steps):
        columns = torch.randint(len(ids), (64, 3), generator=generator)
        ends = torch.tensor([[tokenizer.cls_token_id], [tokenizer.sep_token_id]]).expand(2, 64)
        tokens = torch.cat([ends[0][:, None], ids[columns], ends[1][:, None]], 1)
        numbers = torch.tensor([-1, 0, 1, 2, -1]).expand(64, 5)
        masked, labels = masker(tokens, numbers, 0.5, generator)
        pooled = torch.zeros(64, len(ids))
        if informed:
            pooled.scatter_(1, columns, 12.0)
        value = loss(model, decoder, pooled, masked, torch.ones_like(tokens), labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return sum(losses[-10:]) / 10


def test_a_decoder_that_is_told_the_words_guesses_better(make_model):
    # Random words cannot be guessed from their neighbours: the bottleneck is the only help.
    assert learn(make_model, informed=True) < learn(make_model, informed=False) - 1
