"""One training step (spec: poke, 4.2 and 4.3).

The order of forwards and updates is the published one. Work whose result the published code throws
away is not done (4.6); no update changes by that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pipelines.nn.freezing import frozen
from pipelines.nn.full_precision import full_precision
from pipelines.nn.whole_batch import num_parts, picked_rows
from pipelines.poke import losses
from pipelines.poke.config import FamilyConfig, PatchConfig, TemporalConfig
from pipelines.poke.discriminators import PatchDiscriminator, TemporalDiscriminator
from pipelines.poke.networks import PokeModel, States, poke_strengths
from pipelines.poke.pokes import crop_to_weights
from pipelines.poke.recurrence import moved_states
from pipelines.training.optim import descend

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""(real, fake), both N 3 S S in [-1, 1] -> N distances; no gradient to the first."""

Log = dict[str, Tensor]

_PIXELS_AT_ONCE = 2**15
"""Of the pictures that are drawn at a time on a CPU."""


@dataclass(frozen=True)
class Networks:
    """The model and its two discriminators."""

    model: PokeModel
    patch: PatchDiscriminator
    temporal: TemporalDiscriminator


@dataclass(frozen=True)
class Optimizers:
    """static: image encoder and decoder.  moving: poke encoder, cells and, again, decoder."""

    static: Optimizer
    moving: Optimizer
    patch: Optimizer
    temporal: Optimizer


@dataclass(frozen=True)
class Batch:
    """Clips with what they answer.

    frames: B 1+T 3 S S in [-1, 1], start frame first.  poke: B 2 S S, pixels.
    weights: B S S, for losses that look at the foreground only.
    """

    frames: Tensor
    poke: Tensor
    weights: Tensor | None = None


@dataclass(frozen=True)
class Draws:
    """What is random in a step: frames for the patch discriminator, indices into the B*T frames."""

    real_frames: Tensor
    fake_frames: Tensor
    compared: Tensor | None = None  # frames that the perceptual loss compares; None: all


def draw_step(config: FamilyConfig, num_frames: int, generator: torch.Generator) -> Draws:
    """num_frames: B*T of the batch.  Drawn on the generator's device, best the CPU.

    Where several processes share the batch: indices into the frames of all.
    """
    num_frames *= num_parts()

    def indices(count: int) -> Tensor:
        return torch.randint(num_frames, (count,), generator=generator, device=generator.device)

    real, fake = indices(config.patch.num_frames), indices(config.patch.num_frames)
    compared = config.perceptual.frames
    return Draws(real, fake, indices(compared) if compared is not None else None)


def poke_step(
    networks: Networks,
    optimizers: Optimizers,
    batch: Batch,
    *,
    config: FamilyConfig,
    step: int,
    draws: Draws,
    perceptual: Perceptual,
    is_static: bool = True,
    through_encoder: bool = False,
) -> Log:
    """One update of image encoder and decoder on still images, then of what moves them.

    step: counts from 0; the discriminators join at theirs.  is_static: whether the first of the two
    updates is made.  through_encoder: give the image encoder a gradient of the moving loss too,
    which only a single-stage training uses.
    """
    log: Log = {}
    through_encoder = through_encoder or config.losses.single_stage
    if is_static and not config.losses.single_stage:
        log["static"] = _static_update(networks.model, optimizers, batch.frames[:, 0], perceptual)
    is_judged = _is_active(config.patch, step) or _is_active(config.temporal, step)
    chosen = None if is_judged else draws.compared  # a discriminator has to see all frames
    real_frames, fake_frames, log["latent"] = _moved(
        networks.model, batch, config, chosen, through_encoder=through_encoder
    )
    compared = [real_frames, fake_frames]
    if draws.compared is not None and is_judged:
        compared = [picked_rows(each, draws.compared) for each in compared]
    log["perceptual"] = perceptual(*compared).mean()
    loss = config.losses.perceptual * log["perceptual"] + config.losses.latent * log["latent"]
    if _is_active(config.patch, step):
        real = picked_rows(real_frames, draws.real_frames)
        fake = picked_rows(fake_frames, draws.fake_frames)
        log |= update_critic(
            networks.patch, optimizers.patch, real, fake, config.patch, name="patch"
        )
        found = judge(networks.patch, real, fake, name="patch")
        loss = loss + _adversarial(found, config.patch, name="patch")
        log |= found
    if _is_active(config.temporal, step):
        shown = (batch.poke,) if config.temporal.sees_poke else ()
        real, fake = (
            each.unflatten(0, (len(batch.poke), -1)) for each in (real_frames, fake_frames)
        )
        log |= update_critic(
            networks.temporal,
            optimizers.temporal,
            real,
            fake,
            config.temporal,
            name="temporal",
            shown=shown,
        )
        found = judge(networks.temporal, real, fake, name="temporal", shown=shown)
        loss = loss + _adversarial(found, config.temporal, name="temporal")
        log |= found
    descend(optimizers.moving, loss)
    log["loss"] = loss
    return {name: value.detach() for name, value in log.items()}


