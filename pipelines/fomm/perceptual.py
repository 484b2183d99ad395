"""The feature networks that the perceptual loss compares images through (spec: completion, B.6)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from pipelines.features.image_loss import load_vgg19
from pipelines.features.perceptual import EmbeddedPerceptual
from pipelines.fomm.config import PerceptualConfig

_PIXEL_STD = 0.226  # mean of the ImageNet channels'


class EmbeddedMaps(nn.Module):
    """Normalised pixels and the four maps of the embedded network, in place of VGG-19's five.

    A place of a map is a vector of unit length; it is multiplied by the root of its number of
    channels, so that the numbers of every map are about as large as the pixels'.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = EmbeddedPerceptual()
        self.requires_grad_(False)

    def maps(self, images: Tensor, names: Sequence[str]) -> list[Tensor]:
        """images: N C H W in [-1, 1].  names: how many maps, at most 5; finest first."""
        colour = images.expand(-1, 3, -1, -1)
        maps = self.network.unit_maps(colour)
        scaled = [each * each.shape[1] ** 0.5 for each in maps]
        return [colour / (2 * _PIXEL_STD), *scaled][: len(names)]


def build_feature_network(
    config: PerceptualConfig, *, weights_dir: Path, device: torch.device
) -> nn.Module:
    """A frozen network that offers maps(images in [-1, 1], names).

    weights_dir: folder with torchvision's ImageNet weights, for vgg19. Raises UserError when they
    are not there.
    """
    if config.backbone == "efficientnet-lite0":
        return EmbeddedMaps().to(device)
    return load_vgg19(weights_dir).to(device).pack()
