"""A poke run against the simulator of generated plants, which knows the answer to any poke.

Like `pose` it does not look at videos: `i2v eval poke-simulator --source RUN` pokes plants that no
training has seen and asks the model and the simulator. What is measured is in
pipelines.poke.simulated, which also leaves pictures for the run's report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.events import EXIT_USAGE, UserError, Work
from pipelines.metrics import record
from pipelines.metrics.config import EvalRequest
from pipelines.metrics.result import Better, MetricResult, Protocol
from pipelines.metrics.scenes import Conditions, Extractor, Scene
from pipelines.training.device import prepare_device
from pipelines.training.run_folder import load_run

NAME = "poke-simulator"
_STILL = "video that does not move"
_TABLE: tuple[tuple[str, str, str, Better, str | None], ...] = (
    ("poke_cosine", "direction at the poked leaf", "cosine", "higher", None),
    ("end_point_error", "end-point error", "px", "lower", "still_end_point_error"),
    ("gain_db", "PSNR over a still video, poked leaf's region", "dB", "higher", None),
    ("psnr_db", "PSNR", "dB", "higher", None),
    ("background_share", "background's motion over the leaf's", "", "lower", None),
    ("opposite_cosine", "answer to the opposite poke", "cosine", "lower", None),
    ("unpoked_share", "motion without a poke over that with it", "", "lower", None),
)
"""Key of following.summary, name, unit, what is better, key of what it is read beside."""


class SimulatorMetric:
    """Stands for the metric where videos are measured: it says that it needs a run."""

    extractors: tuple[str, ...] = ()
    needs_real, needs_pairs, needs_samples = False, False, False

    def add(self, scene: Scene) -> None:
        """Raises UserError: a video cannot be poked."""
        raise UserError(
            f"{NAME} measures a poke run by itself, not videos, and no other metric beside it",
            {"to fix": f"i2v eval {NAME} --source RUN"},
            EXIT_USAGE,
        )

    def results(
        self, conditions: Conditions, extractors: Mapping[str, Extractor]
    ) -> list[MetricResult]:
        """Nothing: see evaluate_run."""
        return []


def build() -> SimulatorMetric:
    """For the table of metrics."""
    return SimulatorMetric()


def evaluate_run(request: EvalRequest, work: Work) -> dict[str, Any]:
    """Measure the run that is the source; write metrics.json; return a table and the numbers."""
    from pipelines.poke.simulated import simulated

    if request.source is None or not (request.source / "run.json").is_file():
        SimulatorMetric().add(Scene("", None, ()))
    assert request.source is not None
    run = load_run(request.source, family="poke")
    device = prepare_device(request.device, threads=request.threads)
    found = simulated(run.path, num_trials=request.num_images, device=device, work=work)
    size = (found.size_px, found.size_px)
    protocol = Protocol(
        found.num_trials, 0, found.num_frames, size, settings={"pokes of": "unseen plants"}
    )
    values = found.summary
    results = [
        MetricResult(
            f"poke: {name}", values[key], unit, better, protocol,
            references={_STILL: values[beside]} if beside else {},
        )
        for key, name, unit, better, beside in _TABLE
    ]  # fmt: skip
    results += [
        MetricResult(
            f"poke: end-point error, pokes of {length:g} px", error, "px", "lower", protocol,
            references={_STILL: still},
        )
        for length, (error, still) in found.lengths.items()
    ]  # fmt: skip
    if found.control is not None:
        results.append(
            MetricResult(
                "poke: control, answers apart over the simulator's", found.control, "",
                "near reference", protocol, references={"simulator": 1.0, _STILL: 0.0},
            )
        )  # fmt: skip
    label = request.label or f"{run.path.name} against the simulator"
    evaluation = record.evaluation(label, results, source=run.path)
    if request.out_path:
        record.save(request.out_path, evaluation)
        work.artifact(request.out_path, "metrics")
    path = str(request.out_path) if request.out_path else None
    return {**record.table(results), "metrics_path": path, **evaluation}
