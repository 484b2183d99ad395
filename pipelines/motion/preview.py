"""Held-out clips beside what a motion model and its fomm make between their ends.

Written when a training ends: <run>/samples/real holds the real inner frames, <run>/samples/sample
what the model makes of them. All frames of a folder are made: neither end is in a video.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pipelines.clips.batches import load_clips
from pipelines.clips.held_out import fixed_clips
from pipelines.events import Work
from pipelines.fomm import sample as fomm
from pipelines.io.packed import PackedVideos
from pipelines.io.sample_writer import scene_names
from pipelines.io.two_images import write_inner_frames
from pipelines.motion.data import MotionData
from pipelines.motion.models import MotionModel
from pipelines.motion.sample import rendered, taken
from pipelines.motion.vectors import to_vectors
from pipelines.training.generators import torch_generator

NUM_CLIPS, NUM_SAMPLES = 6, 2
_DEFAULT_FPS = 8.0


@torch.no_grad()
def write_samples(
    run_dir: Path,
    model: MotionModel,
    data: MotionData,
    animator: fomm.Animator,
    videos: PackedVideos,
    work: Work,
) -> None:
    """Real clips on top, below what is rendered between their first and last frames."""
    config = model.config
    span = (config.num_frames - 1) * config.frame_step + 1
    rows = videos.select("val", config.data.include, span)
    if not rows:
        return
    lengths = [int(videos.num_frames[row]) for row in rows]
    clips = fixed_clips(rows, lengths, num_frames=span, limit=NUM_CLIPS)
    clips = [clip._replace(step=config.frame_step) for clip in clips]
    stored = load_clips(videos, clips, config.num_frames)
    real = np.broadcast_to(stored, (*stored.shape[:-1], 3))
    generator = torch_generator(config.train.seed, "preview")
    num = NUM_SAMPLES if model.draws_noise else 1
    made = [
        np.stack([_made(model, data, animator, clip, generator) for clip in real])
        for _ in range(num)
    ]
    scenes = scene_names([videos.ids[clip.row] for clip in clips])
    fps = (videos.rows[clips[0].row].fps or _DEFAULT_FPS) / config.frame_step
    write_inner_frames(run_dir / "samples" / "real", "real", scenes, [real], fps=fps)
    folder = run_dir / "samples" / "sample"
    write_inner_frames(folder, "sample", scenes, made, fps=fps, real=real)
    work.artifact(folder / "grid.mp4", "grid")
    work.artifact(folder / "grid.png", "grid")


def _made(
    model: MotionModel,
    data: MotionData,
    animator: fomm.Animator,
    clip: np.ndarray,
    generator: torch.Generator,
) -> np.ndarray:
    """The video between the ends of a clip: uint8 T S S 3."""
    ends = animator.frames(clip[[0, -1]])
    found = animator.find(ends)
    first, last = to_vectors(found, data.limits)[:, None].unbind(0)
    noise = model.noise(1, len(clip), generator).to(ends)
    motion = model.between(first, last, noise)[0]
    return rendered(animator, ends[:1], taken(found, 0), data.limits, motion, clip[0], clip[-1])
