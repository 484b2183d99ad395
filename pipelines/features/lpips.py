"""LPIPS, the learned perceptual distance between images (Zhang et al., 2018), version 0.1.

Weighted squared differences of unit-length feature vectors, averaged over places and added up over
five maps, those of VGG-16 or of AlexNet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from pipelines.features import alexnet, vgg
from pipelines.features.in_parts import in_parts

TrunkName = Literal["vgg16", "alexnet"]

_EPS = 1e-10
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_TRUNK = re.compile(r"net\.slice\d\.(\d+)\.(weight|bias)")
_LINEAR = re.compile(r"lin(?:s\.)?(\d)\.model\.1\.weight")


class Trunk(NamedTuple):
    """A network to take maps from. key: torchvision's index and leaf to our name."""

    make: Callable[[], nn.Module]
    channels: tuple[int, ...]
    key: Callable[[int, str], str]


TRUNKS: Mapping[TrunkName, Trunk] = {
    "vgg16": Trunk(vgg.Vgg16, vgg.CHANNELS, vgg.vgg16_key),
    "alexnet": Trunk(alexnet.AlexNet, alexnet.CHANNELS, alexnet.alexnet_key),
}


class Lpips(nn.Module):
    """The distance as a frozen module: gradients go to the images only.

    There is no dropout: the published training losses leave it active by mistake, which adds noise
    and changes no mean.
    """

    def __init__(self, trunk: TrunkName = "vgg16") -> None:
        super().__init__()
        chosen = TRUNKS[trunk]
        self.trunk = chosen.make()
        self.weights = nn.ParameterList(nn.Parameter(torch.rand(c)) for c in chosen.channels)
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1))
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # twice as fast on a CPU

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """real, fake: N 3 H W, RGB in [-1, 1].  Returns N distances."""
        return in_parts(lambda *pair: total(self.terms(*pair)), real, fake)

    def terms(self, real: Tensor, fake: Tensor) -> list[Tensor]:
        """The summands of the distance, N for each of the five maps."""
        with torch.set_grad_enabled(real.requires_grad and torch.is_grad_enabled()):
            real_maps = self.unit_maps(real)
        return self.compare(real_maps, self.unit_maps(fake))

    def compare(self, real_maps: list[Tensor], fake_maps: list[Tensor]) -> list[Tensor]:
        """The summands for maps that are there already (unit_maps)."""
        pairs = zip(self.weights, real_maps, fake_maps, strict=True)
        return [(a - b).square().mean(dim=(2, 3)) @ weight for weight, a, b in pairs]

    def unit_maps(self, images: Tensor) -> list[Tensor]:
        """Five maps whose channel vectors have length one. images: N 3 H W, RGB in [-1, 1]."""
        maps = self.trunk((images - self.shift) / self.scale)
        return [x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + _EPS) for x in maps]


def total(terms: list[Tensor]) -> Tensor:
    """N distances from their summands."""
    distance = torch.zeros_like(terms[0])
    for term in terms:
        distance = distance + term
    return distance


def lpips_state(published: Mapping[str, Tensor], trunk: TrunkName = "vgg16") -> dict[str, Tensor]:
    """Our state dict from the published LPIPS network's names, or from those parts of it in a file.

    `net.slice*` is the trunk, `lin*` the weights (the only entries of the published weights file),
    `scaling_layer` the input normalisation. `lins.*` are the weights once more; as in the published
    network, what comes last holds.
    """
    key_of = TRUNKS[trunk].key
    state = {}
    for key, value in published.items():
        if match := _TRUNK.fullmatch(key):
            state["trunk." + key_of(int(match[1]), match[2])] = value
        elif linear := _LINEAR.fullmatch(key):
            state[f"weights.{linear[1]}"] = value.flatten()
        elif key.startswith("scaling_layer."):
            state[key.removeprefix("scaling_layer.")] = value
    return state
