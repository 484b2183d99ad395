"""Several ways to fill the same held-out clips, in folders side by side: real, cross-fade, runs.

The folder that is written looks like a run, so that `i2v eval` measures each of its folders of
videos and `i2v report` shows them all on one page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from pipelines.clips.batches import load_clips
from pipelines.clips.held_out import fixed_clips
from pipelines.clips.training_data import open_videos
from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError, Work
from pipelines.files import safe_name, write_json, write_text
from pipelines.inbetween import sample as inbetween
from pipelines.inbetween.config import NUM_FRAMES
from pipelines.io.packed import PackedVideos
from pipelines.io.sample_writer import scene_names
from pipelines.io.two_images import write_inner_frames
from pipelines.motion import sample as motion
from pipelines.motion.config import CompareRequest
from pipelines.schema import DataConfig
from pipelines.training.device import prepare_device
from pipelines.training.run_folder import CONFIG_NAME, RUN_NAME, VERSION, load_run

_DEFAULT_FPS = 8.0
_DRAWS_APART = 1000  # numbers of draws between one clip's and the next one's

Fill = Callable[[np.ndarray, int], np.ndarray]
"""(a clip, uint8 T S S 3, number of a draw) -> the video between its ends, T S S 3."""


@dataclass(frozen=True)
class Filler:
    """A run that can fill clips. span: frames of a clip, and stored frames between two of them."""

    name: str
    data: DataConfig
    span: tuple[int, int]
    size_px: int
    draws_noise: bool
    fill: Fill


def compare(request: CompareRequest, work: Work) -> dict[str, Any]:
    """Write samples/{real,crossfade,<run>...} of the same clips; returns the folders' names."""
    device = prepare_device(request.device)
    fillers = [_filler(path, request.seed, device, work) for path in request.runs]
    _require_alike(fillers)
    first = fillers[0]
    videos = open_videos(request.data_root, first.data, sizes_px=(first.size_px,))
    scenes, fps, real = _clips(videos, first, request)
    samples_dir = request.out_dir / "samples"
    write_inner_frames(samples_dir / "real", "real", scenes, [real], fps=fps)
    made = {"crossfade": [np.stack([crossfade(clip) for clip in real])]}
    total = len(fillers) * len(real)
    for done, filler in enumerate(fillers):
        num = request.num if filler.draws_noise else 1
        made[filler.name] = _filled(filler, real, num, work, done * len(real), total)
    for name, samples in made.items():
        write_inner_frames(
            samples_dir / name, "sample", scenes, samples, fps=fps, real=real, caption=name
        )
        work.artifact(samples_dir / name / "grid.png", "grid")
    write_text(request.out_dir / CONFIG_NAME, yaml.safe_dump(request.model_dump(mode="json")))
    about = {"family": "motion", "stage": "comparison", "version": VERSION, "status": "done"}
    write_json(request.out_dir / RUN_NAME, about)
    return {"run": str(request.out_dir), "folders": list(made), "clips": len(real)}


def crossfade(clip: np.ndarray) -> np.ndarray:
    """Both ends of a clip mixed, uint8 T S S 3."""
    share = np.linspace(0, 1, len(clip))[:, None, None, None]
    return (clip[:1] * (1 - share) + clip[-1:] * share).round().astype(np.uint8)


def _filler(path: Path, seed: int, device: torch.device, work: Work) -> Filler:
    family = load_run(path).family
    if family == inbetween.FAMILY:
        return _inbetween_filler(path, seed, device, work)
    sampler = motion.load(path, device, warn=work.warning)

    def fill(clip: np.ndarray, number: int) -> np.ndarray:
        return sampler.between(clip[0], clip[-1], sampler.noise(seed, number, len(clip)))

    config = sampler.config
    return Filler(
        safe_name(path.name),
        config.data,
        (config.num_frames, config.frame_step),
        sampler.animator.size_px,
        sampler.model.draws_noise,
        fill,
    )


def _inbetween_filler(path: Path, seed: int, device: torch.device, work: Work) -> Filler:
    sampler = inbetween.load(path, device, warn=work.warning)

    def fill(clip: np.ndarray, number: int) -> np.ndarray:
        return sampler.between(clip[0], clip[-1], sampler.noise(seed, number))

    config = sampler.config
    span = (NUM_FRAMES, config.frame_step)
    return Filler(safe_name(path.name), config.data, span, config.size_px, True, fill)


def _require_alike(fillers: Sequence[Filler]) -> None:
    """Raise UserError when runs were trained on other data, or have one name."""
    first = fillers[0]
    for other in fillers[1:]:
        pairs = {
            "dataset": (first.data.dataset, other.data.dataset),
            "frames, step": (first.span, other.span),
            "size": (first.size_px, other.size_px),
        }
        different = {name: f"{a}, {b}" for name, (a, b) in pairs.items() if a != b}
        if different:
            raise UserError(
                f"'{first.name}' and '{other.name}' do not fill the same clips",
                {**different, "to fix": "give runs that were trained on the same clips"},
                EXIT_USAGE,
            )
    names = [each.name for each in fillers]
    if len({*names, "real", "crossfade"}) < len(names) + 2:
        raise UserError(
            "two of the runs have one name",
            {"names": ", ".join(names), "to fix": "rename one of the folders"},
            EXIT_USAGE,
        )


def _clips(
    videos: PackedVideos, filler: Filler, request: CompareRequest
) -> tuple[list[str], float, np.ndarray]:
    """Names of the clips, their frames per second, and they themselves: uint8 B T S S 3."""
    num_frames, step = filler.span
    span = (num_frames - 1) * step + 1
    rows = videos.select(request.split, filler.data.include, span)
    if not rows:
        raise UserError(
            f"no videos of split '{request.split}' are long enough",
            {"looked in": videos.dir, "to fix": "give another --split"},
            EXIT_NO_DATA,
        )
    lengths = [int(videos.num_frames[row]) for row in rows]
    clips = fixed_clips(rows, lengths, num_frames=span, limit=request.clips)
    clips = [clip._replace(step=step) for clip in clips]
    stored = load_clips(videos, clips, num_frames)
    fps = (videos.rows[clips[0].row].fps or _DEFAULT_FPS) / step
    scenes = scene_names([videos.ids[clip.row] for clip in clips])
    return scenes, fps, np.broadcast_to(stored, (*stored.shape[:-1], 3))


def _filled(
    filler: Filler, real: np.ndarray, num: int, work: Work, done: int, total: int
) -> list[np.ndarray]:
    """What a run makes of every clip, `num` times: each uint8 B T S S 3."""
    samples: list[list[np.ndarray]] = [[] for _ in range(num)]
    for number, clip in enumerate(real):
        for draw, videos in enumerate(samples):
            videos.append(filler.fill(clip, number * _DRAWS_APART + draw))
        work.progress("fill clips", done + number + 1, total, "clips")
    return [np.stack(videos) for videos in samples]
