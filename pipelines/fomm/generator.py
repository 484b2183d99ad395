"""From keypoints to pixels: dense motion, then a generator that knows what is hidden (B.3, B.4)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.fomm.blocks import (
    AntiAliasDownsample,
    DownBlock,
    Hourglass,
    ResidualBlock,
    SameBlock,
    UpBlock,
    coordinate_grid,
    full_precision,
    in_full,
    ordered_like,
)
from pipelines.fomm.config import DenseMotionConfig, GeneratorConfig
from pipelines.fomm.keypoints import Keypoints, gaussian_maps, inverse_2x2
from pipelines.nn.training_convolutions import convolved_by_both


@dataclass(frozen=True)
class DenseMotion:
    """Where every pixel comes from, and whether it can be seen there.

    deformation: B h w 2, (x, y) in [-1, 1].  mask: B K+1 h w, which motion a pixel follows.
    occlusion: B 1 h w in (0, 1), or None.  sparse: B K+1 C h w, the source moved by each motion.
    """

    deformation: Tensor
    mask: Tensor
    occlusion: Tensor | None
    sparse: Tensor


@dataclass(frozen=True)
class Generated:
    """frames: B C H W in [0, 1].  deformed: the source image itself, warped, B C H W."""

    frames: Tensor
    deformed: Tensor
    motion: DenseMotion


class DenseMotionNetwork(nn.Module):
    """Chooses for every pixel one of the keypoints' motions, or none."""

    def __init__(
        self,
        config: DenseMotionConfig,
        *,
        num_keypoints: int,
        num_channels: int,
        has_occlusion_map: bool,
        align_corners: bool,
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.downsample = AntiAliasDownsample(config.scale_factor)
        self.hourglass = Hourglass(
            (num_keypoints + 1) * (num_channels + 1),
            width=config.block_expansion,
            num_blocks=config.num_blocks,
            max_features=config.max_features,
        )
        features = self.hourglass.channels_out
        self.mask = nn.Conv2d(features, num_keypoints + 1, 7, padding=3)
        self.occlusion = nn.Conv2d(features, 1, 7, padding=3) if has_occlusion_map else None

    def forward(self, image: Tensor, source: Keypoints, driving: Keypoints) -> DenseMotion:
        """image: B C H W in [0, 1], the source; keypoints of it and of where it shall go."""
        small = self.downsample(image)
        size = small.shape[2:]
        heat = gaussian_maps(driving.value, *size) - gaussian_maps(source.value, *size)
        heat = torch.cat([torch.zeros_like(heat[:, :1]), heat], dim=1)  # background first
        with full_precision(small):
            motions = sparse_motions(source, driving, *size)
        moved = self._moved(small, motions)
        features = self.hourglass(torch.cat([heat[:, :, None], moved], dim=2).flatten(1, 2))
        logits, occlusion = convolved_by_both(self.mask, self.occlusion, features)
        mask = in_full(logits).softmax(dim=1)
        occlusion = None if occlusion is None else occlusion.sigmoid()
        with full_precision(small):
            deformation = torch.einsum("bkhw,bkhwc->bhwc", mask, motions)
        return DenseMotion(deformation, mask, occlusion, moved)

    def _moved(self, image: Tensor, motions: Tensor) -> Tensor:
        """The image, B C h w, under each motion, B M h w 2, as B M C h w."""
        num = motions.shape[1]
        repeated = image[:, None].expand(-1, num, -1, -1, -1).flatten(0, 1)
        moved = warp(repeated, motions.flatten(0, 1), align_corners=self.align_corners)
        return moved.unflatten(0, (-1, num))


def sparse_motions(source: Keypoints, driving: Keypoints, height: int, width: int) -> Tensor:
    """First-order motion around each keypoint, after the background's (none); B K+1 H W 2."""
    grid = coordinate_grid(height, width, like=source.value)
    offsets = grid - driving.value[:, :, None, None]  # B K H W 2
    if source.jacobian is not None and driving.jacobian is not None:
        change = source.jacobian @ inverse_2x2(driving.jacobian)
        offsets = torch.einsum("bkij,bkhwj->bkhwi", change.to(offsets), offsets)
    motions = offsets + source.value[:, :, None, None]
    return torch.cat([grid.expand_as(motions[:, :1]), motions], dim=1)


def warp(image: Tensor, deformation: Tensor, *, align_corners: bool) -> Tensor:
    """Sample an image, B C H W, where a deformation, B h w 2, points; zeros outside."""
    return F.grid_sample(image, deformation, padding_mode="zeros", align_corners=align_corners)


class OcclusionAwareGenerator(nn.Module):
    """Encodes the source, warps its features, fades what was hidden, and decodes."""

    def __init__(
        self,
        config: GeneratorConfig,
        *,
        num_keypoints: int,
        num_channels: int,
        align_corners: bool,
    ) -> None:
        super().__init__()
        widths = [
            min(config.max_features, config.block_expansion * 2**i)
            for i in range(config.num_down_blocks + 1)
        ]
        self.align_corners = align_corners
        self.dense_motion = DenseMotionNetwork(
            config.dense_motion,
            num_keypoints=num_keypoints,
            num_channels=num_channels,
            has_occlusion_map=config.has_occlusion_map,
            align_corners=align_corners,
        )
        self.first = SameBlock(num_channels, widths[0], kernel=7)
        pairs = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(DownBlock(a, b) for a, b in pairs)
        self.bottleneck = nn.ModuleList(
            ResidualBlock(widths[-1]) for _ in range(config.num_bottleneck_blocks)
        )
        self.up = nn.ModuleList(UpBlock(b, a) for a, b in reversed(pairs))
        self.final = nn.Conv2d(widths[0], num_channels, 7, padding=3)

    def forward(self, image: Tensor, source: Keypoints, driving: Keypoints) -> Generated:
        """image: B C H W in [0, 1], the source; it moves from its keypoints to the driving ones."""
        return self.render(image, self.encode(image), self.dense_motion(image, source, driving))

    def encode(self, image: Tensor) -> Tensor:
        """Features of the source image, B F h w; the same for all frames made from it."""
        features = self.first(image)
        for block in self.down:
            features = block(features)
        return features

    def render(self, image: Tensor, features: Tensor, motion: DenseMotion) -> Generated:
        """Move encoded features and decode them; batch sizes agree."""
        x = ordered_like(self._warped(features, motion.deformation), features)
        if motion.occlusion is not None:
            x = x * _resized(motion.occlusion, x.shape[2:])
        for block in (*self.bottleneck, *self.up):
            x = block(x)
        return Generated(self.final(x).sigmoid(), self._warped(image, motion.deformation), motion)

    def _warped(self, x: Tensor, deformation: Tensor) -> Tensor:
        flow = _resized(deformation.permute(0, 3, 1, 2), x.shape[2:]).permute(0, 2, 3, 1)
        return warp(x, flow, align_corners=self.align_corners)


def _resized(x: Tensor, size: torch.Size) -> Tensor:
    """Bilinear resizing of B C H W; pixel corners are never aligned here, as published."""
    if x.shape[2:] == size:
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
