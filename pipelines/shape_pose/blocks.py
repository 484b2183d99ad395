"""What both networks are built of (spec: behavior, 2.4)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.nn.elu import elu, fast_elu, joined_elu
from pipelines.nn.norm_conv import InstanceNormConv2d, L2NormConv2d, NormConv2d, Square
from pipelines.nn.strips import ROWS, strips
from pipelines.shape_pose.config import NUM_LATENT_SCALES, NetworkConfig

Convolution = Callable[..., nn.Module]


def convolution(config: NetworkConfig) -> Convolution:
    """The kind of convolution that most layers are."""
    return _CONVOLUTIONS[config.convolution]


_CONVOLUTIONS: dict[str, Convolution] = {
    "l1": NormConv2d,
    "l2": L2NormConv2d,
    "instance": InstanceNormConv2d,
}


class ResidualBlock(nn.Module):
    """x plus a 3 x 3 convolution of it, and, where there is one, of something beside it."""

    def __init__(
        self, channels: int, beside: int | None = None, *, convolution: Convolution = NormConv2d
    ) -> None:
        """beside: channels of what lies beside x."""
        super().__init__()
        self.beside = None if beside is None else convolution(beside, channels, 1)
        width = channels if beside is None else 2 * channels
        self.conv = convolution(width, channels, 3, padding=1)

    def forward(self, x: Tensor, beside: Tensor | None = None, *, uses_up: bool = False) -> Tensor:
        """x: B C H W.  beside: B A H W.  uses_up: x may be overwritten where nothing is learned."""
        square = _square(self.conv, x)
        if square is not None:
            return self._in_strips(x, beside, square, uses_up=uses_up)
        if self.beside is None:
            return self._added(x, elu(x))
        assert beside is not None
        return self._added(x, joined_elu([x, self.beside(elu(beside))]))

    def _in_strips(
        self, x: Tensor, beside: Tensor | None, square: Square, *, uses_up: bool
    ) -> Tensor:
        """The same of a large map. uses_up: the sum takes the place of x."""
        batch, channels, height, width = x.shape
        num_hidden = channels if beside is None else 2 * channels
        hidden = x.new_zeros((batch, ROWS + 2, width, num_hidden)).permute(0, 3, 1, 2)
        total = x if uses_up else torch.empty_like(x, memory_format=torch.channels_last)
        for strip in strips(height):
            part = hidden[:, :, : strip.num_rows]
            if strip.rows.start:  # the last two rows were read before x was used up
                part[:, :, :2] = hidden[:, :, ROWS:]
            here = part[:, :, strip.puts]
            fast_elu(x[:, :, strip.reads], out=here[:, :channels])
            if self.beside is not None and beside is not None:
                other = self.beside(fast_elu(beside[:, :, strip.reads]))
                fast_elu(other, out=here[:, channels:])
            part[:, :, strip.puts.stop :] = 0
            torch.add(x[:, :, strip.rows], square.of_strip(part), out=total[:, :, strip.rows])
        return total

    def _added(self, x: Tensor, hidden: Tensor) -> Tensor:
        made: Tensor = self.conv(hidden)
        return x + made if torch.is_grad_enabled() else made.add_(x)


def _square(layer: nn.Module, x: Tensor) -> Square | None:
    """What a layer that only infers takes a large map with, in strips."""
    is_known = isinstance(layer, NormConv2d) and not torch.is_grad_enabled()
    return layer.square_for(x) if is_known else None


class Downsample(NormConv2d):
    """A 3 x 3 convolution that halves the size."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 3, stride=2, padding=1)


class Upsample(NormConv2d):
    """A 3 x 3 convolution to four times the channels, which become 2 x 2 pixels; or a plain one,
    and pixels between pixels.
    """

    def __init__(self, channels_in: int, channels_out: int, *, is_subpixel: bool = True) -> None:
        super().__init__(channels_in, (4 if is_subpixel else 1) * channels_out, 3, padding=1)
        self.is_subpixel = is_subpixel

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W; returns B C' 2H 2W."""
        square = _square(self, x) if self.is_subpixel else None
        if square is not None:
            return self._in_strips(x, square)
        x = super().forward(x)
        if self.is_subpixel:
            return depth_to_space(x)
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    def _in_strips(self, x: Tensor, square: Square) -> Tensor:
        """The same of a large map."""
        batch, channels, height, width = x.shape
        padded = x.new_zeros((batch, ROWS + 2, width, channels)).permute(0, 3, 1, 2)
        places = x.new_empty((batch, height, 2, width, 2, len(self.bias) // 4))
        for strip in strips(height):
            part = padded[:, :, : strip.num_rows]
            if strip.rows.start:
                part[:, :, :2] = padded[:, :, ROWS:]
            part[:, :, strip.puts] = x[:, :, strip.reads]
            part[:, :, strip.puts.stop :] = 0
            made = square.of_strip(part).permute(0, 2, 3, 1)
            blocks = made.reshape(batch, -1, width, 2, 2, places.shape[-1])
            places[:, strip.rows] = blocks.transpose(2, 3)
        return places.flatten(1, 2).flatten(2, 3).permute(0, 3, 1, 2)


def upsamplings(config: NetworkConfig, widths: Sequence[int]) -> nn.ModuleList:
    """From scale to scale of a decoder; those of the codes are always of the first kind."""
    return nn.ModuleList(
        Upsample(a, b, is_subpixel=config.has_subpixel_upsampling or i < NUM_LATENT_SCALES)
        for i, (a, b) in enumerate(itertools.pairwise(widths))
    )


def depth_to_space(x: Tensor) -> Tensor:
    """B 4C H W to B C 2H 2W; the place in the 2 x 2 block is the slow index of the channels."""
    batch, channels, height, width = x.shape
    size = (batch, channels // 4, 2 * height, 2 * width)
    if x.is_contiguous(memory_format=torch.channels_last):  # it stays so
        blocks = x.permute(0, 2, 3, 1).view(batch, height, width, 2, 2, channels // 4)
        places = blocks.permute(0, 1, 3, 2, 4, 5).reshape(batch, *size[2:], channels // 4)
        return places.permute(0, 3, 1, 2)
    blocks = x.view(batch, 2, 2, channels // 4, height, width)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(size)


def space_to_depth(x: Tensor) -> Tensor:
    """Undo depth_to_space: B C 2H 2W to B 4C H W."""
    batch, channels, height, width = x.shape
    blocks = x.view(batch, channels, height // 2, 2, width // 2, 2)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(batch, 4 * channels, height // 2, width // 2)


class PyramidEncoder(nn.Module):
    """An image at falling resolutions, two maps of each."""

    def __init__(self, config: NetworkConfig, *, channels_in: int, num_scales: int) -> None:
        super().__init__()
        make = convolution(config)
        widths = [min(config.max_width, config.width * 2**i) for i in range(num_scales)]
        self.input = make(channels_in, widths[0], 1)
        self.blocks = nn.ModuleList(
            ResidualBlock(width, convolution=make) for width in widths for _ in range(2)
        )
        self.downs = nn.ModuleList(Downsample(a, b) for a, b in itertools.pairwise(widths))
        self.channels_out = widths[-1]

    def forward(self, image: Tensor) -> list[Tensor]:
        """image: B C H W; returns maps, the largest first, two of each size."""
        x, maps = self.input(image), []
        for i, block in enumerate(self.blocks):
            x = block(x, uses_up=i % 2 == 0)  # what comes in is a map where one came before
            maps.append(x)
            if i % 2 == 1 and i // 2 < len(self.downs):
                x = self.downs[i // 2](x)
        return maps