def _static_update(
    model: PokeModel, optimizers: Optimizers, images: Tensor, perceptual: Perceptual
) -> Tensor:
    """Draw images from their own states: trains image encoder and decoder."""
    drawn, _ = model.reconstruct(images)
    loss = perceptual(images, drawn).mean()
    descend(optimizers.static, loss)
    return loss


def _moved(
    model: PokeModel,
    batch: Batch,
    config: FamilyConfig,
    chosen: Tensor | None,
    *,
    through_encoder: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """True and made frames as the losses see them, N 3 S S each, and the latent loss.

    chosen: which of the B*T frames, clip after clip, are drawn and compared; None: all.
    """
    start, real = batch.frames[:, 0], batch.frames[:, 1:]
    num_frames = real.shape[1]
    with torch.set_grad_enabled(through_encoder):
        states = model.initial_states(start)
    strengths = poke_strengths(config.model.schedule, num_frames, num_zero=config.model.num_zero)
    code = model.encode_poke(batch.poke, start)
    moved = moved_states(model, code, states, strengths)
    frames, weights = real.flatten(0, 1), batch.weights
    if weights is not None:
        weights = weights.repeat_interleave(num_frames, dim=0)
    if chosen is not None:
        moved = [picked_rows(level, chosen) for level in moved]
        frames = picked_rows(frames, chosen)
        weights = None if weights is None else picked_rows(weights, chosen)
    with frozen(model.decoder, when=not config.losses.moves_decoder):
        drawn = _drawn(model, moved, config)
    if weights is not None:
        frames, drawn = (crop_to_weights(each, weights) for each in (frames, drawn))
    latent = drawn.new_zeros(())
    if config.losses.latent:
        with torch.set_grad_enabled(through_encoder):
            wanted = model.initial_states(frames)
        latent = losses.latent_dynamics(moved, wanted)
    return frames, drawn, latent


def _drawn(model: PokeModel, states: States, config: FamilyConfig) -> Tensor:
    """The pictures of N states, on a CPU a few at a time: all maps at once leave its caches no use.

    Not where a picture depends on the others, or on how often the decoder is called.
    """
    settings, num = config.model, len(states[0])
    if states[0].device.type == "cpu" and settings.norm != "bn" and not settings.spectral_decoder:
        num = max(1, _PIXELS_AT_ONCE // settings.size_px**2)
    parts = zip(*(level.split(num) for level in states), strict=True)
    return torch.cat([model.draw(list(part)) for part in parts])


def update_critic(
    critic: nn.Module,
    optimizer: Optimizer,
    real: Tensor,
    fake: Tensor,
    config: PatchConfig | TemporalConfig,
    *,
    name: str,
    shown: Sequence[Tensor] = (),
) -> Log:
    """One update of a discriminator. real, fake: N 3 S S, or B T 3 S S.  shown: what else it sees.

    The order matters: each forward moves the spectral norm.
    """
    real, fake = real.detach().requires_grad_(), fake.detach()
    with full_precision(real.device):  # second derivatives overflow in 16 bits
        real_logits, _ = critic(real, *shown)
        penalty = losses.gradient_penalty(real_logits, real).mean()
    fake_logits, _ = critic(fake, *shown)
    loss_real, loss_fake = losses.hinge_real(real_logits), losses.hinge_fake(fake_logits)
    descend(optimizer, loss_real + loss_fake + config.gradient_penalty * penalty)
    return {
        f"critic_{name}": (loss_real + loss_fake) / 2,
        f"penalty_{name}": penalty,
        f"believed_real_{name}": torch.sigmoid(real_logits).mean(),
        f"believed_fake_{name}": torch.sigmoid(fake_logits).mean(),
    }


def judge(
    critic: nn.Module, real: Tensor, fake: Tensor, *, name: str, shown: Sequence[Tensor] = ()
) -> Log:
    """What a discriminator says of made frames, with gradients to them alone."""
    with frozen(critic):
        fake_logits, fake_features = critic(fake, *shown)
        with torch.no_grad():
            _, real_features = critic(real, *shown)
    return {
        f"generator_{name}": losses.hinge_generator(fake_logits),
        f"matching_{name}": losses.feature_matching(fake_features, real_features),
    }


def _adversarial(found: Log, config: PatchConfig | TemporalConfig, *, name: str) -> Tensor:
    return (
        config.weight * found[f"generator_{name}"]
        + config.feature_matching * found[f"matching_{name}"]
    )


def _is_active(config: PatchConfig | TemporalConfig, step: int) -> bool:
    return config.start_step is not None and step >= config.start_step
