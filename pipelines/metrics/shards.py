"""An evaluation in parts: what each shard found, written and joined again.

A file holds the features of whole sets and, as JSON, what the other metrics kept of their scenes.
Joined, they give the number of the whole: sums are taken in the same order.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.events import EXIT_USAGE, UserError
from pipelines.files import atomic_writer
from pipelines.metrics.config import EvalRequest
from pipelines.metrics.feature_set import FeatureSet
from pipelines.metrics.scenes import Clip, Conditions, Extractor

if TYPE_CHECKING:
    from pipelines.metrics.evaluate import Measured


@dataclass
class PastExtractor:
    """What is left of a feature network that has done its work."""

    name: str
    sha256: str

    def __call__(self, clips: Sequence[Clip]) -> list[Any]:
        """Not to be called."""
        raise RuntimeError("a shard's features are there already")


@dataclass(frozen=True)
class Joined:
    """All shards together. states: of each shard, by the metric's name."""

    request: EvalRequest
    label: str
    source: Path
    real: Path | None
    conditions: Conditions
    extractors: dict[str, Extractor]
    sides: dict[str, dict[str, FeatureSet]]
    states: list[dict[str, Any]]


def save(path: Path, measured: Measured, request: EvalRequest) -> None:
    """Write a shard."""
    used = measured.one_pass.extractors
    facts: dict[str, Any] = {
        "request": request.model_dump(mode="json"),
        "label": measured.label,
        "source": str(measured.source),
        "real": str(measured.real) if measured.real else None,
        "num_frames": measured.conditions.num_frames,
        "size_px": measured.conditions.size_px,
        "settings": measured.conditions.settings,
        "extractors": {name: [each.name, each.sha256] for name, each in used.items()},
        "states": {name: metric.state() for name, metric in measured.metrics.items()},
        "sides": [],
    }
    arrays: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, sides in measured.one_pass.sides.items():
            for side, features in sides.items():
                file = Path(folder) / "features.npz"
                features.save(file, {})
                arrays[f"set{len(facts['sides'])}"] = np.frombuffer(file.read_bytes(), np.uint8)
                facts["sides"].append([name, side])
    arrays["facts"] = np.array(json.dumps(facts))
    with atomic_writer(path, "wb") as stream:
        np.savez(stream, **arrays)


def load(paths: Sequence[Path]) -> Joined:
    """All shards of an evaluation. UserError when one is missing, there twice or another's."""
    parts = [_read(path) for path in paths]
    facts = [each[0] for each in parts]
    requests = [EvalRequest.model_validate(each["request"]) for each in facts]
    _require_all(paths, requests)
    first = facts[0]
    sides: dict[str, dict[str, FeatureSet]] = {}
    for found, arrays in parts:
        for number, (name, side) in enumerate(found["sides"]):
            part = _features(arrays[f"set{number}"])
            if side in sides.setdefault(name, {}):
                sides[name][side].merge(part)
            else:
                sides[name][side] = part
    return Joined(
        requests[0].model_copy(update={"shard": None}),
        first["label"],
        Path(first["source"]),
        Path(first["real"]) if first["real"] else None,
        Conditions(first["num_frames"], tuple(first["size_px"]), first["settings"]),
        {name: PastExtractor(*each) for name, each in first["extractors"].items()},
        sides,
        [each["states"] for each in facts],
    )


def _require_all(paths: Sequence[Path], requests: Sequence[EvalRequest]) -> None:
    numbers = sorted(each.shard_numbers for each in requests)
    total = numbers[0][1]
    if numbers != [(number, total) for number in range(total)]:
        there = ", ".join(f"{number}/{of}" for number, of in numbers)
        raise UserError(
            f"these are not the {total} shards of one evaluation",
            {"there are": there, "to fix": "give each shard's file once"},
            EXIT_USAGE,
        )
    varying = {
        "shard",
        "engine",
        "parts",
        "out_path",
        "device",
        "threads",
        "cache_dir",
        "tensorflow_python",
    }
    settings = [each.model_dump(exclude=varying) for each in requests]
    for path, each in zip(paths, settings, strict=True):
        if each != settings[0]:
            names = [name for name, value in each.items() if value != settings[0][name]]
            raise UserError(
                "the shards were measured with different settings",
                {"file": path, "it differs in": ", ".join(names), "to fix": "measure them again"},
                EXIT_USAGE,
            )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return json.loads(str(arrays.pop("facts"))), arrays
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(
            f"'{path.name}' is no shard of an evaluation",
            {"file": path, "reason": error, "to fix": "give the files that --shard wrote"},
        ) from error


def _features(data: np.ndarray) -> FeatureSet:
    return FeatureSet.read(io.BytesIO(data.tobytes()))[0]
