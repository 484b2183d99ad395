"""Held-out clips beside what the model makes of them, written at the end of a training.

<run>/samples/real holds the real clips, <run>/samples/reconstruction what was made of their first
frames, with keypoints and occlusion in a video beside them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pipelines.events import Work
from pipelines.fomm.inference import encode, find_keypoints, render, to_bytes
from pipelines.fomm.networks import Networks
from pipelines.fomm.sample import VISUAL_NAME
from pipelines.fomm.validation import HeldOut, evaluating, spread
from pipelines.fomm.visualisation import visualised
from pipelines.io.sample_writer import sample_writer, scene_names
from pipelines.io.video import write_mp4

_NUM_CLIPS = 6
_DEFAULT_FPS = 8.0


@torch.no_grad()
def write_reconstructions(run_dir: Path, networks: Networks, held_out: HeldOut, work: Work) -> None:
    """Real clips, and each made again from its first frame; a video of what the model saw."""
    chosen = spread(held_out.data.validation, _NUM_CLIPS)
    if not chosen:
        return
    rows = [held_out.data.videos.rows[clip.row] for clip in chosen]
    scenes, fps = scene_names([row.id for row in rows]), rows[0].fps or _DEFAULT_FPS
    real, made, drawn = [], [], []
    with evaluating(vars(networks)):
        for clip in chosen:
            frames = held_out.load(clip)
            keypoints = find_keypoints(networks.keypoint_detector, frames, batch_size=len(frames))
            first = keypoints.map(lambda each: each[:1])
            source = encode(networks.generator, frames[:1], first)
            (each,) = render(networks.generator, source, keypoints, batch_size=len(frames))
            pictures = to_bytes(frames)
            real.append(pictures)
            made.append(to_bytes(each.frames))
            drawn.append(
                visualised(
                    source=pictures[0],
                    source_keypoints=first.value,
                    driving=pictures,
                    driving_keypoints=keypoints.value,
                    moved_keypoints=keypoints.value,
                    made=each,
                )
            )
    with sample_writer(run_dir / "samples" / "real", kind="real", fps=fps) as writer:
        for scene, frames in zip(scenes, real, strict=True):
            writer.add(scene, frames[1:], start=frames[0])
        writer.finish({"about": "held-out clips"})
    folder = run_dir / "samples" / "reconstruction"
    with sample_writer(folder, kind="reconstruction", fps=fps) as writer:
        sheet: list[tuple[str, np.ndarray]] = []
        for scene, frames, fake in zip(scenes, real, made, strict=True):
            writer.add(scene, fake[1:], start=frames[0])
            sheet += [(scene, frames), ("reconstruction", fake)]
        writer.add_grid([[each[1:] for each in real], [each[1:] for each in made]], sheet)
        write_mp4(writer.folder / VISUAL_NAME, np.concatenate(drawn), fps)
        writer.finish({"about": "top row real, below made from the first frame"})
    for name in ("grid.mp4", "grid.png"):
        work.artifact(folder / name, "grid")
