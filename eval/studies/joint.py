"""Joint queries on scenes, where the right answers are known.

    python -m eval.studies.joint model=runs/demo/stage2 dense=runs/demo/dense

Queries for scenes that no training has seen name two things A and B, each one shape or one colour
("a star", "a red shape"), in three ways:

- *and*: A + B should find pictures that have both. Compared with A alone, B alone, the two as one
  text, and the sum of the dense encoder's vectors.
- *not*: A without B: by exclusion (``-word``), by subtraction, and by the difference of dense
  vectors.
- *weights*: w:A + B; as w grows, more of the best pictures should have A, and fewer B.

Shares are precision@10 over pairs that at least ten pictures answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import typer

from eval.bench import report
from eval.bench.sparse import LexLIPSystem, indexed
from eval.bench.systems import load_model, require_folder
from eval.studies.planted import SKIPPED, Drawn
from lexlip.cli.console import Job, Overrides
from lexlip.data.draw import COLOURS, SHAPES
from lexlip.data.meaning import Pattern, Predicate
from lexlip.data.scenes import Scene, make_scenes, matches
from lexlip.engines import PostingsEngine
from lexlip.errors import LexLIPError
from lexlip.models.speaker import HasVectors, Speaker
from lexlip.query.query import Query
from lexlip.settings import from_overrides, option
from lexlip.storage.files import write_json

K = 10
WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0)
Answers = list[str]


class Thing(NamedTuple):
    """One part of a query: a text, its one word that matters, and its meaning."""

    text: str
    word: str
    pattern: Pattern


class Pair(NamedTuple):
    """Two things, and the pictures that have both, only the first, the first, the second."""

    a: Thing
    b: Thing
    both: set[str]
    only_a: set[str]
    has_a: set[str]
    has_b: set[str]


def things() -> list[Thing]:
    """Every shape and every colour, one of it."""
    shapes = [Thing(f"a {name}", name, Pattern(shape=name, count=1)) for name in SHAPES]
    colours = [Thing(f"a {name} shape", name, Pattern(colour=name, count=1)) for name in COLOURS]
    return shapes + colours


def pairs(scenes: Sequence[Scene], few: int = K) -> list[Pair]:
    """All pairs of things that at least `few` pictures have both of, and `few` only the first."""
    one = {t: {s.id for s in scenes if matches(Predicate((t.pattern,)), s)} for t in things()}
    found = []
    for a, b in combinations(one, 2):
        wanted = Predicate((a.pattern, b.pattern))
        both = {s.id for s in scenes if s.id in one[a] & one[b] and matches(wanted, s)}
        only_a = one[a] - one[b]
        if len(both) >= few and len(only_a) >= few:
            found.append(Pair(a, b, both, only_a, one[a], one[b]))
    return found


class Sparse:
    """Searches with queries over the words of pictures."""

    def __init__(self, model: Speaker, gallery: Any, max_terms: int = 64) -> None:
        if isinstance(model, HasVectors):
            raise LexLIPError(
                f"{type(model).__name__} adds up vectors, not words: measure it with eval.bench"
            )
        self.model, self.engine = model, PostingsEngine()
        weights = LexLIPSystem(model).picture_weights(gallery)
        self.engine.add(list(gallery.ids), indexed(model, weights, max_terms))
        self.engine.commit()

    def __call__(self, query: Query) -> Answers:
        return [hit.id for hit in query.prepare(self.model).search(self.engine, K)]


class Dense:
    """Searches with weighted sums of text vectors over the vectors of pictures."""

    def __init__(self, encoder: Any, gallery: Any) -> None:
        self.encoder, self.ids = encoder, np.array(gallery.ids)
        images = [gallery.image(i) for i in range(len(gallery))]
        self.pictures = encoder.encode_document(images)

    def __call__(self, parts: Mapping[str, float]) -> Answers:
        vectors = self.encoder.encode_query(list(parts))
        total = np.array(list(parts.values())) @ vectors
        best = np.argsort(-(self.pictures @ total), kind="stable")[:K]
        return self.ids[best].tolist()


def measure(sparse: Sparse, dense: Dense | None, asked: Sequence[Pair]) -> dict[str, Any]:
    """Search for every pair in every way, and count.

    Returns
    -------
    dict
        ``and`` and ``not``: name of a way -> mean precision@10; ``weights``: rows of a weight, the
        share of the best ten that have A, and the share that have B.
    """
    text = Query.text
    both: dict[str, Callable[[Pair], Answers]] = {
        "A + B": lambda p: sparse(text(p.a.text) + text(p.b.text)),
        "A alone": lambda p: sparse(text(p.a.text)),
        "B alone": lambda p: sparse(text(p.b.text)),
        "one text: A and B": lambda p: sparse(text(f"{p.a.text} and {p.b.text}")),
    }
    without: dict[str, Callable[[Pair], Answers]] = {
        "A alone": lambda p: sparse(text(p.a.text)),
        "A -word": lambda p: sparse(text(p.a.text).exclude(p.b.word)),
        "A - 0.5 B": lambda p: sparse(text(p.a.text) - 0.5 * text(p.b.text)),
        "A - B": lambda p: sparse(text(p.a.text) - text(p.b.text)),
    }
    if dense is not None:
        both["dense: A + B"] = lambda p: dense({p.a.text: 1, p.b.text: 1})
        both["dense, one text"] = lambda p: dense({f"{p.a.text} and {p.b.text}": 1})
        without["dense: A - B"] = lambda p: dense({p.a.text: 1, p.b.text: -1})
        without["dense: A - 0.5 B"] = lambda p: dense({p.a.text: 1, p.b.text: -0.5})
    weights = []
    for weight in WEIGHTS:
        found = [(sparse(weight * text(p.a.text) + text(p.b.text)), p) for p in asked]
        weights.append(
            {
                "weight": weight,
                "has_a": fmean(share(ids, p.has_a) for ids, p in found),
                "has_b": fmean(share(ids, p.has_b) for ids, p in found),
            }
        )
    return {
        "and": {n: fmean(share(ask(p), p.both) for p in asked) for n, ask in both.items()},
        "not": {n: fmean(share(ask(p), p.only_a) for p in asked) for n, ask in without.items()},
        "weights": weights,
    }


def share(found: Answers, right: set[str]) -> float:
    """Precision@10; missing answers count as wrong.

    Examples
    --------
    >>> share(["a", "b"], {"b", "c"})
    0.1
    """
    return len(right.intersection(found)) / K


def table(results: Mapping[str, Any]) -> str:
    """Format the shares, in percent."""
    lines = []
    for kind, what in (("and", "has both"), ("not", "has A, not B")):
        rows = [[name, f"{100 * value:.1f}"] for name, value in results[kind].items()]
        lines += [*report.aligned([kind, what], rows, 1), ""]
    rows = [
        [f"{row['weight']:g}:A + B", f"{100 * row['has_a']:.1f}", f"{100 * row['has_b']:.1f}"]
        for row in results["weights"]
    ]
    return "\n".join([*lines, *report.aligned(["weights", "has A", "has B"], rows, 1)])


@dataclass(frozen=True)
class Settings:
    """Settings of the study; each field is a key."""

    model: str = option("", "checkpoint trained on scenes")
    dense: str | None = option(None, "dense dual encoder trained on scenes")
    scenes: int = option(3000, "number of scenes to draw")
    out: str = option("runs/bench-joint", "folder for the numbers")


def main(overrides: Overrides = None) -> None:
    """Measure joint queries on scenes."""
    settings = from_overrides(Settings, overrides or [])
    encoder = load_model(settings.model)
    other = None
    if settings.dense is not None:
        from lexlip.models.dense_control import DenseDualEncoder

        other = DenseDualEncoder.from_pretrained(require_folder(settings.dense))
    drawn = Drawn(make_scenes(SKIPPED + settings.scenes, seed=0)[SKIPPED:])
    asked = pairs(drawn.scenes)
    if not asked:
        raise LexLIPError(
            f"no pair of things occurs often enough in {settings.scenes} scenes: draw more"
        )
    vectors = None if other is None else Dense(other, drawn)
    results = measure(Sparse(encoder, drawn), vectors, asked)
    facts = {"format": 1, "checkpoint": settings.model, "dense": settings.dense}
    facts |= {"scenes": settings.scenes, "pairs": len(asked)}
    path = Path(settings.out) / "metrics.json"
    write_json(path, {**facts, **results})
    typer.echo(f"{len(asked)} pairs\n\n{table(results)}\n\nwrote {path}")


app = Job(main, Settings)

if __name__ == "__main__":
    app()
