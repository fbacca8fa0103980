"""Words of a dual encoder against its own vectors, cross-validated on vectors alone.

    python -m eval.studies.words embeddings=$LEXLIP_PEERS/clip-b32-flickr8k \
        words=$LEXLIP_PEERS/clip-b32-names/b32_a_name_text_embeddings.npy

The folder has the layout of `eval.bench.baselines.clip`. Two folds of the pictures with captions:
the captions of one fold are the bank (the texts' mean, the metric, the constant) and its pictures
leave the gallery, the captions of the other fold ask. Four folds of the gallery: the words are
fitted to three, and code the fourth. So no picture and no caption that is measured was seen by what
codes it or asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.sparse import csr_array

from eval.bench.baselines.clip import PrecomputedSystem, precomputed
from lexlip.cli.console import Job, Overrides
from lexlip.engines import PostingsEngine
from lexlip.errors import LexLIPError
from lexlip.impacts import document_impacts, with_said
from lexlip.models.lexical.code import WordCode, unit
from lexlip.models.speaker import FIND_TERMS
from lexlip.settings import from_overrides, option, resolve
from lexlip.storage.files import write_json
from lexlip.storage.views import Vectors

KS = (1, 5, 10)
SHARES = (1, 2, 5, 10)
"""Per cent of a gallery."""

Scores = dict[str, NDArray[np.float32]]


class Pool(NamedTuple):
    """Vectors of pictures [N, d], captions [M, d] with the picture of each, and words [V, d]."""

    pictures: NDArray[np.float32]
    captions: NDArray[np.float32]
    owner: NDArray[np.int64]
    words: NDArray[np.float32]


def read_pool(system: PrecomputedSystem, words: str | Path) -> Pool:
    """Read the vectors of a pool and those of words.

    Raises
    ------
    LexLIPError
        When there are no vectors of words, or of another width.
    """
    place = {name: number for number, name in enumerate(system.image_ids)}
    owner = np.array([place[query.rpartition("#")[0]] for query in system.queries])
    pictures = system._encode_images(_Named(system.image_ids))  # type: ignore[arg-type]
    try:
        files = str(words).split("+")
        known = np.concatenate([np.load(file, allow_pickle=False) for file in files])
        known = known.astype(np.float32)
    except (OSError, ValueError) as error:
        raise LexLIPError(f"no vectors of words at {words}: give an .npy file [V, d]") from error
    if known.ndim != 2 or known.shape[1] != pictures.shape[1]:
        raise LexLIPError(f"{words} has shape {known.shape}, pictures have {pictures.shape}")
    return Pool(pictures, system._encode_texts(system.queries), owner, known)


class _Named(NamedTuple):
    ids: list[str]

    def __len__(self) -> int:
        return len(self.ids)


class Fold(NamedTuple):
    """One of two folds: a bank of captions, and queries against a gallery without its pictures."""

    bank: NDArray[np.float32]
    gallery: NDArray[np.float32]
    queries: NDArray[np.float32]
    right: NDArray[np.int64]
    owner: NDArray[np.int64]


def folds(pool: Pool) -> Iterator[Fold]:
    """Give every second picture with captions to one fold, the others to the other."""
    asked = np.unique(pool.owner)
    for parity in (0, 1):
        out = asked[parity::2]
        kept = np.setdiff1d(np.arange(len(pool.pictures)), out)
        theirs = np.isin(pool.owner, out)
        owner = pool.owner[~theirs]
        yield Fold(
            pool.captions[theirs],
            pool.pictures[kept],
            pool.captions[~theirs],
            np.searchsorted(kept, owner),
            owner,
        )


def codes(fold: Fold, words: NDArray, seed: int, parts: int = 4) -> Iterator[
    tuple[WordCode, NDArray[np.int64]]
]:  # fmt: skip
    """Yield codes, each with the pictures that it did not see."""
    part = np.random.default_rng(seed).permutation(len(fold.gallery)) % parts
    for number in range(parts):
        code = WordCode.fit(words, fold.gallery[part != number], fold.bank)
        yield code, np.flatnonzero(part == number)


def score(fold: Fold, words: NDArray, terms: int, find: int, seed: int) -> Scores:
    """Score all pictures of a fold's gallery for its queries, by several systems, [Q, N]."""
    shape = len(fold.queries), len(fold.gallery)
    names = ("CLIP", "CLIP centred", "CLIP centred, less constant", "one byte, less constant",
             "words", "words, less constant", "found")  # fmt: skip
    scores: Scores = {name: np.zeros(shape, np.float32) for name in names}
    scores["CLIP"] = unit(fold.queries) @ unit(fold.gallery).T
    for code, rows in codes(fold, words, seed):
        shown = code.centred(fold.gallery[rows], "image")
        asked = code.centred(fold.queries, "text")
        constant = code.constants(shown)
        step = np.abs(shown).max(1, keepdims=True) / 127
        coded = np.rint(shown / step) * step
        projections = code.project(asked)
        chosen = _chosen(code, projections, find)
        weights = code.encode(shown, terms)
        scores["CLIP centred"][:, rows] = asked @ shown.T
        scores["CLIP centred, less constant"][:, rows] = asked @ shown.T - constant
        scores["one byte, less constant"][:, rows] = asked @ coded.T - constant
        scores["words"][:, rows] = (weights @ projections.T).T
        scores["words, less constant"][:, rows] = (weights @ projections.T).T - constant
        scores["found"][:, rows] = (weights @ chosen.T).T
    return scores


