"""One training step per stage (spec: cinn, 3).

The order of forwards and updates is the published one. Each step takes the networks in training
mode, updates them, and returns the scalars to log, detached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pipelines.cinn import losses
from pipelines.cinn.config import AutoencoderConfig, Stage1Config
from pipelines.cinn.encoder import sample_code
from pipelines.cinn.flow import ConditionalFlow
from pipelines.cinn.networks import AutoencoderNetworks, Stage1Networks
from pipelines.nn import image_quality
from pipelines.nn.freezing import frozen
from pipelines.nn.full_precision import full_precision, widened
from pipelines.nn.whole_batch import mean_over_parts, normal_rows, num_parts, picked_rows
from pipelines.training.optim import descend

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""(real, fake), both N 3 H W in [-1, 1] -> N distances, as N or N 1 1 1."""

Log = dict[str, Tensor]


@dataclass(frozen=True)
class Stage1Optimizers:
    """generator: encoder and decoder together; and one for each discriminator."""

    generator: Optimizer
    temporal: Optimizer
    patch: Optimizer


@dataclass(frozen=True)
class AutoencoderOptimizers:
    """autoencoder: image encoder and decoder together."""

    autoencoder: Optimizer
    discriminator: Optimizer


@dataclass(frozen=True)
class Stage1Draws:
    """What is random in a stage-1 step."""

    window_start: int  # first frame that the temporal discriminator sees
    # indices into the B*T frames (clip after clip, of all processes) for the patch discriminator
    frames: Tensor
    noise: Tensor  # B Z, standard normal, for the motion codes
    perceptual_frames: Tensor | None = None  # indices of the frames to compare; None: all


def draw_stage1(config: Stage1Config, clip: Tensor, generator: torch.Generator) -> Stage1Draws:
    """Draws for one clip batch, B 1+T 3 S S; one window and one set of frames for the whole batch.

    The generator's device decides where numbers are drawn; a CPU one gives the same everywhere.
    """
    batch, num_frames = clip.shape[0] * num_parts(), clip.shape[1] - 1
    where = {"generator": generator, "device": generator.device}
    last_start = max(num_frames - config.temporal_window, 0)
    start = torch.randint(last_start + 1, (), **where)
    frames = torch.randint(batch * num_frames, (config.patch_frames,), **where)
    noise = normal_rows((clip.shape[0], config.code_size), generator)
    compared = None
    if config.perceptual_frames is not None:
        compared = torch.randint(batch * num_frames, (config.perceptual_frames,), **where)
        compared = compared.to(clip.device)
    return Stage1Draws(int(start), frames.to(clip.device), noise.to(clip), compared)


