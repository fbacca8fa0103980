"""Pictures of scenes: groups of plain shapes on a shaded ground, drawn with Pillow.

This module knows how attributes look, `lexlip.data.scenes` knows what can be said about them.
Lengths are fractions of the picture's side, x runs to the right and y downwards. Every shape is
drawn at twice its size and then reduced; position, rotation, size, colour, shading and noise vary
with the seed of the scene, so two drawings of the same words never share their pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

import numpy as np
from PIL import Image, ImageDraw

Point = tuple[float, float]
RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (214, 30, 38),
    "orange": (250, 138, 18),
    "yellow": (250, 222, 30),
    "green": (28, 150, 52),
    "blue": (32, 70, 215),
    "purple": (132, 42, 172),
    "pink": (248, 128, 190),
    "brown": (120, 68, 28),
    "black": (20, 20, 22),
}
# Light and calm, so that the colours of the shapes stand out; the night takes only bright shapes.
GROUNDS: dict[str, RGB] = {
    "snow": (247, 249, 252),
    "sand": (236, 217, 172),
    "grass": (186, 222, 160),
    "sky": (178, 212, 246),
    "stone": (163, 163, 166),
    "night": (40, 42, 64),
}
TEXTURES = ("plain", "striped", "dotted", "hollow")
# Half the width of one shape. At 64 px: 11 px (small) and 17 px (large), three of which just fit
# along one side of the picture.
RADII = {"small": 0.086, "large": 0.135}
PITCH = 2.4  # between the centres of neighbours, in radii: turned and outlined they do not touch
REGIONS: dict[str, Point] = {
    "middle": (0.5, 0.5),
    "left": (0.255, 0.5),
    "right": (0.745, 0.5),
    "top": (0.5, 0.255),
    "bottom": (0.5, 0.745),
    "top left": (0.25, 0.25),
    "top right": (0.75, 0.25),
    "bottom left": (0.25, 0.75),
    "bottom right": (0.75, 0.75),
}
MIN_CONTRAST = 95.0  # Euclidean RGB distance between a shape and its ground


@dataclass(frozen=True, order=True)
class Group:
    """One to three like shapes that lie together in one region of the picture."""

    shape: str
    colour: str
    texture: str
    size: str
    count: int
    region: str


def _ring(n: int, radius: float = 1.0, turn: float = -90.0) -> list[Point]:
    """Return `n` points on a circle, the first at `turn` degrees."""
    angles = [math.radians(turn + 360.0 * i / n) for i in range(n)]
    return [(radius * math.cos(a), radius * math.sin(a)) for a in angles]


def _star() -> list[Point]:
    outer, inner = _ring(5, 1.08), _ring(5, 0.46, -54.0)
    return [p for pair in zip(outer, inner, strict=True) for p in pair]


def _heart() -> list[Point]:
    out = []
    for t in (2 * math.pi * i / 28 for i in range(28)):
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        out.append((math.sin(t) ** 3, -(y + 2.5) / 14.5))
    return out


def _moon() -> list[Point]:
    outer = [math.radians(a) for a in range(50, 311, 13)]
    inner = [math.radians(a) for a in range(290, 69, -13)]
    rim = [(0.28 + math.cos(a), math.sin(a)) for a in outer]
    return rim + [(0.72 + 0.8 * math.cos(a), 0.8 * math.sin(a)) for a in inner]


def _cross() -> list[Point]:
    a, b = 0.34, 0.98
    return [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a)] + [
        (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)
    ]  # fmt: skip


SHAPES: dict[str, list[Point]] = {
    "circle": _ring(24, 0.95),
    "square": [(-0.84, -0.84), (0.84, -0.84), (0.84, 0.84), (-0.84, 0.84)],
    "triangle": [(0.0, -0.95), (1.0, 0.8), (-1.0, 0.8)],
    "star": _star(),
    "cross": _cross(),
    "heart": _heart(),
    "diamond": [(0.0, -1.05), (0.64, 0.0), (0.0, 1.05), (-0.64, 0.0)],
    "moon": _moon(),
    "arrow": [(-1, -0.3), (0, -0.3), (0, -0.95), (1, 0), (0, 0.95), (0, 0.3), (-1, 0.3)],
    "bow": [(-1.0, -0.85), (0.0, -0.14), (1.0, -0.85), (1.0, 0.85), (0.0, 0.14), (-1.0, 0.85)],
}


def visible(colour: str, ground: str) -> bool:
    """Tell whether shapes of this colour stand out from this ground.

    Examples
    --------
    >>> visible("black", "snow"), visible("black", "night")
    (True, False)
    """
    return math.dist(COLOURS[colour], GROUNDS[ground]) >= MIN_CONTRAST


def centres(group: Group, rng: Random) -> list[Point]:
    """Place the shapes of a group around the centre of its region so that none touches another.

    Returns
    -------
    list of (x, y)
        One centre per shape, in fractions of the side. In a corner a pair is on a diagonal and
        three form a triangle; elsewhere they form a line along the region's long side.
    """
    cx, cy = REGIONS[group.region]
    r = RADII[group.size]
    pitch = PITCH * r
    lines = {"left": (0, 1), "right": (0, 1), "top": (1, 0), "bottom": (1, 0)}
    if group.count == 1:
        places = [(0.0, 0.0)]
    elif group.region in lines or group.region == "middle":
        dx, dy = lines.get(group.region) or rng.choice([(0, 1), (1, 0)])
        steps = [i - (group.count - 1) / 2 for i in range(group.count)]
        places = [(dx * s * pitch, dy * s * pitch) for s in steps]
    else:
        h = pitch / 2
        side = rng.choice((-1, 1))
        triangle = [(-h, -h), (h, -h), (0.0, h)]
        pair = [(-h * 0.9, -h * 0.9 * side), (h * 0.9, h * 0.9 * side)]
        places = pair if group.count == 2 else [(x, y * side) for x, y in triangle]
    # What room the cluster leaves within its part of the picture decides how far it may wander.
    room_x = min(cx, 0.5 if cx == 0.5 else 0.25) - max(abs(x) for x, _ in places) - 1.12 * r
    room_y = min(cy, 0.5 if cy == 0.5 else 0.25) - max(abs(y) for _, y in places) - 1.12 * r
    cx += rng.uniform(-1, 1) * min(max(room_x, 0.0), 0.07)
    cy += rng.uniform(-1, 1) * min(max(room_y, 0.0), 0.07)
    return [(cx + x, cy + y) for x, y in places]


@lru_cache(maxsize=1)
def _noise() -> np.ndarray:
    """Return a fixed [512, 512, 3] field of pixel noise; scenes look at it through a window."""
    return np.random.default_rng(1203).normal(0.0, 3.0, (512, 512, 3)).astype(np.float32)


@lru_cache(maxsize=4)
def _axis(size: int) -> np.ndarray:
    return np.linspace(-1.0, 1.0, size, dtype=np.float32)


def _jitter(rgb: RGB, rng: Random, spread: float) -> RGB:
    r, g, b = (min(255, max(0, round(c + rng.uniform(-spread, spread)))) for c in rgb)
    return r, g, b


def _stamp(picture: Image.Image, group: Group, centre: Point, rgb: RGB, rng: Random) -> None:
    """Draw one shape at twice its size, reduce it and paste it at `centre`."""
    side = picture.width
    radius = RADII[group.size] * rng.uniform(0.95, 1.0) * side
    x, y = centre[0] * side, centre[1] * side
    half = math.ceil(1.2 * radius) + 1
    left, top = math.floor(x) - half, math.floor(y) - half
    ox, oy = 2 * (x - left), 2 * (y - top)
    turn = math.radians(rng.uniform(-7, 7))
    c, s = 2 * radius * math.cos(turn), 2 * radius * math.sin(turn)
    outline = [(ox + c * px - s * py, oy + s * px + c * py) for px, py in SHAPES[group.shape]]
    box = (4 * half, 4 * half)
    mask = Image.new("L", box, 0)
    stroke = max(3, round(side / 24))
    loop = [*outline, outline[0], outline[1]]
    if group.texture == "hollow":
        ImageDraw.Draw(mask).line(loop, fill=255, width=stroke, joint="curve")
        picture.paste(rgb, (left, top), mask.reduce(2))
        return
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    if group.texture == "plain":
        picture.paste(rgb, (left, top), mask.reduce(2))
        return
    body = Image.new("RGB", box, rgb)
    pen = ImageDraw.Draw(body)
    pr, pg, pb = (round(0.18 * v + 0.82 * 255) for v in rgb)
    pale, pitch = (pr, pg, pb), side / 8
    shift = rng.uniform(0, pitch)
    if group.texture == "striped":
        for i in range(-1, math.ceil(8 * half / pitch) + 1):
            d = i * pitch + shift
            pen.line([(d, 0), (d - 4 * half, 4 * half)], fill=pale, width=round(pitch * 0.36))
    else:
        dot, n = pitch * 0.27, math.ceil(4 * half / pitch) + 1
        for i in range(-1, n):
            for j in range(-1, n):
                u, v = i * pitch + shift + (j % 2) * pitch / 2, j * pitch * 0.87 + shift
                pen.ellipse((u - dot, v - dot, u + dot, v + dot), fill=pale)
    pen.line(loop, fill=rgb, width=max(2, stroke - 1))
    picture.paste(body.reduce(2), (left, top), mask.reduce(2))


def draw_scene(groups: Sequence[Group], ground: str, seed: str, size: int = 64) -> Image.Image:
    """Draw groups of shapes on a ground.

    Parameters
    ----------
    groups : sequence of Group
        Groups whose regions do not overlap.
    ground : str
        A key of `GROUNDS`.
    seed : str
        Decides every jitter; the same seed gives the same pixels.
    size : int
        Side of the square picture in pixels.

    Returns
    -------
    PIL.Image.Image
        An RGB picture, `size` x `size`.

    Examples
    --------
    >>> draw_scene([Group("star", "red", "plain", "large", 1, "left")], "snow", "7").size
    (64, 64)
    """
    rng = Random(seed)
    axis = _axis(size)
    base = np.array(_jitter(GROUNDS[ground], rng, 7), dtype=np.float32)
    shade = rng.uniform(-9, 9) * axis[None, :] + rng.uniform(-9, 9) * axis[:, None]
    field = np.clip(shade[..., None] + base, 0, 255).astype(np.uint8)
    picture = Image.fromarray(field)
    for group in groups:
        rgb = _jitter(COLOURS[group.colour], rng, 13)
        for centre in centres(group, rng):
            _stamp(picture, group, centre, rgb, rng)
    noise = _noise()
    u, v = rng.randrange(512), rng.randrange(512)
    if size <= 256:
        window = noise[u % 256 : u % 256 + size, v % 256 : v % 256 + size]
    else:
        rows, columns = (np.arange(size) + u) % 512, (np.arange(size) + v) % 512
        window = noise[rows][:, columns]
    pixels = np.asarray(picture) + window
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
