"""One update of each stage (spec: behavior, 3.1, 3.2, 3.5): the arithmetic, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.behavior import losses, mtvae
from pipelines.behavior.auxiliary import ActionClassifier, PostureRegressor, VelocityClassifier
from pipelines.behavior.config import BehaviorLossConfig, MtVaeConfig, Stage1Config
from pipelines.behavior.data import NO_ACTION
from pipelines.behavior.flow import BehaviorFlow
from pipelines.behavior.networks import BehaviorNet, Posterior
from pipelines.nn.full_precision import full_precision, widened
from pipelines.nn.whole_batch import normal_rows
from pipelines.schema import OptimizerConfig
from pipelines.training.optim import build_adam, descend

Log = dict[str, Tensor]

_ACTION = OptimizerConfig(learning_rate=1e-4, weight_decay=1e-4)
_VELOCITY = OptimizerConfig(learning_rate=1e-4, weight_decay=1e-5)
_LATENT = OptimizerConfig(learning_rate=1e-3)
_REGRESSOR = OptimizerConfig(learning_rate=1e-4)


@dataclass(frozen=True)
class Networks:
    """Of stage 1. classifiers: action, velocity, latent; none where the data has no actions."""

    net: BehaviorNet
    regressor: PostureRegressor
    classifiers: Mapping[str, nn.Module] = field(default_factory=dict)

    @property
    def by_name(self) -> dict[str, nn.Module]:
        """As a checkpoint names them."""
        return {"net": self.net, "regressor": self.regressor, **self.classifiers}


def build_networks(config: Stage1Config, *, num_frames: int, num_actions: int) -> Networks:
    """num_frames: poses of a clip, without the first. num_actions: 0 where none are known."""
    sizes = config.net
    classifiers: dict[str, nn.Module] = {}
    if config.auxiliary.classifiers and num_actions > 1:
        width = config.auxiliary.width
        classifiers = {
            "action": ActionClassifier(sizes.pose_size, num_actions, width=width),
            "velocity": VelocityClassifier(sizes.pose_size, num_actions, num_frames=num_frames - 1),
            "latent": nn.Linear(sizes.code_size, num_actions),
        }
    regressor = PostureRegressor(sizes.code_size, sizes.pose_size, num_frames=num_frames)
    return Networks(BehaviorNet(sizes), regressor, classifiers)


def build_optimizers(
    networks: Mapping[str, nn.Module], config: OptimizerConfig
) -> dict[str, torch.optim.Adam]:
    """One for each network, by its name in a checkpoint; the classifiers' are as published."""
    settings = {
        "net": config,
        "regressor": _REGRESSOR,
        "action": _ACTION,
        "velocity": _VELOCITY,
        "latent": _LATENT,
    }
    return {name: build_adam([each], settings[name]) for name, each in networks.items()}


def latent_classifier(code_size: int, num_actions: int) -> dict[str, nn.Module]:
    """The one classifier beside the baseline; none where the data has no actions."""
    return {"latent": nn.Linear(code_size, num_actions)} if num_actions > 1 else {}


@dataclass(frozen=True)
class Objective:
    """What the behavior net is trained on: the terms, scalars."""

    reconstruction: Tensor
    kl: Tensor
    leak: Tensor
    total: Tensor


def objective(
    networks: Networks,
    found: Posterior,
    clip: Tensor,
    *,
    noise: Tensor,
    frame: int,
    kl_weight: float,
    weights: BehaviorLossConfig,
) -> Objective:
    """The cVAE's loss on clips B 1+T P. noise: B D.  frame: whose pose the code should not tell."""
    poses, target = clip[:, :-1], clip[:, 1:]
    made = networks.net.decoder(found.sample(noise), poses[:, 0], poses.shape[1])
    reconstruction = F.mse_loss(made, target)
    kl = losses.kl_divergence(found.mean, found.log_std)
    leak = leak_error(networks.regressor, found.mean, poses, frame)
    bonus = losses.leakage_bonus(leak, weights.weight_regressor, weights.regressor_bounds)
    total = weights.weight_reconstruction * reconstruction + kl_weight * kl - bonus
    return Objective(reconstruction, kl, leak, total)


def leak_error(regressor: PostureRegressor, code: Tensor, poses: Tensor, frame: int) -> Tensor:
    """How wrong the regressor is about the pose of a frame. code: B D.  poses: B T P."""
    asked = torch.full((len(poses),), frame, device=poses.device)
    return F.mse_loss(regressor(code, asked), poses[:, frame])


