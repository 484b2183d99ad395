"""Frechet distances between sets of videos: the number, and all that stands beside it."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.events import UserError
from pipelines.metrics import frechet
from pipelines.metrics.feature_set import FeatureSet
from pipelines.metrics.frechet_set import GENERATED, REAL, FrechetMetric, Rules
from pipelines.metrics.result import ENDLESS, MetricResult
from pipelines.metrics.scenes import Conditions
from pipelines.metrics.shards import PastExtractor

EXTRACTORS = {"x": PastExtractor("made up", "0" * 64)}


def gaussian(num: int, seed: int, *, size: int = 6, shift: float = 0.0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((num, size)) + shift
    return rows.astype(np.float32)


def feature_set(rows: np.ndarray, *, kept_bytes: int = 2**20, per_video: int = 1) -> FeatureSet:
    found = FeatureSet(kept_bytes=kept_bytes)
    for number in range(0, len(rows), per_video):
        found.add(f"{number:05d}", rows[number : number + per_video])
    return found


def metric(real: FeatureSet, fake: FeatureSet, **rules: object) -> FrechetMetric:
    found = FrechetMetric("x", "x", lambda _: EXTRACTORS["x"], unit="clip", rules=Rules(**rules))
    found.sides = {REAL: real, GENERATED: fake}
    return found


def result(real: FeatureSet, fake: FeatureSet, **rules: object) -> MetricResult:
    (found,) = metric(real, fake, **rules).results(Conditions(16, (64, 64)), EXTRACTORS)
    return found


def test_two_gaussians_have_the_distance_of_the_formula() -> None:
    real, fake = gaussian(40_000, 0), 2 * gaussian(40_000, 1) + 1
    # means 1 apart in 6 axes, deviations 1 and 2: 6 * (1 + (2 - 1)^2)
    assert result(feature_set(real), feature_set(fake)).value == pytest.approx(12, rel=0.03)


def test_equal_sets_are_at_zero() -> None:
    assert result(feature_set(gaussian(50, 0)), feature_set(gaussian(50, 0))).value < 1e-9


def test_the_order_of_videos_makes_no_difference() -> None:
    rows = gaussian(60, 1)
    turned = FeatureSet()
    for number in reversed(range(60)):
        turned.add(f"{number:05d}", rows[number : number + 1])
    real = feature_set(gaussian(60, 0))
    assert result(real, turned) == result(real, feature_set(rows))


def test_moments_give_the_number_of_the_rows_themselves() -> None:
    real, fake = gaussian(3000, 0, shift=100.0), gaussian(3000, 1, shift=100.5)
    exact = result(feature_set(real), feature_set(fake)).value
    folded = feature_set(fake, kept_bytes=24_000)
    assert not folded.is_complete
    assert result(feature_set(real), folded).value == pytest.approx(exact, rel=1e-6)


def test_memory_does_not_grow_with_the_number_of_videos() -> None:
    found = feature_set(gaussian(20_000, 0), kept_bytes=24_000)
    assert found.num_videos == 20_000
    assert sum(found.rows_of(name).nbytes for name in found.names) <= 24_000


@pytest.mark.parametrize("kept_bytes", [2**20, 6_000])
def test_shards_join_to_the_number_of_the_whole(kept_bytes: int) -> None:
    rows, real = gaussian(900, 1, shift=3.0), feature_set(gaussian(900, 0))
    whole = feature_set(rows, kept_bytes=kept_bytes)
    joined = FeatureSet(kept_bytes=kept_bytes)
    for shard in range(3):
        part = FeatureSet(kept_bytes=kept_bytes)
        for number in range(shard, 900, 3):
            part.add(f"{number:05d}", rows[number : number + 1])
        joined.merge(part)
    assert joined.num_videos == 900
    assert result(real, joined).value == pytest.approx(result(real, whole).value, rel=1e-6)


def test_the_kept_sample_is_the_same_in_any_order_and_split() -> None:
    whole = feature_set(gaussian(900, 1), kept_bytes=6_000)
    hashed = [set(whole.names)]
    turned = FeatureSet(kept_bytes=6_000)
    rows = gaussian(900, 1)
    for number in reversed(range(900)):
        turned.add(f"{number:05d}", rows[number : number + 1])
    hashed.append(set(turned.names))
    smaller, larger = sorted(hashed, key=len)
    assert smaller <= larger


def test_a_set_survives_its_file(tmp_path) -> None:
    for kept_bytes in (2**20, 6_000):
        before = feature_set(gaussian(900, 1), kept_bytes=kept_bytes)
        before.save(tmp_path / "x.npz", {"shape": "16,64,64,3"})
        after, facts = FeatureSet.load(tmp_path / "x.npz")
        assert facts == {"shape": "16,64,64,3"}
        assert after.num_videos == 900
        np.testing.assert_allclose(after.moments().covariance(), before.moments().covariance())


def test_a_damaged_file_of_features_is_named(tmp_path) -> None:
    (tmp_path / "x.npz").write_bytes(b"PK broken")
    with pytest.raises(UserError, match="cannot be read") as error:
        FeatureSet.load(tmp_path / "x.npz")
    assert "x.npz" in error.value.details["file"]


def test_the_interval_covers_the_distance_of_endless_videos_most_of_the_time() -> None:
    # same distributions: d^2 = 6 * 0.25 = 1.5, plus the bias that the line in 1/n takes away
    hits = 0
    for seed in range(20):
        real, fake = gaussian(400, 2 * seed), gaussian(400, 2 * seed + 1, shift=0.5)
        found = result(feature_set(real), feature_set(fake))
        assert found.interval is not None
        hits += found.interval[0] <= 1.5 <= found.interval[1]
    assert hits >= 15


def test_the_line_in_one_over_n_takes_the_bias_away() -> None:
    real, fake = gaussian(600, 0, size=60), gaussian(600, 1, size=60)
    found = result(feature_set(real), feature_set(fake))
    limit = found.details[ENDLESS]
    assert found.value > 1.0  # nothing but bias: the distributions are equal
    assert abs(limit) < found.value / 3


def test_more_noise_is_farther_away() -> None:
    rows = gaussian(300, 0)
    noise = gaussian(300, 1)
    values = [
        frechet.distance(rows, rows + amount * noise).value for amount in (0.1, 0.5, 1.0, 2.0)
    ]
    assert values == sorted(values)


def test_videos_beyond_whole_batches_are_left_out() -> None:
    real, rows = feature_set(gaussian(40, 0)), gaussian(40, 1)
    cut = result(real, feature_set(rows), batch_size=16)
    assert cut.protocol.num_videos == 32
    by_hand = frechet.distance(gaussian(40, 0)[:32], rows[:32]).value
    assert cut.value == pytest.approx(by_hand)


def test_a_distance_per_step_is_the_mean_over_the_rows_of_videos() -> None:
    real, fake = gaussian(80, 0), gaussian(80, 1, shift=1.0)
    steps = [frechet.distance(real[step::4], fake[step::4]).value for step in range(4)]
    sets = [feature_set(each, per_video=4) for each in (real, fake)]
    assert result(*sets, per_step=True).value == pytest.approx(np.mean(steps))


def test_few_videos_unequal_sets_and_constant_features_are_warned_of() -> None:
    real = feature_set(gaussian(20, 0))
    constant = feature_set(np.ones((10, 6), np.float32))
    warnings = " ".join(result(real, constant).warnings)
    assert "below 256" in warnings
    assert "20 real and 10 generated" in warnings
    assert "all features of a set are the same" in warnings


def test_one_video_is_refused() -> None:
    with pytest.raises(UserError, match="at least two generated videos, got 1"):
        result(feature_set(gaussian(9, 0)), feature_set(gaussian(1, 1)))


def test_a_video_that_is_there_twice_is_refused() -> None:
    found = feature_set(gaussian(2, 0))
    with pytest.raises(UserError, match="there twice"):
        found.add("00000", gaussian(1, 1))


def test_a_paired_difference_is_surer_than_two_values() -> None:
    real = feature_set(gaussian(300, 0))
    base = gaussian(300, 1, shift=0.5)
    first, second = (
        metric(real, feature_set(rows)) for rows in (base, base + 0.02 * gaussian(300, 2))
    )
    difference, error = first.paired_spread(second)
    alone = result(real, feature_set(base))
    assert error is not None and alone.interval is not None
    assert error < (alone.interval[1] - alone.interval[0]) / 4 / 2
    assert abs(difference) < 0.2
