"""RAFT (Teed & Deng, ECCV 2020) as an estimator, with torchvision's networks and weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import optical_flow

from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.files import sha256
from pipelines.nn.padding import pad_to_multiple
from pipelines.training.precision import autocast_for
from pipelines.training.published import check_fit, read_checkpoint, state_of

Size = Literal["large", "small"]

_SIZE_MULTIPLE_PX = 8
_SMALLEST_PX = 128  # the correlation pyramid halves maps of 1/8 of the size three times
_UPSAMPLING = 8


class FrameFeatures(NamedTuple):
    """What RAFT sees in frames on their own.

    matching: N D H/8 W/8, compared between frames.  context: N D' H/8 W/8, of the first frame.
    """

    matching: Tensor
    context: Tensor


class RaftEstimator:
    """RAFT on one device.

    size: large (5.3 million weights) or small (1 million).  weights_path: torchvision's file.
    random_seed: random weights from this seed, where there is no file: for tests only.
    num_updates: how often the flow is refined.  precision: of the convolutions.
    Raises UserError when the weights are missing, damaged or of the other size.
    """

    def __init__(
        self,
        size: Size,
        weights_path: Path | None,
        device: torch.device | None = None,
        precision: str = "float32",
        *,
        num_updates: int = 12,
        random_seed: int | None = None,
    ) -> None:
        self.name = f"raft-{size}"
        self.weights_hash = ""
        self._device = device or torch.device("cpu")
        self._autocast = autocast_for(precision, self._device)
        self._num_updates = num_updates
        if weights_path is not None:
            self.weights_hash = sha256(weights_path)
            network = _filled(size, weights_path)
        elif random_seed is not None:
            network = _random(size, random_seed)
        else:
            raise UserError(
                f"no weights for '{self.name}'",
                {"run first": f"i2v download weights/{self.name}"},
                EXIT_NO_DATA,
            )
        self._network = network.to(self._device).eval().requires_grad_(False)

    def flow(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Motion from first to second: uint8 N H W 3 RGB -> float32 N 2 H W, pixels, x then y.

        Any H and W: sides below 128, or that 8 does not divide, are padded with the border.
        """
        return self._flow(first, second, both_ways=False)

    def flow_both_ways(
        self, first: np.ndarray, second: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Motion from first to second, and from second to first; features are computed once."""
        forward, backward = np.split(self._flow(first, second, both_ways=True), 2)
        return forward, backward

    @torch.inference_mode()
    def flow_along(self, frames: np.ndarray, lag: int, *, batch_size: int = 4) -> np.ndarray:
        """Motion from each frame to the one `lag` later: uint8 T H W 3 -> float32 T-lag 2 H W.

        Each frame is looked at once, however many pairs it is in.
        """
        if len(frames) <= lag:
            return np.zeros((0, 2, *frames.shape[1:3]), np.float32)
        return np.concatenate(list(self._along(frames, lag, batch_size)))

    def _along(self, frames: np.ndarray, lag: int, batch_size: int) -> Iterator[np.ndarray]:
        seen: dict[int, Tensor] = {}
        for start in range(0, len(frames) - lag, batch_size):
            stop = min(start + batch_size, len(frames) - lag)
            needed = sorted({*range(start, stop), *range(start + lag, stop + lag)})
            new = [number for number in needed if number not in seen]
            images, crop = pad_to_multiple(
                self._images(frames[[*new, *range(start, stop)]]),
                _SIZE_MULTIPLE_PX,
                at_least=_SMALLEST_PX,
            )
            seen.update(zip(new, self._matching(images[: len(new)]), strict=True))
            first = FrameFeatures(
                torch.stack([seen[number] for number in range(start, stop)]),
                self._context(images[len(new) :]),
            )
            second = torch.stack([seen[number] for number in range(start + lag, stop + lag)])
            yield crop(self._matched(first, second)).cpu().numpy()
            seen = {number: maps for number, maps in seen.items() if number >= stop}

    @torch.inference_mode()
    def _flow(self, first: np.ndarray, second: np.ndarray, *, both_ways: bool) -> np.ndarray:
        num = len(first)
        images, crop = pad_to_multiple(
            self._images(np.concatenate((first, second))), _SIZE_MULTIPLE_PX, at_least=_SMALLEST_PX
        )
        maps = self._matching(images)
        targets = torch.cat((maps[num:], maps[:num])) if both_ways else maps[num:]
        num_pairs = len(targets)
        features = FrameFeatures(maps[:num_pairs], self._context(images[:num_pairs]))
        flow: np.ndarray = crop(self._matched(features, targets)).cpu().numpy()
        return flow

    def _images(self, frames: np.ndarray) -> Tensor:
        """uint8 N H W 3 -> N 3 H W in [-1, 1]."""
        images = torch.from_numpy(np.ascontiguousarray(frames)).to(self._device)
        return images.permute(0, 3, 1, 2).float() / 127.5 - 1

    def _matching(self, images: Tensor) -> Tensor:
        with self._autocast():
            return self._network.feature_encoder(images).float()

    def _context(self, images: Tensor) -> Tensor:
        with self._autocast():
            return self._network.context_encoder(images).float()

    def _matched(self, first: FrameFeatures, second: Tensor) -> Tensor:
        """Flow between frames seen before, N 2 H W.

        The network's own forward does the same, but upsamples the flow after every update.
        """
        network = self._network
        correlation, hidden_size = network.corr_block, network.update_block.hidden_state_size
        correlation.build_pyramid(first.matching.contiguous(), second.contiguous())
        hidden = torch.tanh(first.context[:, :hidden_size])
        context = F.relu(first.context[:, hidden_size:])
        places = _places(first.context)
        flow = torch.zeros_like(places)
        for _ in range(self._num_updates):
            compared = correlation.index_pyramid(places + flow)
            with self._autocast():
                hidden, change = network.update_block(hidden, context, compared, flow)
            flow = flow + change.float()
        correlation.corr_pyramid = [torch.tensor(0)]  # frees most of the memory
        if network.mask_predictor is None:
            upsampled = F.interpolate(
                flow, scale_factor=_UPSAMPLING, mode="bilinear", align_corners=True
            )
            return upsampled * _UPSAMPLING
        with self._autocast():
            mask = network.mask_predictor(hidden)
        return _convexly_upsampled(flow, mask.float())


def _places(maps: Tensor) -> Tensor:
    """The coordinates of each place, N 2 h w, x then y."""
    height, width = maps.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=maps.device),
        torch.arange(width, device=maps.device),
        indexing="ij",
    )
    return torch.stack((x, y)).float().expand(len(maps), -1, -1, -1)


def _convexly_upsampled(flow: Tensor, mask: Tensor) -> Tensor:
    """Each fine pixel is a weighted mean of the 3 x 3 coarse ones around it.

    flow: N 2 h w, coarse pixels.  mask: N 9*8*8 h w.  Returns N 2 8h 8w, fine pixels.
    """
    num, _, height, width = flow.shape
    weights = mask.view(num, 1, 9, _UPSAMPLING, _UPSAMPLING, height, width).softmax(dim=2)
    around = F.unfold(_UPSAMPLING * flow, 3, padding=1).view(num, 2, 9, 1, 1, height, width)
    fine = (weights * around).sum(dim=2)  # N 2 8 8 h w
    return fine.permute(0, 1, 4, 2, 5, 3).reshape(num, 2, _UPSAMPLING * height, _UPSAMPLING * width)


def _empty(size: Size) -> nn.Module:
    builders = {"large": optical_flow.raft_large, "small": optical_flow.raft_small}
    network: nn.Module = builders[size](weights=None)
    return network


def _filled(size: Size, path: Path) -> nn.Module:
    state = state_of(read_checkpoint(path, trust=False), path)
    if "update_block.flow_head.conv2.weight" not in state:
        raise UserError(
            "the checkpoint is not of RAFT",
            {"file": path, "to fix": f"give the file of i2v download weights/raft-{size}"},
        )
    found = "large" if "mask_predictor.conv.weight" in state else "small"
    if found != size:
        raise UserError(
            f"the weights are of raft-{found}, not of raft-{size}",
            {"file": path, "to fix": f"choose raft-{found}, or give the other file"},
        )
    network = _empty(size)
    check_fit(network, state, path)
    network.load_state_dict(state)
    return network


def _random(size: Size, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _empty(size)
