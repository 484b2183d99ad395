"""The three motion models behind one face: from both ends to the motion between them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pipelines.motion.autoregressive import AutoregressiveMotion, complete
from pipelines.motion.config import FamilyConfig
from pipelines.motion.vectors import interpolated, with_ends
from pipelines.motion.wgan import MotionCritic, MotionGenerator


@dataclass(frozen=True)
class MotionModel:
    """config: its kind decides what is in networks, by their names in a checkpoint.

    wgan: generator, critic.  autoregressive: forward, backward (not as published).  linear: none.
    """

    config: FamilyConfig
    networks: dict[str, nn.Module] = field(default_factory=dict)

    @property
    def draws_noise(self) -> bool:
        """Whether there are different motions between the same ends."""
        return self.config.kind == "wgan"

    def noise(self, count: int, num_frames: int, generator: torch.Generator) -> Tensor:
        """Standard normal numbers for some motions, B T N; from a CPU generator."""
        size = self.config.wgan.noise_size
        return torch.randn((count, num_frames, size), generator=generator)

    def between(self, first: Tensor, last: Tensor, noise: Tensor) -> Tensor:
        """Motions, B T D, from first to last, both B D. noise: B T N; its length decides T."""
        num_frames = noise.shape[1]
        if self.config.kind == "linear":
            return interpolated(first, last, num_frames)
        if self.config.kind == "wgan":
            made: Tensor = self.networks["generator"](noise, first, last)
            return with_ends(made, first, last)
        forward, settings = self.networks["forward"], self.config.autoregressive
        backward = self.networks.get("backward")
        assert isinstance(forward, AutoregressiveMotion)
        assert backward is None or isinstance(backward, AutoregressiveMotion)
        return complete(
            forward,
            first,
            last,
            num_frames,
            is_as_published=settings.is_as_published,
            backward_model=backward,
            fade_frames=settings.fade_frames,
        ).sequence


def build(config: FamilyConfig, vector_size: int) -> MotionModel:
    """A model with fresh weights. vector_size: numbers per frame."""
    size = {"vector_size": vector_size}
    if config.kind == "wgan":
        generator = MotionGenerator(config.wgan, **size)
        return MotionModel(
            config, {"generator": generator, "critic": MotionCritic(config.wgan, **size)}
        )
    if config.kind == "linear":
        return MotionModel(config)
    networks: dict[str, nn.Module] = {
        "forward": AutoregressiveMotion(config.autoregressive, **size)
    }
    if not config.autoregressive.is_as_published:
        networks["backward"] = AutoregressiveMotion(config.autoregressive, **size)
    return MotionModel(config, networks)
