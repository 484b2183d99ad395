"""Metrics over scenes that are in memory: what the numbers mean and what they do not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipelines.events import UserError
from pipelines.features.embedded import PooledFrames
from pipelines.metrics import frechet_embedded
from pipelines.metrics.evaluate import load_metric, measure
from pipelines.metrics.result import MetricResult
from pipelines.metrics.scenes import Clip, Scene

ALL = ("psnr", "ssim", "diversity", "frechet-embedded", "motion-energy")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def video(seed: int, *, speed: float = 1.0, num_frames: int = 6, size_px: int = 32) -> np.ndarray:
    """A coloured wave that moves `speed` pixels per frame, with a look of its own."""
    rng = np.random.default_rng(seed)
    angle, wavelength, colour = rng.uniform(0, np.pi), rng.uniform(6, 14), rng.uniform(0.3, 1, 3)
    y, x = np.mgrid[:size_px, :size_px]
    along = np.cos(angle) * x + np.sin(angle) * y
    steps = np.arange(num_frames)[:, None, None] * speed
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * (along[None] - steps) / wavelength)
    return (255 * wave[..., None] * colour).astype(np.uint8)


def noisy(frames: np.ndarray, amount: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(scale=255 * amount, size=frames.shape)
    return np.clip(frames + noise, 0, 255).astype(np.uint8)


def scene(name: str, real: np.ndarray, *samples: np.ndarray, group: str | None = None) -> Scene:
    clips = tuple(Clip(f"{name}-s{i}", frames) for i, frames in enumerate(samples))
    return Scene(name, Clip(name, real), clips, group)


def scenes_with_noise(amount: float, num: int = 4) -> list[Scene]:
    return [
        scene(str(i), video(i), *(noisy(video(i), amount, seed=10 * i + k) for k in range(2)))
        for i in range(num)
    ]


def by_name(results: list[MetricResult]) -> dict[str, MetricResult]:
    return {each.metric: each for each in results}


def test_generated_videos_equal_to_the_real_ones_get_perfect_numbers():
    found = by_name(measure(ALL, [scene(str(i), video(i), video(i), video(i)) for i in range(3)]))
    assert found["psnr"].value == 100.0
    assert found["psnr"].details["frames without error"] == 3 * 2 * 6
    assert found["ssim"].value == pytest.approx(1.0)
    assert found["diversity (pixels)"].value == 0
    assert found["diversity (embedded)"].value == pytest.approx(0, abs=1e-6)
    assert found["motion-energy"].details["ratio to real videos"] == pytest.approx(1.0)


def test_the_frechet_distance_of_equal_sets_prints_as_zero():
    (result,) = measure(["frechet-embedded"], [scene(str(i), video(i), video(i)) for i in range(3)])
    assert result.value == pytest.approx(0, abs=1e-6)
    assert result.row()[1] == "0.0000"


def test_every_metric_gets_worse_with_more_noise():
    few, more = (by_name(measure(ALL, scenes_with_noise(amount))) for amount in (0.02, 0.2))
    assert more["psnr"].value < few["psnr"].value
    assert more["ssim"].value < few["ssim"].value
    assert more["frechet-embedded"].value > few["frechet-embedded"].value
    assert more["diversity (pixels)"].value > few["diversity (pixels)"].value
    assert more["diversity (embedded)"].value > few["diversity (embedded)"].value
    assert more["motion-energy"].value > few["motion-energy"].value


def test_metrics_measured_together_give_what_they_give_alone():
    together = by_name(measure(ALL, scenes_with_noise(0.1)))
    for name in ALL:
        for result in measure([name], scenes_with_noise(0.1)):
            assert together[result.metric].value == result.value


def test_the_order_of_scenes_and_of_samples_does_not_matter():
    scenes = scenes_with_noise(0.1)
    turned = [
        Scene(each.name, each.real, tuple(reversed(each.samples))) for each in reversed(scenes)
    ]
    forward, backward = by_name(measure(ALL, scenes)), by_name(measure(ALL, turned))
    for name, result in forward.items():
        assert backward[name].value == pytest.approx(result.value, rel=1e-9)


def test_features_do_not_depend_on_how_many_frames_run_together(monkeypatch):
    frames = np.concatenate([video(i) for i in range(4)])
    extract = PooledFrames(torch.device("cpu"))
    together = extract(frames)
    monkeypatch.setattr("pipelines.features.embedded._BATCH_FRAMES", 5)
    np.testing.assert_allclose(extract(frames), together, rtol=1e-3, atol=1e-3)


def test_each_clip_is_shown_to_each_feature_network_once(monkeypatch):
    seen = []

    class Counting(PooledFrames):
        def __call__(self, frames):
            seen.append(len(frames))
            return super().__call__(frames)

    monkeypatch.setattr(frechet_embedded, "PooledFrames", Counting)
    measure(ALL, scenes_with_noise(0.1, num=3))
    assert seen == [6] * (3 * 3)


def test_psnr_is_the_mean_over_scenes_with_its_error_and_the_best_samples():
    real = np.full((4, 16, 16, 3), 100, np.uint8)
    off_by = {step: np.full_like(real, 100 + step) for step in (1, 10, 100)}
    scenes = [scene("a", real, off_by[1], off_by[10]), scene("b", real, off_by[10], off_by[100])]
    (result,) = measure(["psnr"], scenes)
    level = {step: 20 * np.log10(255 / step) for step in off_by}
    means = [(level[1] + level[10]) / 2, (level[10] + level[100]) / 2]
    assert result.value == pytest.approx(np.mean(means), abs=1e-4)
    assert result.standard_error == pytest.approx(np.std(means, ddof=1) / np.sqrt(2), abs=1e-4)
    best = (level[1] + level[10]) / 2
    assert result.details["best sample of each scene"] == pytest.approx(best, abs=1e-4)


def test_a_frozen_first_frame_stands_beside_paired_numbers():
    real = np.stack([np.full((16, 16, 3), 100 + 10 * t, np.uint8) for t in range(3)])
    (result,) = measure(["psnr"], [scene("a", real, real), scene("b", real, real)])
    expected = np.mean([20 * np.log10(255 / 10), 20 * np.log10(255 / 20)])
    assert result.references["static first frame"] == pytest.approx(expected, abs=1e-4)


def test_the_frozen_frame_is_the_start_image_where_that_is_known():
    real = np.stack([np.full((16, 16, 3), 110 + 10 * t, np.uint8) for t in range(2)])
    start = np.full((16, 16, 3), 100, np.uint8)
    scenes = [Scene(n, Clip(n, real, start=start), (Clip(n, real),)) for n in "ab"]
    (result,) = measure(["psnr"], scenes)
    expected = np.mean([20 * np.log10(255 / 10), 20 * np.log10(255 / 20)])
    assert result.references["static first frame"] == pytest.approx(expected, abs=1e-4)


def test_pixel_diversity_is_the_root_mean_square_over_all_pairs_of_samples():
    real = np.zeros((3, 16, 16, 3), np.uint8)
    samples = [np.full_like(real, level) for level in (0, 51, 102)]  # 0, 0.2 and 0.4 of the range
    (result, _) = measure(["diversity"], [scene("a", real, *samples)])
    assert result.value == pytest.approx(np.sqrt((0.2**2 + 0.2**2 + 0.4**2) / 3))


def test_diversity_stands_beside_the_spread_of_real_videos_of_the_same_group():
    waves = [scene(f"w{i}", video(i), video(i), video(i), group="waves") for i in range(3)]
    flat = [scene("f", video(9) // 8, video(9), video(9), group="flat")]
    pixels, embedded = measure(["diversity"], waves + flat)
    reals = [each.real.frames / 255 for each in waves]
    pairs = [np.square(reals[i] - reals[k]).mean() for i, k in ((0, 1), (0, 2), (1, 2))]
    reference = pixels.references["between real videos of a kind"]
    expected = np.sqrt(np.mean(pairs))  # 'flat' has one video: no pair
    assert reference == pytest.approx(expected, rel=1e-5)
    assert embedded.references["between real videos of a kind"] > 0


def test_real_videos_without_groups_are_not_called_of_a_kind():
    pixels, _ = measure(["diversity"], scenes_with_noise(0.1))
    assert list(pixels.references) == ["between real videos"]


def test_the_frechet_distance_notices_other_content_and_has_a_floor():
    same = [scene(str(i), video(i), np.roll(video(i), 1, axis=2)) for i in range(8)]
    other = [scene(str(i), video(i), 255 - video(i) // 4) for i in range(8)]
    (near,), (far,) = (measure(["frechet-embedded"], each) for each in (same, other))
    floor = near.references["real against real, half of them each"]
    assert near.value < floor
    assert far.value > 3 * near.value


def test_few_frames_and_unequal_sets_are_warned_about():
    scenes = [*scenes_with_noise(0.1, num=3), Scene("more", Clip("more", video(7)), ())]
    (result,) = measure(["frechet-embedded"], scenes)
    text = " ".join(result.warnings)
    assert "biased upwards" in text
    assert "24 real and 36 generated" in text


def test_one_real_video_is_too_few_for_a_frechet_distance():
    scenes = [scene("a", video(0), video(1), video(2))]
    with pytest.raises(UserError, match="at least two real videos, got 1"):
        measure(["frechet-embedded"], scenes)


def test_features_that_are_not_finite_are_refused_with_the_video_s_name(monkeypatch):
    class Broken(PooledFrames):
        def __call__(self, frames):
            return np.full((len(frames), 112), np.nan, np.float32)

    monkeypatch.setattr(frechet_embedded, "PooledFrames", Broken)
    with pytest.raises(UserError, match="'0' are not finite"):
        measure(["frechet-embedded"], scenes_with_noise(0.1))


def test_a_number_carries_its_protocol():
    for result in measure(ALL, scenes_with_noise(0.1)):
        record = result.to_json()
        assert record["protocol"]["num_videos"] == 8
        assert record["protocol"]["num_frames"] == 6
        assert record["protocol"]["size_px"] == (32, 32)
        assert record["versions"]["torch"] == torch.__version__.split("+")[0]
        assert "6 frames of 32 x 32 px" in result.row()[-1]
        if "embedded" in result.metric:
            assert record["protocol"]["extractor"].startswith("efficientnet-lite0")
            assert record["protocol"]["extractor_sha256"][:8] in result.row()[-1]


@pytest.mark.parametrize("name", ["nonsense", "config", "evaluate", "../psnr", "psnr.build", ""])
def test_a_name_that_is_no_metric_is_refused(name):
    with pytest.raises(UserError, match="no metric"):
        load_metric(name)
