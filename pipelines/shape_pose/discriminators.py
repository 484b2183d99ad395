"""Image discriminators that the published code defines and no experiment uses (2.8)."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from pipelines.nn.instance_norm import InstanceNorm2d
from pipelines.nn.norm_conv import NormConv2d
from pipelines.shape_pose.blocks import Downsample, ResidualBlock


def patch_discriminator(*, width: int = 64, num_layers: int = 3, channels_in: int = 3) -> nn.Module:
    """PatchGAN with instance norm; B 3 H W to logits B 1 h w."""
    widths = [channels_in] + [width * 2**i for i in range(num_layers + 1)]
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
        layers.append(nn.Conv2d(a, b, 4, stride=2 if i < num_layers else 1, padding=1))
        if i > 0:
            layers.append(InstanceNorm2d(b))
        layers.append(nn.LeakyReLU(0.2))
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, padding=1))


class PartDiscriminator(nn.Module):
    """Judges the crop of one body part."""

    def __init__(self, *, part_size_px: int, num_scales: int = 3, max_width: int = 256) -> None:
        super().__init__()
        widths = [min(max_width, 16 * 2**i) for i in range(num_scales + 1)]
        self.input = NormConv2d(3, widths[0], 3)
        self.layers = nn.Sequential(
            *(
                layer
                for a, b in itertools.pairwise(widths)
                for layer in (ResidualBlock(a), Downsample(a, b))
            )
        )
        side = part_size_px - 2  # the first convolution is not padded
        for _ in range(num_scales):
            side = -(-side // 2)
        self.output = nn.Linear(side**2 * widths[-1], 1)

    def forward(self, image: Tensor) -> Tensor:
        """image: B 3 S S in [-1, 1]; returns logits B 1."""
        return self.output(self.layers(self.input(image)).flatten(1))
