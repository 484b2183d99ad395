"""The feature networks that the perceptual loss compares images through (spec: completion, B.6)."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.features.perceptual import EmbeddedPerceptual
from pipelines.features.vgg19 import Vgg19Loss, vgg19_state
from pipelines.fomm.config import PerceptualConfig
from pipelines.fomm.sampling_layers import can_pack
from pipelines.fomm.training_layers import FrozenConv

_VGG19_FILE = "vgg19-dcbb9e9d.pth"
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


def with_frozen_convolutions(network: Vgg19Loss) -> Vgg19Loss:
    """The same network, where it is a CPU's, with convolutions that know that they never change."""
    for stage in network.stages:
        assert isinstance(stage, nn.ModuleList)
        for i, conv in enumerate(stage):
            if isinstance(conv, nn.Conv2d) and can_pack(conv.weight):
                stage[i] = FrozenConv(conv)
    return network


def build_feature_network(
    config: PerceptualConfig, *, weights_dir: Path, device: torch.device
) -> nn.Module:
    """A frozen network that offers maps(images in [-1, 1], names).

    weights_dir: folder with torchvision's ImageNet weights, for vgg19. Raises UserError when they
    are not there.
    """
    if config.backbone == "efficientnet-lite0":
        return EmbeddedMaps().to(device)
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
        published = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(vgg19_state(published))
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(
            f"weights file '{path.name}' cannot be read",
            {"file": path, "reason": str(error).splitlines()[0], "to fix": "download it again"},
        ) from error
    return with_frozen_convolutions(network.to(device).eval())