def stage1_step(
    networks: Networks,
    optimizers: Mapping[str, torch.optim.Optimizer],
    clip: Tensor,
    action: Tensor,
    *,
    noise: Tensor,
    frames: Sequence[int],
    kl_weight: float,
    weights: BehaviorLossConfig,
    is_tuning: bool,
) -> Log:
    """One update. clip: B 1+T P.  action: B.  noise: B D.

    frames: of which the regressor learns to tell the pose, one after another; the last one counts
    in the loss. is_tuning: the net itself stays as it is.
    """
    poses = clip[:, :-1]
    with torch.set_grad_enabled(not is_tuning):
        found = networks.net.encoder(poses)
    code = found.mean.detach()
    for frame in frames:
        descend(optimizers["regressor"], leak_error(networks.regressor, code, poses, frame))
    with torch.set_grad_enabled(not is_tuning):
        # once more, with the regressor as it is now: a step of it lies in between
        terms = objective(
            networks,
            found,
            clip,
            noise=noise,
            frame=frames[-1] if frames else 0,
            kl_weight=kl_weight,
            weights=weights,
        )
    if not is_tuning:
        descend(optimizers["net"], terms.total)
    log = {
        "loss": terms.total,
        "reconstruction": terms.reconstruction,
        "kl": terms.kl,
        "posture_leak": terms.leak,
    }
    if networks.classifiers:
        log |= _train_classifiers(networks, optimizers, poses, code, action)
    return {name: value.detach() for name, value in log.items()}


def _train_classifiers(
    networks: Networks,
    optimizers: Mapping[str, torch.optim.Optimizer],
    poses: Tensor,
    code: Tensor,
    action: Tensor,
) -> Log:
    """Of real poses, of their velocities, of codes; they do not touch the net."""
    log = {}
    for name, network in networks.classifiers.items():
        logits = network(code) if name == "latent" else network(poses)[0]
        descend(optimizers[name], F.cross_entropy(logits, action, ignore_index=NO_ACTION))
        log[f"{name}_accuracy"] = (logits.argmax(1) == action).float().mean()
    return log


def flow_step(
    flow: BehaviorFlow, optimizer: torch.optim.Optimizer, code: Tensor, reference: Tensor
) -> Log:
    """One update of the flow on codes, B D. reference: B D, random normals, to compare with."""
    with full_precision(code.device):  # a sum of many logarithms
        residual, log_det = flow(widened(code))
        loss, nll, negative_log_det = losses.flow_loss(residual, log_det)
    descend(optimizer, loss)
    log = {
        "loss": loss,
        "nll": nll,
        "negative_log_det": negative_log_det,
        "reference_nll": losses.normal_nll(reference),
    }
    return {name: value.detach() for name, value in log.items()}


@dataclass(frozen=True)
class MtVaeNoise:
    """Standard normal numbers. state: two of 1 B W.  code, cycle, target: B Z."""

    state: tuple[Tensor, Tensor]
    code: Tensor
    cycle: Tensor
    target: Tensor


def draw_mtvae_noise(
    config: MtVaeConfig, batch: int, generator: torch.Generator, device: torch.device
) -> MtVaeNoise:
    """Drawn on the CPU, so that they are the same on every device."""

    def normal(*shape: int) -> Tensor:
        return normal_rows(shape, generator).to(device)

    state = normal(batch, config.width)[None], normal(batch, config.width)[None]
    size = config.code_size
    return MtVaeNoise(state, normal(batch, size), normal(batch, size), normal(batch, size))


def mtvae_step(
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    clip: Tensor,
    action: Tensor,
    *,
    noise: MtVaeNoise,
    kl_weight: float,
    config: MtVaeConfig,
    is_tuning: bool,
) -> Log:
    """One update of the baseline on clips B 1+T P. networks: net, and maybe latent."""
    with torch.set_grad_enabled(not is_tuning):
        made = networks["net"](
            clip,
            None,
            noise.state,
            num_condition=config.num_condition,
            noise=noise.code,
            cycle_noise=noise.cycle,
        )
        poses, kl, motion, cycle = mtvae.losses(
            made,
            clip,
            noise.target,
            num_condition=config.num_condition,
            num_velocities=config.num_velocities,
        )
        loss = poses + kl_weight * kl
        loss = loss + config.weight_motion * motion + config.weight_cycle * cycle
    if not is_tuning:
        descend(optimizers["net"], loss)
    log = {"loss": loss, "reconstruction": poses, "kl": kl, "motion": motion, "cycle": cycle}
    if "latent" in networks:
        logits = networks["latent"](made.mean.detach())
        descend(optimizers["latent"], F.cross_entropy(logits, action, ignore_index=NO_ACTION))
        log["latent_accuracy"] = (logits.argmax(1) == action).float().mean()
    return {name: value.detach() for name, value in log.items()}
