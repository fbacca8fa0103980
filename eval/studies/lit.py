"""Localisation: how often the patch that won a word is on the thing that the word names.

    python -m eval.studies.lit --config scenes --run runs/demo

The place of each thing is known only in scenes: each scene is drawn again with one group in another
colour, and the difference is that group. A case is a word that is true of a group and that the
picture has. In percent of cases:

- lit: the patch that won the word overlaps the group;
- near: it does, or one of its neighbours does;
- centre: the patch with the centre of the word's heat does;
- hidden: the patch that costs the word most when its pixels are hidden does
  (`lexlip.models.localisation.occlusion`);
- chance, chance near: the same for random patches.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_fill_holes

from eval.bench import report
from eval.bench.systems import load_model
from eval.bench.task import Measured, read_settings
from lexlip.cli.console import Config, Job, Overrides, Run
from lexlip.data.draw import COLOURS, Group, draw_scene
from lexlip.data.grammar import SIZE_WORDS, TEXTURE_WORDS
from lexlip.data.scenes import Scene, make_scenes
from lexlip.errors import LexLIPError
from lexlip.models.localisation.results import Provenance
from lexlip.models.speaker import Speaker, require_places
from lexlip.storage.files import write_json

KINDS = ("shape", "colour", "texture", "size")
MEASURES = ("lit", "near", "centre", "hidden", "chance", "chance near")
HEADS = ("word of", "cases", *MEASURES)
_CHANGED = 2
"""A pixel is the group's when a channel differs by more, of 255: edges are soft."""


def covered(scene: Scene, group: Group, grid: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the patches of a scene that overlap the shapes of a group, bool [rows, columns]."""
    far = max(COLOURS, key=lambda name: math.dist(COLOURS[name], COLOURS[group.colour]))
    others = tuple(replace(g, colour=far) if g == group else g for g in scene.groups)
    before, after = (
        np.asarray(draw_scene(groups, scene.ground, scene.seed, scene.size), dtype=np.float32)
        for groups in (scene.groups, others)
    )
    inside = binary_fill_holes(np.abs(before - after).max(axis=2) > _CHANGED)
    rows, columns = ([round(scene.size * i / n) for i in range(n)] for n in grid)
    return np.logical_or.reduceat(np.logical_or.reduceat(inside, rows, axis=0), columns, axis=1)


def words_of(group: Group) -> Iterator[tuple[str, str]]:
    """Yield (kind, word) for all names of a group in captions."""
    one = group.count == 1
    yield "shape", group.shape if one else group.shape + ("es" if group.shape[-1] == "s" else "s")
    yield "colour", group.colour
    yield from (("texture", word) for word in TEXTURE_WORDS[group.texture])
    yield from (("size", word) for word in SIZE_WORDS[group.size])


def judge(
    found: Provenance, lost: NDArray[np.float32], term: int, there: NDArray[np.bool_]
) -> dict[str, float]:
    """Return the measures of one case, each 0 or 1 except those of chance."""
    near, heat = binary_dilation(there, np.ones((3, 3))), found.heat[term]
    rows, columns = (np.average(np.arange(n), weights=heat.sum(1 - axis))
                     for axis, n in enumerate(heat.shape))  # fmt: skip
    values = (
        there.flat[found.patches[term]],
        near.flat[found.patches[term]],
        there[round(rows), round(columns)],
        there.flat[lost.argmax()],
        there.mean(),
        near.mean(),
    )
    return dict(zip(MEASURES, map(float, values), strict=True))


def measure(model: Speaker, scenes: Sequence[Scene]) -> list[dict[str, Any]]:
    """Judge every true word of every group that a picture has.

    Returns
    -------
    list of dict
        A row for shapes and colours together, and one for each kind of word: ``kind``, ``cases``
        and the shares named in `MEASURES`.
    """
    places = require_places(model)
    terms = {word: term for term, word in enumerate(model.lexicon.tokens)}
    cases: dict[str, list[dict[str, float]]] = defaultdict(list)
    for scene in scenes:
        picture = scene.draw()
        named: dict[tuple[str, str], list[Group]] = defaultdict(list)
        for group in scene.groups:
            for kind, word in words_of(group):
                if word in terms:
                    named[kind, word].append(group)
        found = places.locate(picture, [terms[word] for _, word in named])
        lost = places.locate_pixels(picture, found.patches)
        lies = {group: covered(scene, group, found.grid) for group in scene.groups}
        for (kind, word), groups in named.items():
            term = terms[word]
            if found.patches[term] >= 0:
                there = np.any([lies[group] for group in groups], axis=0)
                cases[kind].append(judge(found, lost[term], term, there))
    if not cases:
        raise LexLIPError("no picture has a word of what it shows: train the model first")
    together = {"shape + colour": cases["shape"] + cases["colour"], **{k: cases[k] for k in KINDS}}
    return [
        {"kind": kind, "cases": len(some)} | {m: fmean(c[m] for c in some) for m in MEASURES}
        for kind, some in together.items()
        if some
    ]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Format the shares, in percent."""
    cells = [
        [row["kind"], str(row["cases"]), *(f"{100 * row[name]:.1f}" for name in MEASURES)]
        for row in rows
    ]
    return "\n".join(report.aligned(HEADS, cells, 1))


def main(overrides: Overrides = None, config: Config = None, run: Run = None) -> None:
    """Measure how often the patch that won a word is on the thing that the word names."""
    settings = read_settings(Measured, config, overrides, run)
    encoder = load_model(settings.model)
    rows = measure(encoder, scenes_of(settings))
    path = Path(settings.out) / "lit.json"
    write_json(path, {"format": 1, "checkpoint": settings.model, "split": settings.split,
                      "seed": settings.seed, "rows": rows})  # fmt: skip
    typer.echo(f"{table(rows)}\n\nwrote {path}")


def scenes_of(settings: Measured) -> list[Scene]:
    """Draw the scenes of a split again, as `lexlip.data.scenes.write_scenes` does."""
    if settings.data != "scenes":
        raise LexLIPError(
            f"the place of things is known only in scenes, not in {settings.data}: give data=scenes"
        )
    sizes = {"train": 6000, "dev": 500, "test": 500, "size": 64, **settings.collection.scenes}
    if settings.split not in ("train", "dev", "test"):
        raise LexLIPError(f"no split {settings.split!r} of scenes: give train, dev or test")
    start = {"train": 0, "dev": sizes["train"], "test": sizes["train"] + sizes["dev"]}
    first = start[settings.split]
    made = make_scenes(first + sizes[settings.split], 0, sizes["size"])[first:]
    return made[: settings.limit]


app = Job(main, Measured)

if __name__ == "__main__":
    app()
