"""One training step of each motion model (spec: completion, H.2 and H.3)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer, RMSprop

from pipelines.motion.autoregressive import AutoregressiveMotion
from pipelines.motion.config import FamilyConfig, WganConfig
from pipelines.motion.models import MotionModel
from pipelines.motion.vectors import interpolated, with_ends
from pipelines.motion.wgan import (
    MotionCritic,
    MotionGenerator,
    critic_loss,
    generator_loss,
    gradient_penalty,
)
from pipelines.nn.whole_batch import normal_rows, uniform_rows
from pipelines.training.optim import build_adam, descend

Log = dict[str, Tensor]


def build_optimizers(model: MotionModel) -> dict[str, Optimizer]:
    """One for each network."""
    config = model.config
    if config.kind == "wgan" and config.wgan.objective == "clip":
        rate = config.optimizer.learning_rate
        return {name: RMSprop(net.parameters(), lr=rate) for name, net in model.networks.items()}
    return {name: build_adam([net], config.optimizer) for name, net in model.networks.items()}


def wgan_step(
    generator: MotionGenerator,
    critic: MotionCritic,
    optimizers: Mapping[str, Optimizer],
    real: Tensor,
    *,
    config: WganConfig,
    draws: torch.Generator,
    step: int,
) -> Log:
    """One update of the critic and, every critic_steps steps, of the generator. real: B T D.

    The critic is shown motions with the given ends, as they will be sampled.
    """
    first, last = real[:, 0], real[:, -1]

    def made() -> Tensor:
        noise = normal_rows((*real.shape[:2], config.noise_size), draws).to(real)
        return with_ends(generator(noise, first, last), first, last)

    with torch.no_grad():
        fake = made()
    loss = critic_loss(critic(real), critic(fake))
    log: Log = {"critic": loss}
    if config.objective == "penalty":
        share = uniform_rows((len(real), 1, 1), draws).to(real)
        log["gradient_penalty"] = penalty = gradient_penalty(critic, real, fake, share)
        loss = loss + config.weight_gradient_penalty * penalty
    descend(optimizers["critic"], loss)
    if config.objective == "clip":
        with torch.no_grad():
            for parameter in critic.parameters():
                parameter.clamp_(-config.clip, config.clip)
    if (step + 1) % config.critic_steps == 0:
        log |= _generator_step(critic, optimizers["generator"], real, made(), config)
    return {name: value.detach() for name, value in log.items()}


def autoregressive_step(
    model: MotionModel, optimizers: Mapping[str, Optimizer], real: Tensor
) -> Log:
    """One update of the forward network and, from the end on, of the backward one. real: B T D."""
    log: Log = {}
    for name, network in model.networks.items():
        assert isinstance(network, AutoregressiveMotion)
        motion = real if name == "forward" else real.flip(1)
        predicted, _ = network(motion[:, :-1])
        error = (predicted - motion[:, 1:]).square()
        if model.config.autoregressive.is_as_published:
            error = error[:, -1]
        loss = error.mean()
        descend(optimizers[name], loss)
        log[name] = loss.detach()
    return log


def linear_step(real: Tensor) -> Log:
    """Nothing is learnt: how far straight lines are from the true motion. real: B T D."""
    straight = interpolated(real[:, 0], real[:, -1], real.shape[1])
    return {"error": (straight - real).square().mean()}


def motion_step(
    model: MotionModel,
    optimizers: Mapping[str, Optimizer],
    real: Tensor,
    *,
    draws: torch.Generator,
    step: int,
) -> Log:
    """One update of a model of any kind. real: B T D.  step: updates so far."""
    config: FamilyConfig = model.config
    if config.kind == "linear":
        return linear_step(real)
    if config.kind == "autoregressive":
        return autoregressive_step(model, optimizers, real)
    generator, critic = model.networks["generator"], model.networks["critic"]
    assert isinstance(generator, MotionGenerator) and isinstance(critic, MotionCritic)
    return wgan_step(
        generator, critic, optimizers, real, config=config.wgan, draws=draws, step=step
    )


def _generator_step(
    critic: MotionCritic, optimizer: Optimizer, real: Tensor, fake: Tensor, config: WganConfig
) -> Log:
    critic.requires_grad_(False)
    log: Log = {"generator": generator_loss(critic(fake))}
    loss = log["generator"]
    if config.weight_reconstruction:
        log["reconstruction"] = (fake - real).square().mean()
        loss = loss + config.weight_reconstruction * log["reconstruction"]
    descend(optimizer, loss)
    critic.requires_grad_(True)
    return log
