"""Metrics: I3D in PyTorch beside TensorFlow, kept features, Frechet distances, memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pipelines.events import Work
from pipelines.io.images import write_png
from pipelines.metrics import frechet
from pipelines.metrics.config import EvalRequest, VideoProtocol
from pipelines.metrics.evaluate import evaluate
from pipelines.metrics.feature_set import FeatureSet
from pipelines.metrics.scenes import Clip, Resources
from pipelines.metrics.video_features import TensorFlowI3d, TorchI3d
from pipelines.nn.packed_convolution import PackedConvolution
from pipelines.training.device import choose_device
from tests.benchmarks.rows import (
    Measurement,
    Settings,
    apart,
    cpu_clock,
    interleaved,
    ratios,
    seconds,
)

BATCH, NUM_FRAMES, SIZE_PX = 8, 16, 224
_LOGITS, _POOLED = 400, 2048
_MADE_UP = "made-up weights"
_GFLOP = 55.5
"""Of one clip, 16 x 224 x 224, two for each multiplication of the published network."""


def measure(settings: Settings) -> Iterator[Measurement]:
    """All rows; those with TensorFlow only where the environment `fvd` has been made."""
    yield from _distances(settings)
    yield from _memory(settings)
    yield from _kept_features(settings)
    yield from _both_worlds(settings)


def _distances(settings: Settings) -> Iterator[Measurement]:
    for size, num, limit_ms in ((_LOGITS, 1000, 50), (_POOLED, 4096, 3000)):
        with _one_blas_thread():
            done = apart(distance_seconds, num, size, settings.repeats)
        yield Measurement(
            f"Frechet distance of {num} x {size}",
            [1000 * each for each in done.result],
            "ms",
            at_most=limit_ms,
            note="float64, one thread, time of the CPU",
            peak_mb=done.peak_mb,
        )


def distance_seconds(num: int, size: int, repeats: int) -> list[float]:
    """CPU seconds of one distance between two sets of so many features."""
    generator = np.random.default_rng(0)
    real, fake = (generator.standard_normal((num, size)) for _ in range(2))
    work = partial(frechet.distance, real, fake)
    return interleaved([work], repeats=repeats, clock=cpu_clock)[0]


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """For processes that are started within: their matrix library uses one thread."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    former = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _memory(settings: Settings) -> Iterator[Measurement]:
    few, many = (40_000, 80_000) if settings.quick else (80_000, 400_000)
    peaks = [apart(fill_set, num).peak_mb for num in (few, many)]
    yield Measurement(
        f"memory of {many} videos over that of {few}",
        [peaks[1] / peaks[0]],
        "x",
        at_most=1.1,
        note="400 features of each",
        peak_mb=peaks[1],
    )


def fill_set(num_videos: int) -> int:
    """Gather features of so many videos."""
    found = FeatureSet()
    generator = np.random.default_rng(0)
    for number in range(num_videos):
        found.add(str(number), generator.standard_normal((1, _LOGITS), np.float32))
    return found.num_videos


def _kept_features(settings: Settings) -> Iterator[Measurement]:
    num = 2 if settings.quick else 24
    folders = [settings.scratch_dir / name for name in ("real", "fake")]
    for seed, folder in enumerate(folders):
        for number in range(num):
            for frame, image in enumerate(_clip(10 * number + seed, 64).frames):
                write_png(folder / f"clip{number}" / f"{frame}.png", image)
    real, fake = folders

    def once(cache: Path) -> None:
        evaluate(
            EvalRequest(
                metrics=("fvd",), source=fake, real=real, generated_weights=True,
                baselines=False, cache_dir=cache, device=settings.device,
            ),
            Work(),
        )  # fmt: skip

    kept = settings.scratch_dir / "kept"
    once(kept)
    counter = iter(range(1000))
    fresh, again = interleaved(
        [lambda: once(settings.scratch_dir / f"cache{next(counter)}"), lambda: once(kept)],
        repeats=settings.repeats,
        warmups=0,
    )
    load = seconds(lambda: _torch_i3d(settings), repeats=settings.repeats)
    work = [[max(each - min(load), 1e-3) for each in side] for side in (fresh, again)]
    yield Measurement(
        "second evaluation against the same real videos",
        ratios(*work),
        "x",
        at_least=1.8,
        note=f"fvd, {num} and {num} videos of {NUM_FRAMES} x 64 x 64, no baselines, without the "
        f"{min(load):.1f} s that making up and loading weights takes",
    )


