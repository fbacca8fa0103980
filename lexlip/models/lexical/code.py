"""Word codes: the dense vectors of a dual encoder as weighted words, without training.

A picture ``x`` is coded as ``x = a D + r``: a few words (rows of D) with weights a >= 0, and what
they leave over. A query is not coded. Its words are its projections ``D q``, of either sign, so
that ``q.x = (D q).a + q.r`` and only ``q.r`` is lost. Four things keep it small:

- least squares on the words that were chosen (`lexlip.models.lexical.sparse_coding`);
- the metric of the queries: what captions ask for is coded best, since ``E (q.r)^2 = r S r'`` with
  ``S = E q' q``, the idea of score-aware quantisation (Guo et al., ICML 2020) applied to words;
- a penalty that falls with how unusual a word is for the picture (z);
- one linear map, fitted to other pictures, that brings the sum of words back to the picture.

Pictures and texts lie in two cones of the joint space (the modality gap: Liang et al., 2022), so
each is centred on the mean of its own kind first. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from lexlip.models.lexical.sparse_coding import STEPS, curvature, lasso, refit

Array = NDArray[np.float32]
Kind = Literal["image", "text"]

PENALTY = 0.03
"""Of a usual word; 0.05 to 5 times that for an unusual or an absent one."""

FEW = 200
"""Captions below which the plain metric weighs more, since their second moment is uncertain."""

MAP_RIDGE = 5.0
"""Of the linear map, per 1,000 pictures that it is fitted to."""

TEMPERATURE = 0.03
"""Of the constant: how few of the bank's texts decide how much a picture is liked in general."""

SHARE = 0.3
"""Share of that liking which is taken off."""

SHOWN = 1.0
"""z above which a word is said of a document."""

MOST_SAID = 16
"""Words said of a document, at most."""

BATCH = 128
"""Documents coded together: 128 of 8,000 words are 4 MB."""


