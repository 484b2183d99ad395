"""Features of real videos, kept so that the next evaluation need not compute them again.

A file is found by what the videos show, how they were decoded and what looked at them, not by
their names and places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipelines.events import UserError
from pipelines.files import fingerprint, safe_name
from pipelines.io.sample_folders import SampleVideo
from pipelines.metrics.feature_set import FeatureSet
from pipelines.metrics.frechet_set import GENERATED, REAL, SIDES, STILL, FrechetMetric
from pipelines.metrics.result import versions
from pipelines.metrics.scenes import Extractor

_FOLDER = "features"


class RealCache:
    """The files of one set of real videos. settings: how they are decoded."""

    def __init__(
        self,
        cache_dir: Path,
        real: Mapping[str, SampleVideo],
        settings: Mapping[str, object],
        digest: Callable[[SampleVideo], str],
    ) -> None:
        """real: by scene.  digest: a hash of what a video shows."""
        self._dir = cache_dir / _FOLDER
        contents = [[scene, digest(video)] for scene, video in sorted(real.items())]
        self._key = fingerprint([contents, settings, versions()])

    def find(
        self,
        metrics: Sequence[FrechetMetric],
        extractors: Mapping[str, Extractor],
        *,
        has_baselines: bool,
    ) -> tuple[dict[str, dict[str, FeatureSet]], set[str]]:
        """Sets by name of the features and side, and the shapes that their videos had."""
        found: dict[str, dict[str, FeatureSet]] = {}
        shapes = set()
        for name in {each.features for each in metrics}:
            sides = {}
            for side in SIDES:
                path = self._path(name, side, extractors[name])
                if not path.is_file():
                    continue
                try:
                    sides[side], facts = FeatureSet.load(path)
                except UserError:  # a damaged file is made again
                    path.unlink(missing_ok=True)
                    continue
                shapes.add(facts["shape"])
            if REAL in sides and (STILL in sides or not has_baselines):
                found[name] = sides
        return found, shapes

    def keep(
        self,
        sides: Mapping[str, Mapping[str, FeatureSet]],
        extractors: Mapping[str, Extractor],
        shape: str,
    ) -> None:
        """Write the real sides of features that were not there yet."""
        for name, sets in sides.items():
            for side, features in sets.items():
                path = self._path(name, side, extractors[name])
                if side != GENERATED and not path.is_file():
                    features.save(path, {"shape": shape, "features": name})

    def _path(self, name: str, side: str, extractor: Extractor) -> Path:
        who = fingerprint([name, extractor.sha256, extractor.name])
        return self._dir / f"{self._key}-{who}-{safe_name(side)}.npz"
