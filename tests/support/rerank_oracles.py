"""Late interaction, SCAN and NAAF in plain Python loops, and inputs that are the same everywhere.

The numbers that tests compare with were made with the authors' programs from `waves`.
"""

from __future__ import annotations

import math

import numpy as np
import torch


def waves(n, m, c):
    """Unit rows [n, m] of sines, without a random number."""
    i, j = np.arange(n)[:, None], np.arange(m)
    rows = np.sin(1.7 * i + 0.9 * j + c + 0.31 * i * j)
    return torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def two_by_two():
    """Two pictures of five regions and two texts, of four and three words, with masks."""
    image = torch.stack([waves(5, 4, 0.2), waves(5, 4, 1.1)])
    text = torch.stack([waves(4, 4, 0.5), waves(4, 4, 2.0)])
    text_mask = torch.ones(2, 4, dtype=torch.bool)
    text_mask[1, 3] = False
    return image, torch.ones(2, 5, dtype=torch.bool), text, text_mask


def batch(seed, count=3, width=5, size=6, empty=True):
    """Random unit tokens float64 [count, width, size] and a ragged mask; the last item is empty.

    Masked places are not at the end, and hold large numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(count, width, size, generator=generator, dtype=torch.float64)
    tokens = torch.nn.functional.normalize(tokens, dim=-1)
    mask = torch.rand(count, width, generator=generator) < 0.6
    mask[:, 0] = True
    if empty:
        mask[-1] = False
    return torch.where(mask[..., None], tokens, 50.0), mask


def items(tokens, mask):
    """The tokens of each item, as lists of lists."""
    return [rows[kept].tolist() for rows, kept in zip(tokens, mask, strict=True)]


def dot(a, b):
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def late(image, text):
    """Both means of maxima of one pair, lists of vectors."""
    if not image or not text:
        return -1.0, -1.0
    i2t = [max(dot(patch, word) for word in text) for patch in image]
    t2i = [max(dot(patch, word) for patch in image) for word in text]
    return math.fsum(i2t) / len(i2t), math.fsum(t2i) / len(t2i)


def softmax(values):
    powers = [math.exp(v) for v in values]
    return [power / sum(powers) for power in powers]


def cosine(a, b):
    return dot(a, b) / max(math.sqrt(dot(a, a) * dot(b, b)), 1e-8)


def mixture(weights, vectors):
    return [
        math.fsum(w * v for w, v in zip(weights, part, strict=True))
        for part in zip(*vectors, strict=True)
    ]


def attention(image, text, sharpness):
    """Shares of the regions for each word."""
    table = [[dot(word, region) for region in image] for word in text]
    leaky = [[s if s > 0 else 0.1 * s for s in row] for row in table]
    norms = [
        max(math.sqrt(math.fsum(s * s for s in column)), 1e-8)
        for column in zip(*leaky, strict=True)
    ]
    return [
        softmax([sharpness * s / norm for s, norm in zip(row, norms, strict=True)]) for row in leaky
    ]


def scan(image, text, sharpness, lse=None):
    """SCAN of one pair, each of `text` attending to `image`."""
    if not image or not text:
        return -1.0
    shares = attention(image, text, sharpness)
    found = [cosine(word, mixture(w, image)) for word, w in zip(text, shares, strict=True)]
    if lse is None:
        return sum(found) / len(found)
    return math.log(math.fsum(math.exp(lse * r) for r in found)) / lse


def naaf(image, text, threshold, propagate=False, sharpness=20.0, intra=5.0):
    """The three parts of NAAF for each word of one pair: negative, positive, relevance."""
    table = [[dot(word, region) for region in image] for word in text]
    best = [max(row) - threshold for row in table]
    parts = []
    for i, shares in enumerate(attention(image, text, sharpness)):
        judged = best[i]
        if propagate:
            judged = dot(softmax([intra * dot(text[i], other) for other in text]), best)
        powers = [math.exp(sharpness * (s - threshold)) if s > threshold else 0.0 for s in table[i]]
        seen = mixture([power / (math.fsum(powers) + 1e-8) for power in powers], image)
        positive = dot(text[i], seen) / max(math.sqrt(dot(seen, seen)), 1e-8)
        parts.append((best[i] if judged < 0 else 0.0, positive, dot(shares, table[i])))
    return parts


def naaf_score(image, text, threshold, propagate=False, **others):
    if not image or not text:
        return -2.0 - threshold
    return math.fsum(map(sum, naaf(image, text, threshold, propagate, **others))) / len(text)
