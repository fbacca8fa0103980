"""Token codecs: how the unit vectors of patches and words are kept in a few bytes.

| codec | bytes a token of width d | what it does |
|---|---|---|
| float16 | 2 d | rounds; the one to compare the others with |
| int8 | d | steps of one size for the whole store |
| int8-token | d + 2 | a step size per token |
| residual4, residual2 | d / 2 + 2, d / 4 + 2 | the nearest of some centroids, and 4 or 2 bits a |
| | | component for what is left of it (ColBERTv2, Santhanam et al., NAACL 2022) |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lexlip.errors import LexLIPError

Rows = Mapping[str, NDArray]
"""Encoded tokens: arrays [..., width] that belong together, by name."""

_STEPS = 127  # int8 without -128, so that codes are symmetric
_SPREAD = 5.0
"""Components of random unit vectors have the standard deviation 1/sqrt(d): one in two million lies
outside five of them. Steps are at least so large that these fit, however few tokens were seen."""

_SAMPLE = 2**15
"""Tokens that centroids are learned from: 10 s on one core at width 256, once a store."""

_ROUNDS = 8
_BLOCK = 1024


class Codec(ABC):
    """Turns tokens into rows of small numbers and back.

    Parameters
    ----------
    parameters : mapping of str to array
        What `fit` learned: all that is needed to make the codec again.
    """

    PARAMETERS: ClassVar[tuple[str, ...]] = ()

    def __init__(self, parameters: Mapping[str, NDArray]) -> None:
        self.parameters = {name: parameters[name] for name in self.PARAMETERS}

    @classmethod
    @abstractmethod
    def fit(cls, sample: NDArray[np.float32]) -> Self:
        """Learn from tokens, float32 [n, d]."""

    @abstractmethod
    def encode(self, tokens: NDArray[np.float32]) -> dict[str, NDArray]:
        """Encode tokens [n, d] as arrays [n, width]."""

    @abstractmethod
    def decode(self, rows: Rows) -> NDArray[np.float32]:
        """Return tokens [..., d] of arrays [..., width]."""

    def codes(self, rows: Rows) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Return tokens as int8 codes [..., d] and what a step of each is worth, float32 [...]."""
        return _quantise(self.decode(rows))


