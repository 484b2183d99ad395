"""Held-out clips beside what a stage makes of them, written at the end of its training.

<run>/samples/real holds the real clips, <run>/samples/<kind> what was made of them, with a grid to
look at; the image autoencoder leaves one picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipelines.cinn.encoder import sample_code
from pipelines.cinn.inference import Model, sample_video
from pipelines.cinn.networks import AutoencoderNetworks, Stage1Networks
from pipelines.cinn.validation import HeldOut, evaluating
from pipelines.clips.rules import Clip
from pipelines.events import Work
from pipelines.io.images import contact_sheet, write_png
from pipelines.io.sample_writer import SampleWriter, sample_writer, scene_names
from pipelines.training.generators import torch_generator

_NUM_CLIPS = 6
_NUM_SAMPLES = 2
_DEFAULT_FPS = 8.0


def to_bytes(frames: Tensor) -> np.ndarray:
    """Frames as they are stored. ... 3 H W in [-1, 1] -> uint8 ... H W 3."""
    levels = ((frames.detach().float() + 1) * 127.5).round().clamp(0, 255)
    return levels.to(torch.uint8).movedim(-3, -1).contiguous().cpu().numpy()


@torch.no_grad()
def write_reconstructions(
    run_dir: Path, networks: Stage1Networks, held_out: HeldOut, work: Work
) -> None:
    """Real clips and what stage 1 makes of their motion codes."""
    chosen = held_out.data.validation[:_NUM_CLIPS]
    if not chosen:
        return
    clips = held_out.load(chosen)
    with evaluating(vars(networks)):
        mean, log_variance = networks.encoder(clips[:, 1:])
        code = sample_code(mean, log_variance, _noise(mean.shape, held_out))
        videos = networks.decoder(clips[:, 0], code)
    _write_beside_real(run_dir, "reconstruction", videos.unsqueeze(1), chosen, held_out, work)


def write_samples(run_dir: Path, model: Model, held_out: HeldOut, work: Work) -> None:
    """Real clips and what the whole model makes of their start frames alone."""
    chosen = held_out.data.validation[:_NUM_CLIPS]
    if not chosen:
        return
    clips = held_out.load(chosen)
    code_size = model.decoder.from_code.in_features
    residual = _noise((len(chosen), _NUM_SAMPLES, code_size), held_out)
    endpoint = held_out.endpoints(chosen)
    num_frames = clips.shape[1] - 1
    videos = sample_video(model, clips[:, 0], residual, num_frames, endpoint=endpoint)
    _write_beside_real(run_dir, "sample", videos, chosen, held_out, work)


@torch.no_grad()
def write_images(
    run_dir: Path, networks: AutoencoderNetworks, held_out: HeldOut, work: Work
) -> None:
    """A picture of real start frames over their reconstructions."""
    chosen = held_out.data.validation[: 2 * _NUM_CLIPS]
    if not chosen:
        return
    images = held_out.load(chosen)[:, 0]
    with evaluating(vars(networks)):
        made = networks.decoder(networks.encoder.embed(images))
    path = run_dir / "samples" / "images" / "grid.png"
    rows = [list(to_bytes(images)), list(to_bytes(made))]
    write_png(path, contact_sheet(rows, ["real", "reconstructed"]))
    work.artifact(path, "grid")


def _write_beside_real(
    run_dir: Path, kind: str, videos: Tensor, chosen: Sequence[Clip], held_out: HeldOut, work: Work
) -> None:
    """samples/real and samples/<kind>. videos: B N T 3 S S, N for each held-out clip."""
    rows = [held_out.data.videos.rows[clip.row] for clip in chosen]
    scenes = scene_names([row.id for row in rows])
    groups = [row.id.split("/")[0] if "/" in row.id else None for row in rows]
    fps = rows[0].fps or _DEFAULT_FPS
    real, made = to_bytes(held_out.load(chosen)), to_bytes(videos)
    with sample_writer(run_dir / "samples" / "real", kind="real", fps=fps) as writer:
        for scene, group, frames in zip(scenes, groups, real, strict=True):
            writer.add(scene, frames[1:], start=frames[0], group=group)
        writer.finish({"about": "held-out clips"})
    folder = run_dir / "samples" / kind
    with sample_writer(folder, kind=kind, fps=fps) as writer:
        for scene, group, clip, frames in zip(scenes, groups, real, made, strict=True):
            for number, video in enumerate(frames):
                sample = number if len(frames) > 1 else None
                writer.add(scene, video, start=clip[0], group=group, sample=sample)
        _add_grid(writer, kind, scenes, real, made)
        writer.finish({"about": f"top row real, below {kind}"})
    work.artifact(folder / "grid.mp4", "grid")
    work.artifact(folder / "grid.png", "grid")


def _add_grid(
    writer: SampleWriter, kind: str, scenes: Sequence[str], real: np.ndarray, made: np.ndarray
) -> None:
    """The clips side by side, real ones on top; and some frames of each.

    real: B 1+T H W 3.  made: B N T H W 3.
    """
    sheet: list[tuple[str, np.ndarray]] = []
    for scene, clip, videos in zip(scenes, real, made, strict=True):
        sheet += [(scene, clip), *((kind, np.concatenate([clip[:1], each])) for each in videos)]
    rows = [list(real[:, 1:]), *(list(each) for each in made.swapaxes(0, 1))]
    writer.add_grid(rows, sheet)


def _noise(shape: Sequence[int], held_out: HeldOut) -> Tensor:
    generator = torch_generator(held_out.seed, "preview")
    return torch.randn(tuple(shape), generator=generator).to(held_out.device)