def _both_worlds(settings: Settings) -> Iterator[Measurement]:
    python = _tensorflow_python()
    batch = 2 if settings.quick else BATCH
    clips = [_clip(number, SIZE_PX) for number in range(batch)]
    ours = _torch_i3d(settings)
    if python is None:
        print("no environment fvd: rows with TensorFlow are left out", file=sys.stderr)
        taken = seconds(lambda: ours(clips), repeats=settings.repeats)
        yield _rate("PyTorch", batch, taken, settings)
        return
    resources = Resources(
        torch.device("cpu"), is_generated=True, tensorflow_python=python,
        cache_dir=settings.scratch_dir,
    )  # fmt: skip
    theirs = TensorFlowI3d(VideoProtocol(), resources)
    torch_s, tensorflow_s = interleaved(
        [lambda: ours(clips), lambda: theirs(clips)], repeats=settings.repeats
    )
    yield _rate("PyTorch", batch, torch_s, settings)
    yield _rate("TensorFlow", batch, tensorflow_s, settings)
    torch_rate, tensorflow_rate = (batch * _GFLOP / min(each) for each in (torch_s, tensorflow_s))
    yield Measurement(
        "I3D in PyTorch over TensorFlow",
        ratios(tensorflow_s, torch_s),
        "x",
        at_least=1.5,
        note=f"batch {batch}, {_MADE_UP}, same weights. A clip takes {_GFLOP} GFLOP as published: "
        f"{torch_rate:.0f} GFLOP/s in PyTorch, {tensorflow_rate:.0f} in TensorFlow, where a single "
        f"convolution within the cache reaches {_convolution_rate(settings):.0f}",
    )


def _convolution_rate(settings: Settings) -> float:
    """GFLOP/s of one of the network's convolutions by itself, which is near what there is."""
    weight, x = torch.randn(320, 160, 3, 3, 3), torch.randn(4, 160, 4, 14, 14)
    packed = PackedConvolution(weight, None, stride=(1, 1, 1))
    with torch.inference_mode():
        taken = seconds(lambda: packed(x, (1, 1, 1)), repeats=2 * settings.repeats)
    return 2e-9 * weight.numel() * x[:, 0].numel() / min(taken)


def _rate(name: str, batch: int, taken: list[float], settings: Settings) -> Measurement:
    return Measurement(
        f"I3D in {name}, batch {batch}",
        [batch / each for each in taken],
        "clips/s",
        note=f"{NUM_FRAMES} x {SIZE_PX} x {SIZE_PX}, {_MADE_UP}, {settings.device}",
    )


def _torch_i3d(settings: Settings) -> TorchI3d:
    resources = Resources(choose_device(settings.device), is_generated=True)
    return TorchI3d(VideoProtocol(), "i3d", resources)


def _clip(seed: int, size_px: int) -> Clip:
    shape = (NUM_FRAMES, size_px, size_px, 3)
    return Clip(str(seed), np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8))


def _tensorflow_python() -> Path | None:
    """The interpreter of the environment `fvd`: the newest one below the folder of environments."""
    home = Path(os.environ.get("I2V_HOME") or Path.home() / ".cache" / "i2v")
    found = sorted(home.glob("envs/fvd-*/bin/python"), key=lambda each: each.stat().st_mtime)
    return found[-1] if found else None
