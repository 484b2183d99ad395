"""FID over the frames of videos (Heusel et al., 2017), and the poking system's variant of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.features import generated_weights
from pipelines.features.inception_average import AverageInception, average_inception_state
from pipelines.features.inception_fid import FidInception, fid_inception_state
from pipelines.metrics import weights
from pipelines.metrics.batching import clips_at_once
from pipelines.metrics.config import FrameProtocol
from pipelines.metrics.frechet_set import FrechetMetric, Rules
from pipelines.metrics.scenes import Clip, Resources

_BYTES_PER_FRAME = 60 * 2**20


def build(protocol: FrameProtocol | None = None) -> FrechetMetric:
    """Without a protocol: every frame of every video as an image, pytorch-fid's network."""
    protocol = protocol or FrameProtocol()
    settings: dict[str, str | float | bool] = {"resized to": "299 px, bilinear, no antialiasing"}
    if protocol.per_step:
        settings["mean of"] = "one distance per time step"
    if protocol.batch_size > 1:
        settings["in whole batches of"] = protocol.batch_size
    return FrechetMetric(
        "fid",
        f"fid {protocol.network}",
        partial(InceptionFrames, protocol.network),
        unit="frame",
        rules=Rules(
            covariance=protocol.covariance,
            max_videos=protocol.max_videos,
            batch_size=protocol.batch_size,
            per_step=protocol.per_step,
            settings=settings,
        ),
    )


class InceptionFrames:
    """2048 features of each frame: T 2048."""

    def __init__(self, network: str, resources: Resources) -> None:
        self._device, self._is_published_fid = resources.device, network == "pytorch-fid"
        empty: nn.Module = (
            FidInception() if self._is_published_fid else AverageInception(has_maxima=True)
        )
        name = "fid-inception" if self._is_published_fid else "inception-v3"
        found = weights.load(name, resources, partial(_generated, empty))
        adapt = fid_inception_state if self._is_published_fid else average_inception_state
        state = adapt(found.state)
        self._network = weights.fitted(empty, state, found.source).to(self._device)
        self.name = f"Inception-v3 ({network}), {found.source}"
        self.sha256 = found.sha256

    @torch.inference_mode()
    def __call__(self, clips: Sequence[Clip]) -> list[np.ndarray]:
        """Returns float32 T 2048 for each clip."""
        return [self._of_video(each.frames) for each in clips]

    def _of_video(self, frames: np.ndarray) -> np.ndarray:
        at_once = clips_at_once(self._device, _BYTES_PER_FRAME)
        parts = []
        for start in range(0, len(frames), at_once):
            images = torch.from_numpy(frames[start : start + at_once]).to(self._device)
            unit: Tensor = images.permute(0, 3, 1, 2).float() / 255
            if self._is_published_fid:
                parts.append(self._network(unit).pooled)
            else:
                parts.append(self._network(2 * unit - 1))
        return np.asarray(torch.cat(parts).float().cpu().numpy())


def _generated(network: nn.Module) -> dict[str, Tensor]:
    """Under the published names, which are ours without the first word."""
    generated_weights.fill(network)
    return {key.removeprefix("layers."): value for key, value in network.state_dict().items()}
