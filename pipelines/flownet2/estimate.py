"""FlowNet2 as an estimator: bytes in, flow out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.files import sha256
from pipelines.flownet2.cascade import Cascade, SingleNetwork, build, normalise
from pipelines.flownet2.checkpoint import flownet2_state, network_of, unwrapped
from pipelines.flownet2.config import SIZE_MULTIPLE_PX
from pipelines.flownet2.networks import FlowNetC, FrameFeatures
from pipelines.nn.padding import pad_to_multiple
from pipelines.training.precision import autocast_for
from pipelines.training.published import check_fit, read_checkpoint, state_of

Crop = Callable[[Tensor], Tensor]


class FlowNet2Estimator:
    """A published FlowNet2 on one device.

    weights_path: a published file.  network: which variant it must be; recognised when not given.
    precision: of the convolutions; warps, correlation and flow are float32 always.
    is_bgr: feed colours in the order of the published poke data; the weights were made for RGB.
    shares_means: in `flow_along`, subtract the colours' means over the clip rather than over each
    pair. Then FlowNetC's features of a frame serve every pair that it is in; the numbers are no
    longer the published ones, but those of a clip whose brightness is steady come close.
    Raises UserError when the file is damaged or of another network.
    """

    def __init__(
        self,
        weights_path: Path,
        network: str | None = None,
        device: torch.device | None = None,
        precision: str = "float32",
        *,
        is_bgr: bool = False,
        shares_means: bool = False,
    ) -> None:
        self._device = device or torch.device("cpu")
        self._autocast = autocast_for(precision, self._device)
        published = unwrapped(state_of(read_checkpoint(weights_path, trust=False), weights_path))
        self.name = network or network_of(published)
        self.weights_hash = sha256(weights_path)
        self._network = _filled(self.name, published, weights_path).to(self._device)
        self._is_bgr, self._shares_means = is_bgr, shares_means

    @torch.inference_mode()
    def flow(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Motion from first to second: uint8 N H W 3 RGB -> float32 N 2 H W, pixels, x then y.

        Any H and W: sides that 64 does not divide are padded with the border, and cropped after.
        """
        with self._autocast():
            frames, crop = self._frames(first, second)
            return _array(crop(self._network(normalise(frames))))

    @torch.inference_mode()
    def flow_both_ways(
        self, first: np.ndarray, second: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Motion from first to second, and from second to first; features are computed once."""
        with self._autocast():
            frames, crop = self._frames(first, second)
            there = normalise(frames)
            both = torch.cat((there, torch.cat(there.chunk(2, dim=1)[::-1], dim=1)))
            matched = None
            if self._network.matcher is not None:  # a pair's means do not depend on its order
                firsts = self._network.matcher.features(both[:, :3])
                matched = self._network.matcher.match(firsts, _swapped(firsts))
            forward, backward = crop(self._network(both, matched)).chunk(2)
            return _array(forward), _array(backward)

    @torch.inference_mode()
    def flow_along(self, frames: np.ndarray, lag: int, *, batch_size: int = 4) -> np.ndarray:
        """Motion from each frame to the one `lag` later: uint8 T H W 3 -> float32 T-lag 2 H W."""
        starts = range(0, max(0, len(frames) - lag), batch_size)
        if not starts:
            return np.zeros((0, 2, *frames.shape[1:3]), np.float32)
        if self._shares_means and self._network.matcher is not None:
            return np.concatenate(list(self._shared(frames, lag, self._network.matcher, starts)))
        stops = (min(start + batch_size, len(frames) - lag) for start in starts)
        pairs = ((slice(a, b), slice(a + lag, b + lag)) for a, b in zip(starts, stops, strict=True))
        return np.concatenate([self.flow(frames[one], frames[two]) for one, two in pairs])

    def _shared(
        self, frames: np.ndarray, lag: int, matcher: FlowNetC, starts: range
    ) -> Iterator[np.ndarray]:
        """Flow batch by batch; features are kept from a frame's first pair to its last."""
        mean = self._clip_mean(frames)
        seen: dict[int, FrameFeatures] = {}
        for start in starts:
            stop = min(start + starts.step, len(frames) - lag)
            first, second = range(start, stop), range(start + lag, stop + lag)
            with self._autocast():
                pairs, crop = self._frames(frames[start:stop], frames[start + lag : stop + lag])
                pair = normalise(pairs, mean=mean)
                halves = dict(zip((first, second), pair.chunk(2, dim=1), strict=True))
                for numbers, images in halves.items():
                    new = [i for i, number in enumerate(numbers) if number not in seen]
                    if new:
                        found = matcher.features(images[new])
                        for i, *maps in zip(new, *found, strict=True):
                            seen[numbers[i]] = FrameFeatures(*maps)
                matched = matcher.match(_stacked(seen, first), _stacked(seen, second))
                yield _array(crop(self._network(pair, matched)))
            seen = {number: maps for number, maps in seen.items() if number >= stop}

    def _clip_mean(self, frames: np.ndarray) -> Tensor:
        """Mean of each colour over all frames, 1 3, in [0, 1]."""
        mean = torch.from_numpy(frames.mean(axis=(0, 1, 2), dtype=np.float64) / 255)
        return (mean.flip(0) if self._is_bgr else mean).float()[None].to(self._device)

    def _frames(self, first: np.ndarray, second: np.ndarray) -> tuple[Tensor, Crop]:
        """uint8 N H W 3, twice -> N 3 2 H' W' in [0, 1], padded, and how to crop the flow."""
        both = torch.from_numpy(np.stack((first, second), axis=1)).to(self._device)
        images = both.permute(0, 4, 1, 2, 3).float() / 255  # N 3 2 H W
        if self._is_bgr:
            images = images.flip(1)
        padded, crop = pad_to_multiple(images.flatten(1, 2), SIZE_MULTIPLE_PX)
        return padded.unflatten(1, (3, 2)), crop


def _filled(network: str, published: dict[str, Tensor], path: Path) -> SingleNetwork | Cascade:
    """The network with the published weights."""
    state = flownet2_state(published, network=network)
    with torch.device("meta"):
        empty: nn.Module = build(network)
    check_fit(empty, state, path)
    empty.load_state_dict(state, assign=True)
    # Channels last: convolutions are up to twice as fast on a CPU.
    return empty.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def _swapped(features: FrameFeatures) -> FrameFeatures:
    """The second half of a batch first."""
    return FrameFeatures(*(torch.cat(maps.chunk(2)[::-1]) for maps in features))


def _stacked(seen: dict[int, FrameFeatures], numbers: range) -> FrameFeatures:
    chosen = [seen[number] for number in numbers]
    return FrameFeatures(
        torch.stack([maps.level2 for maps in chosen]), torch.stack([maps.level3 for maps in chosen])
    )


def _array(flow: Tensor) -> np.ndarray:
    array: np.ndarray = flow.float().cpu().numpy()
    return array
