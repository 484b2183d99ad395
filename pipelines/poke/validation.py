"""How well held-out clips are answered, always the same ones with the same pokes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from pipelines.nn import image_quality
from pipelines.poke.batches import training_batch
from pipelines.poke.config import FamilyConfig
from pipelines.poke.data import PokeData
from pipelines.poke.networks import PokeModel, poke_strengths
from pipelines.poke.steps import Batch
from pipelines.training.generators import torch_generator

_BATCH = 8
_CAP_DB = 100.0  # what a frame without any error counts in a mean
_MOVING_PX = 1.0  # flow that counts as motion


@dataclass(frozen=True)
class HeldOut:
    """Held-out clips as a model sees them."""

    data: PokeData
    config: FamilyConfig
    device: torch.device

    def batches(self, limit: int | None = None) -> Iterator[tuple[Batch, Tensor]]:
        """Clips with pokes, and where they move, bool B S S."""
        drawing = torch_generator(self.config.train.seed, "validation")
        clips = self.data.validation[:limit]
        for first in range(0, len(clips), _BATCH):
            arrays = self.data.load(clips[first : first + _BATCH])
            tensors = {name: torch.from_numpy(each) for name, each in arrays.items()}
            tensors = {name: each.to(self.device) for name, each in tensors.items()}
            batch = training_batch(tensors, self.config, augmentation=None, drawing=drawing)
            yield batch, torch.linalg.vector_norm(tensors["flow"], dim=1) > _MOVING_PX


@torch.no_grad()
def validate(model: PokeModel, held_out: HeldOut) -> dict[str, float]:
    """Errors of the answers, and those of a video that does not move; nothing without clips."""
    config = held_out.config
    strengths = poke_strengths(
        config.model.schedule, config.clips.num_frames, num_zero=config.model.num_zero
    )
    found: dict[str, list[float]] = {}
    with evaluating(model):
        for batch, moves in held_out.batches():
            start, real = batch.frames[:, 0], batch.frames[:, 1:]
            fake, _, _ = model(start, batch.poke, strengths)
            drawn, _ = model.reconstruct(start)
            static = start.unsqueeze(1).expand_as(real)
            values = {
                "val_psnr": psnr(real, fake),
                "val_psnr_static": psnr(real, static),
                "val_psnr_moving": psnr(real, fake, moves),
                "val_psnr_moving_static": psnr(real, static, moves),
                "val_psnr_start": psnr(start.unsqueeze(1), drawn.unsqueeze(1)),
            }
            quality = image_quality.ssim(real.flatten(0, 1), fake.flatten(0, 1))
            found.setdefault("val_ssim", []).extend([float(quality)] * len(real))
            for name, each in values.items():
                found.setdefault(name, []).extend(each.tolist())
    return {name: fmean(each) for name, each in found.items()}


def psnr(real: Tensor, fake: Tensor, where: Tensor | None = None) -> Tensor:
    """PSNR of each clip in dB, data range 2, over all pixels or the marked ones.

    real, fake: B T 3 S S in [-1, 1].  where: bool B S S.  Returns B.
    """
    error = (real - fake).square().mean((1, 2))
    if where is None:
        mean = error.mean((1, 2))
    else:
        mean = (error * where).sum((1, 2)) / where.sum((1, 2)).clamp_min(1)
    return (10 * torch.log10(4 / mean)).clamp_max(_CAP_DB)


@contextmanager
def evaluating(model: PokeModel) -> Iterator[None]:
    """Eval mode within the block, the mode from before it afterwards."""
    mode = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(mode)
