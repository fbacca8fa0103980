"""Words of a text that raised its terms, and what the text tower attends to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from lexlip.models.localisation.results import Raised, TextProvenance
from lexlip.models.localisation.seen import checked_terms

if TYPE_CHECKING:
    from lexlip.models.lexlip import LexLIP


@torch.no_grad()
def text_provenance(model: LexLIP, text: str, terms: Iterable[int] | None = None) -> TextProvenance:
    """Find the word of a text that raised each term.

    A term's weight is a maximum over the positions of the text, and a boost where the text contains
    the word itself. Of a long text the window counts in which a term weighs most.

    Parameters
    ----------
    model : LexLIP
    text : str
        As `LexLIP.encode_text` takes it, without grammar.
    terms : iterable of int, optional
        Term ids; by default those that the text has.

    Raises
    ------
    LexLIPError
        For a number that is not a term id.
    """
    wanted = None if terms is None else checked_terms(terms, len(model.lexicon.tokens))
    found = [_traced(model, part, wanted) for part in model.windows(text).parts]
    words: list[str] = []
    raised: dict[int, Raised] = {}
    for part in found:
        for term, by in part.raised.items():
            moved = by._replace(word=by.word + len(words)) if by.word >= 0 else by
            if term not in raised or moved.weight > raised[term].weight:
                raised[term] = moved
        words += part.words
    return TextProvenance(tuple(words), raised)


def _traced(model: LexLIP, text: str, wanted: list[int] | None) -> TextProvenance:
    """Trace one window."""
    tokens, words, numbers = whole_words(model, text)
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    hidden = model.text(ids, mask)
    positions = model.text.positions(ids, mask)
    pooled, winner = model.text_head.pool(hidden, positions)
    logits = torch.relu(pooled)[0].tolist()
    boosts = torch.zeros_like(pooled[0])
    if model.config.own_word_boost:
        boosts = torch.relu(model.own_word_boost) * model.own_words(ids, positions)[0]
    held = {int(token): numbers[at] for at, token in reversed(list(enumerate(ids[0])))}
    raised = {}
    for term in model.lexicon.ids.tolist() if wanted is None else wanted:
        column = int(model.lexicon.compact[term])
        logit, boost = (logits[column], float(boosts[column])) if column >= 0 else (0.0, 0.0)
        word = numbers[int(winner[0, column])] if logit > 0 else -1
        if boost > logit and not (word >= 0 and ids[0, winner[0, column]] == term):
            word = held[term]
        if wanted is not None or word >= 0:
            raised[term] = Raised(word, logit, boost)
    return TextProvenance(words, raised)


@torch.no_grad()
def text_attention(model: LexLIP, text: str) -> list[tuple[str, float]]:
    """Share of each word in what the text's summary position attends to in the last layer.

    A comparison beside an explanation: LexLIP's words are maxima over all positions, [CLS] is not
    among them, and its attention makes no score. `text_provenance` says what makes one.

    The summary position is [CLS], or the last token where a tokenizer has none (an end-of-text
    token). Heads are averaged, the pieces of a word are added up, special tokens are left out, and
    what remains is normalised to a sum of 1. The windows of a long text have equal shares.

    Parameters
    ----------
    model : LexLIP
    text : str

    Returns
    -------
    list of (str, float)
        Words in the order of the text; empty for a text without any.
    """
    parts = [_attention(model, part) for part in model.windows(text).parts]
    return [(word, share / len(parts)) for part in parts for word, share in part]


def _attention(model: LexLIP, text: str) -> list[tuple[str, float]]:
    """Return the shares of the words of one window."""
    tokens, words, numbers = whole_words(model, text)
    output = model.text.trunk(**tokens, output_attentions=True)
    row = output.attentions[-1][0].mean(0)[_summary(model, tokens["input_ids"][0])]
    shares = [0.0] * len(words)
    for number, share in zip(numbers, row.tolist(), strict=True):
        if number >= 0:
            shares[number] += share
    total = sum(shares) or 1.0
    return [(word, share / total) for word, share in zip(words, shares, strict=True)]


def _summary(model: LexLIP, ids: torch.Tensor) -> int:
    """Return the position that summarises the text."""
    start, at = model.tokenizer.cls_token_id, ids.tolist()
    return at.index(start) if start in at else len(at) - 1


def whole_words(
    model: LexLIP, text: str
) -> tuple[dict[str, torch.Tensor], tuple[str, ...], list[int]]:
    """Tokenize a text, and join its pieces to words.

    Returns
    -------
    dict
        ``input_ids`` and ``attention_mask``, int64 [1, L].
    tuple of str
        The words as written in the text.
    list of int
        Number of the word that each of the L tokens belongs to; -1 for [CLS] and other special
        tokens.
    """
    tokens = model.tokens([text])
    read = model.tokenizer(text, truncation=True, max_length=model.config.max_text_length)
    found: dict[int, tuple[int, int]] = {}
    numbers = []
    for at, word in enumerate(read.word_ids(0)):
        numbers.append(-1 if word is None else word)
        if word is not None:
            first, last = read.token_to_chars(at)
            found[word] = (found.get(word, (first, last))[0], last)
    order = {word: number for number, word in enumerate(sorted(found))}
    order[-1] = -1
    words = tuple(text[first:last].strip() for _, (first, last) in sorted(found.items()))
    return tokens, words, [order[number] for number in numbers]
