"""Planted effects: three tasks for rerankers on scenes, each with known answers.

    python -m eval.studies.planted model=runs/demo/heads

Scenes that no training has seen are searched in three ways:

- *small*: the query fully describes the only small shape of a picture with several shapes. Pooling
  may drown it; late interaction (FILIP) looks at its patch.
- *missing*: the query names two groups. Only pictures that have both, or one of them, are
  candidates: the wrong ones lack exactly one named thing, which adds nothing in the first stage and
  counts against them in NAAF.
- *vague*: texts that say less and less, from both groups with size and texture to a mere shape
  (nearly every caption fits only one picture). Texts that fit more pictures, and pictures that fit
  more texts, should have wider Gaussians (PCME): Spearman's correlation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from PIL.Image import Image

from eval import metrics
from eval.bench.systems import load_model
from eval.bench.task import Task
from eval.studies.rerank import FirstStage, best_weights, first_stage, fused, scores_of
from lexlip.cli.console import Job, Overrides
from lexlip.data.draw import Group
from lexlip.data.meaning import Pattern, Predicate
from lexlip.data.scenes import Scene, make_scenes, matches
from lexlip.models.runtime import set_threads
from lexlip.models.speaker import HasViews, require_views
from lexlip.rerank.rerankers import open_reranker
from lexlip.settings import from_overrides, option
from lexlip.storage.files import write_json
from lexlip.storage.forward import ForwardStore

SKIPPED = 10_000
"""Scenes skipped before these: a training set is drawn from the first ones of the same seed."""


class Drawn:
    """Scenes as a gallery of pictures."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self.scenes = list(scenes)
        self.ids = [scene.id for scene in scenes]
        self.captions = [[caption.text for caption in scene.captions] for scene in scenes]

    def image(self, i: int) -> Image:
        """Picture number i."""
        return self.scenes[i].draw()

    def __len__(self) -> int:
        return len(self.scenes)


@dataclass(frozen=True)
class Asked:
    """Texts, relevant pictures of each, and its candidates (None: any picture)."""

    texts: dict[str, str]
    qrels: dict[str, set[str]]
    among: dict[str, set[str]] | None = None


def phrase(group: Group, detail: bool) -> tuple[str, Pattern]:
    """Name a group: count, colour and shape; with `detail` also size and texture.

    Examples
    --------
    >>> phrase(Group("star", "red", "plain", "small", 2, "top left"), detail=True)[0]
    'two small plain red stars'
    """
    count = {1: "one", 2: "two", 3: "three"}[group.count]
    plural = "" if group.count == 1 else "es" if group.shape.endswith("s") else "s"
    more = [group.size, group.texture] if detail else []
    pattern = Pattern(group.shape, group.colour, count=group.count)
    if detail:
        pattern = Pattern(group.shape, group.colour, group.texture, group.size, group.count)
    return " ".join([count, *more, group.colour, group.shape + plural]), pattern


def small(scenes: Sequence[Scene]) -> Asked:
    """Queries for the one small shape of pictures whose other shapes are all large."""
    texts, qrels = {}, {}
    for scene in scenes:
        little = [group for group in scene.groups if group.size == "small"]
        if len(scene.groups) > 1 and len(little) == 1 and little[0].count == 1:
            text, pattern = phrase(little[0], detail=True)
            texts[f"{scene.id}#small"] = text
            wanted = Predicate((pattern,))
            qrels[f"{scene.id}#small"] = {s.id for s in scenes if matches(wanted, s)}
    return Asked(texts, qrels)


def missing(scenes: Sequence[Scene]) -> Asked:
    """Queries for two groups, among pictures that have both or exactly one of them."""
    texts, qrels, among = {}, {}, {}
    for scene in scenes:
        if len(scene.groups) < 2:
            continue
        (first, a), (second, b) = (phrase(group, detail=False) for group in scene.groups[:2])
        right = {s.id for s in scenes if matches(Predicate((a, b)), s)}
        half = {
            s.id for s in scenes if matches(Predicate((a,)), s) or matches(Predicate((b,)), s)
        } - right
        if half:
            query = f"{scene.id}#missing"
            texts[query], qrels[query] = f"{first} and {second}", right
            among[query] = right | half
    return Asked(texts, qrels, among)


def graded(scenes: Sequence[Scene]) -> Asked:
    """Queries for each picture in five degrees of detail, without duplicates."""
    meanings: dict[str, Predicate] = {}
    for scene in scenes:
        first, *rest = scene.groups
        count, *_, shape = phrase(first, detail=False)[0].split()
        meanings[f"{count} {shape}"] = Predicate((Pattern(first.shape, count=first.count),))
        for detail in (False, True):
            said = [phrase(group, detail) for group in (first, *rest[:1])]
            for some in {1: said[:1], len(said): said}.values():
                text = " and ".join(words for words, _ in some)
                meanings[text] = Predicate(tuple(pattern for _, pattern in some))
    showing: dict[tuple[str | None, int | None], list[Scene]] = {}
    for scene in scenes:
        for key in {(group.shape, group.count) for group in scene.groups}:
            showing.setdefault(key, []).append(scene)
    qrels = {}
    for text, meaning in meanings.items():
        pattern = meaning.patterns[0]
        possible = showing[pattern.shape, pattern.count]
        qrels[text] = {scene.id for scene in possible if matches(meaning, scene)}
    return Asked({text: text for text in meanings}, qrels)


