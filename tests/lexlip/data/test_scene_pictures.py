"""Pictures of scenes show what their captions say, in every size, the same for the same seed."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from lexlip.data.draw import (
    COLOURS,
    GROUNDS,
    PITCH,
    RADII,
    REGIONS,
    SHAPES,
    Group,
    centres,
    draw_scene,
)
from lexlip.data.scenes import make_scenes


def components(mask):
    """Count 8-connected parts by flood fill."""
    left = {tuple(p) for p in np.argwhere(mask)}
    sizes = []
    while left:
        stack, n = [left.pop()], 0
        while stack:
            y, x = stack.pop()
            n += 1
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            stack.extend(near)
        sizes.append(n)
    return [n for n in sizes if n > 12]  # noise is not a shape


@pytest.mark.parametrize("seed", range(12))
def test_shapes_do_not_touch(seed):
    rng = random.Random(seed)
    scene = next(
        s for s in make_scenes(80, seed=100 + seed)[rng.randrange(40) :] if len(s.groups) == 3
    )
    # Filled with a colour that is far from the ground, at twice the size: parts = shapes.
    groups = [replace(g, texture="plain", colour=c) for g, c in
              zip(scene.groups, ("red", "blue", "black"), strict=True)]  # fmt: skip
    pixels = np.asarray(draw_scene(groups, "snow", scene.seed, 128)).astype(int)
    mask = np.abs(pixels - np.array(GROUNDS["snow"])).sum(axis=2) > 150
    assert len(components(mask)) == sum(group.count for group in groups)


def test_shapes_lie_inside_and_apart():
    rng = random.Random(5)
    for region in REGIONS:
        for size, radius in RADII.items():
            for count in (1, 2, 3):
                if size == "large" and count > 1 and " " in region:
                    continue
                group = Group("star", "red", "plain", size, count, region)
                for _ in range(30):
                    places = np.array(centres(group, rng))
                    assert places.min() - 1.1 * radius >= 0 and places.max() + 1.1 * radius <= 1
                    gaps = [np.linalg.norm(a - b) for a, b in combinations(places, 2)]
                    assert min(gaps, default=9.0) >= PITCH * radius * 0.99
                    cx, cy = REGIONS[region]
                    assert np.abs(places.mean(axis=0) - (cx, cy)).max() < 0.11


@pytest.mark.parametrize("shape", SHAPES)
def test_small_shapes_are_wide_enough_to_see(shape):
    widths = {}
    for size in RADII:
        group = Group(shape, "red", "plain", size, 1, "middle")
        pixels = np.asarray(draw_scene([group], "snow", "4")).astype(int)
        rows, columns = np.nonzero(np.abs(pixels - np.array(GROUNDS["snow"])).sum(axis=2) > 110)
        widths[size] = max(np.ptp(rows), np.ptp(columns)) + 1
    assert widths["small"] >= 10 and widths["large"] >= 1.35 * widths["small"]


def test_pictures_show_their_words():
    """Colour, texture, place and count change the picture; the seed alone changes it a little."""
    base = Group("heart", "red", "plain", "large", 1, "left")

    def pixels(group, ground="snow", seed="1"):
        return np.asarray(draw_scene([group], ground, seed)).astype(float)

    own = pixels(base)
    assert np.array_equal(own, pixels(base))
    jitter = np.abs(own - pixels(base, seed="2")).mean()
    assert jitter > 1.0  # not memorable by pixel
    red = (own[..., 0] - own[..., 1]) > 100
    assert red[:, :32].sum() > 100 and not red[:, 34:].any()
    middle = own[29:36, 13:20].mean(axis=(0, 1))
    assert np.abs(middle - COLOURS["red"]).max() < 30
    hollow = pixels(replace(base, texture="hollow"))
    assert ((hollow[..., 0] - hollow[..., 1]) > 100).sum() < 0.6 * red.sum()
    for texture in ("striped", "dotted"):
        share = (pixels(replace(base, texture=texture))[..., 0] > 200).sum() / red.sum()
        assert share > 0.9
    assert np.abs(pixels(base, "night") - own).mean() > 100


def test_size_is_free():
    scene = make_scenes(1, seed=2, size=96)[0]
    assert scene.draw().size == (96, 96)
    assert scene.draw(300).size == (300, 300)
    small = np.asarray(scene.draw(300).resize((96, 96)), dtype=float)
    assert np.abs(small - np.asarray(scene.draw(), dtype=float)).mean() < 8
