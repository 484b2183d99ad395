"""The two earlier stages that a stage 2 is built on, kept inside its run folder.

<run>/frozen/stage1 and <run>/frozen/ae are small run folders of their own. So a trained model is
one folder that can be copied anywhere, whatever becomes of the runs it was built on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pipelines.cinn.config import FamilyConfig, TrainRequest
from pipelines.events import EXIT_USAGE, UserError, Work
from pipelines.training.beginning import settings_of
from pipelines.training.run_folder import Run, freeze_weights, load_run, require_checkpoint

FAMILY = "cinn"
INPUT_STAGES = {"stage1": "1", "ae": "ae"}
"""Name in `frozen/`, and the stage it comes from."""

Warn = Callable[[str], None]


def run_config(run: Run) -> FamilyConfig:
    """The settings that a run was trained with."""
    return settings_of(run, FamilyConfig)


def with_earlier_settings(request: TrainRequest) -> TrainRequest:
    """With the settings of the earlier stages, which stage 2 takes as they were trained."""
    if request.stage != "2":
        return request
    first = run_config(input_run(request.run_dir, "stage1", request.stage1_run))
    stage1 = first.stage1
    other = run_config(input_run(request.run_dir, "ae", request.ae_run))
    if other.stage1.size_px != stage1.size_px:
        raise UserError(
            "the two earlier stages were trained for frames of different sizes",
            {
                "stage 1": f"{stage1.size_px} px, {request.stage1_run}",
                "stage ae": f"{other.stage1.size_px} px, {request.ae_run}",
                "to fix": f"train stage ae with stage1.size_px={stage1.size_px}",
            },
            EXIT_USAGE,
        )
    _refuse_other_data(request, {"stage 1": first, "stage ae": other})
    config = request.config.model_copy(update={"stage1": stage1, "ae": other.ae})
    return request.model_copy(update={"config": config})


def keep_inputs(request: TrainRequest, work: Work) -> dict[str, Path]:
    """The checkpoints of the earlier stages, copied into the run folder when it is new."""
    kept = {}
    for name in INPUT_STAGES:
        source = input_run(request.run_dir, name, getattr(request, f"{name}_run"))
        kept[name] = keep_input(request.run_dir, name, source, warn=work.warning)
        work.log(f"built on {kept[name].relative_to(request.run_dir)}")
    return kept


def input_run(run_dir: Path, name: str, source: Path | None) -> Run:
    """The run behind an input of a stage 2: the kept copy, or the source when there is none yet.

    Raises UserError when neither is there, or the source is no run of the right stage.
    """
    stage = INPUT_STAGES[name]
    kept = frozen_dir(run_dir, name)
    if kept.is_dir():
        return load_run(kept, family=FAMILY, stage=stage)
    if source is None:
        raise UserError(
            f"stage 2 needs a trained stage {stage}",
            {
                "run first": f"i2v train {FAMILY} --stage {stage}",
                "then": f"give its name with --{name}-run",
            },
            EXIT_USAGE,
        )
    return load_run(source, family=FAMILY, stage=stage)


def keep_input(run_dir: Path, name: str, run: Run, *, warn: Warn) -> Path:
    """Keep the newest weights of an input run in the run folder, once; returns the checkpoint."""
    target = frozen_dir(run_dir, name)
    if not target.is_dir():
        freeze_weights(run, require_checkpoint(run, warn=warn), target)
    return frozen_checkpoint(run_dir, name, warn=warn)


def frozen_checkpoint(run_dir: Path, name: str, *, warn: Warn) -> Path:
    """The checkpoint of a kept input."""
    run = load_run(frozen_dir(run_dir, name), family=FAMILY, stage=INPUT_STAGES[name])
    return require_checkpoint(run, warn=warn)


def frozen_dir(run_dir: Path, name: str) -> Path:
    """Where a stage 2 keeps an input."""
    return run_dir / "frozen" / name


def _refuse_other_data(request: TrainRequest, earlier: Mapping[str, FamilyConfig]) -> None:
    """Raise UserError when an earlier stage was trained on another dataset than this one."""
    mine = request.config.data
    others = {
        stage: f"trained on {config.data.dataset}, {' '.join(config.data.include)}"
        for stage, config in earlier.items()
        if (config.data.dataset, config.data.include) != (mine.dataset, mine.include)
    }
    if others and not request.config.stage2.allow_other_data:
        raise UserError(
            "an earlier stage was trained on other data than this one shall be",
            {
                **others,
                "stage 2": f"to be trained on {mine.dataset}, {' '.join(mine.include)}",
                "to fix": "give the runs of this data with --stage1-run and --ae-run",
                "if it is meant": "add stage2.allow_other_data=true",
            },
            EXIT_USAGE,
        )
