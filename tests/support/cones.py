"""A made-up dual encoder's vectors: two cones, with words, pictures and captions of topics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WIDTH = 48


@dataclass
class Cones:
    """Words [V, d], pictures [N, d], captions [M, d] and the picture of each caption."""

    words: np.ndarray
    pictures: np.ndarray
    captions: np.ndarray
    owner: np.ndarray
    topics: np.ndarray


def cones(pictures: int = 400, words: int = 300, per_picture: int = 2, seed: int = 0) -> Cones:
    """Pictures of four topics each, captions of the topics that people ask for, words near one."""
    rng = np.random.default_rng(seed)
    topics = rng.standard_normal((60, WIDTH))
    gap = 4 * rng.standard_normal(WIDTH)

    def near(numbers, noise):
        return topics[numbers] + noise * rng.standard_normal((len(numbers), WIDTH))

    about = np.stack([rng.choice(60, 4, replace=False) for _ in range(pictures)])
    seen = topics[about].sum(1) + 0.8 * rng.standard_normal((pictures, WIDTH)) + gap
    owner = np.repeat(np.arange(pictures), per_picture)
    interest = np.linspace(1.6, 0, 60)[:, None] * topics
    told = interest[about[owner]].sum(1) + 0.6 * rng.standard_normal((len(owner), WIDTH)) - gap
    named = near(rng.integers(0, 60, words), 0.6) - gap
    return Cones(*(a.astype(np.float32) for a in (named, seen, told)), owner, about)