def stage1_step(
    networks: Stage1Networks,
    optimizers: Stage1Optimizers,
    clip: Tensor,
    *,
    config: Stage1Config,
    adversarial: bool,
    perceptual: Perceptual,
    generator: torch.Generator | None = None,
    draws: Stage1Draws | None = None,
    log_quality: bool = True,
) -> Log:
    """One update of the discriminators, then of encoder and decoder.

    clip: B 1+T 3 S S in [-1, 1], start frame first.  adversarial: False during the warm-up epochs:
    the discriminators only look, and the generator's loss leaves them out.
    generator: source of the draws, unless `draws` gives them.
    log_quality: also what nothing is trained on: PSNR, SSIM, and, during the warm-up, what the
    discriminators say; a warm-up step without it leaves them out, which takes a fifth less time.
    """
    if draws is None:
        assert generator is not None, "either a generator or the draws"
        draws = draw_stage1(config, clip, generator)
    start, real = clip[:, 0], clip[:, 1:]
    mean, log_variance = networks.encoder(real)
    fake = networks.decoder(start, sample_code(mean, log_variance, draws.noise))

    window = slice(draws.window_start, draws.window_start + config.temporal_window)
    real_frames, fake_frames = real.flatten(0, 1), fake.flatten(0, 1)
    log: Log = {}
    if adversarial or log_quality:
        real_patch = picked_rows(real_frames, draws.frames)
        fake_patch = picked_rows(fake_frames, draws.frames)
        log |= _update_temporal(
            networks.temporal_discriminator,
            optimizers.temporal if adversarial else None,
            real[:, window],
            fake[:, window].detach(),
            penalty_weight=config.weight_gradient_penalty,
        )
        log |= _update_patch(
            networks.patch_discriminator,
            optimizers.patch if adversarial else None,
            real_patch,
            fake_patch.detach(),
            fake_first=True,
        )
        log |= _generator_gan_losses(
            networks, real[:, window], fake[:, window], fake_patch, differentiable=adversarial
        )

    reconstruction = (fake - real).abs().mean()
    lpips = _perceptual_distance(perceptual, real_frames, fake_frames, draws.perceptual_frames)
    kl = losses.kl_divergence(mean, log_variance)
    loss = (
        config.weight_perceptual * lpips
        + config.weight_reconstruction * reconstruction
        + config.weight_kl * kl
    )
    if adversarial:
        loss = (
            loss
            + log["gan_patch"]
            + config.weight_gan_temporal * log["gan_temporal"]
            + config.weight_feature_matching * log["feature_matching"]
        )
    descend(optimizers.generator, loss)
    log |= {"loss": loss, "reconstruction": reconstruction, "perceptual": lpips, "kl": kl}
    if log_quality:
        with torch.no_grad():
            log["psnr"] = image_quality.psnr(real_frames, fake_frames)
            log["ssim"] = image_quality.ssim(real_frames, fake_frames)
    return {name: value.detach() for name, value in log.items()}


def _perceptual_distance(
    perceptual: Perceptual, real: Tensor, fake: Tensor, chosen: Tensor | None
) -> Tensor:
    """Mean distance over all frames, N 3 H W, or over the chosen ones."""
    if chosen is not None:
        real, fake = picked_rows(real, chosen), picked_rows(fake, chosen)
    return perceptual(real, fake).mean()


def _update_temporal(
    discriminator: nn.Module,
    optimizer: Optimizer | None,
    real: Tensor,
    fake: Tensor,
    *,
    penalty_weight: float,
) -> Log:
    """Hinge loss and gradient penalty on one window; without an optimizer: look only. B T 3 S S."""
    trains = optimizer is not None
    real = real.detach().requires_grad_()
    with frozen(discriminator, when=not trains):
        fake_logits, _ = discriminator(fake)  # first: the spectral norm moves with each forward
        with full_precision(real.device):  # second derivatives overflow in 16 bits
            real_logits, _ = discriminator(real)
            penalty = losses.gradient_penalty(real_logits, real, differentiable=trains)
        hinge = losses.hinge_discriminator(real_logits, fake_logits)
    if optimizer is not None:
        descend(optimizer, hinge + penalty_weight * penalty)
    return {"discriminator_temporal": hinge, "gradient_penalty": penalty}


def _update_patch(
    discriminator: nn.Module,
    optimizer: Optimizer | None,
    real: Tensor,
    fake: Tensor,
    *,
    fake_first: bool,
) -> Log:
    """Hinge loss on single frames, N 3 S S; without an optimizer: look only.

    fake_first: the order matters, as each forward moves the spectral norm and the first one ever
    initialises ActNorm; the published stages differ in it.
    """
    with torch.set_grad_enabled(optimizer is not None):
        if fake_first:
            fake_logits, real_logits = discriminator(fake), discriminator(real)
        else:
            real_logits, fake_logits = discriminator(real), discriminator(fake)
        loss = losses.hinge_discriminator(real_logits, fake_logits)
    if optimizer is not None:
        descend(optimizer, loss)
    return {
        "discriminator_patch": loss,
        "logits_real_patch": real_logits.mean(),
        "logits_fake_patch": fake_logits.mean(),
    }


