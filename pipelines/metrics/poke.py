"""How well pokes are followed: whether what was poked arrives where the poke says.

Videos carry their pokes in meta.json, in pixels of the video. What is around a poked pixel is
followed from the start image to the frame where the poke is to be fulfilled by matching its picture
(pipelines/poke/template.py), which needs no network and errs now and then where things look alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from pipelines.events import UserError
from pipelines.metrics.result import Better, MetricResult, interval_around, mean_and_error
from pipelines.metrics.scenes import Clip, Conditions, Extractor, MakeExtractor, Scene
from pipelines.poke.template import follow

_RADIUS_PX = 6.0  # of the disc around a poked pixel that is followed
_STILL_PX = 0.25  # a made motion shorter than that has no direction
_APART_PX = 1.0  # pokes of one pixel that differ by less say nothing of control


class Followed(NamedTuple):
    """One poke. Pixels, x then y. asked: by the poke.  made: in the video.  real: in the real one.

    at: column and row.
    """

    at: tuple[int, int]
    asked: tuple[float, float]
    made: tuple[float, float]
    real: tuple[float, float] | None

    @property
    def error(self) -> float:
        """From where the pixel arrived to where the poke says."""
        return math.dist(self.made, self.asked)

    @property
    def cosine(self) -> float:
        """Between the two directions; 0 where nothing moved."""
        if math.hypot(*self.made) < _STILL_PX:
            return 0.0
        product = self.made[0] * self.asked[0] + self.made[1] * self.asked[1]
        return product / (math.hypot(*self.made) * math.hypot(*self.asked))


def build(protocol: None = None) -> PokeFollowing:
    """There is one protocol."""
    return PokeFollowing()


class PokeFollowing:
    """Three numbers: error, direction, and control, where one pixel was poked in several ways."""

    needs_real, needs_pairs, needs_samples = False, False, False

    def __init__(self) -> None:
        self.extractors: Mapping[str, MakeExtractor] = {}
        self.scenes: dict[str, list[Followed]] = {}

    def add(self, scene: Scene) -> None:
        """Follow every poke of a scene's samples; those of length 0 ask for nothing."""
        found = [each for clip in scene.samples for each in _followed(clip, scene.real)]
        if found:
            self.scenes[scene.name] = found

    def results(
        self, conditions: Conditions, extractors: Mapping[str, Extractor]
    ) -> list[MetricResult]:
        """See the class. Raises UserError where no video says how it was poked."""
        pokes = [each for name in sorted(self.scenes) for each in self.scenes[name]]
        if not pokes:
            raise UserError(
                "poke needs videos that say how they were poked, and a start image",
                {"to fix": "measure a folder that 'i2v sample poke' wrote, or a poke run"},
            )
        still = {"video that does not move": _mean(math.hypot(*each.asked) for each in pokes)}
        real = [math.dist(each.real, each.asked) for each in pokes if each.real is not None]
        errors = still | ({"real videos": _mean(real)} if real else {})
        found = [
            self._result("poke-error", "px", "lower", lambda each: each.error, conditions, errors),
            self._result(
                "poke-direction", "cosine", "higher", lambda each: each.cosine, conditions
            ),
        ]
        control = [each for pokes in self.scenes.values() for each in _control(pokes)]
        if control:
            value, error = mean_and_error(control)
            protocol = conditions.protocol(len(control), settings={"over": "pairs of pokes"})
            found.append(
                MetricResult(
                    "poke-control", value, "", "near reference", protocol, standard_error=error,
                    references={"as asked": 1.0, "video that does not move": 0.0},
                )
            )  # fmt: skip
        return found

    def state(self) -> Any:
        """Every poke."""
        return {name: [list(each) for each in pokes] for name, pokes in self.scenes.items()}

    def restore(self, states: Sequence[Any]) -> None:
        """Join what others followed."""
        for state in states:
            for name, pokes in state.items():
                self.scenes[name] = [
                    Followed(*(None if part is None else tuple(part) for part in each))  # type: ignore[arg-type]
                    for each in pokes
                ]

    def _result(
        self,
        name: str,
        unit: str,
        better: Better,
        value_of: Callable[[Followed], float],
        conditions: Conditions,
        references: Mapping[str, float] | None = None,
    ) -> MetricResult:
        """The mean over scenes of the mean over a scene's pokes."""
        values = [_mean(map(value_of, self.scenes[scene])) for scene in sorted(self.scenes)]
        value, error = mean_and_error(values)
        count = sum(map(len, self.scenes.values()))
        protocol = conditions.protocol(count, settings={"found by": "matching patches"})
        return MetricResult(
            name, value, unit, better, protocol, standard_error=error,
            interval=interval_around(value, error), references=references or {},
        )  # fmt: skip


def _followed(clip: Clip, real: Clip | None) -> list[Followed]:
    """What became of each poke of a video, and of the same pixels in the real one."""
    if clip.start is None:
        return []
    size = clip.start.shape[0]
    end = min(int(clip.facts.get("arrives") or len(clip.frames)), len(clip.frames))
    has_real = real is not None and real.frames.shape[1:] == clip.frames.shape[1:]
    found = []
    for poke in clip.facts.get("pokes") or ():
        column, row = int(poke["column"]), int(poke["row"])
        asked = float(poke["dx"]), float(poke["dy"])
        if not any(asked) or not (0 <= column < clip.start.shape[1] and 0 <= row < size):
            continue
        disc = _disc(size, clip.start.shape[1], column, row)
        made, true = (
            follow(clip.start, each.frames[:end], disc, column=column, row=row) if each else None
            for each in (clip, real if has_real else None)
        )
        assert made is not None
        found.append(Followed((column, row), asked, made, true))
    return found


def _control(pokes: Sequence[Followed]) -> list[float]:
    """How far apart answers to two pokes of one pixel are, over how far apart the pokes are."""
    return [
        math.dist(one.made, other.made) / math.dist(one.asked, other.asked)
        for one, other in combinations(pokes, 2)
        if one.at == other.at and math.dist(one.asked, other.asked) > _APART_PX
    ]


def _disc(height: int, width: int, column: int, row: int) -> np.ndarray:
    down, right = np.mgrid[:height, :width]
    return np.asarray(np.hypot(right - column, down - row) <= _RADIUS_PX)


def _mean(values: Any) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
