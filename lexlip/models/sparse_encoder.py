"""Sparse encoders of sentence-transformers that read pictures, such as V-SPLADE, as speakers.

Their vectors are weighted words already: nothing is trained or fitted.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array, vstack

from lexlip.data.given import as_items, as_pictures, as_texts
from lexlip.data.images import read_image
from lexlip.errors import LexLIPError
from lexlip.lexicon import STARTS, Lexicon, vocabulary
from lexlip.models.dual.networks import network_fingerprint
from lexlip.models.dual.sentence_models import (
    as_text,
    load_sentence_transformers,
    picture_settings,
)
from lexlip.models.speaker import SpeakerMixin

UNUSED = "[unused {}]"
"""Spelling of a number that no token has."""


class SparseSpeaker(SpeakerMixin):
    """A SparseEncoder as a `lexlip.models.speaker.Speaker` that encodes pictures.

    Words are the tokens of its vocabulary. Where the tokenizer marks the starts of words
    (``Ġdog``), a token is spelled ``dog``, and one inside of a word ``##dog``. Special tokens carry
    no weight.

    Parameters
    ----------
    encoder : sentence_transformers.SparseEncoder
        One whose vectors are as wide as its tokenizer's vocabulary, and that reads texts and
        pictures.
    name : str
        Folder or hub name.

    Raises
    ------
    LexLIPError
        For a SparseEncoder that reads no pictures, whose vectors are no words, or that compares by
        anything but a product or a cosine.

    Examples
    --------
    >>> speaker = SparseSpeaker.from_pretrained("naver/v-splade-quality")     # doctest: +SKIP
    >>> speaker.words_of(Path("page.png"), top_k=2)                           # doctest: +SKIP
    [('invoice', 2.4), ('total', 2.1)]
    """

    def __init__(self, encoder: Any, name: str = "") -> None:
        self.encoder, self.name_or_path = encoder.eval(), name
        if "image" not in encoder.modalities:
            raise LexLIPError(
                f"{name or 'this SparseEncoder'} reads no pictures: give one that does"
            )
        if encoder.similarity_fn_name not in ("dot", "cosine"):
            raise LexLIPError(
                f"{name or 'this SparseEncoder'} compares by {encoder.similarity_fn_name}: give "
                "one that compares by product or cosine"
            )
        tokens = spelled(encoder.tokenizer)
        width = self._encode(encoder.encode_query, [""], 1, len(tokens)).shape[1]
        if width < len(tokens):
            raise LexLIPError(
                f"{name or 'this SparseEncoder'} has {width} numbers for {len(tokens)} tokens: its "
                "vectors are no words"
            )
        table = encoder.tokenizer.get_vocab()
        carry = set(table.values()) - set(encoder.tokenizer.all_special_ids)
        # Some models have more rows than tokens, up to a round number.
        tokens += tuple(UNUSED.format(number) for number in range(len(tokens), width))
        self.lexicon = Lexicon(tokens, np.array(sorted(carry), np.int64))
        self.tokenizer = SpacedTokenizer(encoder.tokenizer)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over trained weights, vocabulary, prompts and picture preprocessing."""
        settings = {
            "pictures": picture_settings(self.encoder),
            "prompts": self.encoder.prompts,
            "max_active_dims": self.encoder.max_active_dims,
            "similarity": self.encoder.similarity_fn_name,
        }
        return network_fingerprint(self.encoder, self.encoder.tokenizer.get_vocab(), settings)

    def encode_text(self, texts: Sequence[str], batch_size: int = 128) -> csr_array:
        """Queries to weights [N, V], as the model encodes queries; an empty one is an empty row."""
        return self._texts(self.encoder.encode_query, texts, batch_size)

    @property
    def image_side(self) -> int | None:
        """None: the model looks at pages in full, in parts of its own choice."""
        return None

    def prepare_image(self, image: Any) -> Any:
        """Return one picture, decoded."""
        return read_image(image)

    def encode_image(self, images: Sequence[Any], batch_size: int = 32) -> csr_array:
        """Pictures (paths, bytes, arrays or PIL) to weights, csr_array float32 [N, V]."""
        pictures = [read_image(image) for image in as_pictures(images)]
        return self._words(self.encoder.encode_document, pictures, batch_size)

    def encode_document(self, items: Sequence[Any], batch_size: int = 32) -> csr_array:
        """Documents, texts or pictures (not both), to weights [N, V].

        Raises
        ------
        LexLIPError
            For texts and pictures in one call, and for anything else.
        """
        found = as_items(items)
        if texts := [item for item in found if isinstance(item, str)]:
            return self._texts(self.encoder.encode_document, texts, batch_size)
        return super().encode_document(found, batch_size)

    def _texts(self, encode: Callable[..., Any], texts: Sequence[str], size: int) -> csr_array:
        texts = as_texts(texts)
        words = self._words(encode, list(map(as_text, texts)), size)
        said = np.array([bool(text.strip()) for text in texts], np.float32)
        words.data *= np.repeat(said, np.diff(words.indptr))
        words.eliminate_zeros()
        return words

    def _words(self, encode: Callable[..., Any], items: list[Any], size: int) -> csr_array:
        words = self._encode(encode, items, size, len(self.lexicon.tokens))
        words.data[(words.data < 0) | (self.lexicon.compact[words.indices] < 0)] = 0
        words.eliminate_zeros()
        return words

    @staticmethod
    def _encode(encode: Callable[..., Any], items: list[Any], size: int, width: int) -> csr_array:
        """Weights as the library gives them, float32 [N, V]."""
        if not items:
            return csr_array((0, width), dtype=np.float32)
        rows = encode(items, batch_size=size, show_progress_bar=False, convert_to_tensor=False)
        return csr_array(vstack([_row(row) for row in rows], format="csr", dtype=np.float32))

    @property
    def keeps_lengths(self) -> bool:
        """Whether the model was trained with the plain product, not the cosine."""
        return self.encoder.similarity_fn_name == "dot"

    def compared(self, weights: csr_array) -> csr_array:
        """Rows as they are for a product, of length one for a cosine."""
        return weights if self.keeps_lengths else super().compared(weights)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the SparseEncoder as sentence-transformers does."""
        self.encoder.save_pretrained(str(folder), create_model_card=False)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str]) -> SparseSpeaker:
        """Open a SparseEncoder: a folder, or a name on the hub.

        Raises
        ------
        LexLIPError
            When sentence-transformers is missing, the checkpoint is corrupted, reads no pictures,
            or brings code of its own that was not allowed.
        """
        return cls(load_sentence_transformers(name, "SparseEncoder"), os.fspath(name))


class SpacedTokenizer:
    """A tokenizer that reads each text as if other words stood before it.

    Byte-level tokenizers have one token for a word at the start of a text and another for the same
    word behind a space. The latter is what texts are made of.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizer
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.unk_token: str | None = tokenizer.unk_token

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> Mapping[str, Any]:
        """Return ``{"input_ids": [...]}``, the ids of a text's tokens."""
        return self._tokenizer(f" {text.lstrip()}", add_special_tokens=add_special_tokens)

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text, without special ones."""
        return self._tokenizer.tokenize(f" {text.lstrip()}")


def spelled(tokenizer: Any) -> tuple[str, ...]:
    """Spell the tokens of any tokenizer as people read them, in the order of their ids.

    Where the starts of words are marked, ``Ġdog`` is ``dog`` and ``dog`` is ``##dog``. A spelling
    that another token has already is followed by the token's id.
    """
    table = tokenizer.get_vocab()
    raw = [UNUSED.format(number) for number in range(max(table.values()) + 1)]
    for token, number in table.items():
        raw[number] = token
    if sum(token.startswith(STARTS) for token in raw) <= len(raw) // 10:
        return _distinct(vocabulary(tokenizer) if len(raw) == len(table) else raw)
    special = set(tokenizer.all_special_tokens)

    def spell(token: str) -> str:
        if token in special or token not in table or not token.strip("".join(STARTS)):
            return token
        text = tokenizer.convert_tokens_to_string([token]).strip()
        if "\ufffd" in text or not text:  # some bytes of a letter
            return token
        return text if token.startswith(STARTS) else f"##{text}"

    return _distinct([spell(token) for token in raw])


def _distinct(tokens: Sequence[str]) -> tuple[str, ...]:
    counts = Counter(tokens)
    first: set[str] = set()
    spelling = []
    for number, token in enumerate(tokens):
        taken = counts[token] > 1 and token in first
        first.add(token)
        spelling.append(f"{token} {number}" if taken else token)
    return tuple(spelling)


def _row(row: torch.Tensor) -> csr_array:
    row = (row.coalesce() if row.is_sparse else row.to_sparse()).float().cpu()
    columns, values = row.indices()[0].numpy(), row.values().numpy()
    return csr_array((values, columns, np.array([0, len(values)])), shape=(1, row.shape[0]))
