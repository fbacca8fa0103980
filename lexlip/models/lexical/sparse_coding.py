"""Sparse codes: the few words whose vectors add up to a vector, in numpy.

First the support by FISTA (Beck and Teboulle, 2009), then the weights by least squares on it, so
that the penalty chooses words and does not shrink them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

STEPS = 40
"""Iterations of FISTA: further ones change no support by more than a word."""

ROUNDS = 3
"""Least squares, each without the words that the one before made negative."""

RIDGE = 1e-4
"""Added to the diagonal of least squares, of atoms of about unit length."""


def curvature(atoms: Array) -> float:
    """Return the largest curvature of ``|x - a D|^2 / 2``: the largest eigenvalue of ``D' D``.

    It bounds the step of `lasso`. Take it once for a dictionary.

    Examples
    --------
    >>> curvature(np.diag([1.0, 3.0]))
    9.0
    """
    return max(float(np.linalg.eigvalsh(atoms.T @ atoms)[-1]), 1e-12)


def lasso(
    targets: Array,
    atoms: Array,
    penalties: Array,
    steps: int = STEPS,
    steepest: float | None = None,
) -> Array:
    """Minimise ``|x - a D|^2 / 2 + rho . a`` over a >= 0, for each row x.

    Parameters
    ----------
    targets : float32 [N, d]
        Rows x.
    atoms : float32 [V, d]
        Rows of D.
    penalties : float32 [N, V]
        rho: what a unit of each word's weight costs.
    steps : int
        Iterations.
    steepest : float, optional
        The `curvature` of the atoms, where it is known.

    Returns
    -------
    float32 [N, V]

    Examples
    --------
    >>> lasso(np.array([[1.0, -1.0]]), np.eye(2), np.full((1, 2), 0.25)).tolist()
    [[0.75, 0.0]]
    """
    rate = 1 / (curvature(atoms) if steepest is None else steepest)
    weights: NDArray[Any] = np.zeros((len(targets), len(atoms)), targets.dtype)
    moved, momentum = weights, 1.0
    offset = rate * (targets @ atoms.T - penalties)
    for _ in range(steps):
        new = moved - rate * ((moved @ atoms) @ atoms.T)
        new += offset
        np.maximum(new, 0, out=new)
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        moved = new + np.float32((momentum - 1) / following) * (new - weights)
        weights, momentum = new, following
    return weights


def refit(targets: Array, atoms: Array, weights: Array, terms: int, rounds: int = ROUNDS) -> Array:
    """Keep the heaviest words of each row, and weigh them by least squares.

    A word whose weight comes out at 0 or below is dropped, and the others are solved for again.

    Parameters
    ----------
    targets : float32 [N, d]
    atoms : float32 [V, d]
    weights : float32 [N, V]
        Of `lasso`; only their order counts.
    terms : int
        Words kept per row, at most.
    rounds : int

    Returns
    -------
    float32 [N, V]
        Not negative; at most `terms` per row above 0.

    Examples
    --------
    >>> x, start = np.array([[2.0, -1.0]]), np.array([[0.5, 0.25]])
    >>> refit(x, np.eye(2), start, 2).round(3).tolist()
    [[2.0, 0.0]]
    """
    terms = min(terms, len(atoms))
    ids = np.argpartition(-weights, terms - 1, axis=1)[:, :terms]
    kept = np.take_along_axis(weights, ids, 1) > 0
    chosen = atoms[ids]  # [N, terms, d]
    gram = chosen @ chosen.transpose(0, 2, 1)
    aims = (chosen @ targets[:, :, None])[:, :, 0]
    diagonal = np.arange(terms)
    solved = np.zeros(ids.shape, targets.dtype)
    for _ in range(rounds):
        system = gram * (kept[:, :, None] & kept[:, None, :])
        system[:, diagonal, diagonal] += np.where(kept, RIDGE, 1)  # of a dropped word: weight 0
        solved = np.linalg.solve(system, np.where(kept, aims, 0)[:, :, None])[:, :, 0]
        negative = kept & (solved <= 0)
        if not negative.any():
            break
        kept &= ~negative
    result = np.zeros(weights.shape, targets.dtype)
    np.put_along_axis(result, ids, np.where(kept, np.maximum(solved, 0), 0), 1)
    return result
