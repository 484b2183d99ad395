"""L1: how far pixels are from those of the video that a video should equal.

The number that the First Order Motion Model reports of videos made again from their first frame
and their keypoints (spec: completion, J). Published with the first frame among those measured,
which is nearly free; here only what was made is measured.
"""

from __future__ import annotations

from torch import Tensor

from pipelines.metrics.config import PairedProtocol
from pipelines.metrics.paired import Figure, PairedMean, frame_by_frame


def build(protocol: PairedProtocol | None = None) -> PairedMean:
    """Mean absolute difference of each frame, pixels in the range 0 to 1, then the mean."""
    settings: dict[str, str | float | bool] = {"data range": 1, "per": "frame"}
    figure = Figure("l1", "", "lower", settings)
    return PairedMean(figure, frame_by_frame(frame_l1), protocol=protocol or PairedProtocol())


def frame_l1(real: Tensor, fake: Tensor) -> Tensor:
    """real, fake: N C H W in [0, 1].  Returns N values."""
    return (real.double() - fake.double()).abs().mean((1, 2, 3))
