"""One update of the renderer or of the baseline (spec: behavior, 3.3, 3.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipelines.nn.image_quality import psnr
from pipelines.nn.norm_conv import look_at_data
from pipelines.nn.whole_batch import capped_mean, normal_rows
from pipelines.shape_pose.appearance import appearance_input, as_images
from pipelines.shape_pose.baseline import NUM_GROUPS, BaselineVunet
from pipelines.shape_pose.config import NUM_LATENT_SCALES, FamilyConfig, NetworkConfig
from pipelines.shape_pose.losses import kl_divergence, prior_kl
from pipelines.shape_pose.networks import Appearance, KeypointRegressor, ShapePoseNet
from pipelines.shape_pose.skeletons import BY_JOINTS, SKELETONS
from pipelines.training.optim import descend

Log = dict[str, Tensor]


@dataclass(frozen=True)
class Networks:
    """regressor: None where a training does without."""

    net: ShapePoseNet | BaselineVunet
    regressor: KeypointRegressor | None

    @property
    def by_name(self) -> dict[str, nn.Module]:
        """As a checkpoint names them."""
        found: dict[str, nn.Module] = {"net": self.net}
        return found | ({} if self.regressor is None else {"regressor": self.regressor})


def build_networks(config: FamilyConfig) -> Networks:
    """The renderer, or the baseline."""
    net: ShapePoseNet | BaselineVunet
    net = (BaselineVunet if config.kind == "vunet" else ShapePoseNet)(config.network)
    if config.regressor is None or config.kind == "vunet":
        return Networks(net, None)
    num_joints = SKELETONS[BY_JOINTS[config.people.joints]].num_joints
    regressor = KeypointRegressor(
        num_outputs=2 * num_joints,
        code_sizes_px=config.network.code_sizes_px,
        width=config.network.max_width,
    )
    return Networks(net, regressor)


@dataclass(frozen=True)
class Batch:
    """Pictures of people. image: B 3 S S.  figure: B 3 S S.  appearance: B C h w.  joints: B 2J.

    others: appearance and joints of images that only the regressor sees, one batch of them.
    """

    image: Tensor
    figure: Tensor
    appearance: Tensor
    joints: Tensor
    others: tuple[Tensor, Tensor] | None = None


def as_batch(arrays: Mapping[str, Tensor], network: NetworkConfig) -> Batch:
    """From stored arrays (data.Arrays) on the device."""

    def seen(prefix: str) -> tuple[Tensor, Tensor, Tensor]:
        image = as_images(arrays[f"{prefix}image"])
        parts = arrays.get(f"{prefix}parts")
        joints = arrays[f"{prefix}joints"].clamp(0, 1).flatten(1)
        return image, appearance_input(image, parts, network.part_px), joints

    image, appearance, joints = seen("")
    others = seen("other_")[1:] if "other_image" in arrays else None
    return Batch(image, as_images(arrays["figure"]), appearance, joints, others)


def draw_noise(
    network: NetworkConfig, batch: int, generator: torch.Generator, device: torch.device
) -> list[Tensor]:
    """Standard normal numbers for the codes, coarse first, drawn on the CPU."""
    sizes = reversed(network.code_sizes_px)
    shapes = [(batch, network.max_width, size, size) for size in sizes]
    return [normal_rows(shape, generator).to(device) for shape in shapes]


def draw_prior_noise(
    network: NetworkConfig, batch: int, generator: torch.Generator, device: torch.device
) -> list[Tensor]:
    """For the baseline's prior: NUM_GROUPS parts of each scale, coarse first."""
    shapes = [
        (batch, network.max_width, size // 2, size // 2)
        for size in reversed(network.code_sizes_px)
        for _ in range(NUM_GROUPS)
    ]
    assert len(shapes) == NUM_LATENT_SCALES * NUM_GROUPS
    return [normal_rows(shape, generator).to(device) for shape in shapes]


def renderer_step(
    networks: Networks,
    optimizers: Mapping[str, torch.optim.Optimizer],
    batch: Batch,
    *,
    noise: list[Tensor],
    other_noise: list[Tensor],
    perceptual: nn.Module,
    kl_weight: float,
    config: FamilyConfig,
) -> Log:
    """One update of the renderer, and the regressor's before it.

    noise: for the codes.  other_noise: for those of batch.others.  kl_weight: 0 at first.
    """
    net = networks.net
    assert isinstance(net, ShapePoseNet)
    found = net.encode(batch.appearance, noise)
    image = net.render(batch.figure, found.codes)
    look_at_data(net, False)  # the regressor's pictures come between this pass and its gradient
    likelihood = config.weight_likelihood * perceptual(batch.image, image).mean()
    kl = kl_divergence(found)
    loss = likelihood + kl_weight * kl
    log = {"likelihood": likelihood, "kl": kl}
    if networks.regressor is not None and config.regressor is not None:
        error = _train_regressor(networks, optimizers["regressor"], batch, found, other_noise)
        if config.regressor.trains_net:
            error = _regressor_error(networks.regressor, found.means, batch.joints)
        loss = loss - config.regressor.weight * capped_mean(error, config.regressor.bound)
        log["posture_leak"] = error
    descend(optimizers["net"], loss)
    log |= {"loss": loss, "psnr": psnr(batch.image, image.detach())}
    return {name: value.detach() for name, value in log.items()}


def baseline_step(
    networks: Networks,
    optimizers: Mapping[str, torch.optim.Optimizer],
    batch: Batch,
    *,
    noise: list[Tensor],
    prior_noise: list[Tensor],
    perceptual: nn.Module,
    kl_weight: float,
    config: FamilyConfig,
) -> Log:
    """One update of the baseline VUNet."""
    net = networks.net
    assert isinstance(net, BaselineVunet)
    found = net.encode(batch.appearance, noise)
    made = net.render(batch.figure, prior_noise, found.codes)
    likelihood = config.weight_likelihood * perceptual(batch.image, made.image).mean()
    kl = prior_kl(found.means, made.prior_means)
    loss = likelihood + kl_weight * kl
    descend(optimizers["net"], loss)
    log = {"loss": loss, "likelihood": likelihood, "kl": kl}
    log["psnr"] = psnr(batch.image, made.image.detach())
    return {name: value.detach() for name, value in log.items()}


def _train_regressor(
    networks: Networks,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    found: Appearance,
    other_noise: list[Tensor],
) -> Tensor:
    """One update for the batch's own images and one for each group of others; the last error."""
    regressor, net = networks.regressor, networks.net
    assert regressor is not None
    size = len(batch.joints)
    groups = [([each.detach() for each in found.means], batch.joints)]
    if batch.others is not None:
        appearance, joints = batch.others
        with torch.no_grad():
            means = net.encode(appearance, other_noise).means
        for first in range(0, len(joints), size):
            part = slice(first, first + size)
            groups.append(([each[part] for each in means], joints[part]))
    error = batch.image.new_zeros(())
    for means, joints in groups:
        error = _regressor_error(regressor, means, joints)
        descend(optimizer, error)
    return error.detach()


def _regressor_error(regressor: KeypointRegressor, means: list[Tensor], joints: Tensor) -> Tensor:
    """Length of the error of all coordinates together, mean over the batch."""
    return (regressor(means) - joints).norm(dim=1).mean()
