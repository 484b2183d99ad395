"""The two images that a video is made between, and the folder of the videos that come of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.events import EXIT_USAGE, UserError, Work
from pipelines.files import sha256
from pipelines.io.images import fit_image, read_image
from pipelines.io.sample_writer import SampleWriter, sample_writer, scene_names, still


@dataclass(frozen=True)
class Ends:
    """First and last frame, uint8 S S 3, and where they are from."""

    start: np.ndarray
    end: np.ndarray
    start_path: Path
    end_path: Path

    @property
    def scene(self) -> str:
        """A name for what is between them."""
        return scene_names([f"{self.start_path.stem}-to-{self.end_path.stem}"])[0]

    def facts(self) -> dict[str, Any]:
        """What meta.json says of them."""
        return {
            name: {"path": str(path), "sha256": sha256(path)}
            for name, path in (("start", self.start_path), ("end", self.end_path))
        }


def read_ends(start_path: Path, end_path: Path, *, size_px: int, is_grey: bool, work: Work) -> Ends:
    """Both images as a model sees them: squares of its size.

    Raises UserError when one cannot be read or their sizes differ. A picture that is grey where the
    model is not, or the other way round, is told of.
    """
    start, end = read_image(start_path), read_image(end_path)
    if start.shape != end.shape:
        raise UserError(
            f"start and end have different sizes: {_size(start)} and {_size(end)} px",
            {
                "start": start_path,
                "end": end_path,
                "to fix": "crop both to the same part of the scene, and to one size",
            },
            EXIT_USAGE,
        )
    for path, image in ((start_path, start), (end_path, end)):
        _announce(path, image, size_px=size_px, is_grey=is_grey, work=work)
    fitted = [_fitted(image, size_px, is_grey) for image in (start, end)]
    return Ends(fitted[0], fitted[1], start_path, end_path)


def write_videos(
    out_dir: Path,
    ends: Ends,
    videos: Iterable[np.ndarray],
    *,
    fps: float,
    meta: Mapping[str, Any],
    work: Work,
) -> dict[str, Any]:
    """Write videos, uint8 T S S 3 from start to end: mp4, gif, grids and meta.json."""
    scene, kept = ends.scene, []
    with sample_writer(out_dir, kind="sample", fps=fps) as writer:
        for number, video in enumerate(videos):
            writer.add(scene, video, sample=number, start=ends.start)
            kept.append(video)
        num_frames = len(kept[0])
        row = [still(ends.start, num_frames), *kept, still(ends.end, num_frames)]
        sheet = [(f"{scene} {number}", video) for number, video in enumerate(kept)]
        writer.add_grid([row], sheet)
        writer.finish({**meta, "includes_start_frame": True, "images": ends.facts()})
    for name in ("grid.mp4", "grid.png"):
        work.artifact(out_dir / name, "grid")
    return {"samples": str(out_dir), "grid": str(out_dir / "grid.mp4"), "videos": len(kept)}


def write_inner_frames(
    folder: Path,
    kind: str,
    scenes: list[str],
    samples: list[np.ndarray],
    *,
    fps: float,
    real: np.ndarray | None = None,
    caption: str | None = None,
) -> None:
    """The inner frames of videos, uint8 B 16 S S 3, several samples of each scene.

    Metrics are of what was made: neither the start nor the end, which are given, is in a video.
    real: shown above them in the grid.  caption: what a page calls these videos.
    """
    with sample_writer(folder, kind=kind, fps=fps) as writer:
        for number, videos in enumerate(samples):
            sample = number if len(samples) > 1 else None
            for scene, video in zip(scenes, videos, strict=True):
                writer.add(scene, video[1:-1], sample=sample, start=video[0])
        if real is not None:
            _add_comparison(writer, scenes, [real, *samples])
        meta = {"about": "frames between a first and a last one"}
        writer.finish(meta | ({"caption": caption} if caption else {}))


def is_grey_image(image: np.ndarray) -> bool:
    """Whether all channels of uint8 H W 3 say the same."""
    return bool((image[..., :1] == image).all())


def _announce(path: Path, image: np.ndarray, *, size_px: int, is_grey: bool, work: Work) -> None:
    height, width = image.shape[:2]
    if (height, width) != (size_px, size_px):
        note = "" if height == width else ", aspect ratio not kept"
        work.log(f"{path.name}: {_size(image)} px, resized to {size_px} x {size_px}{note}")
    if is_grey and not is_grey_image(image):
        work.warning(f"{path.name} is in colour, the model is grey: its colours are left out")
    if not is_grey and is_grey_image(image):
        work.warning(f"{path.name} is grey, the model was trained in colour: expect less of it")


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"


def _fitted(image: np.ndarray, size_px: int, is_grey: bool) -> np.ndarray:
    picture = fit_image(Image.fromarray(image), size_px, fit="squash")
    if is_grey:
        picture = picture.convert("L").convert("RGB")
    return np.asarray(picture)


def _add_comparison(writer: SampleWriter, scenes: list[str], versions: list[np.ndarray]) -> None:
    """versions: the real videos, then each sample of them."""
    labels = ["real", *(f"sample {number}" for number in range(1, len(versions)))]
    sheet = [
        (f"{scene} {label}" if label == "real" else label, version[number])
        for number, scene in enumerate(scenes)
        for label, version in zip(labels, versions, strict=True)
    ]
    writer.add_grid([list(version) for version in versions], sheet)
