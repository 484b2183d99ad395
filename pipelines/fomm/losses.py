"""The losses of the first order motion model (spec: completion, C)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.features.in_parts import in_parts
from pipelines.fomm.blocks import coordinate_grid
from pipelines.fomm.config import TransformConfig
from pipelines.fomm.keypoints import Keypoints, inverse_2x2
from pipelines.nn.whole_batch import normal_rows

Judged = Mapping[float, tuple[Sequence[Tensor], Tensor]]

_RADIUS_OFFSET = 1e-6
MAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
"""Layers of VGG-19 that the perceptual loss compares."""


@dataclass(frozen=True)
class Transform:
    """A smooth warp of the plane: affine, plus thin-plate bumps at a grid of control points.

    theta: B 2 3.  control: B 1 N², one number per control point, added to x and y alike.
    """

    theta: Tensor
    control: Tensor
    points: int
    align_corners: bool

    def to(self, device: torch.device) -> Transform:
        """The same on another device."""
        theta, control = self.theta.to(device), self.control.to(device)
        return Transform(theta, control, self.points, self.align_corners)

    def warp(self, coordinates: Tensor) -> Tensor:
        """coordinates: B N 2; returns where they go."""
        moved = coordinates @ self.theta[:, :, :2].transpose(1, 2) + self.theta[:, None, :, 2]
        centres = coordinate_grid(self.points, self.points, like=coordinates).view(-1, 2)
        # the published bump measures distance along the axes, not straight
        radius = (coordinates[:, :, None] - centres).abs().sum(-1)
        bumps = radius.square() * torch.log(radius + _RADIUS_OFFSET)
        return moved + (bumps * self.control).sum(-1, keepdim=True)

    def frame(self, image: Tensor) -> Tensor:
        """The image, B C H W, sampled at the warped positions; mirrored at its borders."""
        height, width = image.shape[2:]
        grid = coordinate_grid(height, width, like=image).view(1, -1, 2)
        places = self.warp(grid.expand(len(image), -1, -1)).view(-1, height, width, 2)
        return F.grid_sample(
            image, places, padding_mode="reflection", align_corners=self.align_corners
        )

    def jacobian(self, coordinates: Tensor) -> Tensor:
        """Derivative of the warp at coordinates, B N 2; returns B N 2 2, rows are outputs."""
        with torch.enable_grad():
            if not coordinates.requires_grad:
                coordinates = coordinates.requires_grad_()
            moved = self.warp(coordinates)
            rows = [
                torch.autograd.grad(moved[..., axis].sum(), coordinates, create_graph=True)[0]
                for axis in range(2)
            ]
        return torch.stack(rows, dim=-2)


def draw_transform(
    config: TransformConfig, batch: int, generator: torch.Generator, *, align_corners: bool
) -> Transform:
    """A random warp for each item of a batch."""
    device = generator.device
    noise = normal_rows((batch, 2, 3), generator)
    control = normal_rows((batch, 1, config.points_tps**2), generator)
    return Transform(
        torch.eye(2, 3, device=device) + config.sigma_affine * noise,
        config.sigma_tps * control,
        config.points_tps,
        align_corners,
    )


def equivariance(
    found: Keypoints, again: Keypoints, transform: Transform
) -> tuple[Tensor, Tensor | None]:
    """How much keypoints of a warped frame, warped back, differ from those of the frame.

    found: of the frame.  again: of the warped frame.  Returns the mean absolute differences of
    positions and of jacobians, the latter against the identity; None without jacobians.
    """
    value = (found.value - transform.warp(again.value)).abs().mean()
    if found.jacobian is None or again.jacobian is None:
        return value, None
    change = transform.jacobian(again.value) @ again.jacobian
    identity = torch.eye(2, dtype=change.dtype, device=change.device)
    return value, (identity - inverse_2x2(found.jacobian) @ change).abs().mean()


def perceptual(
    network: nn.Module,
    real: Mapping[float, Tensor],
    fake: Mapping[float, Tensor],
    weights: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """The weighted sum of mean absolute differences of feature maps, and these differences.

    network: offers maps(images in [-1, 1], names) (features.vgg19).  real, fake: images in [0, 1]
    by scale, B C H W; a grey one is seen as three equal channels.  weights: one per map.
    The differences have one row per scale, one column per map, and no gradient.
    """
    loss, rows = [], []
    for scale, images in fake.items():
        seen: list[Tensor] = []

        def distance(wanted: Tensor, made: Tensor, seen: list[Tensor] = seen) -> Tensor:
            with torch.no_grad():
                maps = network.maps(2 * wanted - 1, MAPS)
            pairs = zip(maps, network.maps(2 * made - 1, MAPS), strict=True)
            terms = torch.stack([(a - b).abs().flatten(1).mean(1) for a, b in pairs], dim=1)
            seen.append(terms.detach())
            return terms @ terms.new_tensor(weights)

        loss.append(in_parts(distance, real[scale].detach(), images).mean())
        rows.append(torch.cat(seen).mean(0))
    return torch.stack(loss).sum(), torch.stack(rows)


def generator_gan(fake: Judged) -> Tensor:
    """Least squares: generated patches shall score 1. Summed over scales."""
    return torch.stack([(1 - score).square().mean() for _, score in fake.values()]).sum()


def discriminator_gan(real: Judged, fake: Judged) -> Tensor:
    """Least squares: real patches shall score 1, generated ones 0. Summed over scales."""
    return torch.stack(
        [((1 - real[scale][1]).square() + fake[scale][1].square()).mean() for scale in fake]
    ).sum()


def feature_matching(real: Judged, fake: Judged, weights: Sequence[float]) -> Tensor:
    """Weighted mean absolute differences of the discriminators' maps, summed over scales."""
    return torch.stack(
        [
            weight * (a - b).abs().mean()
            for scale in fake
            for weight, a, b in zip(weights, real[scale][0], fake[scale][0], strict=True)
        ]
    ).sum()