@dataclass(frozen=True, eq=False)
class WordCode:
    """How vectors of width d become weights over V words, and queries projections on them.

    Attributes
    ----------
    atoms : float32 [V, d]
        Unit vectors of the words, centred.
    image_mean, text_mean : float32 [d]
        Of unit vectors.
    root : float32 [d, d]
        Symmetric root of the metric that pictures are coded in.
    map : float32 [d, d]
        R: what is multiplied to a sum of words.
    usual, spread : float32 [V]
        Mean and standard deviation of pictures' cosines with each word.
    use : float32 [V]
        Standard deviation of each word's weight over pictures.
    scatter : float32 [d, d]
        Second moment of centred pictures.
    bank : float32 [C, d]
        Centred unit vectors of texts as people ask them; may have no rows.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> words, pictures = rng.normal(size=(30, 8)), rng.normal(size=(200, 8))
    >>> code = WordCode.fit(words, pictures)
    >>> weights = code.encode(code.centred(pictures[:2], "image"), terms=4)
    >>> weights.shape, int(weights[[0]].nnz) <= 4
    ((2, 30), True)
    """

    atoms: Array
    image_mean: Array
    text_mean: Array
    root: Array
    map: Array
    usual: Array
    spread: Array
    use: Array
    scatter: Array
    bank: Array

    @classmethod
    def fit(cls, words: Array, pictures: Array, captions: Array | None = None) -> WordCode:
        """Make a code for a lexicon, from a sample of pictures and of texts.

        Parameters
        ----------
        words : float [V, d]
            Text vectors of the words.
        pictures : float [N, d]
            Vectors of some pictures like those to be searched. Some hundred do.
        captions : float [C, d], optional
            Vectors of texts as people ask them; they need not belong to the pictures. Without
            them the plain metric is used, and the words stand for the texts.

        Returns
        -------
        WordCode
        """
        words, pictures = unit(words), unit(pictures)
        asked = words if captions is None or not len(captions) else unit(captions)
        text_mean, image_mean = asked.mean(0), pictures.mean(0)
        atoms, seen = unit(words - words.mean(0)), unit(pictures - image_mean)
        bank = unit(asked - text_mean) if asked is not words and len(asked) > 1 else atoms[:0]
        projections = seen @ atoms.T
        width = atoms.shape[1]
        identity = np.eye(width, dtype=np.float32)
        code = cls(
            atoms=atoms,
            image_mean=image_mean,
            text_mean=text_mean,
            root=_root(_metric(bank)) if len(bank) else identity,
            map=identity,
            usual=projections.mean(0),
            spread=projections.std(0) + np.float32(1e-6),
            use=np.zeros(len(atoms), np.float32),
            scatter=seen.T @ seen / np.float32(len(seen)),
            bank=bank,
        )
        return code.mapped(seen)

    def mapped(self, seen: Array, terms: int = 64) -> WordCode:
        """Return the code with its linear map and its use of words, fitted to centred pictures.

        Parameters
        ----------
        seen : float32 [N, d]
        terms : int
            Words per picture.
        """
        weights = self._weights(seen, terms)
        sums = (weights @ self.atoms).astype(np.float64)
        ridge = MAP_RIDGE * len(seen) / 1000 * np.eye(sums.shape[1])
        change = np.linalg.solve(sums.T @ sums + ridge, sums.T @ (seen - sums))
        mapped = (np.eye(len(change)) + change).astype(np.float32)
        fitted = replace(self, map=mapped)
        return replace(fitted, use=fitted._scaled(weights).toarray().std(0))

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> WordCode:
        """Make a code of its arrays, as `arrays` returns them.

        Raises
        ------
        KeyError
            When one is missing.
        ValueError
            When their shapes do not go together.
        """
        code = cls(**{field.name: arrays[field.name] for field in fields(cls)})
        size, width = code.atoms.shape
        square = (code.root, code.map, code.scatter)
        per_word = (code.usual, code.spread, code.use)
        if (
            any(array.shape != (width, width) for array in square)
            or any(array.shape != (size,) for array in per_word)
            or any(array.shape != (width,) for array in (code.image_mean, code.text_mean))
            or code.bank.shape[1:] != (width,)
        ):
            raise ValueError("the arrays of a code have other shapes")
        return code

    def arrays(self) -> dict[str, Array]:
        """Return all arrays by name, to be stored."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def width(self) -> int:
        """Numbers per vector, d."""
        return self.atoms.shape[1]

    def __len__(self) -> int:
        return len(self.atoms)

    @cached_property
    def decoder(self) -> Array:
        """B = D R: vectors of the words as queries meet them, float32 [V, d]."""
        return self.atoms @ self.map

    @cached_property
    def _metric_atoms(self) -> Array:
        return self.atoms @ self.root

    @cached_property
    def _steepest(self) -> float:
        return curvature(self._metric_atoms)

    def centred(self, vectors: Array, kind: Kind) -> Array:
        """Return unit vectors less the mean of their kind, of length one again, float32 [N, d]."""
        return unit(unit(vectors) - (self.image_mean if kind == "image" else self.text_mean))

    def encode(self, centred: Array, terms: int = 64) -> csr_array:
        """Code documents: weights over the words, float32 [N, V].

        Rows are divided by the length of what they add up to. The score of a query ``q`` is
        ``(B q) . a``, with B the `decoder`.

        Parameters
        ----------
        centred : float32 [N, d]
            Of `centred`.
        terms : int
            Words per document, at most.
        """
        parts = [self._weights(part, terms) for part in _batches(centred)]
        return self._scaled(
            csr_array(np.concatenate([np.zeros((0, len(self)), np.float32), *parts]))
        )

    def _weights(self, centred: Array, terms: int) -> Array:
        """Weights before scaling, dense [N, V]."""
        unusual = np.clip((centred @ self.atoms.T - self.usual) / self.spread, -2, 4)
        penalties = np.float32(PENALTY) * np.clip(np.exp(-unusual / 2), 0.05, 5)
        targets, atoms = centred @ self.root, self._metric_atoms
        support = lasso(targets, atoms, penalties, STEPS, self._steepest)
        return refit(targets, atoms, support, terms)

    def _scaled(self, weights: csr_array | Array) -> csr_array:
        """Divide rows by the length of the vector that they add up to."""
        rows = csr_array(weights)
        lengths = np.linalg.norm(rows @ self.decoder, axis=1)
        rows.data = rows.data / np.repeat(np.maximum(lengths, 1e-9), np.diff(rows.indptr))
        return csr_array(rows, dtype=np.float32)

    def project(self, centred: Array) -> Array:
        """Return projections on the words, signed, float32 [..., V]."""
        return centred @ self.decoder.T

    def choose(self, projections: Array, count: int) -> NDArray[np.int64]:
        """Return the numbers of the `count` positive words that find best, best first.

        They are those with the largest product of projection and spread of weights: a heavy word
        that all pictures have, or none, tells nothing.
        """
        worth = np.where(projections > 0, projections * self.use, 0)
        best = np.argsort(-worth, kind="stable")[:count]
        return best[worth[best] > 0]

    def vector_of(self, numbers: NDArray[np.int64], weights: Array) -> Array:
        """Return the unit vector whose projections on some words are nearest to these weights.

        The shortest such vector, by ridge regression: `project` of it gives the weights back as far
        as the words allow.
        """
        rows = self.decoder[numbers].astype(np.float64)
        system = rows @ rows.T + 1e-2 * np.eye(len(rows))
        return unit((rows.T @ np.linalg.solve(system, np.asarray(weights, np.float64)))[None])[0]

    def said(self, centred: Array) -> csr_array:
        """Return the words that are true of documents, weighted by their cosine, float32 [N, V].

        The `MOST_SAID` nearest words of those whose z is above `SHOWN`. The heaviest words of
        `encode` are others: many of them are there to correct the sum.
        """
        parts = [csr_array((0, len(self)), dtype=np.float32)]
        for part in _batches(centred):
            near = part @ self.atoms.T
            near[(near - self.usual) / self.spread <= SHOWN] = 0
            near = np.maximum(near, 0)
            count = min(MOST_SAID, len(self))
            best = np.argpartition(-near, count - 1, axis=1)[:, :count]
            values = np.take_along_axis(near, best, 1)
            rows = np.repeat(np.arange(len(part)), count)
            found = csr_array((values.ravel(), (rows, best.ravel())), shape=near.shape)
            found.eliminate_zeros()
            parts.append(found)
        return csr_array(vstack(parts, format="csr", dtype=np.float32))

    def constants(self, centred: Array) -> Array:
        """Say how much queries in general like each document, float32 [N].

        ``0.3 * T * log(mean over c of exp(c.x / T))`` over the bank's texts c. Taking it off keeps
        a few pictures (hubs) from answering everything. 0 without a bank.
        """
        parts = [_liking(part @ self.bank.T) for part in _batches(centred)]
        return np.concatenate([np.zeros(0, np.float32), *parts])

    def word_scores(self, centred: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of vectors' cosines with all words, twice float32 [N]."""
        mean = centred @ self.atoms.mean(0)
        second = ((centred @ self._word_scatter) * centred).sum(1)
        return mean, np.sqrt(np.maximum(second - mean**2, 1e-12))

    @cached_property
    def _word_scatter(self) -> Array:
        return self.atoms.T @ self.atoms / np.float32(len(self))

    def picture_scores(self, centred: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of queries' cosines with pictures, twice float32 [N]."""
        second = ((centred @ self.scatter) * centred).sum(1)
        return np.zeros(len(centred), np.float32), np.sqrt(np.maximum(second, 1e-12))


def unit(vectors: NDArray) -> Array:
    """Return rows of length one, float32; a row of zeros stays."""
    rows = np.asarray(vectors, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def _metric(asked: Array) -> Array:
    """Mix the second moment of queries, of the trace of the identity, with the identity."""
    width = asked.shape[1]
    plain = 0.7 if len(asked) < FEW else 0.5
    second = asked.T @ asked
    return (1 - plain) * width * second / np.trace(second) + plain * np.eye(width)


def _root(metric: NDArray) -> Array:
    values, vectors = np.linalg.eigh(metric.astype(np.float64))
    return ((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T).astype(np.float32)


def _liking(scores: Array) -> Array:
    if not scores.shape[1]:
        return np.zeros(len(scores), np.float32)
    scaled = scores / TEMPERATURE
    peak = scaled.max(1, keepdims=True)
    mean = np.log(np.exp(scaled - peak).mean(1)) + peak[:, 0]
    return (SHARE * TEMPERATURE * mean).astype(np.float32)


def _batches(rows: Array) -> Iterator[Array]:
    return (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
