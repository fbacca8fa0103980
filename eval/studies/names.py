"""Names in pictures: which words a dual encoder says of a picture, and where hits stop being right.

    P=$LEXLIP_PEERS
    python -m eval.studies.names embeddings=$P/clip-b32-flickr8k \
        words=$P/clip-b32-names/b32_a_name_text_embeddings.npy \
        names=$P/clip-b32-names/b32_a_name_names.json

Vectors alone are needed, in the layout of `eval.bench.baselines.clip`, and the captions of the
pictures. A name is right for a picture when one of its captions says it, in the singular or with an
"s". Captions leave much out, so all figures are low; they can be compared with each other.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray

from eval.bench.baselines.clip import precomputed
from eval.studies.stopping import stopping
from eval.studies.words import Pool, folds, read_pool
from lexlip.cli.console import Job, Overrides
from lexlip.errors import LexLIPError
from lexlip.lexicon import split_words
from lexlip.models.lexical.code import SHOWN, WordCode, unit
from lexlip.rerank.fit import WEAK
from lexlip.settings import Data, from_overrides, option, resolve

DEPTHS = (1, 3, 10)


def judgements(captions: Sequence[Sequence[str]], names: Sequence[str]) -> NDArray[np.bool_]:
    """Say which names the captions of each picture have, bool [N, V].

    Examples
    --------
    >>> judgements([["Two dogs run ."], ["A hot dog"]], ["dog", "hot dog", "cat"]).tolist()
    [[True, False, False], [True, True, False]]
    """
    texts = [f" {' '.join(split_words(' '.join(some)))} " for some in captions]
    spelled = [" ".join(split_words(name.replace("_", " "))) for name in names]
    return np.array([[f" {n} " in t or f" {n}s " in t for n in spelled] for t in texts])


def precision(order: NDArray, right: NDArray[np.bool_]) -> dict[str, float]:
    """Share of right names among the first ones, mean over pictures.

    Parameters
    ----------
    order : float [N, V]
        Larger is shown first; -inf is not shown.
    right : bool [N, V]
    """
    best = np.argsort(-order, axis=1, kind="stable")[:, : max(DEPTHS)]
    shown = np.isfinite(np.take_along_axis(order, best, 1))
    hit = np.take_along_axis(right, best, 1) & shown
    return {f"P@{k}": float(100 * (hit[:, :k].sum(1) / k).mean()) for k in DEPTHS}


def said(code: WordCode, pictures: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Orders of the words of pictures, [N, V]: by weight of the code, and by cosine."""
    weights = code.encode(pictures).toarray()
    near = pictures @ code.atoms.T
    unusual = (near - code.usual) / code.spread
    return {
        "64 words that find, by weight": np.where(weights > 0, weights, -np.inf),
        "64 words that find, by cosine": np.where(weights > 0, near, -np.inf),
        "all words, by z": unusual,
        "all words, by cosine": near,
        f"words said (z > {SHOWN:g}), by cosine": np.where(unusual > SHOWN, near, -np.inf),
    }


def fits(code: WordCode, words: NDArray, pictures: NDArray) -> dict[str, NDArray[np.float32]]:
    """Scores of names and pictures that one threshold could cut, [V, N].

    Names are centred on their own mean: texts of one word lie elsewhere than captions.
    """
    seen = code.centred(pictures, "image")
    asked = unit(unit(words) - unit(words).mean(0))
    cosines = asked @ seen.T
    mean, spread = code.picture_scores(asked)
    word_mean, word_spread = code.word_scores(seen)
    among_pictures = (cosines - mean[:, None]) / spread[:, None]
    among_words = (cosines - word_mean) / word_spread
    return {
        "raw cosine": unit(words) @ unit(pictures).T,
        "centred cosine": cosines,
        "z among pictures": among_pictures,
        "z among words": among_words,
        "fit (mean of both z)": (among_pictures + among_words) / 2,
    }


def fit_of_captions(pool: Pool) -> NDArray[np.float32]:
    """Fit of each caption and its own picture; code and bank are of the other fold."""
    found = []
    for fold in folds(pool):
        code = WordCode.fit(pool.words, fold.gallery, fold.bank)
        asked, seen = code.centred(fold.queries, "text"), code.centred(fold.gallery, "image")
        own = seen[fold.right]
        cosines = (asked * own).sum(1)
        (mean, spread), (word_mean, word_spread) = code.picture_scores(asked), code.word_scores(own)
        found.append(((cosines - mean) / spread + (cosines - word_mean) / word_spread) / 2)
    return np.concatenate(found)


@dataclass(frozen=True)
class Settings:
    """Settings of the study; each field is a key."""

    embeddings: str = option("", "folder of vectors")
    words: str = option("", "vectors of names, an .npy file [V, d]")
    names: str = option("", "the names, a JSON list of texts or of {name: ...}")
    source: str = option("flickr8k", "data set with the pictures' captions")
    splits: str = option("train+dev", "splits of it, joined by +")
    seed: int = option(0, "of the halves of the names")


def read_names(file: Path, count: int) -> list[str]:
    """Read names from JSON.

    Raises
    ------
    LexLIPError
        When there are none, or not `count`.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        names = [str(one["name"]) if isinstance(one, dict) else str(one) for one in found]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LexLIPError(f"no names at {file}: give a JSON list of them") from error
    if len(names) != count:
        raise LexLIPError(f"{file} has {len(names)} names for {count} vectors")
    return names


def main(overrides: Overrides = None) -> None:
    """Measure the words said of pictures, and one threshold for all queries."""
    settings = from_overrides(Settings, overrides or [])
    if not (settings.embeddings and settings.words and settings.names):
        raise LexLIPError("no vectors: give embeddings=FOLDER words=FILE names=FILE")
    system = precomputed(resolve(settings.embeddings))
    pool: Pool = read_pool(system, Path(resolve(settings.words)))
    names = read_names(Path(resolve(settings.names)), len(pool.words))
    captions: dict[str, Sequence[str]] = {}
    for split in settings.splits.split("+"):
        collection = Data(source=settings.source).open(split)
        captions |= dict(zip(collection.ids, collection.captions, strict=True))
    known = [row for row, name in enumerate(system.image_ids) if name in captions]
    right = judgements([captions[system.image_ids[row]] for row in known], names)
    pictures = pool.pictures[known]
    code = WordCode.fit(pool.words, pictures, pool.captions)
    typer.echo(
        f"{len(known)} pictures, {len(names)} names, {right.sum(1).mean():.1f} right ones each"
    )
    for name, order in said(code, code.centred(pictures, "image")).items():
        row = precision(order, right)
        typer.echo(f"{name:>34}  " + "  ".join(f"{key} {value:.1f}" for key, value in row.items()))
    share = 100 * (fit_of_captions(pool) >= WEAK).mean()
    typer.echo(f"captions that fit their own picture by {WEAK:g} or more: {share:.0f} %")
    scores = fits(code, pool.words, pictures)
    for name, row in stopping(scores, right.T, "centred cosine", settings.seed).items():
        typer.echo(f"{name:>34}  " + "  ".join(f"{key} {value:.1f}" for key, value in row.items()))


app = Job(main, Settings)

if __name__ == "__main__":
    app()
