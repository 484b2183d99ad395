"""Perceptual distances between images, as frozen networks: a loss in training, a number after it.

Two backbones. `vgg16` is LPIPS as published, whose trunk must be downloaded. `efficientnet-lite0`
is our own embedded perceptual distance, whose weights are always there; it is not LPIPS, and its
values only compare with each other.
"""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from pipelines.events import EXIT_ENVIRONMENT, EXIT_NO_DATA, UserError
from pipelines.features import efficientnet, lpips, vgg

Backbone = Literal["vgg16", "efficientnet-lite0"]

_NUM_TAPS = 4
_EPS = 1e-10
_VGG16_FILE = "vgg16-397923af.pth"


def build_perceptual(backbone: Backbone, *, weights_dir: Path | None = None) -> nn.Module:
    """A frozen module: (real N 3 H W, fake N 3 H W), both RGB in [-1, 1], to N distances.

    weights_dir: folder with torchvision's ImageNet weights of VGG-16, for `vgg16` only.
    Raises UserError when the backbone's weights are not there.
    """
    if backbone == "efficientnet-lite0":
        return EmbeddedPerceptual()
    return _lpips_vgg16(weights_dir)


class EmbeddedPerceptual(nn.Module):
    """Embedded perceptual distance: EfficientNet-lite0 maps compared direction by direction.

    Per image: at each place of four feature maps (strides 2, 4, 8, 16), one minus the cosine
    between the two images' channel vectors; mean over places, then over maps. That is half the
    squared difference of unit-length vectors: 0 for equal images, at most 2. Every map counts the
    same. Images are 16 px or larger.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = efficientnet.load(_NUM_TAPS)
        self.to(memory_format=torch.channels_last)  # 2 to 3 times faster on a CPU

    def train(self, mode: bool = True) -> EmbeddedPerceptual:
        """Stay in evaluation mode, whatever the module that holds this one does."""
        return super().train(False)

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """real, fake: N 3 H W, RGB in [-1, 1].  Returns N distances in [0, 2], with gradients."""
        return map_distance(self.unit_maps(real), self.unit_maps(fake))

    def unit_maps(self, images: Tensor) -> list[Tensor]:
        """Feature maps with unit-length channel vectors.

        images: N 3 H W, RGB in [-1, 1].  Returns N C H' W' maps, C = 16, 24, 40, 80.
        """
        images = images.contiguous(memory_format=torch.channels_last)
        return [_unit_length(each) for each in self.backbone(images)]


def map_distance(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """N distances between two lists of N C H W maps with unit-length channel vectors."""
    per_map = [(a - b).square().sum(1).mean((1, 2)) / 2 for a, b in zip(real, fake, strict=True)]
    return torch.stack(per_map).mean(0)


def _unit_length(x: Tensor) -> Tensor:
    # eps inside the root: the gradient stays finite where a vector is zero
    return x * torch.rsqrt(x.square().sum(1, keepdim=True) + _EPS)


def _lpips_vgg16(weights_dir: Path | None) -> nn.Module:
    trunk_path = weights_dir / _VGG16_FILE if weights_dir else None
    if trunk_path is None or not trunk_path.is_file():
        raise UserError(
            "no weights for the perceptual backbone 'vgg16'",
            {
                "looked for": trunk_path or f"{_VGG16_FILE}, without a folder of weights",
                "run first": "i2v download weights/vgg16",
                "or set": "perceptual.backbone=efficientnet-lite0, which needs no download",
            },
            EXIT_NO_DATA,
        )
    network = lpips.Lpips()
    trunk = vgg.vgg16_state(_read(trunk_path))
    state = network.state_dict()
    state |= {f"trunk.{name}": value for name, value in trunk.items()}
    state |= lpips.lpips_state(_read(linear_weights_path()))
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def linear_weights_path(trunk: str = "vgg") -> Path:
    """The published linear weights, a file inside the package `lpips`, whose code does not run.

    trunk: vgg or alex.
    """
    spec = importlib.util.find_spec("lpips")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        raise UserError(
            "the package 'lpips' is not in this environment",
            {"to fix": "i2v env create main"},
            EXIT_ENVIRONMENT,
        )
    return Path(folders[0]) / "weights" / "v0.1" / f"{trunk}.pth"


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(
            f"weights file '{path.name}' cannot be read",
            {"file": path, "reason": str(error).splitlines()[0], "to fix": "download it again"},
        ) from error
    return state
