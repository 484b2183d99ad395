"""poke: training steps at the published sizes, sampling, and how soon the first frame is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from pipelines.poke.build import build_model, build_networks, build_optimizers
from pipelines.poke.config import FamilyConfig
from pipelines.poke.inference import answer, answer_video
from pipelines.poke.perceptual import build_image_loss
from pipelines.poke.steps import Batch, draw_step, poke_step
from pipelines.training.device import choose_device
from tests.benchmarks.rows import Measurement, Settings, apart, seconds

_PRESETS = {"plants_64": False, "plants_128": True}
"""Preset -> whether the row of its training step has both discriminators."""
_FIRST_FRAME_S = 0.2
_ROOT = Path(__file__).resolve().parents[2]


def measure(settings: Settings) -> Iterator[Measurement]:
    """Rows of both sizes; each in a process of its own, for its memory."""
    for preset, has_critics in _PRESETS.items():
        critics = "both discriminators" if has_critics else "no discriminators yet"
        batch = 1 if settings.quick else _config(preset).batch_size
        name = f"{preset}, training step, batch {batch}, {critics}"
        yield _row(settings, name, step_seconds, preset, has_critics, batch)
        for count in (1, 8):
            name = f"{preset}, sampling 10 frames, batch {count}"
            yield _row(settings, name, sampling_seconds, preset, count)
        at_most = _FIRST_FRAME_S if preset == "plants_64" else None
        name = f"{preset}, poke to first frame"
        yield _row(settings, name, first_frame_seconds, preset, at_most=at_most)


def _row(
    settings: Settings,
    name: str,
    function: Callable[..., list[float]],
    *arguments: Any,
    at_most: float | None = None,
) -> Measurement:
    done = apart(function, *arguments, settings.device, settings.repeats)
    note = f"random weights; {settings.device}; embedded perceptual network"
    return Measurement(name, done.result, "s", at_most=at_most, peak_mb=done.peak_mb, note=note)


def step_seconds(
    preset: str, has_critics: bool, batch: int, device: str, repeats: int
) -> list[float]:
    """Seconds of one training step on a batch that stays the same."""
    place, config = choose_device(device), _config(preset)
    networks = build_networks(config)
    for network in vars(networks).values():
        network.to(place)
    size, frames = config.model.size_px, config.clips.num_frames
    work = partial(
        poke_step,
        networks,
        build_optimizers(networks, config),
        Batch(
            torch.rand(batch, frames + 1, 3, size, size, device=place) * 2 - 1,
            _poke(batch, size).to(place),
        ),
        config=config,
        step=config.temporal.start_step if has_critics and config.temporal.start_step else 0,
        draws=draw_step(config, batch * frames, torch.Generator().manual_seed(0)),
        perceptual=_perceptual(config).to(place),
    )
    return seconds(work, repeats=repeats)


def sampling_seconds(preset: str, batch: int, device: str, repeats: int) -> list[float]:
    """Seconds from images and pokes to all frames."""
    model, image, poke = _asked(preset, batch, choose_device(device))
    work = partial(answer_video, model, image, poke, 10, schedule="every-step")
    return seconds(work, repeats=repeats)


def first_frame_seconds(preset: str, device: str, repeats: int) -> list[float]:
    """Seconds from one image and poke to the first of ten frames, on the CPU's side."""
    model, image, poke = _asked(preset, 1, choose_device(device))

    def once() -> float:
        started = time.perf_counter()
        next(answer(model, image, poke, 10, schedule="every-step")).cpu()
        return time.perf_counter() - started

    once()
    return [once() for _ in range(repeats)]


def _asked(preset: str, batch: int, place: torch.device) -> tuple[Any, torch.Tensor, torch.Tensor]:
    config = _config(preset)
    model = build_model(config).to(place).eval().requires_grad_(False)
    size = config.model.size_px
    image = torch.rand(batch, 3, size, size, device=place) * 2 - 1
    return model, image, _poke(batch, size).to(place)


def _poke(batch: int, size: int) -> torch.Tensor:
    poke = torch.zeros(batch, 2, size, size)
    poke[:, :, size // 2 - 1 : size // 2 + 2, size // 2 - 1 : size // 2 + 2] = size / 16
    return poke


def _perceptual(config: FamilyConfig) -> nn.Module:
    return build_image_loss(config.perceptual, weights_dir=_ROOT)


def _config(preset: str) -> FamilyConfig:
    text = (_ROOT / "conf" / "poke" / f"{preset}.yaml").read_text(encoding="utf-8")
    settings = yaml.safe_load(text) | {"perceptual": {"backbone": "efficientnet-lite0"}}
    return FamilyConfig.model_validate(settings)
