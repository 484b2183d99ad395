"""Small prepared variants whose motion is known, for tests of flow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipelines.io.packing import PackWriter, encode_flow


def drifting(
    num_frames: int, *, size_px: int = 32, step: tuple[int, int] = (2, 1), seed: int = 0
) -> np.ndarray:
    """A smooth texture that drifts by `step` pixels (x, y) per frame and wraps around."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.standard_normal((size_px, size_px)))
    rows, columns = np.fft.fftfreq(size_px)[:, None], np.fft.rfftfreq(size_px)[None]
    smooth = np.fft.irfft2(spectrum * np.exp(-80 * (rows**2 + columns**2)), (size_px, size_px))
    levels = 127 + 100 * smooth / np.abs(smooth).max()
    colours = np.stack([levels, np.flipud(levels), levels], axis=-1).round().astype(np.uint8)
    shifts = ((step[1] * t, step[0] * t) for t in range(num_frames))
    return np.stack([np.roll(colours, shift, axis=(0, 1)) for shift in shifts])


def make_variant(
    data_root: Path,
    videos: Mapping[str, np.ndarray],
    *,
    name: str = "toy",
    variant: str | None = None,
    kind: str = "custom",
    stride: int = 1,
    truth: Mapping[str, Mapping[int, np.ndarray]] | None = None,
) -> Path:
    """A prepared variant with these frames (uint8 [T H W C]); returns its folder.

    truth: video -> lag -> float [n 2 H W] pixels.
    """
    size_px, channels = next(iter(videos.values())).shape[2:]
    folder = data_root / name / "prepared" / (variant or f"{size_px}px")
    with PackWriter(folder, size_px=size_px, channels=channels) as writer:
        for video_id, frames in videos.items():
            row = {"id": video_id, "source": f"{video_id}.mp4", "group": video_id}
            row |= {"split": "train", "fps": 25.0, "original_size": [64, 48], "labels": {}}
            flow = {
                lag: encode_flow(values)
                for lag, values in (truth or {}).get(video_id, {}).items()
                if len(values)
            }
            writer.commit({"rows": [writer.add(row, frames, flow=flow)]})
        facts = {"dataset": name, "variant": folder.name, "kind": kind, "stride": stride}
        facts |= {"fit": "squash", "filter": "none"}
        writer.finish([row for entry in writer.entries for row in entry["rows"]], facts)
    (folder / "journal.jsonl").unlink()
    (folder / "rejected.jsonl").touch()
    return folder
