"""The convolutional part of VGG-16 (Simonyan & Zisserman, 2015), as a source of feature maps."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INPUT_PX = 224

CHANNELS = (64, 128, 256, 512, 512)
"""Channels of the five feature maps."""

_NUM_CONVS = (2, 2, 3, 3, 3)
# where torchvision's `features` has the convolutions, stage by stage
_TORCHVISION_INDEX = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
TORCHVISION_INDICES = tuple(index for stage in _TORCHVISION_INDEX for index in stage)
"""Of the convolutions, in torchvision's `features`."""
_STAGE_OF_INDEX = {
    index: (stage, conv)
    for stage, indices in enumerate(_TORCHVISION_INDEX)
    for conv, index in enumerate(indices)
}


class Vgg16(nn.Module):
    """Five stages of 3x3 convolutions; each later stage starts by halving the maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        before = 3
        for channels, num_convs in zip(CHANNELS, _NUM_CONVS, strict=True):
            stage = nn.ModuleList()
            for _ in range(num_convs):
                stage.append(nn.Conv2d(before, channels, 3, padding=1))
                before = channels
            self.stages.append(stage)

    def forward(self, images: Tensor) -> list[Tensor]:
        """The maps after the last ReLU of each stage (relu1_2, 2_2, 3_3, 4_3, 5_3).

        images: N 3 H W, normalised as the caller's method wants it.  Returns N C h w each.
        """
        maps, x = [], images
        for i, stage in enumerate(self.stages):
            if i > 0:
                x = F.max_pool2d(x, 2)
            for conv in stage:
                x = F.relu(conv(x), inplace=True)
            maps.append(x)
        return maps


def diversity_maps(network: Vgg16, images: Tensor) -> list[Tensor]:
    """The maps that the published diversity score compares: normalised first, then resized.

    images: N 3 H W, RGB in [-1, 1].  Returns five maps, N C h w.
    """
    mean, std = (images.new_tensor(e).view(1, 3, 1, 1) for e in (IMAGENET_MEAN, IMAGENET_STD))
    normalised = ((images + 1) / 2 - mean) / std
    size = (INPUT_PX, INPUT_PX)
    maps: list[Tensor] = network(
        F.interpolate(normalised, size=size, mode="bilinear", align_corners=False)
    )
    return maps


def vgg16_key(index: int, leaf: str) -> str:
    """Our name for `features.<index>.<leaf>` of torchvision's VGG-16."""
    stage, conv = _STAGE_OF_INDEX[index]
    return f"stages.{stage}.{conv}.{leaf}"


def vgg16_state(torchvision_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict from torchvision's; its classifier is left out."""
    state = {}
    for key, value in torchvision_state.items():
        part, _, rest = key.partition(".")
        if part == "features":
            index, _, leaf = rest.partition(".")
            state[vgg16_key(int(index), leaf)] = value
    return state
