"""Held-out clips beside what the model answers, written at the end of a training.

<run>/samples/real holds the real clips, <run>/samples/answer the answers to the same pokes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pipelines.events import Work
from pipelines.io.sample_writer import sample_writer, scene_names
from pipelines.poke.aim import Aim
from pipelines.poke.arrows import with_arrows
from pipelines.poke.inference import to_bytes
from pipelines.poke.networks import PokeModel, poke_strengths
from pipelines.poke.validation import HeldOut, evaluating

_NUM_CLIPS = 8
_DEFAULT_FPS = 8.0


@torch.no_grad()
def write_answers(run_dir: Path, model: PokeModel, held_out: HeldOut, work: Work) -> None:
    """Real clips, and the model's answers to their pokes, with an arrow on the first frame."""
    chosen = held_out.data.validation[:_NUM_CLIPS]
    if not chosen:
        return
    config, videos = held_out.config, held_out.data.videos
    batch, _ = next(held_out.batches(_NUM_CLIPS))
    strengths = poke_strengths(config.model.schedule, config.clips.num_frames)
    with evaluating(model):
        made = to_bytes(model(batch.frames[:, 0], batch.poke, strengths)[0])
    real = to_bytes(batch.frames)
    rows = [videos.rows[clip.row] for clip in chosen]
    scenes = scene_names([row.id for row in rows])
    fps = (rows[0].fps or _DEFAULT_FPS) / config.clips.frame_step
    aims = [aim_of(poke.cpu().numpy()) for poke in batch.poke]
    starts = [with_arrows(clip[0], [aim]) for clip, aim in zip(real, aims, strict=True)]
    arrives = config.flow_lag // config.clips.frame_step
    with sample_writer(run_dir / "samples" / "real", kind="real", fps=fps) as writer:
        for scene, clip in zip(scenes, real, strict=True):
            writer.add(scene, clip[1:], start=clip[0])
        writer.finish({"about": "held-out clips"})
    folder = run_dir / "samples" / "answer"
    with sample_writer(folder, kind="sample", fps=fps) as writer:
        sheet: list[tuple[str, np.ndarray]] = []
        for scene, clip, start, aim, answer in zip(scenes, real, starts, aims, made, strict=True):
            facts = {"pokes": [aim.facts()], "arrives": arrives}
            writer.add(scene, answer, start=clip[0], marked=start, facts=facts)
            sheet += [(f"{scene} real", clip), ("poked", np.concatenate([start[None], answer]))]
        writer.add_grid([list(real[:, 1:]), list(made)], sheet)
        writer.finish({"about": "top row real, below the answers to the same pokes"})
    work.artifact(folder / "grid.mp4", "grid")
    work.artifact(folder / "grid.png", "grid")


def aim_of(poke: np.ndarray) -> Aim:
    """The poke in a map with one patch, 2 S S; of length 0 in an empty map."""
    marked = np.argwhere(np.abs(poke).max(0) > 0)
    if not len(marked):
        middle = poke.shape[-1] // 2
        return Aim(middle, middle, 0.0, 0.0)
    row, column = marked.mean(0).round().astype(int)
    dx, dy = poke[:, marked[:, 0], marked[:, 1]].mean(1)
    return Aim(int(column), int(row), float(dx), float(dy))