def _quantise(tokens: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantise each token with its own step size."""
    largest = np.maximum(tokens.max(-1, initial=0), -tokens.min(-1, initial=0))
    scales = largest * np.float32(1 / _STEPS)
    return _in_steps(tokens, scales[..., None]), scales


def _in_steps(tokens: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.int8]:
    whole = tokens * (1 / np.where(scale > 0, scale, 1)).astype(np.float32)
    return np.clip(np.rint(whole, out=whole), -_STEPS, _STEPS, out=whole).astype(np.int8)


class Float16(Codec):
    """Half precision."""

    @classmethod
    def fit(cls, sample: NDArray[np.float32]) -> Self:
        """Learn nothing."""
        return cls({})

    def encode(self, tokens: NDArray[np.float32]) -> dict[str, NDArray]:
        """Round."""
        return {"values": tokens.astype(np.float16)}

    def decode(self, rows: Rows) -> NDArray[np.float32]:
        """Widen."""
        return rows["values"].astype(np.float32)


class Int8(Codec):
    """Steps of one size: an inner product with a unit vector is off by sqrt(d) / 2 steps at most.

    Components beyond the largest that was seen are cut off.
    """

    PARAMETERS = ("scale",)

    @classmethod
    def fit(cls, sample: NDArray[np.float32]) -> Self:
        """Let 127 steps reach the largest component; see `_SPREAD` for how far at least."""
        largest = max(
            sample.max(initial=0), -sample.min(initial=0), _SPREAD / sample.shape[1] ** 0.5
        )
        return cls({"scale": np.array([min(largest, 1.0) / _STEPS], np.float32)})

    def encode(self, tokens: NDArray[np.float32]) -> dict[str, NDArray]:
        """Quantise."""
        return {"codes": _in_steps(tokens, self.parameters["scale"])}

    def decode(self, rows: Rows) -> NDArray[np.float32]:
        """Multiply by the scale."""
        return rows["codes"] * self.parameters["scale"]

    def codes(self, rows: Rows) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Return the codes as they are."""
        codes = rows["codes"]
        return codes, np.full(codes.shape[:-1], self.parameters["scale"][0])


class Int8Token(Codec):
    """A step size per token; nothing is clipped."""

    @classmethod
    def fit(cls, sample: NDArray[np.float32]) -> Self:
        """Learn nothing."""
        return cls({})

    def encode(self, tokens: NDArray[np.float32]) -> dict[str, NDArray]:
        """Quantise, with scales that are rounded first."""
        scales = _quantise(tokens)[1].astype(np.float16)[..., None]
        return {"codes": _in_steps(tokens, scales.astype(np.float32)), "scales": scales}

    def decode(self, rows: Rows) -> NDArray[np.float32]:
        """Multiply by the scales."""
        return rows["codes"] * rows["scales"].astype(np.float32)

    def codes(self, rows: Rows) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Return the codes as they are."""
        return rows["codes"], rows["scales"][..., 0].astype(np.float32)


class Residual(Codec):
    """The nearest centroid, and in few bits what the token adds to it; decoded to unit length."""

    BITS: ClassVar[int]
    PARAMETERS = ("centroids", "cutoffs", "weights")

    def __init__(self, parameters: Mapping[str, NDArray]) -> None:
        super().__init__(parameters)
        self._centroids = np.asarray(self.parameters["centroids"])
        shifts = np.arange(0, 8, self.BITS)
        levels = (np.arange(256)[:, None] >> shifts) & (2**self.BITS - 1)
        self._table = self.parameters["weights"][levels]  # float32 [256, components a byte]

    @classmethod
    def fit(cls, sample: NDArray[np.float32]) -> Self:
        """Learn centroids by k-means, and the levels of residuals as quantiles of unseen ones."""
        count, d = sample.shape
        if not count or d % (8 // cls.BITS):
            raise LexLIPError(
                f"residuals of {cls.BITS} bits need tokens to learn from, of a width divisible by "
                f"{8 // cls.BITS}; these are {count} of width {d}: choose int8"
            )
        order = np.random.default_rng(0).permutation(count)[:_SAMPLE]
        unseen, seen = np.split(sample[order], [len(order) // 20])
        centroids = _k_means(seen, min(len(seen), 2 ** int(np.log2(16 * len(order) ** 0.5))))
        unseen = unseen if len(unseen) else seen
        residuals = unseen - centroids[_nearest(unseen, centroids)]
        levels = np.arange(2**cls.BITS)
        return cls(
            {
                "centroids": centroids,
                "cutoffs": np.quantile(residuals, levels[1:] / len(levels)).astype(np.float32),
                "weights": np.quantile(residuals, (levels + 0.5) / len(levels)).astype(np.float32),
            }
        )

    def encode(self, tokens: NDArray[np.float32]) -> dict[str, NDArray]:
        """Find centroids and pack residuals."""
        nearest = _nearest(tokens, self._centroids)
        shifts = np.arange(0, 8, self.BITS, dtype=np.uint8)
        packed = np.empty((len(tokens), tokens.shape[1] // len(shifts)), np.uint8)
        for start in range(0, len(tokens), _BLOCK):
            some = slice(start, start + _BLOCK)
            residuals = tokens[some] - self._centroids[nearest[some]]
            levels = np.searchsorted(self.parameters["cutoffs"], residuals).astype(np.uint8)
            levels = levels.reshape(len(levels), -1, len(shifts)) << shifts
            packed[some] = np.bitwise_or.reduce(levels, axis=-1)
        return {"centroids": nearest.astype(np.uint16)[:, None], "residuals": packed}

    def decode(self, rows: Rows) -> NDArray[np.float32]:
        """Add residuals to centroids, and normalise."""
        packed = rows["residuals"]
        d = packed.shape[-1] * self._table.shape[1]
        tokens = self._table.take(packed, axis=0).reshape(*packed.shape[:-1], d)
        tokens += self._centroids.take(rows["centroids"][..., 0], axis=0)
        norms = np.sqrt(np.einsum("...d,...d->...", tokens, tokens))[..., None]
        return np.divide(tokens, np.maximum(norms, np.float32(1e-12)), out=tokens)


class Residual4(Residual):
    """Four bits a component."""

    BITS = 4


class Residual2(Residual):
    """Two bits a component."""

    BITS = 2


def _nearest(tokens: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the number of the centroid with the largest inner product, for each token."""
    blocks = [tokens[start : start + _BLOCK] for start in range(0, len(tokens), _BLOCK)]
    return np.concatenate([np.empty(0, np.int64), *((b @ centroids.T).argmax(1) for b in blocks)])


def _k_means(sample: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Cluster shuffled tokens by Lloyd's algorithm on the sphere; returns unit vectors [count, d].

    A centroid that loses all its tokens stays where it was.
    """
    centroids = sample[:count].copy()
    for _ in range(_ROUNDS):
        nearest, places = _nearest(sample, centroids), np.arange(len(sample))
        members = csr_array((np.ones(len(sample), np.float32), (nearest, places)))
        members.resize((count, len(sample)))
        sums = members @ sample
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centroids = np.where(norms > 0, sums / np.where(norms > 0, norms, 1), centroids)
    return centroids


CODECS: dict[str, type[Codec]] = {
    "int8": Int8,
    "int8-token": Int8Token,
    "residual4": Residual4,
    "residual2": Residual2,
    "float16": Float16,
}


def codec_type(name: str) -> type[Codec]:
    """Return a codec by name.

    Raises
    ------
    LexLIPError
        When there is none of that name.

    Examples
    --------
    >>> tokens = np.array([[0.6, 0.8], [1.0, 0.0]], np.float32)
    >>> codec = codec_type("int8").fit(tokens)
    >>> codec.encode(tokens)["codes"].tolist()
    [[76, 102], [127, 0]]
    >>> codec.decode(codec.encode(tokens)).round(2).tolist()
    [[0.6000000238418579, 0.800000011920929], [1.0, 0.0]]
    """
    if name not in CODECS:
        raise LexLIPError(f"no codec {name!r}: choose one of {', '.join(CODECS)}")
    return CODECS[name]
