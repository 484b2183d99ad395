"""Every metric that is a Frechet distance between the features of two sets of videos.

Beside the number: a 95 % interval, the value that more videos would lead to, and what is reached
by real videos themselves, by ones that stand still and by ones whose frames are shuffled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.events import UserError
from pipelines.metrics import frechet
from pipelines.metrics.config import Covariance
from pipelines.metrics.feature_set import FeatureSet
from pipelines.metrics.result import ENDLESS, FEW_VIDEOS, MetricResult, interval_around
from pipelines.metrics.scenes import Conditions, Extractor, MakeExtractor, Scene

REAL, GENERATED, STILL, SHUFFLED = "real", "generated", "static first frame", "shuffled frames"
SIDES = (REAL, GENERATED, STILL, SHUFFLED)

NUM_SUBSETS, _NUM_SUBSETS_WIDE, _WIDE = 20, 8, 1024
_NUM_SIZES, _SUBSETS_PER_SIZE = 8, 2
_MIN_FOR_SUBSETS, _MIN_FOR_LINE = 8, 32

Sides = Mapping[str, FeatureSet]
"""Features by side; those of baselines may be missing."""


@dataclass(frozen=True)
class Rules:
    """What the protocol settles beyond the features.

    max_videos: first videos by name.  batch_size: rows beyond a multiple of it are left out.
    per_step: one distance for each row of the videos, then the mean.
    """

    covariance: Covariance = "unbiased"
    max_videos: int | None = None
    batch_size: int = 1
    per_step: bool = False
    settings: Mapping[str, str | float | bool] = field(default_factory=dict)


class FrechetMetric:
    """Needs no scene: the engine gathers the features of each side and puts them here."""

    needs_real, needs_pairs, needs_samples = True, False, False

    def __init__(
        self, name: str, features: str, make: MakeExtractor, *, unit: str, rules: Rules
    ) -> None:
        """features: name of the extractor that `make` makes.  unit: what a row is, for messages."""
        self.name, self.features, self.rules, self._row = name, features, rules, unit
        self.extractors: Mapping[str, MakeExtractor] = {features: make}
        self.sides: dict[str, FeatureSet] = {}
        self.seed = 0

    def add(self, scene: Scene) -> None:
        """Nothing to keep of a single scene."""

    def state(self) -> Any:
        """Nothing: the features of all sides are kept apart."""
        return None

    def restore(self, states: Sequence[Any]) -> None:
        """Nothing to take over."""

    def results(
        self, conditions: Conditions, extractors: Mapping[str, Extractor]
    ) -> list[MetricResult]:
        """One number and all that helps to read it."""
        sides = self.chosen_sides()
        for name in (REAL, GENERATED):
            if name not in sides or sides[name].num_videos < 2:
                count = sides[name].num_videos if name in sides else 0
                raise UserError(
                    f"{self.name} needs at least two {name} videos, got {count}",
                    {"to fix": f"give more videos, or leave {self.name} out"},
                )
        real, fake = sides[REAL], sides[GENERATED]
        raw, mean_term = self._distance(real, fake)
        spread = self._spread(real, fake)
        references = self._references(sides)
        details = {"raw": raw, "mean term": mean_term}
        limit = self._limit(real, fake)
        if limit is not None:
            details[ENDLESS], error = limit
            details["standard error of that"] = error
        protocol = conditions.protocol(
            fake.num_videos,
            num_reference=real.num_videos,
            extractor=extractors[self.features],
            settings={
                "features": f"{fake.size} per {self._row}",
                "covariance": self.rules.covariance,
                **self.rules.settings,
            },
        )
        value = max(raw, 0.0)
        return [
            MetricResult(
                self.name, value, "", "lower", protocol,
                interval=interval_around(value, spread, low=0.0),
                references=references, details=details,
                warnings=tuple(self._warnings(real, fake)),
            )
        ]  # fmt: skip

    def paired_spread(self, other: FrechetMetric) -> tuple[float, float | None]:
        """This value minus another's and its standard error, from the same subsets of videos."""
        mine, theirs = (each.chosen_sides() for each in (self, other))
        real = mine[REAL]
        first, second = mine[GENERATED], theirs[GENERATED]
        difference = self._distance(real, first)[0] - self._distance(theirs[REAL], second)[0]
        shared = [name for name in first.names if name in set(second.names)]
        if min(len(shared), len(real.names)) < _MIN_FOR_SUBSETS:
            return difference, None
        generator = np.random.default_rng([self.seed, 3])
        values = []
        for _ in range(self._num_subsets(first)):
            reals, fakes = _half(real.names, generator), _half(shared, generator)
            pair = [
                self._distance(real.only(reals), side.only(fakes))[0] for side in (first, second)
            ]
            values.append(pair[0] - pair[1])
        return difference, float(np.std(values, ddof=1))

    def chosen_sides(self) -> dict[str, FeatureSet]:
        """The sides with the videos that the protocol takes."""
        return {name: self._chosen(features) for name, features in self.sides.items()}

    def _chosen(self, features: FeatureSet) -> FeatureSet:
        rules = self.rules
        if not features.is_complete:
            if rules.max_videos or rules.per_step:
                raise UserError(
                    f"{self.name} cannot choose among so many videos",
                    {"videos": features.num_videos, "to fix": "give fewer videos"},
                )
            return features
        names = features.names[: rules.max_videos]
        if self._row == "clip" and len(names) > rules.batch_size:
            names = names[: len(names) // rules.batch_size * rules.batch_size]
        return features if len(names) == len(features.names) else features.only(names)

    def _distance(self, real: FeatureSet, fake: FeatureSet) -> tuple[float, float]:
        """The distance as computed and what means contribute to it."""
        is_biased = self.rules.covariance == "biased"
        if not (real.is_complete and fake.is_complete):
            first, second = real.moments(), fake.moments()
            found = frechet.distance_of_moments(
                first.mean(), first.covariance(is_biased=is_biased),
                second.mean(), second.covariance(is_biased=is_biased),
            )  # fmt: skip
            return found.raw, found.mean_term
        if self.rules.per_step:
            return _mean_over_steps(real, fake, is_biased=is_biased)
        found = frechet.distance(
            self._whole_batches(real.rows()), self._whole_batches(fake.rows()), is_biased=is_biased
        )
        return found.raw, found.mean_term

    def _whole_batches(self, rows: np.ndarray) -> np.ndarray:
        if self._row == "clip" or len(rows) <= self.rules.batch_size:
            return rows
        return rows[: len(rows) // self.rules.batch_size * self.rules.batch_size]

    def _references(self, sides: Sides) -> dict[str, float]:
        real, found = sides[REAL], {}
        if len(real.names) >= 4:
            halves = [real.only(real.names[start::2]) for start in (0, 1)]
            found["real against real, half of them each"] = self._clipped(*halves)
        for name in (STILL, SHUFFLED):
            if name in sides and sides[name].num_videos >= 2:
                found[name] = self._clipped(real, sides[name])
        return found

    def _clipped(self, real: FeatureSet, fake: FeatureSet) -> float:
        return max(self._distance(real, fake)[0], 0.0)

    def _spread(self, real: FeatureSet, fake: FeatureSet) -> float | None:
        """Standard error by the delete-half jackknife: the spread over halves of both sets.

        Not a bootstrap: drawing the same video twice makes a set look narrower than it is, and a
        Frechet distance takes that for a difference.
        """
        if min(len(real.names), len(fake.names)) < _MIN_FOR_SUBSETS:
            return None
        generator = np.random.default_rng([self.seed, 1])
        values = [
            self._distance(
                real.only(_half(real.names, generator)), fake.only(_half(fake.names, generator))
            )[0]
            for _ in range(self._num_subsets(fake))
        ]
        kept = min(real.num_videos / len(real.names), fake.num_videos / len(fake.names))
        # the spread of halves of n is that of n itself; where only a sample is kept, of fewer
        return float(np.std(values, ddof=1) / np.sqrt(kept))

    def _limit(self, real: FeatureSet, fake: FeatureSet) -> tuple[float, float] | None:
        """Where the value goes as the number of videos grows, with the standard error.

        A Frechet distance of n videos is too large by about c / n, and c depends on the model.
        """
        most = min(len(real.names), len(fake.names))
        if most < _MIN_FOR_LINE:
            return None
        generator = np.random.default_rng([self.seed, 2])
        sizes = np.unique(np.linspace(most / 4, most, _NUM_SIZES).astype(int))
        inverse, values = [], []
        for size in sizes:
            for _ in range(1 if size == most or fake.size > _WIDE else _SUBSETS_PER_SIZE):
                parts = [_drawn(each, int(size), generator) for each in (real, fake)]
                inverse.append(1 / size)
                values.append(self._distance(*parts)[0])
        return _intercept(np.array(inverse), np.array(values))

    def _num_subsets(self, features: FeatureSet) -> int:
        return NUM_SUBSETS if features.size <= _WIDE else _NUM_SUBSETS_WIDE

    def _warnings(self, real: FeatureSet, fake: FeatureSet) -> list[str]:
        fewest = min(real.num_videos, fake.num_videos)
        warnings = []
        if fewest < FEW_VIDEOS:
            warnings.append(f"{self.name}: {fewest} videos are few, below {FEW_VIDEOS}")
        if min(real.num_rows, fake.num_rows) < 2 * fake.size:
            warnings.append(
                f"{self.name}: fewer than {2 * fake.size} {self._row}s in a set: "
                "the value is biased upwards"
            )
        if real.num_rows != fake.num_rows:
            warnings.append(
                f"{self.name}: sets of unequal size: {real.num_rows} real and "
                f"{fake.num_rows} generated {self._row}s"
            )
        if any(np.ptp(each.rows(), axis=0).max() == 0 for each in (real, fake)):
            warnings.append(f"{self.name}: all features of a set are the same")
        return warnings


def _mean_over_steps(real: FeatureSet, fake: FeatureSet, *, is_biased: bool) -> tuple[float, float]:
    num_steps = min(min(len(each.rows_of(n)) for n in each.names) for each in (real, fake))
    found = [
        frechet.distance(
            *(np.stack([each.rows_of(n)[step] for n in each.names]) for each in (real, fake)),
            is_biased=is_biased,
        )
        for step in range(num_steps)
    ]
    return float(np.mean([e.raw for e in found])), float(np.mean([e.mean_term for e in found]))


def _half(names: Sequence[str], generator: np.random.Generator) -> list[str]:
    chosen = generator.permutation(len(names))[: max(2, len(names) // 2)]
    return [names[i] for i in sorted(chosen)]


def _drawn(features: FeatureSet, size: int, generator: np.random.Generator) -> FeatureSet:
    names = features.names
    chosen = generator.permutation(len(names))[:size]
    return features.only([names[i] for i in sorted(chosen)])


def _intercept(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Least-squares line: its value at 0 and the standard error of that."""
    design = np.stack([np.ones_like(x), x], axis=1)
    solution, *_ = np.linalg.lstsq(design, y, rcond=None)
    rest = y - design @ solution
    variance = float(rest @ rest) / max(len(x) - 2, 1)
    covariance = variance * np.linalg.inv(design.T @ design)
    return float(solution[0]), float(np.sqrt(covariance[0, 0]))
