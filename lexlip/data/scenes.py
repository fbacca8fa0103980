"""Scenes: pictures with captions whose relevance is known completely, drawn by the project itself.

A scene is a ground (snow, sand, grass, sky, stone, night) and one to three groups of one to three
like shapes. Within a scene groups differ in shape and in colour. Captions come from a small
grammar in which text and meaning (a `Predicate`) are made together, so whether any caption fits
any scene is computed and never judged.

What a caption means:

- "a", "an", "one" or "a single" before a shape: there is a group of exactly one; "two" or "a pair
  of": of exactly two; "three": of exactly three. Naming a group says nothing about other groups.
- Colour, texture (plain or solid, striped, dotted or spotted, hollow or empty), size (small or
  little, large or big): all shapes of that group have it. What is not named may be anything, and
  "shape" is any shape.
- Two noun phrases speak of two different groups.
- "on the left": the group is in the left half or a left corner; likewise right, top, bottom.
  "in the top left corner": in that corner. "in the middle": in the centre of the picture.
- "X left of Y": X is on the left and Y on the right; "X above Y": X at the top and Y at the
  bottom; the mirror images likewise. "X beside Y": left or right of it, and neither above nor
  below it.
- "only", "just", "alone", "nothing but": the scene has no other group. They occur only in captions
  of one group.
- The ground is named by its kind: snow, sand or beach, grass or lawn, sky, stone or wall, night
  or dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import combinations, product
from pathlib import Path
from random import Random

from PIL import Image

from lexlip.data.draw import COLOURS, GROUNDS, REGIONS, SHAPES, TEXTURES, Group, draw_scene, visible
from lexlip.data.grammar import Caption, make_captions, vocabulary
from lexlip.data.meaning import Pattern, Predicate, holds
from lexlip.errors import LexLIPError, require
from lexlip.storage.files import MANIFEST, atomic_directory, read_json, write_json

VERSION = 1  # raise it when the same seed no longer gives the same scenes

__all__ = ["Caption", "Group", "Pattern", "Predicate", "Scene", "make_scenes", "matches"]
__all__ += ["relevance", "vocabulary", "write_scenes"]

CORNERS = ("top left", "top right", "bottom left", "bottom right")
# How the regions of one, two or three groups can share the picture.
LAYOUTS: dict[int, list[tuple[str, ...]]] = {
    1: [(region,) for region in REGIONS],
    2: [
        *[("left", "right"), ("top", "bottom")] * 3,
        *product(("left",), ("top right", "bottom right")),
        *product(("right",), ("top left", "bottom left")),
        *product(("top",), ("bottom left", "bottom right")),
        *product(("bottom",), ("top left", "top right")),
        ("top left", "bottom right"),
        ("top right", "bottom left"),
    ],
    3: [
        ("left", "top right", "bottom right"),
        ("right", "top left", "bottom left"),
        ("top", "bottom left", "bottom right"),
        ("bottom", "top left", "top right"),
        *combinations(CORNERS, 3),
    ],
}


@dataclass(frozen=True)
class Scene:
    """A picture that can be drawn, and five captions of it."""

    id: str
    ground: str
    groups: tuple[Group, ...]
    captions: tuple[Caption, ...]
    seed: str
    size: int = 64

    @property
    def structure(self) -> tuple[str, tuple[Group, ...]]:
        """All that captions can speak of; equal for scenes that differ only in their jitter."""
        return self.ground, tuple(sorted(self.groups))

    def draw(self, size: int | None = None) -> Image.Image:
        """Return the scene as a square RGB picture (`size` pixels a side, default `self.size`)."""
        return draw_scene(self.groups, self.ground, self.seed, size or self.size)


def matches(predicate: Predicate, scene: Scene) -> bool:
    """Tell whether a caption with this meaning is true of the scene."""
    return holds(predicate, scene.ground, scene.groups)


def relevance(scenes: Sequence[Scene]) -> dict[str, set[str]]:
    """Find every scene that each caption of these scenes fits.

    Returns
    -------
    dict of str to set of str
        Query id (``"<scene id>#<number of the caption>"``) -> ids of all scenes it is true of.
        A caption's own scene is always among them.
    """
    # Every subset of what can be said of one group leads to the scenes that have such a group, so
    # that only a few scenes a caption are left to check in full.
    lists: dict[tuple, list[Scene]] = {}
    for scene in scenes:
        keys = {
            (shape, colour, texture, size, group.count)
            for group in scene.groups
            for shape, colour, texture, size in product(
                (None, group.shape), (None, group.colour), (None, group.texture), (None, group.size)
            )
        }
        for key in keys:
            lists.setdefault(key, []).append(scene)
    found = {}
    for scene in scenes:
        for i, caption in enumerate(scene.captions):
            candidates = min(
                (lists[p.shape, p.colour, p.texture, p.size, p.count] for p in
                 caption.predicate.patterns),
                key=len,
            )  # fmt: skip
            found[f"{scene.id}#{i}"] = {
                other.id for other in candidates if matches(caption.predicate, other)
            }
    return found


def _make_structure(rng: Random) -> tuple[str, tuple[Group, ...]]:
    ground = rng.choice(list(GROUNDS))
    n = rng.choices((1, 2, 3), (0.2, 0.5, 0.3))[0]
    shapes = rng.sample(list(SHAPES), n)
    colours = rng.sample([c for c in COLOURS if visible(c, ground)], n)
    regions = rng.choice(LAYOUTS[n])
    groups = []
    for shape, colour, region in zip(shapes, colours, regions, strict=True):
        count, size = rng.choices((1, 2, 3), (0.45, 0.3, 0.25))[0], rng.choice(("small", "large"))
        if size == "large" and " " in region:
            count = 1  # a corner has room for one large shape
        groups.append(Group(shape, colour, rng.choice(TEXTURES), size, count, region))
    return ground, tuple(groups)


def make_scenes(n: int, seed: int, size: int = 64) -> list[Scene]:
    """Make `n` scenes, no two of which have the same structure.

    Parameters
    ----------
    n : int
        How many; a smaller `n` gives a prefix of a larger one.
    seed : int
        The same seed gives the same scenes, captions and pixels.
    size : int
        Side of their pictures in pixels.

    Returns
    -------
    list of Scene
        With ids "scene-000000", "scene-000001", ...

    Examples
    --------
    >>> scene = make_scenes(1, seed=0)[0]
    >>> scene.id, len(scene.captions), scene.draw().size
    ('scene-000000', 5, (64, 64))
    """
    seen = set()
    scenes: list[Scene] = []
    attempt = 0
    while len(scenes) < n:
        key = f"lexlip-scene-{seed}-{attempt}"
        attempt += 1
        rng = Random(key)
        ground, groups = _make_structure(rng)
        structure = ground, tuple(sorted(groups))
        if structure in seen:
            continue
        seen.add(structure)
        captions = tuple(make_captions(groups, ground, rng))
        scenes.append(Scene(f"scene-{len(scenes):06d}", ground, groups, captions, key, size))
    return scenes


def _write_split(folder: Path, split: str, scenes: Sequence[Scene]) -> None:
    """Write the pictures and captions of one split as parquet, and its complete judgements."""
    require("datasets", "pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features, List, Value
    from datasets import Image as ImageFeature

    schema = Features(
        {"image": ImageFeature(), "image_id": Value("string"), "captions": List(Value("string"))}
    ).arrow_schema
    with pq.ParquetWriter(folder / f"{split}-00000-of-00001.parquet", schema) as writer:
        for start in range(0, len(scenes), 500):
            rows = []
            for scene in scenes[start : start + 500]:
                png = BytesIO()
                # Noise hardly compresses: level 1 is as small as level 9 and much faster.
                scene.draw().save(png, "PNG", compress_level=1)
                image = {"bytes": png.getvalue(), "path": f"{scene.id}.png"}
                texts = [caption.text for caption in scene.captions]
                rows.append({"image": image, "image_id": scene.id, "captions": texts})
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    with open(folder / f"qrels-{split}.tsv", "w", encoding="utf-8", newline="\n") as out:
        for query, fitting in relevance(scenes).items():
            out.writelines(f"{query}\t0\t{scene_id}\t1\n" for scene_id in sorted(fitting))


def _holds(folder: Path, manifest: dict) -> bool:
    """Tell whether the folder already holds these scenes; refuse one that holds other scenes."""
    if not (folder / MANIFEST).is_file():
        return False
    if read_json(folder / MANIFEST) != manifest:
        raise LexLIPError(f"{folder} holds something else: delete it or give another folder")
    return True


def write_scenes(
    folder: str | Path,
    train: int = 6000,
    dev: int = 500,
    test: int = 500,
    seed: int = 0,
    size: int = 64,
) -> Path:
    """Write scenes as a data set in three splits that share no structure.

    For each split there is ``<split>-00000-of-00001.parquet`` (columns `image`: PNG bytes,
    `image_id`, `captions`) and ``qrels-<split>.tsv``, TREC judgements that name every picture of
    the split a caption is true of. The folder appears whole or not at all.

    Parameters
    ----------
    folder : str or Path
        A new or empty folder; one that already holds exactly these scenes is left as it is.
    train, dev, test : int
        Scenes a split.
    seed : int
        Of `make_scenes`.
    size : int
        Side of the pictures in pixels.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    LexLIPError
        If the folder holds anything else or cannot be written.
    """
    folder = Path(folder)
    counts = {"train": train, "dev": dev, "test": test}
    if size < 32 or min(counts.values()) < 0:
        raise LexLIPError("scenes need a size of at least 32 pixels and no negative numbers")
    manifest = {"kind": "scenes", "version": VERSION, "seed": seed, "size": size, "counts": counts}
    if _holds(folder, manifest):
        return folder
    scenes = make_scenes(sum(counts.values()), seed, size)
    try:
        with atomic_directory(folder) as made:
            start = 0
            for split, n in counts.items():
                if n:
                    _write_split(made, split, scenes[start : start + n])
                start += n
            write_json(made / MANIFEST, manifest)
    except OSError as error:
        raise LexLIPError(f"cannot write scenes to {folder}: {error.strerror or error}") from error
    return folder
