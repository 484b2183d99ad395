"""Videos seen through the maps of an image network, compared frame by frame.

Maps are large, far larger than the frames, so they are not kept: a video stands for its maps, and
they are computed for a few frames at a time, once for all videos that are compared together.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.features import generated_weights, vgg
from pipelines.features.alexnet import TORCHVISION_INDICES, alexnet_key, alexnet_state
from pipelines.features.lpips import Lpips, TrunkName, lpips_state, total
from pipelines.features.perceptual import linear_weights_path
from pipelines.metrics import weights
from pipelines.metrics.batching import clips_at_once
from pipelines.metrics.scenes import Clip, Frames, MakeExtractor, Resources

Maps = list[Tensor]
_BYTES_PER_PIXEL = 4 * 64 * 6


@dataclass(frozen=True)
class MapNetwork:
    """maps: N 3 H W in [-1, 1] -> maps of N.  compare: two of those -> N values, 0 for equal ones.

    map_px: size that the network works at, None for that of the frames.
    """

    maps: Callable[[Tensor], Maps]
    compare: Callable[[Maps, Maps], Tensor]
    device: torch.device
    map_px: int | None = None

    def at_once(self, frames: Frames) -> int:
        """Frames of a batch."""
        pixels = self.map_px**2 if self.map_px else frames.shape[1] * frames.shape[2]
        return clips_at_once(self.device, pixels * _BYTES_PER_PIXEL)


@dataclass(frozen=True)
class SeenVideo:
    """A video and the network that it is seen through. frames: uint8 T H W 3."""

    frames: Frames
    network: MapNetwork

    def distances(self, others: Sequence[SeenVideo]) -> list[Tensor]:
        """For each other video of the same shape: T distances of its frames from these."""
        chunks = self._compared(others, [(0, number + 1) for number in range(len(others))])
        return [torch.cat(parts) for parts in zip(*chunks, strict=True)]

    def pair_distances(self, others: Sequence[SeenVideo]) -> list[Tensor]:
        """T distances for all pairs among this video and the others."""
        pairs = list(itertools.combinations(range(len(others) + 1), 2))
        chunks = self._compared(others, pairs)
        return [torch.cat(parts) for parts in zip(*chunks, strict=True)]

    @torch.inference_mode()
    def _compared(
        self, others: Sequence[SeenVideo], pairs: Sequence[tuple[int, int]]
    ) -> list[list[Tensor]]:
        videos, network = [self, *others], self.network
        size = max(1, network.at_once(self.frames) // len(videos))
        found = []
        for start in range(0, len(self.frames), size):
            maps = [network.maps(each.images(start, size)) for each in videos]
            found.append([network.compare(maps[i], maps[j]).cpu() for i, j in pairs])
        return found

    def images(self, start: int, count: int) -> Tensor:
        """Some frames, N 3 H W in [-1, 1]."""
        frames = torch.from_numpy(np.ascontiguousarray(self.frames[start : start + count]))
        return frames.to(self.network.device).permute(0, 3, 1, 2).float() / 127.5 - 1


class Seeing:
    """The extractor: videos through a network. name and sha256 as in every extractor."""

    def __init__(self, network: MapNetwork, name: str, sha256: str) -> None:
        self.name, self.sha256, self._network = name, sha256, network

    def __call__(self, clips: Sequence[Clip]) -> list[SeenVideo]:
        """Nothing is computed yet."""
        return [SeenVideo(each.frames, self._network) for each in clips]


def lpips(trunk: TrunkName) -> MakeExtractor:
    """LPIPS version 0.1 with the weights of the package and torchvision's trunk."""
    return partial(_lpips, trunk)


def vgg_diversity(resources: Resources) -> Seeing:
    """Squared differences of five maps of VGG-16, as the published diversity score has them."""
    found = weights.load("vgg16", resources, _generated_vgg)
    network = weights.fitted(vgg.Vgg16(), vgg.vgg16_state(found.state), found.source)
    network.to(resources.device)

    def compare(first: Maps, second: Maps) -> Tensor:
        layers = [(a - b).square().mean((1, 2, 3)) for a, b in zip(first, second, strict=True)]
        return torch.stack(layers).mean(0)

    maps = partial(vgg.diversity_maps, network)
    return Seeing(
        MapNetwork(maps, compare, resources.device, vgg.INPUT_PX),
        f"VGG-16, {found.source}",
        found.sha256,
    )


def _lpips(trunk: TrunkName, resources: Resources) -> Seeing:
    network = Lpips(trunk)
    found = weights.load(trunk, resources, partial(_generated_trunk, network.trunk, trunk))
    adapt = vgg.vgg16_state if trunk == "vgg16" else alexnet_state
    state = {f"trunk.{key}": value for key, value in adapt(found.state).items()}
    linear = weights.read_state(linear_weights_path("vgg" if trunk == "vgg16" else "alex"))
    constants = {key: network.state_dict()[key] for key in ("shift", "scale")}
    weights.fitted(network, constants | state | lpips_state(linear, trunk), found.source)
    network.to(resources.device)

    def compare(first: Maps, second: Maps) -> Tensor:
        return total(network.compare(first, second))

    return Seeing(
        MapNetwork(network.unit_maps, compare, resources.device),
        f"LPIPS 0.1 with {trunk}, {found.source}",
        found.sha256,
    )


def _generated_vgg() -> dict[str, Tensor]:
    return _generated_trunk(vgg.Vgg16(), "vgg16")


def _generated_trunk(network: nn.Module, trunk: TrunkName) -> dict[str, Tensor]:
    """Made-up weights under torchvision's names."""
    generated_weights.fill(network)
    indices = vgg.TORCHVISION_INDICES if trunk == "vgg16" else TORCHVISION_INDICES
    key = vgg.vgg16_key if trunk == "vgg16" else alexnet_key
    ours = network.state_dict()
    return {
        f"features.{index}.{leaf}": ours[key(index, leaf)]
        for index in indices
        for leaf in ("weight", "bias")
    }
