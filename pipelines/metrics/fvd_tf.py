"""FVD with the published TensorFlow hub module, which runs in the environment `fvd`."""

from __future__ import annotations

from pipelines.metrics.config import VideoProtocol
from pipelines.metrics.frechet_set import FrechetMetric
from pipelines.metrics.fvd import rules
from pipelines.metrics.video_features import feature_name, tensorflow_i3d_extractor


def build(protocol: VideoProtocol | None = None) -> FrechetMetric:
    """Without a protocol: all frames after the start frame of all videos."""
    protocol = protocol or VideoProtocol()
    return FrechetMetric(
        "fvd-tf",
        feature_name(protocol, "fvd-tf"),
        tensorflow_i3d_extractor(protocol),
        unit="clip",
        rules=rules(protocol),
    )
