"""Inception-v3 as the poking system uses it for its FID: torchvision's weights, average pooling.

Not the network of the usual FID: other weights, and its stem averages where the original takes
maxima. With the torchvision that the system pins, 0.7, the maxima come as well, one after the
other, so that the last maps are a single place. Its numbers compare with each other only.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.inception import Inception3

NUM_FEATURES = 2048

_SIZE_PX = 299
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_STEM = (
    "Conv2d_1a_3x3",
    "Conv2d_2a_3x3",
    "Conv2d_2b_3x3",
    "",
    "Conv2d_3b_1x1",
    "Conv2d_4a_3x3",
    "",
)
_TRUNK = (
    *("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d"),
    *("Mixed_6e", "Mixed_7a", "Mixed_7b", "Mixed_7c"),
)
_UNUSED = ("AuxLogits.", "fc.")


class AverageInception(nn.Module):
    """Images to features, frozen.

    has_maxima: whether a maximum follows each average of the stem, as under torchvision 0.7.
    """

    def __init__(self, *, has_maxima: bool = False) -> None:
        super().__init__()
        self.has_maxima = has_maxima
        whole = Inception3(aux_logits=False, init_weights=False)
        names = [name for name in (*_STEM, *_TRUNK) if name]
        self.layers = nn.ModuleDict({name: getattr(whole, name) for name in names})
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """images: N 3 H W, RGB in [-1, 1].  Returns N 2048."""
        size = (_SIZE_PX, _SIZE_PX)
        x = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        mean, std = (x.new_tensor(each).view(1, 3, 1, 1) for each in (_MEAN, _STD))
        x = ((x + 1) / 2 - mean) / std
        for name in (*_STEM, *_TRUNK):
            x = self.layers[name](x) if name else self._shrunk(x)
        return x.mean((2, 3))

    def _shrunk(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, 3, stride=2)
        return F.max_pool2d(x, 3, stride=2) if self.has_maxima else x


def average_inception_state(torchvision_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict from torchvision's; the classifiers are left out."""
    return {
        f"layers.{name}": value
        for name, value in torchvision_state.items()
        if not name.startswith(_UNUSED)
    }
