"""DTFVD (Dorkenwald et al., 2021): a Frechet distance made for dynamic textures."""

from __future__ import annotations

from pipelines.metrics.config import VideoProtocol
from pipelines.metrics.frechet_set import FrechetMetric, Rules
from pipelines.metrics.video_features import LONG, feature_name, torch_i3d


def build(protocol: VideoProtocol | None = None) -> FrechetMetric:
    """Without a protocol: the 16-frame network. Protocols of 32 frames take the other one."""
    protocol = protocol or VideoProtocol(network="dti3d", resize="corners", num_frames=None)
    is_long = protocol.num_frames == LONG
    network = "dti3d-32" if is_long else "dti3d-16"
    settings: dict[str, str | float | bool] = {
        "resized to 224 px by": "corners bilinear",
        "clip of": "32 frames" if is_long else "16 frames, shorter ones three times over",
        "start frame": protocol.start_frame,
    }
    return FrechetMetric(
        "dtfvd",
        feature_name(protocol, network),
        torch_i3d(protocol, network),
        unit="clip",
        rules=Rules(
            covariance=protocol.covariance,
            max_videos=protocol.max_videos,
            batch_size=protocol.batch_size,
            settings=settings,
        ),
    )
