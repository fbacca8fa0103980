"""Words of a text that raised its terms, and what the text tower attends to."""

from __future__ import annotations

from collections.abc import Iterable

from lexlip.models.localisation.base import Pools
from lexlip.models.localisation.results import Raised, TextProvenance
from lexlip.models.localisation.seen import checked_terms


def text_provenance(model: Pools, text: str, terms: Iterable[int] | None = None) -> TextProvenance:
    """Find the word of a text that raised each term.

    A term's weight is a maximum over the positions of the text, and a boost where the text contains
    the word itself. Of a long text the window counts in which a term weighs most.

    Parameters
    ----------
    model : Pools
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


def _traced(model: Pools, text: str, wanted: list[int] | None) -> TextProvenance:
    """Trace one window."""
    ids, words, numbers = model.read_text(text)
    pooled, winner, boosts = model.pool_words(ids)
    held = {token: numbers[at] for at, token in reversed(list(enumerate(ids)))}
    raised = {}
    for term in model.lexicon.ids.tolist() if wanted is None else wanted:
        column = int(model.lexicon.compact[term])
        logit = max(0.0, float(pooled[column])) if column >= 0 else 0.0
        boost = float(boosts[column]) if column >= 0 else 0.0
        word = numbers[int(winner[column])] if logit > 0 else -1
        if boost > logit and not (word >= 0 and ids[int(winner[column])] == term):
            word = held[term]
        if wanted is not None or word >= 0:
            raised[term] = Raised(word, logit, boost)
    return TextProvenance(words, raised)


def text_attention(model: Pools, text: str) -> list[tuple[str, float]]:
    """Share of each word in what the text's summary position attends to in the last layer.

    A comparison beside an explanation: LexLIP's words are maxima over all positions, [CLS] is not
    among them, and its attention makes no score. `text_provenance` says what makes one.

    The summary position is [CLS], or the last token where a tokenizer has none (an end-of-text
    token). Heads are averaged, the pieces of a word are added up, special tokens are left out, and
    what remains is normalised to a sum of 1. The windows of a long text have equal shares.

    Parameters
    ----------
    model : Pools
    text : str

    Returns
    -------
    list of (str, float)
        Words in the order of the text; empty for a text without any.
    """
    parts = [_attention(model, part) for part in model.windows(text).parts]
    return [(word, share / len(parts)) for part in parts for word, share in part]


def _attention(model: Pools, text: str) -> list[tuple[str, float]]:
    """Return the shares of the words of one window."""
    ids, words, numbers = model.read_text(text)
    start = model.summary_token
    at = ids.index(start) if start in ids else len(ids) - 1  # type: ignore[arg-type]
    shares = [0.0] * len(words)
    for number, share in zip(numbers, model.attention_of(ids)[at].tolist(), strict=True):
        if number >= 0:
            shares[number] += share
    total = sum(shares) or 1.0
    return [(word, share / total) for word, share in zip(words, shares, strict=True)]
