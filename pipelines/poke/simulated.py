"""A model against the simulator of generated plants: numbers, and pictures for the run's report.

The plants are ones that no training has seen, at the model's own size and clip length. Pictures go
to <run>/samples/simulator (an arrow, the truth, the answer) and <run>/samples/control (one leaf,
poked eight ways).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

from pipelines.events import UserError, Work
from pipelines.io.sample_writer import sample_writer
from pipelines.poke.aim import Aim
from pipelines.poke.arrows import with_arrows
from pipelines.poke.following import Answer, Seen, Trial, plant_trials, summary, sweep
from pipelines.poke.sample import Sampler, load

LENGTHS_PX = (2.0, 4.0, 8.0, 16.0)
"""Of the pokes that tell whether their length counts, at 64 x 64; longer on larger images."""

NUM_DIRECTIONS = 8
_NUM_SHOWN, _NUM_SWEPT, _PER_LENGTH, _FPS = 8, 4, 16, 5.0
_SHOWN_PX = 128
_APART_PX = 1.0  # true answers nearer to each other say nothing of control


@dataclass(frozen=True)
class Simulated:
    """summary: see following.summary.  lengths: end-point errors of pokes of a length, and of a
    video that does not move.  control: how far apart answers to two pokes of one leaf are, over how
    far apart the simulator's are; 1 is right, 0 is a model that does not listen.
    """

    summary: dict[str, float]
    lengths: dict[float, tuple[float, float]]
    control: float | None
    num_trials: int
    num_frames: int
    size_px: int


def simulated(run_dir: Path, *, num_trials: int, device: torch.device, work: Work) -> Simulated:
    """Poke unseen plants, compare with their simulator, write pictures into the run."""
    sampler = load(run_dir, device, warn=work.warning)
    lengths = tuple(each * sampler.size_px / 64 for each in LENGTHS_PX)
    per_length = min(num_trials, _PER_LENGTH)
    done, total = 0, num_trials + len(lengths) * per_length
    trials: dict[float | None, list[Trial]] = {}
    for length in (None, *lengths):
        trials[length] = []
        count = num_trials if length is None else per_length
        for trial in trials_of(sampler, count, length_px=length):
            trials[length].append(trial)
            done += 1
            work.progress("poke plants", done, total, "pokes")
    if not all(trials.values()):
        raise UserError(
            "no generated plant's answer can be judged at this size and clip length",
            {"model": f"{sampler.size_px} px, {sampler.config.flow_lag} frames"},
        )
    plain = trials[None]
    swept = [trial.seen for trial in plain[:_NUM_SWEPT]]
    sweeps = [sweep(_answer_of(sampler), seen, NUM_DIRECTIONS) for seen in swept]
    control = [each for found in sweeps for each in _control(found)]
    _write_trials(run_dir / "samples" / "simulator", plain[:_NUM_SHOWN])
    _write_sweep(run_dir / "samples" / "control", max(sweeps, key=_length))
    return Simulated(
        summary(plain),
        {each: errors(trials[each]) for each in lengths},
        fmean(control) if control else None,
        len(plain),
        len(plain[0].seen.real),
        sampler.size_px,
    )


def trials_of(sampler: Sampler, count: int, *, length_px: float | None = None) -> Iterator[Trial]:
    """Pokes of unseen plants, answered by a model and by their simulator."""
    config = sampler.config
    return plant_trials(
        _answer_of(sampler),
        count=count,
        lag=config.flow_lag,
        frame_step=config.clips.frame_step,
        size_px=sampler.size_px,
        length_px=length_px,
    )


def _answer_of(sampler: Sampler) -> Answer:
    num_frames = sampler.config.flow_lag // sampler.config.clips.frame_step
    return lambda picture, aims: sampler.answer(picture, aims, num_frames)


def errors(trials: Sequence[Trial]) -> tuple[float, float]:
    """Mean end-point errors, px: of the answers, and of a video that does not move."""
    found = summary(trials)
    return found["end_point_error"], found["still_end_point_error"]


def _control(trials: Sequence[Trial]) -> list[float]:
    pairs = [
        (one, other)
        for one, other in combinations(trials, 2)
        if math.dist(one.true, other.true) > _APART_PX
    ]
    return [math.dist(a.made, b.made) / math.dist(a.true, b.true) for a, b in pairs]


def _length(trials: Sequence[Trial]) -> float:
    return trials[0].seen.aim.length if trials else 0.0


def _write_trials(folder: Path, trials: Sequence[Trial]) -> None:
    """A grid: for each poke the truth, and below it the answer, both after the poked picture."""
    rows, columns = [], []
    for number, trial in enumerate(trials, 1):
        real, made = (_poked(trial.seen, video) for video in (trial.seen.real, trial.seen.made))
        rows += [(f"plant {number} truth", real), ("answer", made)]
        columns.append((real, made))
    _write_grid(folder, [list(each) for each in zip(*columns, strict=True)], rows)


def _write_sweep(folder: Path, trials: Sequence[Trial]) -> None:
    """A grid: one leaf poked in several directions, the answer and beside it the truth."""
    rows = []
    for trial in trials:
        aim, pair = trial.seen.aim, (trial.seen.made, trial.seen.real)
        beside = np.concatenate([_poked(trial.seen, video) for video in pair], axis=2)
        rows.append((f"{round(aim.dx):+d}, {round(aim.dy):+d} px: answer, truth", beside))
    _write_grid(folder, [[video for _, video in rows]], rows)


def _poked(seen: Seen, video: np.ndarray) -> np.ndarray:
    """The start with its arrow, then a video; small ones enlarged."""
    aim, times = seen.aim, max(1, _SHOWN_PX // len(seen.start))
    frames = np.concatenate([seen.start[None], video])
    frames = frames.repeat(times, axis=1).repeat(times, axis=2)
    column, row = (times * each + times // 2 for each in (aim.column, aim.row))
    frames[0] = with_arrows(frames[0], [Aim(column, row, times * aim.dx, times * aim.dy)])
    return frames


def _write_grid(
    folder: Path, rows: list[list[np.ndarray]], sheet: list[tuple[str, np.ndarray]]
) -> None:
    with sample_writer(folder, kind="sample", fps=_FPS) as writer:
        writer.add_grid(rows, sheet)
        writer.finish({"about": "pictures of the metric poke-simulator"})
