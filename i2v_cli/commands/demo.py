"""`i2v demo`: every step from nothing to a report, on generated data."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from i2v_cli import console, locations, options
from i2v_cli.commands import download, extract_frames, report, train
from i2v_cli.console import Outcome, Table, short
from i2v_cli.registry import FAMILIES, Target

if TYPE_CHECKING:
    from i2v_cli.jobs import Plan
    from i2v_cli.training import Choices

FAMILY, DATASET, PRESET = "cinn", "synthetic", "demo"
EVALUATE = Target(
    "pipelines.cinn.evaluate:evaluate_run", "pipelines.cinn.config:EvaluateRequest", "main"
)


@dataclass(frozen=True)
class Demo:
    """What a demo is made of: which clips, of which size, and which settings."""

    kinds: tuple[str, ...]
    has_own_kinds: bool
    data_preset: str
    size_px: int
    preset: str
    overrides: tuple[str, ...]
    seed: int | None
    device: str | None

    @property
    def training_overrides(self) -> tuple[str, ...]:
        """Settings of all stages: train on the kinds that the user named, else on the preset's."""
        if not self.has_own_kinds:
            return self.overrides
        include = ", ".join(f"{kind}/*" for kind in self.kinds)
        return (f"data.include=[{include}]", *self.overrides)


@dataclass(frozen=True)
class Step:
    """One step: the command that does the same, and the doing; True when it had been done."""

    command: str
    do: Callable[[], bool]


def run(
    overrides: options.Overrides = None,
    kinds: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="kinds of clips to learn (those of the preset)",
            rich_help_panel=options.INPUT,
        ),
    ] = None,
    clips: Annotated[
        str,
        typer.Option(
            metavar="PRESET",
            help="how many clips: tiny or default",
            rich_help_panel=options.INPUT,
        ),
    ] = "default",
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="where to put data and runs (./data and ./runs)",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="settings of the model", rich_help_panel=options.SETTINGS
        ),
    ] = PRESET,
    seed: options.Seed = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
) -> Outcome:
    """See the whole path work on generated data

    i2v demo

    Generates clips, prepares them, trains the three stages of the cinn family, animates images it
    has not seen, measures the result and writes a report. Takes minutes on a CPU. Called again, it
    goes on where it stopped.
    """
    from i2v_cli.training import decide

    if out:
        os.environ["I2V_DATA"] = str(Path(str(options.absolute(out))) / "data")
        os.environ["I2V_RUNS"] = str(Path(str(options.absolute(out))) / "runs")
    demo = Demo(
        kinds=tuple(options.comma_separated(kinds) or _kinds_of(preset)),
        has_own_kinds=kinds is not None,
        data_preset=clips,
        size_px=_size_px(preset, overrides or ()),
        preset=preset,
        overrides=tuple(overrides or ()),
        seed=seed,
        device=device,
    )
    for stage in FAMILIES[FAMILY].stages:  # wrong settings come to light before an hour of work
        decide(_choices(demo, stage))
    run_names = _run_names(demo)
    steps = _steps(demo, run_names)
    page = locations.runs_root() / run_names[-1] / "report" / report.PAGE_NAME
    found = {"report": str(page), "runs": run_names, "commands": [step.command for step in steps]}
    if dry_run:
        return Outcome(result=found | {"dry_run": True}, lines=[step.command for step in steps])
    started = time.monotonic()
    for number, step in enumerate(steps, 1):
        console.say(f"{number}/{len(steps)}  {step.command}", console.BOLD)
        if step.do():
            console.say("  already done")
    return Outcome(
        result=found,
        lines=[short(page)],
        notes=[f"finished after {(time.monotonic() - started) / 60:.1f} minutes"],
        next_command=f"i2v sample {FAMILY} --run {run_names[-1]} --image photo.jpg",
    )


def _steps(demo: Demo, run_names: Sequence[str]) -> list[Step]:
    last = run_names[-1]
    common = _words(("--seed", demo.seed))
    kinds = ",".join(demo.kinds)
    size = f"--size {demo.size_px}"
    return [
        Step(
            f"i2v download {DATASET} --kinds {kinds} --preset {demo.data_preset} {size}{common}",
            lambda: _do(_download(demo)),
        ),
        Step(
            f"i2v extract-frames {DATASET} {size}",
            lambda: _do(_extract(demo)),
        ),
        *(_train_step(demo, stage) for stage in FAMILIES[FAMILY].stages),
        Step(
            f"samples of {last} for images it has not seen, and their numbers",
            lambda: _evaluate(demo, last),
        ),
        Step(f"i2v report {last}", lambda: _do(report.plan(last, {}))),
    ]


