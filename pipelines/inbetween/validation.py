"""How near generated frames come to the true ones between the same ends, beside a cross-fade."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean

import torch
from torch import Tensor, nn

from pipelines.inbetween.config import FamilyConfig
from pipelines.inbetween.data import ClipData
from pipelines.inbetween.losses import inner_frames
from pipelines.inbetween.networks import Inbetweener
from pipelines.nn import image_quality
from pipelines.training.generators import torch_generator

_BATCH = 8
_CAP_DB = 100.0  # what a frame without any error counts in a mean


@torch.no_grad()
def validate(
    model: Inbetweener, data: ClipData, config: FamilyConfig, device: torch.device
) -> dict[str, float]:
    """Numbers of inner frames of held-out clips; nothing when there are none."""
    generator = torch_generator(config.train.seed, "validation")
    found: dict[str, list[float]] = {}
    with evaluating(model):
        for clip in data.held_out(_BATCH):
            noise = torch.randn((len(clip), config.network.noise_size), generator=generator)
            clip = clip.to(device)
            fake = model(clip[:, 0], clip[:, -1], noise.to(device))
            faded = crossfade(clip[:, 0], clip[:, -1], clip.shape[1])
            real = inner_frames(clip).flatten(0, 1)
            quality = image_quality.ssim(real, inner_frames(fake).flatten(0, 1))
            values = {
                "val_psnr": psnr(clip, fake),
                "val_psnr_crossfade": psnr(clip, faded),
                "val_ssim": quality.expand(len(clip)),
            }
            for name, each in values.items():
                found.setdefault(name, []).extend(each.tolist())
    return {name: fmean(each) for name, each in found.items()}


def crossfade(start: Tensor, end: Tensor, num_frames: int) -> Tensor:
    """Both images mixed, from the first to the last. start, end: B C S S; returns B T C S S."""
    share = torch.linspace(0, 1, num_frames, device=start.device)[None, :, None, None, None]
    return torch.lerp(start[:, None], end[:, None], share)


def psnr(real: Tensor, fake: Tensor) -> Tensor:
    """Mean over the inner frames of their PSNR in dB, of each clip.

    real, fake: B T C S S in [-1, 1].  Returns B.
    """
    error = (inner_frames(real) - inner_frames(fake)).square().mean((2, 3, 4))
    return (10 * torch.log10(4 / error)).clamp_max(_CAP_DB).mean(1)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode within the block, the mode from before it afterwards."""
    mode = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(mode)
