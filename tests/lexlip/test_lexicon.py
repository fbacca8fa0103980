"""Who may be a term, and how weights become words again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertTokenizer, CLIPTokenizer, PreTrainedTokenizerFast

from lexlip.errors import LexLIPError
from lexlip.lexicon import Lexicon

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ALLOWED = ["dog", "##ing", "7up", "two", "犬", "##й", "été"]
REFUSED = ["[unused1]", ".", "...", "s", "##s", "7", "the", "of", "_", "a_b"]


@pytest.fixture(scope="module")
def tokenizer():
    tokens = [*SPECIAL, *(t for pair in zip(REFUSED, REFUSED[::-1], strict=True) for t in pair)]
    tokens = list(dict.fromkeys([*tokens, *ALLOWED]))
    return BertTokenizer(vocab={token: i for i, token in enumerate(tokens)}, do_lower_case=True)


def words(lexicon):
    return {lexicon.tokens[i] for i in lexicon.ids}


def test_the_allow_list_keeps_words_and_pieces_and_nothing_else(tokenizer):
    assert words(Lexicon.from_tokenizer(tokenizer)) == set(ALLOWED)


def test_stop_words_can_be_kept(tokenizer):
    assert words(Lexicon.from_tokenizer(tokenizer, stop_words=True)) == {*ALLOWED, "the", "of"}


@pytest.mark.parametrize(
    ("min_count", "alive"), [(1, {"dog", "two", "##ing"}), (2, {"dog", "two"}), (3, {"dog"})]
)
def test_ids_seen_too_rarely_are_dead(tokenizer, min_count, alive):
    ids = tokenizer.get_vocab()
    texts = [["dog", "dog", "the"], ["two", "##ing", "dog", "the"], ["two", "the"], []]
    numbers = [[ids[token] for token in text] for text in texts]
    assert words(Lexicon.from_tokenizer(tokenizer, numbers, min_count)) == alive


def test_tokens_are_in_the_order_of_their_ids(tokenizer):
    lexicon = Lexicon.from_tokenizer(tokenizer)
    assert list(lexicon.tokens) == tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert (np.diff(lexicon.ids) > 0).all()
    assert len(lexicon) == len(ALLOWED)


def test_compact_is_the_inverse_of_ids(tokenizer):
    lexicon = Lexicon.from_tokenizer(tokenizer)
    assert lexicon.compact[lexicon.ids].tolist() == list(range(len(lexicon)))
    off = np.setdiff1d(np.arange(len(lexicon.tokens)), lexicon.ids)
    assert len(off) and (lexicon.compact[off] == -1).all()


def test_the_hash_names_tokens_and_allow_list():
    lexicon = Lexicon(("a", "b", "c"), np.array([0, 2]))
    same = Lexicon(("a", "b", "c"), np.array([0, 2], dtype=np.int32))
    assert lexicon.hash == same.hash
    others = [
        replace(lexicon, ids=np.array([0, 1])),
        replace(lexicon, ids=np.array([0])),
        replace(lexicon, tokens=("a", "b", "d")),
        replace(lexicon, tokens=("b", "a", "c")),
    ]
    assert len({lexicon.hash, *(other.hash for other in others)}) == 5


def test_expand_puts_every_weight_at_its_vocabulary_id():
    lexicon = Lexicon(tuple("abcdefg"), np.array([1, 3, 6]))
    compact = np.array([[0.5, 0.0, 2.0], [0.0, 0.0, 0.0], [0.0, 1.5, 0.0]], dtype=np.float32)
    full = lexicon.expand(compact)
    wanted = np.zeros((3, 7), dtype=np.float32)
    wanted[:, lexicon.ids] = compact
    assert full.dtype == np.float32 and full.nnz == 3
    np.testing.assert_array_equal(full.toarray(), wanted)


def test_decode_sorts_by_weight_then_by_id():
    lexicon = Lexicon(("ape", "bee", "cat", "dog"), np.arange(4))
    weights = csr_array(np.array([[1.0, 3.0, 1.0, 0.0], [0.0] * 4]))
    assert lexicon.decode(weights) == [[("bee", 3.0), ("ape", 1.0), ("cat", 1.0)], []]
    assert lexicon.decode(weights, top_k=2) == [[("bee", 3.0), ("ape", 1.0)], []]


def test_a_vocabulary_that_marks_the_ends_of_words_is_read_without_the_marks():
    vocab = ["<|startoftext|>", "<|endoftext|>", "d", "o", "g", "g</w>", "dog", "dog</w>", "s</w>"]
    vocab += ["the</w>", "\u00c3\u00a9t\u00c3\u00a9</w>", "\u00c3", "!</w>", "d</w>", "o</w>"]
    tokenizer = CLIPTokenizer(vocab={t: i for i, t in enumerate(vocab)}, merges=[])
    lexicon = Lexicon.from_tokenizer(tokenizer)
    assert words(lexicon) == {"dog", "\u00e9t\u00e9"}
    assert lexicon.tokens[6] == "dog\u2026"  # the beginning of a longer word is no term
    assert lexicon.numbers == {"dog": 7, "\u00e9t\u00e9": 10}
    weights = lexicon.expand(np.array([[2.0, 1.0]], dtype=np.float32))
    assert lexicon.decode(weights) == [[("dog", 2.0), ("\u00e9t\u00e9", 1.0)]]


@pytest.mark.parametrize("mark", ["\u0120", "\u2581"])
def test_a_vocabulary_that_marks_the_starts_of_words_is_refused(mark):
    vocab = {t: i for i, t in enumerate(["<unk>", f"{mark}dog", "dog", f"{mark}red", "gy"])}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(LexLIPError, match="choose a BERT-like text tower"):
        Lexicon.from_tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend))
