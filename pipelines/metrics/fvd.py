"""FVD with I3D in PyTorch (Unterthiner et al., 2018), in each published form."""

from __future__ import annotations

from pipelines.metrics.config import VideoProtocol
from pipelines.metrics.frechet_set import FrechetMetric, Rules
from pipelines.metrics.video_features import feature_name, torch_i3d

_WEIGHTS = {"i3d": "i3d", "i3d-logging": "i3d-torch"}


def build(protocol: VideoProtocol | None = None) -> FrechetMetric:
    """Without a protocol: all frames after the start frame of all videos, resized as published."""
    protocol = protocol or VideoProtocol()
    return FrechetMetric(
        "fvd",
        feature_name(protocol, f"fvd {protocol.network}"),
        torch_i3d(protocol, _WEIGHTS[protocol.network]),
        unit="clip",
        rules=rules(protocol),
    )


def rules(protocol: VideoProtocol) -> Rules:
    """What a video protocol settles beyond the features."""
    settings: dict[str, str | float | bool] = {
        "resized to 224 px by": f"{protocol.resize} bilinear",
        "start frame": protocol.start_frame,
        "values": "0..1" if protocol.network == "i3d-logging" else "-1..1",
    }
    if protocol.num_frames:
        settings["clip of"] = f"{protocol.num_frames} frames, every {protocol.stride}"
    if protocol.batch_size > 1:
        settings["in whole batches of"] = protocol.batch_size
    return Rules(
        covariance=protocol.covariance,
        max_videos=protocol.max_videos,
        batch_size=protocol.batch_size,
        settings=settings,
    )