def _restrict(first: FirstStage, asked: Asked, depth: int) -> FirstStage:
    """Keep the allowed candidates, at most `depth` of them."""
    among = asked.among
    run = {
        query: [hit for hit in hits if among is None or hit[0] in among[query]][:depth]
        for query, hits in first.run.items()
    }
    return FirstStage(run, first.queries)


def lift(
    model: HasViews, gallery: Drawn, asked: Asked, name: str, folder: Path, depth: int = 100
) -> dict[str, Any]:
    """Recall at 1 of the first stage, a reranker alone, and both together."""
    task = Task(gallery, asked.texts, asked.qrels)
    whole = depth if asked.among is None else len(gallery)
    first, views, engine = first_stage(model, task, 64, whole)
    engine.close()
    first = _restrict(first, asked, depth)
    store = ForwardStore(folder, "w")
    try:
        store.write(gallery.ids, views)
        scores, _ = scores_of(open_reranker(name, store, model), first)
    finally:
        store.close()
    alone = fused(first, scores, [1.0] * len(scores))
    both = fused(first, scores, best_weights(first, scores, asked.qrels))
    paired = metrics.paired_test(both, first.run, asked.qrels, k=1)
    return {
        "reranker": name,
        "queries": len(asked.texts),
        "first_stage_R@1": metrics.recall_at(first.run, asked.qrels, (1,))["R@1"],
        "R@1": metrics.recall_at(alone, asked.qrels, (1,))["R@1"],
        "fused_R@1": metrics.recall_at(both, asked.qrels, (1,))["R@1"],
        "p": paired.p_value,
    }


def vague(model: HasViews, gallery: Drawn) -> dict[str, float | None]:
    """Spearman's correlation of uncertainty with the number of partners, for both sides.

    None where all have the same number.
    """
    from scipy.stats import spearmanr

    asked = graded(gallery.scenes)
    words = model.represent_text(list(asked.texts))[1].log_variance.mean(1)
    images = [gallery.image(i) for i in range(len(gallery))]
    pictures = model.represent_image(images)[1].log_variance.mean(1)
    fitting = [len(found) for found in asked.qrels.values()]
    back = metrics.invert(asked.qrels)
    described = [len(back.get(name, ())) for name in gallery.ids]
    found: dict[str, float | None] = {}
    for side, level, partners in (
        ("texts", words, fitting),
        ("pictures", pictures, described),
    ):
        varied = len(set(partners)) > 1
        found[side] = float(spearmanr(level, partners).statistic) if varied else None
    return found


@dataclass(frozen=True)
class Settings:
    """Settings of the study; each field is a key."""

    model: str = option("", "checkpoint with heads, trained on scenes")
    pictures: int = option(1000, "number of scenes to draw")
    seed: int = option(0, "of the scenes")
    out: str = option("runs/bench-planted", "folder for the numbers")


def main(overrides: Overrides = None) -> None:
    """Measure rerankers on small, missing and vague things."""
    import tempfile

    settings = from_overrides(Settings, overrides or [])
    encoder = require_views(load_model(settings.model))
    set_threads(1)
    gallery = Drawn(make_scenes(SKIPPED + settings.pictures, settings.seed)[SKIPPED:])
    results: dict[str, Any] = {"checkpoint": settings.model, "pictures": settings.pictures}
    results |= {"seed": settings.seed, "rows": []}
    wanted = {"small": (small, "filip"), "missing": (missing, "naaf")}
    for effect, (ask, name) in wanted.items():
        if encoder.token_size and (name != "naaf" or encoder.naaf_threshold is not None):
            with tempfile.TemporaryDirectory(prefix="lexlip-eval-") as folder:
                row = lift(encoder, gallery, ask(gallery.scenes), name, Path(folder) / "views")
            results["rows"].append({"effect": effect, **row})
            typer.echo(
                f"{effect}: {row['queries']} queries, R@1 {100 * row['first_stage_R@1']:.1f} -> "
                f"{100 * row['R@1']:.1f} by {name} alone, {100 * row['fused_R@1']:.1f} by both "
                f"(p {row['p']:.3f})"
            )
    if encoder.gaussian_size:
        results["vague"] = vague(encoder, gallery)
        shares = ", ".join(
            f"{side} {'-' if share is None else f'{share:.2f}'}"
            for side, share in results["vague"].items()
        )
        typer.echo(f"uncertainty against the number of partners, Spearman: {shares}")
    path = Path(settings.out) / "metrics.json"
    write_json(path, {"format": 1, **results})
    typer.echo(f"\nwrote {path}")


app = Job(main, Settings)

if __name__ == "__main__":
    app()
