"""Lexicalising: a lexicon for a dual encoder, without training."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexlip.errors import LexLIPError
from lexlip.models.card import on_hub
from lexlip.models.dual import open_dual_encoder
from lexlip.models.dual.base import DualEncoder
from lexlip.models.lexical.code import Array, WordCode, unit
from lexlip.models.lexical.speaker import LexicalSpeaker
from lexlip.models.lexical.words import SIZE, asked_texts, everyday_words

CANDIDATES = 2
"""Frequent words per word of a default lexicon: those that tell pictures apart are taken."""


def lexicalise(
    encoder: DualEncoder | str | os.PathLike[str],
    pictures: Sequence[Any] | Array,
    words: Sequence[str] | None = None,
    captions: Sequence[str] | None = None,
    *,
    size: int = SIZE,
    languages: Sequence[str] | None = None,
) -> LexicalSpeaker:
    """Give a dual encoder a lexicon.

    Parameters
    ----------
    encoder : DualEncoder, path or name
        What `lexlip.models.dual.open_dual_encoder` opens.
    pictures : sequence, or float [N, d]
        Some pictures (paths, bytes, arrays or PIL) like those that will be searched, or their
        vectors by the encoder. 500 do.
    words : sequence of str, optional
        The lexicon; by default everyday words of the encoder's language, of twice as many the
        half that tells the pictures apart best.
    captions : sequence of str, optional
        Texts like those that will ask; by default lexlip's own bank in the encoder's languages.
    size : int
        Words to take by default.
    languages : sequence of str, optional
        Codes of the lexicon's and the bank's languages; by default the encoder's first one.

    Raises
    ------
    LexLIPError
        When there is no such encoder, no picture, or no word.
    """
    if not len(pictures):
        raise LexLIPError("no picture to fit the words to: give some of those to be searched")
    opened = open_dual_encoder(encoder) if isinstance(encoder, str | os.PathLike) else encoder
    spoken = tuple(languages or opened.languages[:1] or ("en",))
    if isinstance(pictures, np.ndarray) and pictures.ndim == 2:
        seen = np.asarray(pictures, np.float32)
    else:
        seen = opened.embed_image(list(pictures))
    chosen = _distinct(everyday_words(spoken, CANDIDATES * size) if words is None else words)
    named = opened.embed_text([opened.prompt.format(word) for word in chosen])
    if words is None:
        kept = telling(named, seen, size)
        chosen, named = [chosen[number] for number in kept], named[kept]
    asked = asked_texts(spoken) if captions is None else [text for text in captions if text.strip()]
    code = WordCode.fit(
        named,
        seen,
        opened.embed_text(asked) if asked else np.zeros((0, opened.width), np.float32),
    )
    facts = {
        "fingerprint": opened.fingerprint,
        "family": opened.family,
        "encoder_name": opened.name_or_path if on_hub(opened.name_or_path) else "",
        "width": opened.width,
        "languages": list(spoken),
        "prompt": opened.prompt,
        "pictures": len(pictures),
        "texts": len(asked),
    }
    return LexicalSpeaker(opened, code, chosen, facts)


def telling(words: Array, pictures: Array, count: int) -> NDArray[np.int64]:
    """Return the numbers of the words that tell pictures apart best, ascending.

    They are those whose cosines with pictures vary most: "dog" and "beach", not "possible".

    Parameters
    ----------
    words : float32 [V, d]
    pictures : float32 [N, d]
    count : int

    Examples
    --------
    >>> words = np.array([[1.0, 0.0, 0.1], [0.0, 1.0, 0.1], [0.0, 0.0, 1.0]])
    >>> telling(words, np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]]), 2).tolist()
    [0, 1]
    """
    seen, atoms = unit(pictures), unit(words)
    spread = (unit(seen - seen.mean(0)) @ unit(atoms - atoms.mean(0)).T).std(0)
    return np.sort(np.argsort(-spread, kind="stable")[:count])


def _distinct(words: Sequence[str]) -> list[str]:
    """Return words in one spelling, each once, in their order."""
    spelled = (unicodedata.normalize("NFC", " ".join(word.lower().split())) for word in words)
    chosen = list(dict.fromkeys(word for word in spelled if word))
    if not chosen:
        raise LexLIPError("no word to speak with: give a file with one word a line")
    return chosen
