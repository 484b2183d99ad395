"""How good a stage is on held-out clips, always the same ones, while it trains (spec: 6.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.behavior import losses, mtvae
from pipelines.behavior.config import MtVaeConfig
from pipelines.behavior.data import Arrays
from pipelines.behavior.flow import BehaviorFlow
from pipelines.behavior.mtvae import MotionTransformationVae
from pipelines.behavior.networks import BehaviorEncoder
from pipelines.behavior.steps import Networks, draw_mtvae_noise
from pipelines.training.generators import torch_generator


@dataclass(frozen=True)
class HeldOut:
    """Held-out clips B 1+T P and their actions, B; None where the data has none."""

    clips: Tensor | None
    actions: Tensor | None
    seed: int

    @classmethod
    def of(cls, arrays: Arrays | None, device: torch.device, seed: int) -> HeldOut:
        """From what the data gives."""
        if arrays is None:
            return cls(None, None, seed)
        clips, actions = (torch.from_numpy(arrays[name]) for name in ("poses", "action"))
        return cls(clips.to(device), actions.to(device), seed)

    def generator(self) -> torch.Generator:
        """The same random numbers at every validation."""
        return torch_generator(self.seed, "validation")


@torch.no_grad()
def validate_stage1(networks: Networks, held_out: HeldOut) -> dict[str, float]:
    """Errors of reconstruction and of a person who does not move; what becomes of a transfer.

    A transfer takes each clip's behaviour to the posture of the clip before it.
    """
    clip = held_out.clips
    if clip is None or held_out.actions is None:
        return {}
    poses, target = clip[:, :-1], clip[:, 1:]
    with evaluating(networks.by_name):
        found = networks.net.encoder(poses)
        noise = torch.randn(found.mean.shape, generator=held_out.generator()).to(found.mean)
        made = networks.net.decoder(found.sample(noise), poses[:, 0], target.shape[1])
        moved = networks.net.decoder(found.mean, poses[:, 0].roll(1, 0), target.shape[1])
        again = networks.net.encoder(moved).mean
        values = {
            "val_reconstruction": F.mse_loss(made, target),
            "val_static": F.mse_loss(poses[:, :1].expand_as(target), target),
            "val_kl": losses.kl_divergence(found.mean, found.log_std),
            # both as published: of a code found again, and of one person's codes to another's
            "val_code_found_again": (again - found.mean).norm(dim=1).mean(),
            "val_code_distance": (found.mean.roll(1, 0) - found.mean).norm(dim=1).mean(),
        }
        for name, network in networks.classifiers.items():
            seen = found.mean if name == "latent" else poses
            logits = network(seen) if name == "latent" else network(seen)[0]
            values[f"val_{name}_accuracy"] = _share(logits, held_out.actions)
            if name != "latent":
                values[f"val_{name}_transfer"] = _share(network(moved)[0], held_out.actions)
    return {name: float(value) for name, value in values.items()}


@torch.no_grad()
def validate_mtvae(
    model: MotionTransformationVae, held_out: HeldOut, config: MtVaeConfig
) -> dict[str, float]:
    """The baseline's mean absolute error, and that of a person who does not move."""
    clip = held_out.clips
    if clip is None:
        return {}
    noise = draw_mtvae_noise(config, len(clip), held_out.generator(), clip.device)
    with evaluating({"model": model}):
        made = model(
            clip,
            None,
            noise.state,
            num_condition=config.num_condition,
            noise=noise.code,
            cycle_noise=noise.cycle,
        )
    poses, kl, motion, _ = mtvae.losses(
        made, clip, noise.target, num_condition=config.num_condition
    )
    future, last = clip[:, config.num_condition :], clip[:, config.num_condition - 1]
    static = (last[:, None] - future).abs().mean()
    values = {
        "val_reconstruction": poses,
        "val_static": static,
        "val_kl": kl,
        "val_motion": motion,
    }
    return {name: float(value) for name, value in values.items()}


@torch.no_grad()
def validate_flow(
    flow: BehaviorFlow, encoder: BehaviorEncoder, held_out: HeldOut
) -> dict[str, float]:
    """The flow's loss on codes drawn from the posteriors of held-out clips."""
    if held_out.clips is None:
        return {}
    found = encoder(held_out.clips[:, :-1])
    noise = torch.randn(found.mean.shape, generator=held_out.generator()).to(found.mean)
    with evaluating({"flow": flow}):
        loss, nll, _ = losses.flow_loss(*flow(found.sample(noise)))
    return {"val_loss": float(loss), "val_nll": float(nll)}


def _share(logits: Tensor, actions: Tensor) -> Tensor:
    return (logits.argmax(1) == actions).float().mean()


@contextmanager
def evaluating(networks: Mapping[str, nn.Module]) -> Iterator[None]:
    """Eval mode within the block, the modes from before it afterwards."""
    modes = {name: network.training for name, network in networks.items()}
    for network in networks.values():
        network.eval()
    try:
        yield
    finally:
        for name, network in networks.items():
            network.train(modes[name])
