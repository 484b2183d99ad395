"""VGG-19 (Simonyan & Zisserman, 2015) as a source of feature maps, and the loss made with it.

The loss is that of the poking and behaviour systems: mean absolute differences of the normalised
images and of five maps, all with the same weight (spec: poke, 4.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.features.in_parts import in_parts
from pipelines.nn.packed_convolution import can_pack
from pipelines.nn.training_convolutions import FrozenConv

LOSS_MAPS = ("relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2")
STYLE_MAPS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CHANNELS = (64, 128, 256, 512, 512)
_NUM_CONVS = (2, 2, 4, 4, 2)  # of the last stage, what lies behind relu5_2 is not used
# where torchvision's `features` has the convolutions, stage by stage
_TORCHVISION_FIRST = (0, 5, 10, 19, 28)


class Vgg19Loss(nn.Module):
    """The network up to relu5_2, frozen, and its distance between images."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        before = 3
        for channels, num_convs in zip(_CHANNELS, _NUM_CONVS, strict=True):
            widths = [before] + [channels] * num_convs
            pairs = pairwise(widths)
            self.stages.append(nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairs))
            before = channels
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """real, fake: N 3 H W, RGB in [-1, 1].  Returns N distances; no gradient to `real`."""
        return in_parts(lambda *pair: torch.stack(self.terms(*pair)).sum(0), real.detach(), fake)

    def terms(self, real: Tensor, fake: Tensor) -> list[Tensor]:
        """The summands of the distance, N each: images, then the maps of LOSS_MAPS."""
        with torch.no_grad():
            real_maps = self._compared(real)
        pairs = zip(real_maps, self._compared(fake), strict=True)
        return [(a - b).abs().flatten(1).mean(1) for a, b in pairs]

    def maps(self, images: Tensor, names: Sequence[str]) -> list[Tensor]:
        """Feature maps by name, N C h w. images: N 3 H W, RGB in [-1, 1]."""
        return self._maps(self._normalised(images), names)

    def pack(self) -> Vgg19Loss:
        """Lay the convolutions out for the CPU that they are on, where they can be; returns self.

        The state dict is then empty of them.
        """
        for stage in self.stages:
            assert isinstance(stage, nn.ModuleList)
            for i, conv in enumerate(stage):
                if isinstance(conv, nn.Conv2d) and can_pack(conv.weight):
                    stage[i] = FrozenConv(conv)
        return self

    def _compared(self, images: Tensor) -> list[Tensor]:
        normalised = self._normalised(images)
        return [normalised, *self._maps(normalised, LOSS_MAPS)]

    def _normalised(self, images: Tensor) -> Tensor:
        return ((images + 1) / 2 - self.mean) / self.std

    def _maps(self, x: Tensor, names: Sequence[str]) -> list[Tensor]:
        found = {}
        for i, stage in enumerate(self.stages):
            if i > 0:
                x = F.max_pool2d(x, 2)
            for j, conv in enumerate(stage):
                x = F.relu(conv(x))
                found[f"relu{i + 1}_{j + 1}"] = x
        return [found[name] for name in names]


def vgg19_state(torchvision_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict from torchvision's; what lies behind relu5_2 is left out."""
    state = {}
    for i, (first, num_convs) in enumerate(zip(_TORCHVISION_FIRST, _NUM_CONVS, strict=True)):
        for j in range(num_convs):
            for leaf in ("weight", "bias"):
                key = f"features.{first + 2 * j}.{leaf}"
                state[f"stages.{i}.{j}.{leaf}"] = torchvision_state[key]
    return state
