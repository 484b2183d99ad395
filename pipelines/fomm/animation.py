"""Videos that drive each other's first frames, pair after pair: the published animation mode."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.events import Work
from pipelines.fomm.config import AnimateRequest
from pipelines.fomm.inference import taken, to_bytes
from pipelines.fomm.keypoints import transfer_motion
from pipelines.fomm.pairs import drawn_pairs, listed_pairs
from pipelines.fomm.sample import FAMILY, Animator, load
from pipelines.io.images import read_image
from pipelines.io.sample_folders import SampleVideo, frame_paths, read_sample_folder
from pipelines.io.sample_writer import sample_writer, scene_names
from pipelines.io.video import probe, read_video
from pipelines.training.device import prepare_device

_DEFAULT_FPS = 10.0
_SHOWN = 8


def animate(request: AnimateRequest, work: Work) -> dict[str, Any]:
    """Write a video for each pair: the source's first frame, moved as the driving video moves."""
    animator = load(request.run_dir, prepare_device(request.device), warn=work.warning)
    videos = read_sample_folder(request.videos).videos
    names = [video.path.name for video in videos]
    pairs = (
        drawn_pairs(len(videos), request.num_pairs)
        if request.pairs is None
        else listed_pairs(request.pairs, names, request.num_pairs)
    )
    labels = scene_names([f"{videos[d].scene}-{videos[s].scene}" for d, s in pairs])
    shown: list[tuple[str, np.ndarray]] = []
    fps = _fps(videos[pairs[0][0]])
    with sample_writer(request.out_dir, kind="transfer", fps=fps) as writer:
        for done, (label, (driving, source)) in enumerate(zip(labels, pairs, strict=True), 1):
            start, real, made = _moved(animator, videos[driving], videos[source], request)
            facts = {"driving": names[driving], "source": names[source]}
            writer.add(label, made, start=start, facts=facts)
            if done <= _SHOWN:
                shown += [(names[driving], real), (label, made)]
            work.progress("animate", done, len(pairs), "pairs")
        length = min(len(video) for _, video in shown)
        videos_shown = [video[:length] for _, video in shown]
        writer.add_grid(list(zip(videos_shown[::2], videos_shown[1::2], strict=True)), shown)
        writer.finish(
            {
                "family": FAMILY,
                "run": str(request.run_dir),
                "checkpoints": {"model": animator.checkpoint},
                "videos_from": str(request.videos),
                "pairs_from": str(request.pairs) if request.pairs else "drawn, seed 0",
                "relative": request.relative,
                "adapt_scale": request.adapt_scale,
            }
        )
    grid = str(request.out_dir / "grid.mp4")
    return {"samples": str(request.out_dir), "grid": grid, "videos": len(pairs)}


def _moved(
    animator: Animator, driving: SampleVideo, source: SampleVideo, request: AnimateRequest
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The source's first frame, the driving frames and what is made of both: uint8 S S 3 each."""
    (first,) = _pictures(source, animator.size_px, 1)
    image = animator.source(animator.frames([first]))
    frames = animator.frames(_pictures(driving, animator.size_px, request.frames))
    found = animator.find(frames)
    moved = transfer_motion(
        image.keypoints,
        found,
        taken(found, slice(0, 1)),
        adapt_scale=request.adapt_scale and request.relative,
        relative_movement=request.relative,
        relative_jacobian=request.relative,
    )
    return to_bytes(image.image[0]), to_bytes(frames), animator.video(image, moved)


def _pictures(video: SampleVideo, size_px: int, limit: int | None) -> list[np.ndarray]:
    """The first frames of a video file or a folder of images, uint8 S S 3."""
    if video.path.is_dir():
        return [read_image(each, size_px=size_px) for each in frame_paths(video.path)[:limit]]
    return list(read_video(video.path, size_px=size_px, max_frames=limit))


def _fps(video: SampleVideo) -> float:
    if video.path.is_dir():
        return _DEFAULT_FPS
    return probe(video.path).fps or _DEFAULT_FPS