def _generator_gan_losses(
    networks: Stage1Networks,
    real_window: Tensor,
    fake_window: Tensor,
    fake_patch: Tensor,
    *,
    differentiable: bool,
) -> Log:
    """What the updated discriminators say of the generated frames."""
    temporal, patch = networks.temporal_discriminator, networks.patch_discriminator
    with frozen(temporal, patch), torch.set_grad_enabled(differentiable):
        gan_patch = losses.hinge_generator(patch(fake_patch))
        fake_logits, fake_features = temporal(fake_window)
        with torch.no_grad():
            real_logits, real_features = temporal(real_window)
        return {
            "logits_real_temporal": real_logits.mean(),
            "logits_fake_temporal": fake_logits.mean(),
            "logits_fake_patch": -gan_patch,
            "gan_patch": gan_patch,
            "gan_temporal": losses.hinge_generator(fake_logits),
            "feature_matching": losses.feature_matching(fake_features, real_features),
        }


def autoencoder_step(
    networks: AutoencoderNetworks,
    optimizers: AutoencoderOptimizers,
    images: Tensor,
    *,
    config: AutoencoderConfig,
    adversarial: bool,
    perceptual: Perceptual,
) -> Log:
    """One update of the image autoencoder, then of its discriminator.

    images: B 3 S S in [-1, 1].  adversarial: False during the warm-up epochs: the discriminator
    only looks, and the autoencoder's loss leaves it out. Nothing here is random: the posterior's
    mean is decoded, not a sample.
    """
    discriminator = networks.discriminator
    factor = 1.0 if adversarial else 0.0
    mean, log_variance = networks.encoder(images)
    fake = networks.decoder(mean)

    error = (images - fake).abs() + perceptual(images, fake).view(-1, 1, 1, 1)
    nll = losses.reconstruction_nll(error)
    kl = losses.kl_divergence(mean, log_variance)
    with frozen(discriminator):
        gan = losses.hinge_generator(discriminator(fake))
    # both losses reach the decoder through the images alone: one pass each down to them is enough
    (nll_gradient,) = torch.autograd.grad(nll, fake)
    (gan_gradient,) = torch.autograd.grad(gan, fake)
    weight = losses.adaptive_weight(
        _last_weight_gradient(networks, fake, nll_gradient),
        _last_weight_gradient(networks, fake, gan_gradient),
    )
    optimizers.autoencoder.zero_grad(set_to_none=True)
    torch.autograd.backward(
        (fake, config.weight_kl * kl), (nll_gradient + weight * factor * gan_gradient, None)
    )
    optimizers.autoencoder.step()

    optimizer = optimizers.discriminator if adversarial else None
    log = _update_patch(discriminator, optimizer, images, fake.detach(), fake_first=False)
    scalars = {
        "loss": nll + config.weight_kl * kl + weight * factor * gan,
        "reconstruction": error.mean(),
        "nll": nll,
        "kl": kl,
        "gan": gan,
        "gan_weight": weight,
        "gan_factor": gan.new_tensor(factor),
        "discriminator": factor * log["discriminator_patch"],
        "logits_real": log["logits_real_patch"],
        "logits_fake": log["logits_fake_patch"],
    }
    return {name: value.detach() for name, value in scalars.items()}


def _last_weight_gradient(
    networks: AutoencoderNetworks, images: Tensor, gradient: Tensor
) -> Tensor:
    (weight_gradient,) = torch.autograd.grad(
        images, networks.decoder.last_weight, gradient, retain_graph=True
    )
    return mean_over_parts(weight_gradient)


def flow_step(
    flow: ConditionalFlow,
    optimizer: Optimizer,
    codes: Tensor,
    condition: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> Log:
    """One update of the flow by maximum likelihood.

    codes: B Z, sampled from the frozen video encoder's posterior.  condition: B E.
    generator: for the reference value (the same loss on Gaussian noise), logged when it is given.
    """
    with full_precision(codes.device):  # a sum of many logarithms
        residual, log_det = flow(widened(codes), widened(condition))
        loss, nll, negative_log_det = losses.flow_loss(residual, log_det)
    descend(optimizer, loss)
    log = {"loss": loss, "nll": nll, "negative_log_det": negative_log_det}
    if generator is not None:
        log["nll_of_noise"] = losses.gaussian_nll(normal_rows(codes.shape, generator))
    return {name: value.detach() for name, value in log.items()}
