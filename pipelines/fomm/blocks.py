"""What the three networks are built of (spec: completion, B.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.nn.training_convolutions import convolved, doubled_and_convolved


class SameBlock(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2)
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor, num_parts: int = 1) -> Tensor:
        """x: B C H W, of num_parts batches that are normalised each by itself."""
        return F.relu(
            normalised(self.norm, convolved(x, self.conv.weight, self.conv.bias), num_parts)
        )


class DownBlock(SameBlock):
    """A 3 x 3 SameBlock, then a 2 x 2 mean: half the size."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, kernel=3)

    def forward(self, x: Tensor, num_parts: int = 1) -> Tensor:
        """x: B C H W; returns B C' H/2 W/2."""
        return F.avg_pool2d(super().forward(x, num_parts), 2)


class UpBlock(SameBlock):
    """Each pixel twice, then a 3 x 3 SameBlock: double the size."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, kernel=3)

    def forward(self, x: Tensor, num_parts: int = 1) -> Tensor:
        """x: B C H W; returns B C' 2H 2W."""
        return F.relu(
            normalised(
                self.norm, doubled_and_convolved(x, self.conv.weight, self.conv.bias), num_parts
            )
        )


class ResidualBlock(nn.Module):
    """x plus two 3 x 3 convolutions, each after batch norm and ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W; the same shape comes out."""
        hidden = convolved(F.relu(self.norm1(x)), self.conv1.weight, self.conv1.bias)
        return x + convolved(F.relu(self.norm2(hidden)), self.conv2.weight, self.conv2.bias)


class Hourglass(nn.Module):
    """U-Net whose every resolution, the input's too, is handed over to the way back up.

    channels_out: width + channels_in, since the input itself is the last part of the output.
    """

    def __init__(self, channels_in: int, *, width: int, num_blocks: int, max_features: int) -> None:
        super().__init__()
        features = [min(max_features, width * 2**i) for i in range(num_blocks + 1)]
        self.num_blocks = num_blocks
        self.encoder = nn.ModuleList(
            DownBlock(channels_in if i == 0 else features[i], features[i + 1])
            for i in range(num_blocks)
        )
        self.decoder = nn.ModuleList(
            UpBlock((1 if i == num_blocks - 1 else 2) * features[i + 1], features[i])
            for i in reversed(range(num_blocks))
        )
        self.channels_out = features[0] + channels_in

    def forward(self, x: Tensor, num_parts: int = 1) -> Tensor:
        """x: B C H W, sides that 2^num_blocks divides; returns B channels_out H W.

        num_parts: batches in x, whose statistics are kept apart.
        """
        skips = [x]
        for block in self.encoder:
            skips.append(block(skips[-1], num_parts))
        x = skips.pop()
        for block in self.decoder:
            x = torch.cat([block(x, num_parts), skips.pop()], dim=1)
        return x


def normalised(norm: nn.Module, x: Tensor, num_parts: int) -> Tensor:
    """Batch norm of several batches at once, each by its own statistics, as if one after the other.

    What lies around it, the convolutions, is then done for all of them in one go.
    x: B C H W, batches of equal size one after the other.
    """
    if num_parts == 1 or not norm.training:
        made: Tensor = norm(x)
        return made
    return torch.cat([norm(part) for part in x.chunk(num_parts)])


class AntiAliasDownsample(nn.Module):
    """Gaussian blur, then every n-th pixel. Zeros are padded, as published: borders get darker."""

    def __init__(self, scale: float) -> None:
        """scale: output size over input size: 1, 0.5, 0.25 or 0.125."""
        super().__init__()
        self.stride = round(1 / scale)
        self.register_buffer("kernel", antialias_kernel(scale), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """image: B C H W; returns B C H/n W/n, rounded up."""
        if self.stride == 1:
            return image
        channels, side = image.shape[1], self.kernel.shape[0]
        kernel = self.kernel.to(image).expand(channels, 1, side, side)
        return F.conv2d(image, kernel, stride=self.stride, padding=side // 2, groups=channels)


def antialias_kernel(scale: float) -> Tensor:
    """The blur's kernel, k x k with sum 1, as float32 arithmetic gives it."""
    sigma = (1 / scale - 1) / 2
    if sigma == 0:
        return torch.ones(1, 1)
    side = 2 * round(4 * sigma) + 1
    x = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
    line = torch.exp(-(x**2) / (2 * sigma**2))
    kernel = line[:, None] * line
    return kernel / kernel.sum()


def ordered_like(x: Tensor, other: Tensor) -> Tensor:
    """B C H W with channels last in memory, when another such tensor has them there."""
    is_last = other.is_contiguous(memory_format=torch.channels_last) and not other.is_contiguous()
    return x.contiguous(memory_format=torch.channels_last) if is_last else x


def in_full(tensor: Tensor) -> Tensor:
    """In float32 at least: positions need more digits than half precision has."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def full_precision(like: Tensor) -> torch.autocast:
    """Within this block nothing is computed in half precision on the tensor's device."""
    return torch.autocast(like.device.type, enabled=False)


def coordinate_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Positions of pixels, H W 2 as (x, y); the corner pixels are at -1 and 1.

    like: gives dtype and device.
    """
    x, y = (
        2 * torch.arange(size, dtype=like.dtype, device=like.device) / (size - 1) - 1
        for size in (width, height)
    )
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)
