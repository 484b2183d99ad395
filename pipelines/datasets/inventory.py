"""What is to be prepared, before any of it is decoded: videos, sizes, fingerprints, disk use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.datasets.base import RawVideo, Rejected
from pipelines.datasets.config import ExtractRequest
from pipelines.datasets.protocols import dataset_module, follow
from pipelines.datasets.raw_frames import image_paths, open_arrays
from pipelines.events import UserError, Work
from pipelines.files import fingerprint
from pipelines.io.images import image_size
from pipelines.io.video import probe

MANY = 1000
"""Videos of which the files take long enough to look at for a progress bar."""

SAMPLE = 16
"""Videos that are looked at to estimate the frames of all."""


@dataclass(frozen=True)
class Inventory:
    """The content of a raw folder.

    sizes: bytes of each video.  num_images: images of each folder of frames, 1 for a single image,
    else 0.
    manifest: hash of all paths and sizes.  state: the same with times of change, which notices any
    rewritten file.
    """

    raw: Path
    videos: Sequence[RawVideo]
    rejected: Sequence[Rejected]
    sizes: Sequence[int]
    num_images: Sequence[int]
    manifest: str
    state: str

    def source(self, path: Path | str) -> str:
        """A path as it is written down: relative to the raw folder."""
        path = Path(path)
        if path == self.raw:
            return path.name
        base = self.raw.parent if self.raw.is_file() else self.raw
        return path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path)


def take_inventory(raw: Path, kind: str, work: Work, *, protocol: str | None = None) -> Inventory:
    """List a raw folder the way the dataset module `kind` reads it.

    protocol: the published rule that says which videos count and for what.
    Raises UserError as the module's layout and protocols.follow do.
    """
    found = list(follow(dataset_module(kind).layout(raw), kind, protocol))
    videos = [each for each in found if isinstance(each, RawVideo)]
    sizes, num_images, marks = [], [], []
    for number, video in enumerate(videos, 1):
        files = image_paths(video.path) if video.kind == "frames" else [video.path]
        statuses = [path.stat() for path in files]
        whole = sum(status.st_size for status in statuses)
        sizes.append(video.clip.num_bytes if video.clip else whole)
        num_images.append(len(files) if video.kind in ("frames", "image") else 0)
        named = [(path.name, status.st_size) for path, status in zip(files, statuses, strict=True)]
        part = (
            *(video.first_frame, video.num_frames, video.clock_fps, video.time_parts),
            *(video.clip.first_byte if video.clip else 0, str(video.crop)),
        )
        facts = (video.id, video.kind, video.split, video.group, dict(video.labels), part)
        beside = [path.stat() for path in (video.tracks.files if video.tracks else ())]
        named += [("beside", status.st_size) for status in beside]
        times = [status.st_mtime_ns for status in (*statuses, *beside)]
        marks.append((fingerprint((facts, named)), fingerprint(times)))
        if len(videos) >= MANY:
            work.progress("look at files", number, len(videos), "videos")
    rejected = [each for each in found if isinstance(each, Rejected)]
    return Inventory(
        raw=raw,
        videos=videos,
        rejected=rejected,
        sizes=sizes,
        num_images=num_images,
        manifest=fingerprint([mark[0] for mark in marks]),
        state=fingerprint(marks),
    )


def estimate_bytes(inventory: Inventory, request: ExtractRequest) -> int:
    """Disk space that the prepared frames will take, from a sample of the videos."""
    places = range(len(inventory.videos))
    counted = [place for place in places if inventory.num_images[place]]
    others = [place for place in places if not inventory.num_images[place]]
    frames = float(sum(inventory.num_images[place] for place in counted)) / request.stride
    if others:
        sample = np.unique(np.linspace(0, len(others) - 1, SAMPLE).round().astype(int))
        chosen = [others[number] for number in sample]
        known = sum(_estimate_frames(inventory.videos[place], request) for place in chosen)
        share = sum(inventory.sizes[place] for place in chosen)
        frames += known * sum(inventory.sizes[place] for place in others) / max(1, share)
    return round(frames * request.size_px**2 * request.channels)


def _estimate_frames(video: RawVideo, request: ExtractRequest) -> float:
    """Prepared frames of a video as far as its header tells; truth arrays count as frames."""
    try:
        if video.kind == "array":
            clip = open_arrays(video)
            num_flows = sum(name.startswith("flow_") for name in clip.names)
            count = clip.shape[0] * (1 + num_flows * 4 / 3)
        elif video.kind == "strip":
            width, height = image_size(video.path)
            count = width / height
        else:
            info = probe(video.path)
            count = (info.duration_s or 0) * (request.fps or info.fps or 0)
    except UserError:
        return 0.0  # it will be rejected when its turn comes
    return count / request.stride
