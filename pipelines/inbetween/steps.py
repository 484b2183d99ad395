"""One training step (spec: completion, G.5): the discriminators, then the generator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pipelines.inbetween import losses
from pipelines.inbetween.config import FamilyConfig, LossConfig
from pipelines.inbetween.networks import ImageDiscriminator, Inbetweener, VideoDiscriminator
from pipelines.nn.freezing import frozen
from pipelines.training.optim import build_adam, descend

Log = dict[str, Tensor]

_MARGIN, _LEVEL = 0.3, 1.0
"""Of a discriminator's loss: below the margin it is far ahead, above level - margin far behind."""


@dataclass(frozen=True)
class Networks:
    """What is trained; no discriminators where the loss has no adversarial part."""

    model: Inbetweener
    video_judge: VideoDiscriminator | None = None
    image_judge: ImageDiscriminator | None = None

    @property
    def judges(self) -> list[nn.Module]:
        """The discriminators."""
        return [judge for judge in (self.video_judge, self.image_judge) if judge is not None]

    def named(self) -> dict[str, nn.Module]:
        """All of them, by the names in a checkpoint."""
        return {name: each for name, each in vars(self).items() if each is not None}


@dataclass(frozen=True)
class Turn:
    """Which sides the next step updates."""

    judges: bool = True
    model: bool = True


def build_networks(config: FamilyConfig) -> Networks:
    """The model, and what judges it in training."""
    model = Inbetweener(config.network)
    if not config.losses.weight_gan:
        return Networks(model)
    sides = {"size_px": config.size_px}
    return Networks(
        model,
        VideoDiscriminator(config.network, **sides),
        ImageDiscriminator(config.network, **sides),
    )


def build_optimizers(networks: Networks, config: FamilyConfig) -> dict[str, Optimizer]:
    """One for the model, one for both discriminators together."""
    optimizers = {"model": build_adam([networks.model], config.optimizer)}
    if networks.judges:
        optimizers["judges"] = build_adam(networks.judges, config.optimizer)
    return dict(optimizers)


def inbetween_step(
    networks: Networks,
    optimizers: Mapping[str, Optimizer],
    clip: Tensor,
    noise: Tensor,
    *,
    config: LossConfig,
    turn: Turn = Turn(),
) -> Log:
    """One update of the sides whose turn it is.

    clip: B 16 C S S in [-1, 1].  noise: B N, standard normal. Returns the scalars to log.
    """
    fake = networks.model(clip[:, 0], clip[:, -1], noise)
    log: Log = {}
    if networks.judges:
        log |= _judges_step(networks, optimizers["judges"], clip, fake.detach(), config, turn)
    squared = losses.squared_error(clip, fake)
    edges = losses.gradient_difference(clip, fake)
    loss = config.weight_image * (squared + config.weight_edges * edges)
    if networks.judges and turn.model:
        with frozen(*networks.judges):
            gan = torch.stack([_fooled(each, config) for each in _fake_logits(networks, fake)])
        log["gan"] = gan.sum()
        loss = loss + config.weight_gan * gan.sum()
    if turn.model:
        descend(optimizers["model"], loss)
    log |= {"loss": loss, "squared_error": squared, "gradient_difference": edges}
    return {name: value.detach() for name, value in log.items()}


def next_turn(turn: Turn, real_loss: float, fake_loss: float) -> Turn:
    """Who is updated next, from the video discriminator's losses on real and generated clips.

    As published, a pause is taken back only when the other side would have to pause too.
    """
    low, high = _MARGIN, _LEVEL - _MARGIN
    judges = turn.judges and min(real_loss, fake_loss) >= low
    model = turn.model and max(real_loss, fake_loss) <= high
    return Turn(judges, model) if judges or model else Turn()


def _judges_step(
    networks: Networks,
    optimizer: Optimizer,
    real: Tensor,
    fake: Tensor,
    config: LossConfig,
    turn: Turn,
) -> Log:
    """Update both discriminators, or only look when it is not their turn."""
    parts = losses.hinge_parts if config.adversarial == "hinge" else losses.discriminator_parts
    with torch.set_grad_enabled(turn.judges):
        reals, fakes = _real_and_fake_logits(networks, real, fake)
        found = [parts(*logits) for logits in zip(reals, fakes, strict=True)]
        loss = torch.stack([part for pair in found for part in pair]).sum()
    if turn.judges:
        descend(optimizer, loss)
    return {
        "discriminator": loss,
        "discriminator_video_real": found[0][0],
        "discriminator_video_fake": found[0][1],
    }


def _real_and_fake_logits(
    networks: Networks, real: Tensor, fake: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """One pass of each discriminator over both: nothing in them depends on the batch."""
    both = _fake_logits(networks, torch.cat([real, fake]))
    halves = [logits.chunk(2) for logits in both]
    return [half[0] for half in halves], [half[1] for half in halves]


def _fake_logits(networks: Networks, video: Tensor) -> list[Tensor]:
    """What the video discriminator and the one of inner frames say. video: B 16 C S S."""
    assert networks.video_judge is not None and networks.image_judge is not None
    frames = losses.inner_frames(video).flatten(0, 1)
    return [networks.video_judge(video), networks.image_judge(frames)]


def _fooled(logits: Tensor, config: LossConfig) -> Tensor:
    if config.adversarial == "hinge":
        return losses.hinge_generator_part(logits)
    return losses.generator_part(logits)