def _do(planned: Plan) -> bool:
    from i2v_cli import runner

    result = runner.carry_out(replace(planned, title=""))
    _say_numbers(result)
    return result.get("is_new") is False or result.get("made") == 0


def _say_numbers(result: Mapping[str, Any]) -> None:
    """Show a result's table, without the protocols: those are in the report."""
    if "columns" in result:
        kept = [number for number, name in enumerate(result["columns"]) if name != "protocol"]
        headings, *rows = (
            [row[number] for number in kept] for row in (result["columns"], *result["rows"])
        )
        for line in console.table_lines(Table(headings, rows), stream=sys.stderr):
            console.say(f"  {console.strip_styles(line)}")


def _download(demo: Demo) -> Plan:
    given = {
        "kinds": ("--kinds", list(demo.kinds)),
        "preset": ("--clips", demo.data_preset),
        "size_px": ("--size", demo.size_px),
        "seed": ("--seed", demo.seed),
    }
    return download.plan(DATASET, given)


def _extract(demo: Demo) -> Plan:
    return extract_frames.plan(DATASET, {"size_px": ("--size", demo.size_px)})


def _choices(demo: Demo, stage: str) -> Choices:
    from i2v_cli.training import Choices

    return Choices(
        family=FAMILY,
        stage=stage,
        preset=demo.preset,
        overrides=demo.training_overrides,
        seed=demo.seed,
        device=demo.device,
    )


def _train_step(demo: Demo, stage: str) -> Step:
    from i2v_cli.training import command_line, decide

    choices = _choices(demo, stage)

    def do() -> bool:
        training = decide(choices)
        plan = replace(training.plan, title="")
        result = train.carry_out(replace(training, plan=plan)).result
        return bool(result.get("already_done"))

    return Step(command_line(choices, stage), do)


def _evaluate(demo: Demo, run_name: str) -> bool:
    from i2v_cli import presets, run_folders
    from i2v_cli.jobs import Plan

    run = run_folders.find(run_name)
    if _is_measured(run.path):
        return True
    given: Mapping[str, tuple[str, Any]] = {
        "run_dir": ("RUN", str(run.path)),
        "data_root": ("$I2V_DATA", str(locations.data_root())),
        "out_dir": ("RUN", str(run.path)),
        "seed": ("--seed", demo.seed),
        "device": ("--device", demo.device),
    }
    model = presets.find_class(EVALUATE.request)
    request = presets.resolve(model, [presets.from_options(given)], who=FAMILY)
    return _do(Plan(verb="demo", title="", target=EVALUATE, request=request))


def _is_measured(run_dir: Path) -> bool:
    """Whether a run's numbers are younger than its newest checkpoint."""
    metrics = run_dir / "metrics.json"
    checkpoints = [path.stat().st_mtime for path in run_dir.glob("checkpoints/step-*")]
    return metrics.exists() and metrics.stat().st_mtime >= max(checkpoints, default=0.0)


def _size_px(preset: str, overrides: Sequence[str]) -> int:
    """The size of the frames that the model of a preset takes."""
    from i2v_cli.training import Choices, decide

    choices = Choices(FAMILY, FAMILIES[FAMILY].stages[0], preset=preset, overrides=overrides)
    config = decide(choices).plan.request.model_dump()["config"]
    return int(config["stage1"]["size_px"])


def _kinds_of(preset: str) -> list[str]:
    """The kinds of clips that a preset is trained on."""
    from i2v_cli import presets

    data = presets.from_preset(FAMILY, preset).values.get("data", {})
    return [pattern.split("/")[0] for pattern in data.get("include", ())] or ["clouds"]


def _run_names(demo: Demo) -> list[str]:
    from i2v_cli.run_folders import default_name

    return [default_name(FAMILY, stage, demo.preset) for stage in FAMILIES[FAMILY].stages]


def _words(*pairs: tuple[str, object]) -> str:
    given = [f" {option} {shlex.quote(str(value))}" for option, value in pairs if value is not None]
    return "".join(given)
