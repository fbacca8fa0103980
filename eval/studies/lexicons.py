"""Lexicons and banks of texts: what they bring to the words of a dual encoder.

    python -m eval.studies.lexicons

No dual encoder is needed: captions of LEXLIP_DATA stand for pictures, through MiniLM (extra:
towers). Of each picture of Flickr30k one caption is the document, one asks for it, and one more, of
other pictures, may tell how people ask. The words are fitted to documents that are not searched.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray

from eval.race.texts import encoder, flickr_captions
from eval.studies.words import KS, ranks
from lexlip import settings as toml
from lexlip.cli.console import Job, Overrides
from lexlip.errors import LexLIPError
from lexlip.models.lexical.code import WordCode
from lexlip.models.lexical.lexicalise import CANDIDATES, telling
from lexlip.models.lexical.words import SIZE, asked_texts, everyday_words
from lexlip.settings import from_overrides, option


def recall(
    words: NDArray, sample: NDArray, gallery: NDArray, asked: NDArray, bank: NDArray, terms: int
) -> dict[str, float]:
    """Recall by all words of the queries, of a code that the sample and the bank made.

    Query n asks for document n of the gallery; all are vectors [n, d].
    """
    code = WordCode.fit(words, sample, bank)
    shown = code.centred(gallery, "image")
    scores = (code.encode(shown, terms) @ code.project(code.centred(asked, "text")).T).T
    rank = ranks(scores - code.constants(shown), np.arange(len(asked)))
    return {f"R@{k}": 100 * float((rank < k).mean()) for k in KS}


@dataclass(frozen=True)
class Settings:
    """Settings of the study; each field is a key."""

    sample: int = option(1000, "documents that the words are fitted to")
    gallery: int = option(1200, "documents that are searched, and queries")
    size: int = option(SIZE, "words of a lexicon")
    terms: int = option(64, "words of a document")


def main(overrides: Overrides = None) -> None:
    """Measure banks of texts, and two choices of words."""
    settings = from_overrides(Settings, overrides or [])
    encode, bank = encoder(), asked_texts(["en"])
    first, last = settings.sample, settings.sample + settings.gallery
    rows = flickr_captions(Path(toml.resolve("$LEXLIP_DATA")))[: last + len(bank)]
    if len(rows) < last + len(bank):
        raise LexLIPError(f"{len(rows)} pictures with captions are too few: lower the settings")
    documents = encode([captions[0] for captions in rows[:last]])
    asked = encode([captions[1] for captions in rows[first:last]])
    banks = {
        "no texts": asked[:0],
        "lexlip's own texts": encode(bank),
        "captions of the kind that ask": encode([captions[2] for captions in rows[last:]]),
    }
    words = encode([f"a {word}" for word in everyday_words(size=CANDIDATES * settings.size)])
    frequent = words[: settings.size]
    chosen = words[telling(words, documents[:first], settings.size)]
    for lexicon, vectors in (("most frequent words", frequent), ("words that tell", chosen)):
        for name, texts in banks.items():
            given = (documents[:first], documents[first:], asked, texts, settings.terms)
            figures = " ".join(f"{k} {v:.1f}" for k, v in recall(vectors, *given).items())
            typer.echo(f"{lexicon:>20}, {name:<30}  {figures}")


app = Job(main, Settings)

if __name__ == "__main__":
    app()
