"""Texts to tokens with the library tokenizers alone, as transformers' own classes read them."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexlip.errors import LexLIPError

Ids = NDArray[np.int64]

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def as_it_is(text: str) -> str:
    """Return the text: its tokenizer cleans it."""
    return text


def bare(text: str) -> str:
    """Lower case, no punctuation, single spaces: what SigLIP's tokenizer does first.

    Examples
    --------
    >>> bare(" A  red, round Dog!")
    'a red round dog'
    """
    return re.sub(r"\s+", " ", text.lower().translate(_PUNCTUATION)).strip()


class TextTokens:
    """A tokenizer with a model's limit and padding.

    Parameters
    ----------
    raw : tokenizers.Tokenizer
    limit : int
        Longest text in tokens, special ones included. A longer one is cut; special tokens stay.
    pad : int
        Id of the padding token.
    padded : bool
        Every text gets `limit` tokens.
    clean : callable
        Of each text, first.

    Examples
    --------
    >>> tokens = TextTokens(raw, 77, 49407, False)                      # doctest: +SKIP
    >>> tokens.batch(tokens.rows(["a dog", "a red dog"]))[0].shape      # doctest: +SKIP
    (2, 5)
    """

    def __init__(
        self,
        raw: Any,
        limit: int,
        pad: int,
        padded: bool,
        clean: Callable[[str], str] = as_it_is,
    ) -> None:
        raw.no_truncation()
        raw.no_padding()
        self.raw, self.limit, self.pad, self.padded, self.clean = raw, limit, pad, padded, clean
        self._room = limit - raw.num_special_tokens_to_add(False)

    def rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text, special ones included, without padding."""
        read = self.raw.encode_batch([self.clean(text) for text in texts], add_special_tokens=False)
        found = []
        for encoding in read:
            if len(encoding.ids) > self._room:
                encoding.truncate(self._room)
            found.append(self.raw.post_process(encoding).ids)
        return found

    def batch(self, rows: Sequence[Sequence[int]]) -> tuple[Ids, Ids]:
        """Tokens of texts to a batch.

        Returns
        -------
        int64 [B, L]
            Ids, padded behind.
        int64 [B, L]
            1 for a token of the text, 0 for padding.
        """
        length = self.limit if self.padded else max(map(len, rows))
        ids = np.full((len(rows), length), self.pad, np.int64)
        mask = np.zeros((len(rows), length), np.int64)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
            mask[number, : len(row)] = 1
        return ids, mask


def open_tokenizer(path: Path, settings: Mapping[str, Any]) -> Any:
    """Open a ``tokenizer.json``.

    Parameters
    ----------
    path : Path
    settings : mapping
        Content of ``tokenizer_config.json``. Gemma's and its kin say there which special tokens
        a text gets.

    Raises
    ------
    LexLIPError
        When it is corrupted.
    """
    from tokenizers import Tokenizer, processors

    try:
        raw = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises Exception itself
        raise LexLIPError(f"{path} is missing or corrupted: get it again ({error})") from error
    kind = str(settings.get("tokenizer_class", ""))
    said = {name: settings.get(f"add_{name}_token") for name in ("bos", "eos")}
    if kind.startswith(("Gemma", "Llama", "Siglip2")) and None not in said.values():
        named = {name: token_of(settings, f"{name}_token") for name in said}
        used = {name: str(token) for name, token in named.items() if said[name] and token}
        template = " ".join([*([used["bos"]] if "bos" in used else []), "$A",
                             *([used["eos"]] if "eos" in used else [])])  # fmt: skip
        ids = [(token, raw.token_to_id(token)) for token in dict.fromkeys(used.values())]
        raw.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    return raw


def token_of(settings: Mapping[str, Any], name: str) -> str | None:
    """Return a special token of ``tokenizer_config.json``, which has two spellings of them."""
    token = settings.get(name)
    return token.get("content") if isinstance(token, Mapping) else token


def padding_id(raw: Any, settings: Mapping[str, Any], path: Path) -> int:
    """Return the id of the padding token: of the settings, else of ``tokenizer.json``, else 0."""
    token = token_of(settings, "pad_token")
    found = None if token is None else raw.token_to_id(token)
    if found is not None:
        return int(found)
    said = json.loads(path.read_text(encoding="utf-8")).get("padding") or {}
    return int(said.get("pad_id", 0))
