"""Words of a text and their shares, for tokenizers with and without offsets."""

from __future__ import annotations

import pytest

from lexlip.models.dual.attention import shares, token_spans, word_spans


def words(text):
    return [text[first:last] for first, last in word_spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red dog", ["a", "red", "dog"]),
        ("  don't!", ["don", "'", "t", "!"]),
        ("红狗 und Ärger", ["红", "狗", "und", "Ärger"]),
        ("ドッグ", ["ド", "ッ", "グ"]),
        ("", []),
    ],
)
def test_words_of_any_script(text, expected):
    assert words(text) == expected


class Pieces:
    """A SentencePiece tokenizer without offsets: only what `token_spans` asks it for."""

    all_special_ids = (0,)

    def __init__(self, tokens):
        self.tokens = tokens

    def convert_ids_to_tokens(self, ids):
        return [self.tokens[number] for number in ids]


def test_pieces_are_found_again_without_offsets():
    tokenizer = Pieces(["</s>", "▁", "re", "d", "▁dog"])
    text = "Red, Dog"  # the tokenizer drops case and punctuation
    assert token_spans(tokenizer, text, [1, 2, 3, 4, 0], None) == [
        (0, 0), (0, 2), (2, 3), (5, 8), None,
    ]  # fmt: skip
    assert token_spans(tokenizer, "a", [4, 1], None) == [None, (0, 0)]


def test_offsets_are_taken_as_they_are():
    assert token_spans(None, "red", [5, 6], [(0, 3), (0, 0)]) == [(0, 3), None]


def test_shares_add_up_to_one_and_leave_out_what_is_no_word():
    found = shares("red dog", [(0, 0), (0, 3), (3, 7), None], [0.1, 0.1, 0.2, 0.6])
    assert found == pytest.approx([0.5, 0.5])
    assert shares("red dog", [None, None], [0.5, 0.5]) == [0.0, 0.0]
    assert shares("", [None], [1.0]) == []
