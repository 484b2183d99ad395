"""One training step (spec: completion, C): a generator pass, a discriminator pass, and updates.

source and driving are two frames of one clip, B C H W in [0, 1]; all networks are in training mode.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipelines.fomm import losses
from pipelines.fomm.blocks import full_precision
from pipelines.fomm.config import LossConfig
from pipelines.fomm.discriminator import ImagePyramid, MultiScaleDiscriminator
from pipelines.fomm.generator import Generated
from pipelines.fomm.keypoints import Keypoints
from pipelines.fomm.losses import Transform
from pipelines.fomm.networks import Networks

Log = dict[str, Tensor]
"""Scalars by name."""


@dataclass(frozen=True)
class Optimizers:
    """One for each network."""

    keypoint_detector: torch.optim.Optimizer
    generator: torch.optim.Optimizer
    discriminator: torch.optim.Optimizer


def fomm_step(
    networks: Networks,
    optimizers: Optimizers,
    source: Tensor,
    driving: Tensor,
    *,
    config: LossConfig,
    pyramid: ImagePyramid,
    transform: Transform,
    perceptual: nn.Module | None,
) -> Log:
    """One update of generator and keypoint detector, then one of the discriminators."""
    # its weights get no gradient here, which would be thrown away
    networks.discriminator.requires_grad_(False)
    made = generator_pass(
        networks,
        source,
        driving,
        config=config,
        pyramid=pyramid,
        transform=transform,
        perceptual=perceptual,
    )
    loss = torch.stack(list(made.terms.values())).sum()
    loss.backward()
    for optimizer in (optimizers.generator, optimizers.keypoint_detector):
        optimizer.step()
        # at once, and not before the next gradients: the next passes can use the memory
        optimizer.zero_grad(set_to_none=True)
    networks.discriminator.requires_grad_(True)
    log = {"loss": loss, **made.terms}
    if config.generator_gan > 0:
        log["discriminator_gan"] = discriminator_pass(
            networks.discriminator, driving, made, config=config, pyramid=pyramid
        )
        log["discriminator_gan"].backward()
        optimizers.discriminator.step()
        optimizers.discriminator.zero_grad(set_to_none=True)
    return log


@dataclass(frozen=True)
class GeneratorPass:
    """terms: weighted losses, whose plain sum is trained on; the rest is for looking at."""

    terms: dict[str, Tensor]
    generated: Generated
    driving: Keypoints
    transformed_frame: Tensor
    transformed: Keypoints
    perceptual_parts: Tensor | None


def generator_pass(
    networks: Networks,
    source: Tensor,
    driving: Tensor,
    *,
    config: LossConfig,
    pyramid: ImagePyramid,
    transform: Transform,
    perceptual: nn.Module | None,
) -> GeneratorPass:
    """Losses of generator and keypoint detector.

    perceptual: the feature network (features.vgg19); None leaves that loss out.
    """
    detector, generator = networks.keypoint_detector, networks.generator
    frame = transform.frame(driving)
    source_keypoints, driving_keypoints, again = detector.each(source, driving, frame)
    generated = generator(source, source_keypoints, driving_keypoints)
    real, fake = pyramid(driving), pyramid(generated.frames)
    terms: dict[str, Tensor] = {}
    parts = None
    if perceptual is not None and any(config.perceptual):
        terms["perceptual"], parts = losses.perceptual(perceptual, real, fake, config.perceptual)
    if config.generator_gan > 0:
        seen = driving_keypoints.detach()
        # generated first: with spectral norm the order of the two calls changes the numbers
        fake_judged = networks.discriminator(fake, seen)
        real_judged = networks.discriminator(real, seen)
        terms["generator_gan"] = config.generator_gan * losses.generator_gan(fake_judged)
        terms["feature_matching"] = losses.feature_matching(
            real_judged, fake_judged, config.feature_matching
        )
    with full_precision(driving):
        value, jacobian = losses.equivariance(driving_keypoints, again, transform)
    terms["equivariance_value"] = config.equivariance_value * value
    if jacobian is not None:
        terms["equivariance_jacobian"] = config.equivariance_jacobian * jacobian
    return GeneratorPass(terms, generated, driving_keypoints, frame, again, parts)


def discriminator_pass(
    discriminator: MultiScaleDiscriminator,
    driving: Tensor,
    made: GeneratorPass,
    *,
    config: LossConfig,
    pyramid: ImagePyramid,
) -> Tensor:
    """The discriminators' weighted loss on what the generator pass made."""
    seen = made.driving.detach()
    fake = discriminator(pyramid(made.generated.frames.detach()), seen)
    real = discriminator(pyramid(driving), seen)
    return config.discriminator_gan * losses.discriminator_gan(real, fake)
