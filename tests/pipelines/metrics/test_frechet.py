from __future__ import annotations

import numpy as np
import pytest

from pipelines.events import UserError
from pipelines.metrics import frechet


def gaussian(num: int, size: int, seed: int, *, scale: float = 1.0, shift: float = 0.0):
    return shift + scale * np.random.default_rng(seed).normal(size=(num, size))


def whitened(samples: np.ndarray) -> np.ndarray:
    """The samples with exactly zero mean and unit covariance."""
    centred = samples - samples.mean(axis=0)
    covariance = centred.T @ centred / (len(centred) - 1)
    return centred @ np.linalg.inv(np.linalg.cholesky(covariance)).T


def test_two_gaussians_with_known_moments_are_as_far_apart_as_the_formula_says():
    base = whitened(gaussian(400, 5, 0))
    scales, shift = np.array([0.5, 1.0, 2.0, 3.0, 0.1]), np.array([1.0, 0.0, -2.0, 0.5, 0.0])
    found = frechet.distance(base, base[::-1] * scales + shift)
    expected = np.square(shift).sum() + np.square(1 - scales).sum()
    assert found.value == pytest.approx(expected, rel=1e-9)
    assert found.mean_term == pytest.approx(np.square(shift).sum(), rel=1e-9)


def test_covariances_that_do_not_commute_match_the_closed_form_in_two_dimensions():
    first, second = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.7], [-0.7, 3.0]])
    # tr sqrt(M) of a 2 x 2 matrix is sqrt(tr M + 2 sqrt(det M))
    product = first @ second
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    expected = 9.0 + np.trace(first) + np.trace(second) - 2 * root
    found = frechet.distance_of_moments([0.0, 0.0], first, [3.0, 0.0], second)
    assert found.value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("num", [6, 20, 50, 300], ids=lambda n: f"{n} samples of 20 numbers")
def test_equal_sets_are_at_distance_zero(num):
    samples = gaussian(num, 20, 1)
    found = frechet.distance(samples, samples)
    assert 0 <= found.value < 1e-9
    assert f"{found.value:.4f}" == "0.0000"
    assert abs(found.raw) < 1e-9


def test_few_and_many_samples_take_different_paths_to_the_same_number():
    # 40 samples of 30 numbers go by eigenvalues; padded with zeros to 60 numbers they go by
    # singular values, and the distance is the same
    real, fake = gaussian(40, 30, 2), gaussian(40, 30, 3, scale=1.5, shift=0.2)
    padded = [np.pad(each, ((0, 0), (0, 30))) for each in (real, fake)]
    assert frechet.distance(*padded).value == pytest.approx(
        frechet.distance(real, fake).value, rel=1e-9
    )


def test_a_singular_covariance_with_many_samples_is_no_obstacle():
    real, fake = gaussian(200, 8, 4), gaussian(200, 8, 5, shift=1.0)
    with_dead_features = [np.pad(each, ((0, 0), (0, 4))) for each in (real, fake)]
    assert frechet.distance(*with_dead_features).value == pytest.approx(
        frechet.distance(real, fake).value, rel=1e-9
    )


def test_order_of_samples_and_of_the_two_sets_does_not_matter():
    real, fake = gaussian(25, 40, 6), gaussian(30, 40, 7, scale=2.0)
    shuffled = np.random.default_rng(0).permutation(real)
    value = frechet.distance(real, fake).value
    assert frechet.distance(shuffled, fake).value == pytest.approx(value, rel=1e-12)
    assert frechet.distance(fake, real).value == pytest.approx(value, rel=1e-9)


def test_more_noise_is_farther_away():
    real = gaussian(100, 16, 8)
    values = [
        frechet.distance(real, real + gaussian(100, 16, 9, scale=s)).value for s in (0.2, 0.5, 1)
    ]
    assert 0 < values[0] < values[1] < values[2]


def test_constant_features_give_the_distance_of_the_means_plus_the_spread():
    real = whitened(gaussian(50, 4, 10))
    found = frechet.distance(real, np.full((50, 4), 2.0))
    assert found.value == pytest.approx(4 * 2.0**2 + 4, rel=1e-9)


def test_large_means_do_not_drown_the_covariances():
    real, fake = gaussian(100, 6, 11), gaussian(100, 6, 12, scale=2.0)
    there = frechet.distance(real, fake).value
    assert frechet.distance(real + 1e5, fake + 1e5).value == pytest.approx(there, rel=1e-6)


def test_the_biased_covariance_of_few_samples_gives_a_lower_number():
    real, fake = gaussian(10, 6, 13), gaussian(10, 6, 14)
    assert frechet.distance(real, fake, is_biased=True).value < frechet.distance(real, fake).value


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (np.zeros((1, 4)), np.zeros((5, 4)), "at least two real"),
        (np.zeros((5, 4)), np.zeros((0, 4)), "at least two generated"),
        (np.zeros((5, 4)), np.zeros((5, 3)), "differ in size"),
        (np.zeros((5, 4)), np.full((5, 4), np.nan), "not finite in 5 of 5"),
        (np.array([[0.0], [np.inf]]), np.zeros((5, 1)), "not finite in 1 of 2"),
    ],
)
def test_sets_that_have_no_distance_are_refused(real, fake, message):
    with pytest.raises(UserError, match=message):
        frechet.distance(real, fake)
