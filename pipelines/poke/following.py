"""How well pokes are followed, where the truth is known: generated scenes answer any poke.

The model is shown the first frame of an unseen scene and a poke; the scene's simulator is given the
same poke. Where the poked leaf has gone in the model's answer is found by following its picture
(template.py). Leaves look alike, so that this errs on about every tenth true answer; a trial counts
only if it finds the truth in the simulator's own answer, whatever the model made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

import numpy as np

from pipelines.datasets.generate.plant import FIRST_LEAF
from pipelines.datasets.synthetic import FIRST_INDEX, generate, simulate
from pipelines.poke.aim import Aim
from pipelines.poke.template import follow

Answer = Callable[[np.ndarray, Sequence[Aim]], np.ndarray]
"""(picture uint8 S S 3, pokes) -> video uint8 T S S 3, whose last frame lies `lag` frames later."""

_MOVING_PX = 2.0  # a true answer shorter than that has no direction worth comparing
_FOUND_PX = 1.5  # how near the measure must come to the truth in the simulator's answer
_PATCH_PX, _STEP_PX, _REACH_PX = 4, 8, 4  # of the places at which the background is looked at
_SCENES_PER_TRIAL = 20  # looked at before giving up
_NEARNESS = 5.0  # squared grey levels that a place one pixel farther must fit better by


@dataclass(frozen=True)
class Scene:
    """A generated plant. lag, frame_step, in frames: see plant_trials.

    least_px: what a poked leaf must truly move, to be judged.
    """

    index: int
    seed: int
    size_px: int
    lag: int
    frame_step: int
    least_px: float


@dataclass(frozen=True)
class Seen:
    """What a trial was judged by. start: uint8 S S 3.  real, made: uint8 T S S 3."""

    scene: Scene
    start: np.ndarray
    aim: Aim
    real: np.ndarray
    made: np.ndarray


@dataclass(frozen=True)
class Trial:
    """One poke of one scene. All vectors in pixels, x then y.

    wanted: what the poke says.  true: how the poked pixel moves in the simulator's answer.
    made: in the model's.  opposite: in the model's answer to the opposite poke.
    background: mean length of the motion of pixels that stay where they are in truth.
    unpoked: in the answer to no poke.
    gain_db: PSNR of the answer minus that of a still video, on the poked leaf's region.
    """

    wanted: tuple[float, float]
    true: tuple[float, float]
    made: tuple[float, float]
    opposite: tuple[float, float]
    unpoked: tuple[float, float]
    background: float
    gain_db: float
    psnr_db: float
    seen: Seen = field(repr=False)

    @property
    def cosine(self) -> float:
        """Between the made and the true motion of the poked pixel; 0 where nothing moved."""
        return _cosine(self.made, self.true)


def plant_trials(
    answer: Answer,
    *,
    count: int,
    lag: int,
    frame_step: int,
    size_px: int = 64,
    length_px: float | None = None,
    seed: int = 0,
) -> Iterator[Trial]:
    """Pokes of unseen generated plants that were answered by their simulator.

    count: trials.  lag: frames from the first to the last one of the answer.  frame_step: between
    two of its frames.  length_px: of the pokes; as each plant was poked when not given.
    Scenes are passed over whose poked leaf hardly moves (under 2 px, or half of a shorter poke), is
    hidden at the end, is poked outside the frame, or is not found again in the simulator's own
    answer. Ends with fewer trials where too few scenes can be judged.
    """
    least_px = _MOVING_PX if length_px is None else min(_MOVING_PX, length_px / 2)
    found, first = 0, FIRST_INDEX["test"]
    for index in range(first, first + _SCENES_PER_TRIAL * count):
        if found == count:
            return
        clip = generate("plant", index, seed=seed, size_px=size_px, num_frames=lag + 1)
        poke = size_px * np.array(clip.labels["poke"], float)
        length = float(np.hypot(*poke[2:]))
        if length_px is not None and length > 0:
            poke[2:] *= length_px / length
        trial = None
        if length and (poke[:2] >= 0).all() and (poke[:2] < size_px).all():
            scene = Scene(index, seed, size_px, lag, frame_step, least_px)
            trial = _trial(answer, scene, poke)
        if trial is not None:
            found += 1
            yield trial


def sweep(answer: Answer, seen: Seen, count: int) -> list[Trial]:
    """One leaf poked in so many directions; those whose answer cannot be judged are left out."""
    scene = replace(seen.scene, least_px=0.0)
    aims = [seen.aim.turned(2 * math.pi * turn / count) for turn in range(count)]
    pokes = [np.array([aim.column, aim.row, aim.dx, aim.dy]) for aim in aims]
    return [each for each in (_trial(answer, scene, poke) for poke in pokes) if each is not None]


def _trial(answer: Answer, scene: Scene, poke: np.ndarray) -> Trial | None:
    """The trial of one poke (column, row, dx, dy); None where its answer cannot be judged."""
    x, y, dx, dy = (float(value) for value in poke)
    lag = scene.lag
    clip = simulate(
        "plant",
        scene.index,
        poke=(x + 0.25, y + 0.25, dx, dy),
        lag=lag,
        seed=scene.seed,
        size_px=scene.size_px,
        num_frames=lag + 1,
    )
    column, row = int(x), int(y)
    flow = clip.extra["flow_from_start"][lag - 1]
    true = flow[:, row, column]
    is_seen = bool(clip.extra["visible_from_start"][lag - 1, row, column])
    if not is_seen or not np.isfinite(true).all() or np.hypot(*true) < scene.least_px:
        return None
    start, real = clip.frames[0], clip.frames[scene.frame_step :: scene.frame_step]
    leaf = clip.maps["mask"] == clip.maps["mask"][0, row, column]

    def moved(video: np.ndarray) -> tuple[float, float]:
        return follow(start, video, leaf[0], column=column, row=row)

    if math.dist(moved(real), true) > _FOUND_PX:
        return None
    aim = Aim(column, row, dx, dy)
    made = answer(start, [aim])
    region = leaf[0] | leaf[lag]
    return Trial(
        wanted=(dx, dy),
        true=_pair(true),
        made=moved(made),
        opposite=moved(answer(start, [aim.turned(math.pi)])),
        unpoked=moved(answer(start, [Aim(column, row, 0.0, 0.0)])),
        background=_background(start, made[-1], clip.maps["mask"], flow),
        gain_db=psnr(real, made, region) - psnr(real, np.broadcast_to(start, real.shape), region),
        psnr_db=psnr(real, made),
        seen=Seen(scene, start, aim, real, made),
    )


def _background(start: np.ndarray, last: np.ndarray, mask: np.ndarray, flow: np.ndarray) -> float:
    """Mean motion at places that no leaf comes near to in truth."""
    still = ~(mask >= FIRST_LEAF).any(0) & ~(np.hypot(*np.nan_to_num(flow)) > 0)
    places = range(_PATCH_PX + 2, len(start) - _PATCH_PX - 2, _STEP_PX)
    lengths = [
        math.hypot(*patch_shift(start, last, column, row))
        for row in places
        for column in places
        if still[_around(row), _around(column)].all()
    ]
    return fmean(lengths) if lengths else 0.0


def patch_shift(first: np.ndarray, last: np.ndarray, column: int, row: int) -> tuple[int, int]:
    """Where the patch around a pixel of one picture is found in another: x, y in whole pixels.

    The place of least squared difference; of places that fit equally well the nearest. first, last:
    uint8 S S 3.
    """
    before, after = (each.astype(np.float32) for each in (first, last))
    after = np.pad(after, ((_REACH_PX, _REACH_PX), (_REACH_PX, _REACH_PX), (0, 0)), mode="edge")
    patch = before[_around(row), _around(column)]
    far = _PATCH_PX + 2 * _REACH_PX + 1
    area = after[row - _PATCH_PX : row + far, column - _PATCH_PX : column + far]
    windows = np.lib.stride_tricks.sliding_window_view(area, patch.shape)[..., 0, :, :, :]
    error = np.square(windows - patch).mean((2, 3, 4))
    offsets = np.arange(-_REACH_PX, _REACH_PX + 1)
    far_away = _NEARNESS * np.hypot(*np.meshgrid(offsets, offsets))
    down, right = np.unravel_index(np.argmin(error + far_away), error.shape)
    return int(right) - _REACH_PX, int(down) - _REACH_PX


def _around(pixel: int) -> slice:
    return slice(pixel - _PATCH_PX, pixel + _PATCH_PX + 1)


def psnr(real: np.ndarray, made: np.ndarray, region: np.ndarray | None = None) -> float:
    """PSNR of a video in dB over a region, S S. real, made: uint8 T S S 3."""
    error = np.square(real.astype(np.float32) - made.astype(np.float32)).mean((0, -1))
    mean = error.mean() if region is None else error[region].mean()
    return float(10 * np.log10(255**2 / max(float(mean), 1e-2)))


def summary(trials: Sequence[Trial]) -> dict[str, float]:
    """The numbers of many trials.

    poke_cosine, opposite_cosine: mean cosine of made and true motion; of the answers to opposite
    pokes.  end_point_error: mean, pixels.  still_end_point_error: that of a video that does not
    move.  background_share, unpoked_share: mean motion of the background, and of the leaf in an
    answer to no poke, over the poked leaf's.  gain_db, psnr_db: means, see Trial.
    """
    made = max(fmean(math.hypot(*trial.made) for trial in trials), 1e-3)
    return {
        "poke_cosine": fmean(trial.cosine for trial in trials),
        "opposite_cosine": fmean(_cosine(trial.made, trial.opposite) for trial in trials),
        "end_point_error": fmean(math.dist(trial.made, trial.true) for trial in trials),
        "still_end_point_error": fmean(math.hypot(*trial.true) for trial in trials),
        "background_share": fmean(trial.background for trial in trials) / made,
        "unpoked_share": fmean(math.hypot(*trial.unpoked) for trial in trials) / made,
        "gain_db": fmean(trial.gain_db for trial in trials),
        "psnr_db": fmean(trial.psnr_db for trial in trials),
    }


def _cosine(first: tuple[float, float], second: tuple[float, float]) -> float:
    lengths = math.hypot(*first) * math.hypot(*second)
    return (first[0] * second[0] + first[1] * second[1]) / lengths if lengths else 0.0


def _pair(vector: np.ndarray) -> tuple[float, float]:
    return float(vector[0]), float(vector[1])