def _chosen(code: WordCode, projections: NDArray, count: int) -> NDArray[np.float32]:
    """Projections of the words that find; 0 for the others."""
    kept = np.zeros_like(projections)
    for row, numbers in enumerate(code.choose(one, count) for one in projections):
        kept[row, numbers] = projections[row, numbers]
    return kept


def two_phases(found: NDArray, ordered: NDArray, depth: int) -> NDArray[np.float32]:
    """Keep the scores of the best `depth` by another score, and put all others last."""
    best = np.argsort(-found, axis=1, kind="stable")[:, :depth]
    kept = np.full(ordered.shape, -np.inf, np.float32)
    np.put_along_axis(kept, best, np.take_along_axis(ordered, best, 1), 1)
    return kept


def ranks(scores: NDArray, right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rank of the right picture of each query, 0 the first; of one that was not found, the last."""
    own = scores[np.arange(len(right)), right][:, None]
    found = np.isfinite(own[:, 0])
    return np.where(found, (scores > own).sum(1), scores.shape[1])


def with_error(hits: NDArray[np.bool_], owner: NDArray[np.int64]) -> tuple[float, float]:
    """Mean of hits and its standard error, per cent; captions of one picture count as one draw."""
    means = np.array([hits[owner == picture].mean() for picture in np.unique(owner)])
    return 100 * float(hits.mean()), 100 * float(means.std(ddof=1) / np.sqrt(len(means)))


def texts_to_pictures(
    pool: Pool, terms: Sequence[int], find: int, depth: int, seed: int
) -> dict[str, dict[str, tuple[float, float]]]:
    """Recall with standard errors, by name of the system."""
    found: dict[str, list[tuple[NDArray, NDArray]]] = {}
    for fold in folds(pool):
        for number in terms:
            scores = score(fold, pool.words, number, find, seed)
            words, dense = scores["found"], scores["one byte, less constant"]
            rows = {name: scores[name] for name in scores if not name.startswith("found")}
            name = f"{number} words, all of the query's"
            rows[name] = rows.pop("words")
            name = f"{name}, less constant"
            rows[name] = rows.pop("words, less constant")
            rows[f"{number} words find {depth}, all order"] = two_phases(words, rows[name], depth)
            rows[f"{number} words find {depth}, vectors order"] = two_phases(words, dense, depth)
            for name, one in rows.items():
                if number == terms[0] or " words" in name:
                    found.setdefault(name, []).append((ranks(one, fold.right), fold.owner))
    return {
        name: {
            f"R@{k}": with_error(
                np.concatenate([rank < k for rank, _ in parts]),
                np.concatenate([owner for _, owner in parts]),
            )
            for k in KS
        }
        for name, parts in found.items()
    }


def pictures_to_texts(pool: Pool, terms: int, seed: int) -> dict[str, dict[str, float]]:
    """Recall of pictures that look for one of their captions among a fold's captions."""
    hits: dict[str, list[NDArray]] = {}
    for fold in folds(pool):
        for code, rows in codes(fold, pool.words, seed):
            mine = rows[np.isin(rows, fold.right)]
            asked = code.centred(fold.gallery[mine], "image")
            told = code.centred(fold.queries, "text")
            words = (code.encode(told, terms) @ code.project(asked).T).T
            raw = unit(fold.gallery[mine]) @ unit(fold.queries).T
            liked = code.centred(fold.gallery[np.setdiff1d(np.arange(len(fold.gallery)), rows)],
                                 "image")  # fmt: skip
            constant = replace(code, bank=liked).constants(told)
            own = fold.right[None] == mine[:, None]
            by = {"CLIP": raw, "CLIP centred": asked @ told.T, f"{terms} words": words,
                  "CLIP centred, less constant": asked @ told.T - constant,
                  f"{terms} words, less constant": words - constant}  # fmt: skip
            for name, scores in by.items():
                best = np.where(own, scores, -np.inf).max(1, keepdims=True)
                hits.setdefault(name, []).append((scores > best).sum(1))
    return {
        name: {f"R@{k}": 100 * float((np.concatenate(parts) < k).mean()) for k in KS}
        for name, parts in hits.items()
    }


def reach(
    pool: Pool, terms: int, find: Sequence[int], sizes: Sequence[int], seed: int, draws: int = 10
) -> list[dict[str, float]]:
    """Share of queries whose right picture is among the first ranks, by gallery size.

    Galleries are drawn: the right picture of each query and others, `draws` times.
    """
    rng = np.random.default_rng(seed)
    table = []
    scored = [
        (fold, [score(fold, pool.words, terms, count, seed)["found"] for count in find])
        for fold in folds(pool)
    ]
    for size in sizes:
        for number, count in enumerate(find):
            got: list[NDArray] = []
            for fold, by_count in scored:
                scores, queries = by_count[number], np.arange(len(fold.right))
                own = scores[queries, fold.right][:, None]
                better = (scores > own) | ((scores == own) & (own <= 0))
                better[queries, fold.right] = False
                for _ in range(draws if size < scores.shape[1] else 1):
                    chosen = rng.permutation(scores.shape[1])[: size - 1]
                    got.append(better[:, chosen].sum(1))
            rank = np.concatenate(got)
            row = {"gallery": size, "query terms": count, "best 100": 100 * (rank < 100).mean()}
            row |= {f"best {s} %": 100 * (rank < size * s / 100).mean() for s in SHARES}
            table.append({key: float(value) for key, value in row.items()})
    return table


def steps(pool: Pool, terms: int, seed: int) -> dict[str, dict[str, float]]:
    """Recall by words alone when one part of the code is left out."""
    width = np.eye(pool.pictures.shape[1], dtype=np.float32)
    found: dict[str, list[NDArray]] = {}
    for fold in folds(pool):
        sums: Mapping[str, NDArray] = {
            name: np.zeros((len(fold.queries), len(fold.gallery)), np.float32)
            for name in ("whole", "plain metric", "one penalty", "no map", "no captions known")
        }
        part = np.random.default_rng(seed).permutation(len(fold.gallery)) % 4
        for code, rows in codes(fold, pool.words, seed):
            sample = fold.gallery[part != part[rows[0]]]
            seen = code.centred(sample, "image")
            bare = WordCode.fit(pool.words, sample)
            kinds = {
                "whole": code,
                "plain metric": replace(code, root=width).mapped(seen),
                "one penalty": replace(code, spread=np.full_like(code.spread, np.inf)).mapped(seen),
                "no map": replace(code, map=width),
                "no captions known": bare,
            }
            for name, kind in kinds.items():
                shown = kind.centred(fold.gallery[rows], "image")
                asked = kind.project(kind.centred(fold.queries, "text"))
                sums[name][:, rows] = (csr_array(kind.encode(shown, terms)) @ asked.T).T
        for name, scores in sums.items():
            found.setdefault(name, []).append(ranks(scores, fold.right))
    return {
        name: {f"R@{k}": 100 * float((np.concatenate(parts) < k).mean()) for k in KS}
        for name, parts in found.items()
    }


def bytes_of(pool: Pool, terms: int) -> tuple[float, float]:
    """Bytes a picture in an index of the pool: of the words alone, and with vectors."""
    code = WordCode.fit(pool.words, pool.pictures, pool.captions)
    shown = code.centred(pool.pictures, "image")
    impacts, _ = document_impacts(code.encode(shown, terms), terms, normalise=False)
    marks = (code.constants(shown), *code.word_scores(shown))
    engine = PostingsEngine()
    ids = [f"{number:07}" for number in range(len(shown))]
    engine.add(ids, with_said(impacts, code.said(shown)), None, Vectors(shown, *marks))
    engine.commit()
    facts = engine.stats()
    engine.close()
    return (facts["bytes"] - facts["vector_bytes"]) / len(ids), facts["bytes"] / len(ids)


@dataclass(frozen=True)
class Settings:
    """Settings of the study; each field is a key."""

    embeddings: str = option("", "folder of vectors")
    words: str = option("", "vectors of words, an .npy file [V, d], or several joined by +")
    terms: tuple[int, ...] = option((64, 32), "words of a picture")
    find: int = option(FIND_TERMS, "words of a query that find")
    depth: int = option(100, "pictures that are ordered")
    seed: int = option(0, "of the folds of the gallery")
    out: str = option("", "file for all figures, as JSON")


def main(overrides: Overrides = None) -> None:
    """Measure words against vectors."""
    settings = from_overrides(Settings, overrides or [])
    if not (settings.embeddings and settings.words):
        raise LexLIPError("no vectors: give embeddings=FOLDER and words=FILE")
    pool = read_pool(
        precomputed(resolve(settings.embeddings)), "+".join(map(resolve, settings.words.split("+")))
    )
    terms, seed = settings.terms, settings.seed
    found = texts_to_pictures(pool, terms, settings.find, settings.depth, seed)
    others = {
        "pictures to texts": pictures_to_texts(pool, terms[0], seed),
        "parts of the code": steps(pool, terms[0], seed),
    }
    reached = reach(pool, terms[0], (64, 128, 256), (100, 300, 1000), seed)
    for name, errors in found.items():
        figures = " ".join(f"{k} {mean:.1f} +- {error:.1f}" for k, (mean, error) in errors.items())
        typer.echo(f"{name:>46}  {figures}")
    for table, rows in others.items():
        typer.echo(table)
        for name, row in rows.items():
            typer.echo(f"{name:>46}  " + " ".join(f"{k} {v:.1f}" for k, v in row.items()))
    alone, whole = bytes_of(pool, terms[0])
    typer.echo(f"bytes a picture: {alone:.0f} words alone, {whole:.0f} with vectors")
    typer.echo("share of queries whose right picture is among ...")
    for row in reached:
        typer.echo("  ".join(f"{key} {value:.4g}" for key, value in row.items()))
    if settings.out:
        report = {"texts to pictures": found, **others, "reach": reached}
        write_json(Path(settings.out), report)


app = Job(main, Settings)

if __name__ == "__main__":
    app()
