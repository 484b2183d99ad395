"""LPIPS, the learned perceptual distance between images (Zhang et al., 2018), with VGG-16.

Version 0.1: weighted squared differences of unit-length feature vectors, averaged over places and
added up over five maps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipelines.features import vgg

_EPS = 1e-10
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_TRUNK = re.compile(r"net\.slice\d\.(\d+)\.(weight|bias)")
_LINEAR = re.compile(r"lin(\d)\.model\.1\.weight")


class Lpips(nn.Module):
    """The distance as a frozen module: gradients go to the images only.

    There is no dropout: the published training losses leave it active by mistake, which adds noise
    and changes no mean.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = vgg.Vgg16()
        self.weights = nn.ParameterList(nn.Parameter(torch.rand(c)) for c in vgg.CHANNELS)
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1))
        self.requires_grad_(False)

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """real, fake: N 3 H W, RGB in [-1, 1].  Returns N distances."""
        with torch.set_grad_enabled(real.requires_grad and torch.is_grad_enabled()):
            real_maps = self._unit_maps(real)
        distance = real.new_zeros(len(real))
        for weight, a, b in zip(self.weights, real_maps, self._unit_maps(fake), strict=True):
            difference = (a - b).square().mean(dim=(2, 3))
            distance = distance + difference @ weight
        return distance

    def _unit_maps(self, images: Tensor) -> list[Tensor]:
        maps = self.trunk((images - self.shift) / self.scale)
        return [x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + _EPS) for x in maps]


def lpips_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict from the published LPIPS network's names, or from those parts of it in a file.

    `net.slice*` is the trunk, `lin*` the weights (the only entries of the published weights file),
    `scaling_layer` the input normalisation; repeated entries (`lins.*`) are left out.
    """
    state = {}
    for key, value in published.items():
        if trunk := _TRUNK.fullmatch(key):
            state["trunk." + vgg.vgg16_key(int(trunk[1]), trunk[2])] = value
        elif linear := _LINEAR.fullmatch(key):
            state[f"weights.{linear[1]}"] = value.flatten()
        elif key.startswith("scaling_layer."):
            state[key.removeprefix("scaling_layer.")] = value
    return state
