"""inbetween: training step and sampling at the published size, with peak memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from pipelines.inbetween.config import FamilyConfig
from pipelines.inbetween.networks import Inbetweener
from pipelines.inbetween.steps import build_networks, build_optimizers, inbetween_step
from pipelines.training.device import choose_device
from tests.benchmarks.rows import Measurement, Settings, apart, seconds

_NARROW = {
    "encoder_channels": [8, 8, 8],
    "latent_channels": 8,
    "layers_per_group": 1,
    "generator_channels": [8, 8, 8],
    "discriminator_channels": [8, 8, 8, 8],
}
_BATCH = 4  # the published 32 does not fit into a small machine's memory


def measure(settings: Settings) -> Iterator[Measurement]:
    """Rows of the published networks at 64 x 64; each in a process of its own, for its memory."""
    batch = 1 if settings.quick else _BATCH
    yield _row(settings, f"64 px, training step, batch {batch}", step_seconds, batch)
    for count in (1,) if settings.quick else (1, 8):
        yield _row(settings, f"64 px, sampling 14 frames, batch {count}", sampling_seconds, count)


def _row(
    settings: Settings, name: str, function: Callable[..., list[float]], batch: int
) -> Measurement:
    done = apart(function, batch, settings.device, settings.repeats, settings.quick)
    width = "narrow networks" if settings.quick else "published networks"
    note = f"random weights; {width}; {settings.device}"
    return Measurement(name, done.result, "s", peak_mb=done.peak_mb, note=note)


def step_seconds(batch: int, device: str, repeats: int, quick: bool) -> list[float]:
    """Seconds of one training step with both discriminators."""
    place, config = choose_device(device), _config(quick)
    networks = build_networks(config)
    for network in networks.named().values():
        network.to(place)
    work = partial(
        inbetween_step,
        networks,
        build_optimizers(networks, config),
        torch.rand(batch, 16, 3, 64, 64, device=place) * 2 - 1,
        torch.randn(batch, config.network.noise_size, device=place),
        config=config.losses,
    )
    return seconds(work, repeats=repeats)


def sampling_seconds(batch: int, device: str, repeats: int, quick: bool) -> list[float]:
    """Seconds from pairs of images to the frames between them."""
    place, config = choose_device(device), _config(quick)
    model = Inbetweener(config.network).to(place).eval()
    start, end = torch.rand(2, batch, 3, 64, 64, device=place) * 2 - 1
    noise = torch.randn(batch, config.network.noise_size, device=place)

    def work() -> Any:
        with torch.inference_mode():
            return model(start, end, noise)

    return seconds(work, repeats=repeats)


def _config(quick: bool) -> FamilyConfig:
    return FamilyConfig.model_validate({"network": _NARROW} if quick else {})
