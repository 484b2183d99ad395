"""The distance between images that the poke family is trained with."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from pipelines.features import image_loss
from pipelines.poke.config import PerceptualConfig

_MEAN_STD = 0.226  # of the ImageNet channels, so that pixels count as they do for VGG-19


class PixelLoss(nn.Module):
    """Mean absolute difference of normalised pixels: the first of VGG-19's six terms, alone."""

    def __init__(self, *, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """real, fake: N 3 S S in [-1, 1].  Returns N distances; no gradient to `real`."""
        distance = (real.detach() - fake).abs().flatten(1).mean(1) / (2 * _MEAN_STD)
        return self.weight * distance


def build_image_loss(
    config: PerceptualConfig, *, weights_dir: Path, device: torch.device
) -> nn.Module:
    """A frozen distance. weights_dir: folder with torchvision's ImageNet weights, for vgg19.

    device: where it is, and stays.

    Raises UserError when the weights are not there.
    """
    if config.backbone == "pixels":
        return PixelLoss(weight=config.pixel_weight)
    return image_loss.build_image_loss(
        config.backbone, pixel_weight=config.pixel_weight, weights_dir=weights_dir, device=device
    )
