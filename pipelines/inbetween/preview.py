"""Held-out clips beside what a model puts between their ends, written when a training ends.

<run>/samples/real holds the real inner frames, <run>/samples/sample what the model makes of them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipelines.events import Work
from pipelines.inbetween.config import FamilyConfig
from pipelines.inbetween.data import ClipData
from pipelines.inbetween.networks import Inbetweener
from pipelines.inbetween.validation import evaluating
from pipelines.io.sample_writer import scene_names
from pipelines.io.two_images import write_inner_frames
from pipelines.training.generators import torch_generator

NUM_CLIPS, NUM_SAMPLES = 6, 2
_DEFAULT_FPS = 8.0


def to_bytes(frames: Tensor) -> np.ndarray:
    """Frames as they are stored. ... C H W in [-1, 1], C 1 or 3 -> uint8 ... H W 3."""
    levels = ((frames.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    colours = levels.movedim(-3, -1)
    return colours.expand(*colours.shape[:-1], 3).contiguous().cpu().numpy()


@torch.no_grad()
def write_samples(
    run_dir: Path, model: Inbetweener, data: ClipData, config: FamilyConfig, work: Work
) -> None:
    """Real clips on top, below what the model makes of their first and last frames."""
    clips = data.validation[:NUM_CLIPS]
    if not clips:
        return
    device = next(model.parameters()).device
    real = data.load(clips).to(device)
    generator = torch_generator(config.train.seed, "preview")
    made = []
    with evaluating(model):
        for _ in range(NUM_SAMPLES):
            noise = torch.randn((len(clips), config.network.noise_size), generator=generator)
            made.append(model(real[:, 0], real[:, -1], noise.to(device)))
    rows = [data.videos.rows[clip.row] for clip in clips]
    fps = (rows[0].fps or _DEFAULT_FPS) / config.frame_step
    scenes = scene_names([row.id for row in rows])
    write_inner_frames(run_dir / "samples" / "real", "real", scenes, [to_bytes(real)], fps=fps)
    folder = run_dir / "samples" / "sample"
    videos = [to_bytes(each) for each in made]
    write_inner_frames(folder, "sample", scenes, videos, fps=fps, real=to_bytes(real))
    work.artifact(folder / "grid.mp4", "grid")
    work.artifact(folder / "grid.png", "grid")
