"""The two discriminators of the poke family (spec: poke, 2.4 and 2.5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.nn.instance_norm import instance_norm
from pipelines.nn.norms import group_norm
from pipelines.nn.resnet3d import ResidualBlock3d
from pipelines.nn.spectral_norm import SpectralConv3d

_SLOPE = 0.2


class PatchDiscriminator(nn.Module):
    """Judges overlapping patches of single images.

    Unlike the one of the cinn family it has instance norm and no spectral norm.
    """

    def __init__(
        self, *, width: int = 64, num_layers: int = 3, num_deep: int = 0, channels_in: int = 3
    ) -> None:
        """width: of the first layer.  num_layers: those that halve the image, the first included.

        num_deep: further layers at the end.  channels_in: 6 for two frames one after the other.
        """
        super().__init__()
        widths = [width * min(2**i, 8) for i in range(num_layers + 1)]
        strides = [2] * (num_layers - 1) + [1]
        for _ in range(num_deep):
            widths.append(min(2 * widths[-1], 16 * width))
            strides.append(1)
        self.from_image = nn.Conv2d(channels_in, width, 4, stride=2, padding=1)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=stride, padding=1)
            for before, after, stride in zip(widths, widths[1:], strides, strict=False)
        )
        self.to_logits = nn.Conv2d(widths[-1], 1, 4, padding=1)

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """images: N 3 S S in [-1, 1].  Returns logits N 1 h w, and the layers' outputs."""
        x = F.leaky_relu(self.from_image(images), _SLOPE)
        features = []
        for layer in self.layers:
            x = F.leaky_relu(instance_norm(layer(x)), _SLOPE)
            features.append(x)
        return self.to_logits(x), features


class TemporalDiscriminator(nn.Module):
    """A 3D ResNet that judges a clip; every 3D convolution has spectral norm.

    Two forms. The default halves time until one step is left, and gives a map of logits: how many
    layers it has depends on the length of its clips. The one per frame keeps time, takes clips of
    any length, gives one logit for each frame, and can be shown the poke.
    """

    def __init__(
        self,
        *,
        width: int = 64,
        num_frames: int = 10,
        is_per_frame: bool = False,
        sees_poke: bool = False,
    ) -> None:
        super().__init__()
        if sees_poke and not is_per_frame:
            raise ValueError("only the discriminator per frame can be shown the poke")
        self.is_per_frame = is_per_frame
        self.stem = SpectralConv3d(
            3, width, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False
        )
        self.stem_norm = group_norm(width)
        layers = _layers_per_frame(width) if is_per_frame else _layers(width, num_frames)
        before = width
        self.layers = nn.ModuleList()
        for after, stride in layers:
            first = ResidualBlock3d(before, after, stride=stride, spectral=True)
            second = ResidualBlock3d(after, after, stride=(1, 1, 1), spectral=True)
            self.layers.append(nn.Sequential(first, second))
            before = after
        self.poke_norm = PokeNorm(before) if sees_poke else None
        self.to_logits: nn.Module = (
            nn.Linear(before, 1, bias=False) if is_per_frame else nn.Conv2d(before, 1, 3, padding=1)
        )
        self._initialize()

    def forward(self, frames: Tensor, poke: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """frames: B T 3 S S in [-1, 1].  poke: B 2 S S, for the form that sees it.

        Returns logits (B 1 h w, or B T) and the layers' outputs, B C T h w.
        """
        x = F.relu(self.stem_norm(self.stem(frames.transpose(1, 2))))
        x = F.max_pool3d(x, 3, stride=(1, 2, 2), padding=1)
        features = []
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        if not self.is_per_frame:
            return self.to_logits(x.squeeze(2)), features
        if self.poke_norm is not None:
            assert poke is not None, "this discriminator must be shown the poke"
            x = self.poke_norm(x, poke)
        return self.to_logits(x.mean((3, 4)).transpose(1, 2)).squeeze(-1), features

    @torch.no_grad()
    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, SpectralConv3d):
                nn.init.orthogonal_(module.weight)
                module.norm.iterate(module.weight)


class PokeNorm(nn.Module):
    """Instance norm whose scale and shift come from the poke map, for every time step the same."""

    def __init__(self, channels: int, *, hidden: int = 128) -> None:
        super().__init__()
        self.shared = nn.Conv2d(2, hidden, 3, padding=1)
        self.to_gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.to_beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, poke: Tensor) -> Tensor:
        """x: B C T h w.  poke: B 2 S S."""
        hidden = F.relu(self.shared(F.interpolate(poke, size=x.shape[-2:], mode="nearest")))
        gamma, beta = self.to_gamma(hidden).unsqueeze(2), self.to_beta(hidden).unsqueeze(2)
        steps = x.transpose(1, 2).flatten(0, 1)
        normed = instance_norm(steps).view(x.transpose(1, 2).shape).transpose(1, 2)
        return normed * (1 + gamma) + beta


def _layers(width: int, num_frames: int) -> list[tuple[int, tuple[int, int, int]]]:
    """Channels and stride of each layer: time is halved until one step is left.

    The image is halved twice on the way, after the stem has made a quarter of it.
    """
    layers = [(width // 2, (1, 1, 1))]
    channels, length = width, num_frames
    while length > 1:
        channels = min(2 * channels, 4 * width)
        space = 2 if len(layers) <= 2 else 1
        layers.append((channels, (2, space, space)))
        length = (length + 1) // 2
    return layers


def _layers_per_frame(width: int) -> list[tuple[int, tuple[int, int, int]]]:
    return [
        (width, (1, 1, 1)),
        (2 * width, (1, 1, 1)),
        (2 * width, (1, 2, 2)),
        (4 * width, (1, 2, 2)),
    ]
