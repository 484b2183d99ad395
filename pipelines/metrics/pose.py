"""Numbers of a run that makes or renders poses: diversity, accuracy, realism, what a code tells.

Unlike other metrics it does not look at videos: `i2v eval pose --source RUN` measures the model
itself, on the held-out takes of the data that it was trained on. What is measured of a behaviour
model is in pipelines.behavior.evaluation, of a renderer in pipelines.shape_pose.evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.events import EXIT_USAGE, UserError, Work
from pipelines.metrics import record
from pipelines.metrics.config import EvalRequest
from pipelines.metrics.result import Better, MetricResult, Protocol
from pipelines.metrics.scenes import Conditions, Extractor, Scene
from pipelines.training.run_folder import Run, load_run

FAMILIES = ("behavior", "shape-pose")


class PoseMetric:
    """Stands for the metric where videos are measured: it says that it needs a run."""

    extractors: tuple[str, ...] = ()
    needs_real, needs_pairs, needs_samples = False, False, False

    def add(self, scene: Scene) -> None:
        """Raises UserError: a video does not say where joints are."""
        raise UserError(
            "pose measures a run, not videos",
            {"to fix": "give the name of a behavior or shape-pose run: i2v eval pose --source RUN"},
            EXIT_USAGE,
        )

    def results(
        self, conditions: Conditions, extractors: Mapping[str, Extractor]
    ) -> list[MetricResult]:
        """Nothing: see evaluate_run."""
        return []


def build() -> PoseMetric:
    """For the table of metrics."""
    return PoseMetric()


@dataclass(frozen=True)
class PoseNumber:
    """One number. reference: name and value of what it is read beside."""

    name: str
    value: float
    unit: str
    better: Better
    reference: tuple[str, float] | None = None


@dataclass(frozen=True)
class PoseNumbers:
    """What was found, on how many clips of how many poses."""

    found: list[PoseNumber]
    num_clips: int
    num_frames: int
    settings: Mapping[str, str | float | bool]


def evaluate_run(request: EvalRequest, work: Work) -> dict[str, Any]:
    """Measure the run that is the source; write metrics.json; return a table and the numbers."""
    if request.source is None or not (request.source / "run.json").is_file():
        PoseMetric().add(Scene("", None, ()))
    assert request.source is not None
    run = load_run(request.source)
    if run.family not in FAMILIES:
        raise UserError(
            f"pose measures runs of {' and '.join(FAMILIES)}, '{run.path.name}' is of {run.family}",
            {"to fix": "give another run, or leave pose out"},
            EXIT_USAGE,
        )
    numbers = _measure(run, request, work)
    results = [_result(each, numbers) for each in numbers.found]
    label = request.label or f"{run.path.name} pose"
    found = record.evaluation(label, results, source=run.path)
    if request.out_path:
        record.save(request.out_path, found)
        work.artifact(request.out_path, "metrics")
    path = str(request.out_path) if request.out_path else None
    return {**record.table(results), "metrics_path": path, **found}


def _measure(run: Run, request: EvalRequest, work: Work) -> PoseNumbers:
    data_root = request.data_root or Path(run.request.get("data_root", "data"))
    if run.family == "shape-pose":
        from pipelines.shape_pose.evaluation import measure as measure_renderer

        return measure_renderer(run, request, data_root=data_root, work=work)
    from pipelines.behavior.evaluation_run import measure as measure_behavior

    return measure_behavior(run, request, data_root=data_root, work=work)


def _result(number: PoseNumber, numbers: PoseNumbers) -> MetricResult:
    protocol = Protocol(
        numbers.num_clips, 0, numbers.num_frames, (0, 0), settings=dict(numbers.settings)
    )
    references = {} if number.reference is None else dict([number.reference])
    return MetricResult(
        f"pose: {number.name}",
        number.value,
        number.unit,
        number.better,
        protocol,
        references=references,
    )
