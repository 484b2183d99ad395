"""The Frechet distance between two Gaussians, once, for every metric that is one.

    d^2 = |m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr((S1 S2)^(1/2))

Everything is float64. No matrix root is taken: with few samples the trace term is the sum of the
singular values of X1 X2^T (X the centred, scaled activations, so that S = X^T X), which is exact
where covariances are rank-deficient; with many it comes from a symmetric eigenvalue problem.
Shapes: N samples, D feature size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.events import EXIT_FAILED, UserError

_EIGENVALUE_FLOOR = 1e-10
"""Eigenvalues below are noise of rounding; the sum of many roots of noise would not be small."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FrechetDistance:
    """value: never negative, 0.0 for equal sets.  raw: the sum as computed."""

    raw: float
    mean_term: float
    trace_term: float

    @property
    def value(self) -> float:
        """The distance; rounding can leave a tiny negative sum, which is 0."""
        return max(self.raw, 0.0)


def distance(real: ArrayLike, fake: ArrayLike, *, is_biased: bool = False) -> FrechetDistance:
    """Frechet distance between two sets of activations.

    real: N1 D, fake: N2 D; order does not matter.  is_biased: divide covariances by N, as some
    published code does, instead of N - 1.
    Raises UserError for fewer than two samples, sizes that differ, or values that are not finite.
    """
    first, second = _checked(real, "real"), _checked(fake, "generated")
    if first.shape[1] != second.shape[1]:
        raise UserError(
            f"real and generated features differ in size ({first.shape[1]} and {second.shape[1]})",
            {"to fix": "compute both with the same feature network and settings"},
        )
    first_mean, first_root = _mean_and_root(first, is_biased)
    second_mean, second_root = _mean_and_root(second, is_biased)
    if min(len(first), len(second)) < first.shape[1]:
        trace_root = float(np.linalg.svd(first_root @ second_root.T, compute_uv=False).sum())
    else:
        trace_root = _trace_of_root(first_root.T @ first_root, second_root.T @ second_root)
    traces = float(np.square(first_root).sum() + np.square(second_root).sum())
    return _assemble(first_mean, second_mean, traces, trace_root)


def distance_of_moments(
    first_mean: ArrayLike, first_covariance: ArrayLike,
    second_mean: ArrayLike, second_covariance: ArrayLike,
) -> FrechetDistance:  # fmt: skip
    """Frechet distance between two Gaussians given as means (D) and covariances (D D)."""
    first_mean, second_mean = _float64(first_mean), _float64(second_mean)
    first, second = _float64(first_covariance), _float64(second_covariance)
    traces = float(np.trace(first) + np.trace(second))
    return _assemble(first_mean, second_mean, traces, _trace_of_root(first, second))


def _assemble(
    first_mean: Array, second_mean: Array, traces: float, trace_root: float
) -> FrechetDistance:
    difference = first_mean - second_mean
    mean_term = float(difference @ difference)
    return FrechetDistance(mean_term + traces - 2.0 * trace_root, mean_term, trace_root)


def _mean_and_root(activations: Array, is_biased: bool) -> tuple[Array, Array]:
    """The mean, and X with X^T X = covariance."""
    mean = activations.mean(axis=0)
    samples = len(activations) - (0 if is_biased else 1)
    return mean, (activations - mean) / np.sqrt(samples)


def _trace_of_root(first: Array, second: Array) -> float:
    """tr((S1 S2)^(1/2)) = tr((A^T S2 A)^(1/2)) with A A^T = S1; S1 and S2 are D D, symmetric."""
    try:
        root = np.linalg.cholesky(first)
    except np.linalg.LinAlgError:  # S1 is singular
        values, vectors = np.linalg.eigh(first)
        root = vectors * np.sqrt(_without_noise(_float64(values)))
    product = root.T @ second @ root
    values = np.linalg.eigvalsh((product + product.T) / 2)
    return float(np.sqrt(_without_noise(_float64(values))).sum())


def _without_noise(eigenvalues: Array) -> Array:
    return np.where(eigenvalues < _EIGENVALUE_FLOOR, 0.0, eigenvalues)


def _checked(activations: ArrayLike, name: str) -> Array:
    array = _float64(activations)
    if array.ndim != 2 or len(array) < 2:
        raise UserError(
            f"a Frechet distance needs at least two {name} samples, got {len(array)}",
            {"to fix": "give more or longer videos"},
            EXIT_FAILED,
        )
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise UserError(
            f"{name} features are not finite in {len(bad)} of {len(array)} samples",
            {"first": f"sample {bad[0]}", "to fix": "check the videos and the feature network"},
        )
    return array


def _float64(values: ArrayLike) -> Array:
    return np.asarray(values, dtype=np.float64)
