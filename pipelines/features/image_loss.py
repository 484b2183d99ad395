"""The distance between images that generators are trained with, by its backbone."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.features.perceptual import EmbeddedPerceptual
from pipelines.features.vgg19 import Vgg19Loss, vgg19_state

Backbone = Literal["vgg19", "efficientnet-lite0"]

_VGG19_FILE = "vgg19-dcbb9e9d.pth"
_PIXEL_STD = 0.226  # mean of the ImageNet channels', so that pixels count as they do for VGG-19


class EmbeddedImageLoss(nn.Module):
    """Embedded perceptual distance plus the mean absolute difference of normalised pixels."""

    def __init__(self, *, pixel_weight: float) -> None:
        super().__init__()
        self.maps = EmbeddedPerceptual()
        self.pixel_weight = pixel_weight
        self.requires_grad_(False)

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """real, fake: N 3 S S in [-1, 1].  Returns N distances; no gradient to `real`."""
        pixels = (real.detach() - fake).abs().flatten(1).mean(1) / (2 * _PIXEL_STD)
        return self.maps(real.detach(), fake) + self.pixel_weight * pixels


def build_image_loss(
    backbone: Backbone, *, pixel_weight: float, weights_dir: Path, device: torch.device
) -> nn.Module:
    """A frozen distance: (real, fake), N 3 S S in [-1, 1] both, to N numbers.

    pixel_weight: of pixels, beside efficientnet-lite0's maps.  weights_dir: folder with
    torchvision's ImageNet weights, for vgg19.  device: where it is, and stays.

    Raises UserError when the weights are not there.
    """
    if backbone == "efficientnet-lite0":
        return EmbeddedImageLoss(pixel_weight=pixel_weight).to(device)
    return load_vgg19(weights_dir).to(device).pack()


def load_vgg19(weights_dir: Path) -> Vgg19Loss:
    """The published network. weights_dir: folder with torchvision's ImageNet weights.

    Raises UserError when they are not there.
    """
    path = weights_dir / _VGG19_FILE
    if not path.is_file():
        raise UserError(
            "no weights for the perceptual backbone 'vgg19'",
            {
                "looked for": path,
                "run first": "i2v download weights/vgg19",
                "or set": "perceptual.backbone=efficientnet-lite0, which needs no download",
            },
            EXIT_NO_DATA,
        )
    network = Vgg19Loss()
    try:
        network.load_state_dict(
            vgg19_state(torch.load(path, map_location="cpu", weights_only=True))
        )
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"weights file '{path.name}' cannot be read",
            {"file": path, "reason": reason, "to fix": "download it again"},
        ) from error
    return network.eval()
