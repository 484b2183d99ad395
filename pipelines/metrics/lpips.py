"""LPIPS, the learned perceptual distance, between videos and the real ones they should equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from pipelines.metrics import frame_maps
from pipelines.metrics.config import PairedProtocol
from pipelines.metrics.paired import Figure, PairedMean
from pipelines.metrics.scenes import Clip


def build(protocol: PairedProtocol | None = None) -> PairedMean:
    """Without a protocol: VGG-16, frames at their own size, one value per frame, then the mean."""
    protocol = protocol or PairedProtocol()
    features = f"lpips {protocol.trunk}"

    def compare(real: Clip, others: Sequence[Clip]) -> list[Tensor]:
        seen = [replace(each.features[features], frames=each.frames) for each in (real, *others)]
        return list(seen[0].distances(seen[1:]))

    figure = Figure("lpips", "", "lower", {"resized": False})
    make = frame_maps.lpips(protocol.trunk)
    return PairedMean(figure, compare, protocol=protocol, extractors={features: make})
