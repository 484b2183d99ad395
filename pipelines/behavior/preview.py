"""Held-out takes beside what a stage makes of them, written at the end of its training.

<run>/samples/real holds what people did, <run>/samples/transfer (stage 1) what they did done from
another's posture, <run>/samples/sample (stage 2, or an MT-VAE) random futures of their postures.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pipelines.behavior.baseline import BaselineModel, load_model
from pipelines.behavior.data import PoseData
from pipelines.behavior.drawing import Look, draw_skeletons, look_at
from pipelines.behavior.inference import BehaviorModel
from pipelines.behavior.sample import Motion, write_motions
from pipelines.events import Work
from pipelines.io.sample_writer import SampleWriter, sample_writer
from pipelines.training.generators import torch_generator

_NUM_CLIPS, _NUM_SAMPLES, _SIZE_PX = 5, 5, 96
_DEFAULT_FPS = 25.0


def write_preview(run_dir: Path, data: PoseData, device: torch.device, work: Work) -> None:
    """Write what the trained run makes of some held-out clips."""
    arrays = data.held_out_clips(_NUM_CLIPS)
    if arrays is None:
        return
    model = load_model(run_dir, device, data_root=run_dir, warn=work.warning)
    clips = torch.from_numpy(arrays["poses"]).to(device)
    names = [data.action_names[n] if n >= 0 else "unknown" for n in arrays["action"]]
    scenes = [f"{number}-{name}" for number, name in enumerate(names)]
    sources = [Motion(scene, model.joints(clip)) for scene, clip in zip(scenes, clips, strict=True)]
    if isinstance(model, BehaviorModel) and model.flow is None:
        kind, made = "transfer", _transferred(model, clips, scenes)
    else:
        kind, made = "sample", _sampled(model, clips, scenes, data.seed)
    look = look_at([m.joints for row in (sources, *made) for m in row], view="front")
    fps = model.fps or _DEFAULT_FPS
    with sample_writer(run_dir / "samples" / "real", kind="real", fps=fps) as writer:
        write_motions(writer, sources, look, model, size_px=_SIZE_PX)
        writer.finish({"about": "held-out takes"})
    folder = run_dir / "samples" / kind
    with sample_writer(folder, kind=kind, fps=fps) as writer:
        for row in made:
            write_motions(writer, row, look, model, size_px=_SIZE_PX)
        _add_grid(writer, sources, made, look, is_transfer=kind == "transfer")
        writer.finish({"about": _ABOUT[kind]})
    work.artifact(folder / "grid.mp4", "grid")
    work.artifact(folder / "grid.png", "grid")


_ABOUT = {
    "transfer": "top row: what was done; a row for each posture it is done from, the first column",
    "sample": "a row for each take: the take, then random futures of its first posture",
}


def _transferred(
    model: BehaviorModel, clips: torch.Tensor, scenes: list[str]
) -> list[list[Motion]]:
    """For each posture, the behaviours of all clips."""
    codes = model.encode(clips)
    return [
        _motions(model, codes, target.expand(len(clips), -1, -1), scene)
        for scene, target in zip(scenes, clips, strict=True)
    ]


def _sampled(
    model: BehaviorModel | BaselineModel, clips: torch.Tensor, scenes: list[str], seed: int
) -> list[list[Motion]]:
    """For each posture, random behaviours."""
    shape = (len(clips), _NUM_SAMPLES, model.noise_size)
    noise = torch.randn(shape, generator=torch_generator(seed, "preview")).to(model.device)
    return [
        _motions(
            model, model.draw(drawn), target[: model.num_given].expand(_NUM_SAMPLES, -1, -1), scene
        )
        for scene, target, drawn in zip(scenes, clips, noise, strict=True)
    ]


def _motions(
    model: BehaviorModel | BaselineModel, codes: torch.Tensor, given: torch.Tensor, scene: str
) -> list[Motion]:
    """One of each code, as long as the takes beside them: those poses that are given, then made."""
    first = given[:, : model.num_given]
    num_frames = model.config.poses.num_frames + 1 - model.num_given
    poses = torch.cat([first, model.continued(codes, given, num_frames)], dim=1)
    return [Motion(scene, each, number) for number, each in enumerate(model.joints(poses))]


def _add_grid(
    writer: SampleWriter,
    sources: list[Motion],
    made: list[list[Motion]],
    look: Look,
    *,
    is_transfer: bool,
) -> None:
    def drawn(motion: Motion) -> np.ndarray:
        return draw_skeletons(look.places(motion.joints), _SIZE_PX)

    takes = [drawn(each) for each in sources]
    rows = [[drawn(each) for each in row] for row in made]
    if is_transfer:
        empty = np.full_like(takes[0], 255)
        stills = [np.broadcast_to(each[:1], each.shape) for each in takes]
        videos = [[empty, *takes]] + [[s, *row] for s, row in zip(stills, rows, strict=True)]
    else:
        videos = [[take, *row] for take, row in zip(takes, rows, strict=True)]
    sheet = [(m.scene, take) for m, take in zip(sources, takes, strict=True)]
    for row, frames in zip(made, rows, strict=True):
        sheet += [(f"{m.scene} {m.number}", f) for m, f in zip(row, frames, strict=True)][:2]
    writer.add_grid(videos, sheet)
