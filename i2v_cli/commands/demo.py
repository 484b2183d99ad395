"""`i2v demo`: every step from nothing to a report, on generated data."""

from __future__ import annotations

import os
import resource
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

FAMILY, DATASET, PRESET, DEFAULT_KIND = "cinn", "synthetic", "demo", "fire"
EVALUATE = Target(
    "pipelines.cinn.evaluate:evaluate_run", "pipelines.cinn.config:EvaluateRequest", "main"
)


@dataclass(frozen=True)
class Demo:
    """What a demo is made of: which clips, of which size, and how its stages are trained."""

    kinds: tuple[str, ...]
    clips: str
    size_px: int
    choices: Choices
    run_names: tuple[str, ...]

    @property
    def last_run(self) -> str:
        """The run that holds the whole model."""
        return self.run_names[-1]


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
            help=f"kinds of clips to learn ({DEFAULT_KIND})",
            rich_help_panel=options.INPUT,
        ),
    ] = None,
    clips: Annotated[
        str,
        typer.Option(
            metavar="PRESET",
            help="how many clips: tiny or default (default)",
            show_default=False,
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
            metavar="NAME",
            help="settings of the model (demo)",
            show_default=False,
            rich_help_panel=options.SETTINGS,
        ),
    ] = PRESET,
    config_file: options.ConfigFile = None,
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
    from i2v_cli.training import Choices

    if out:
        folder = Path(str(options.absolute(out)))
        os.environ |= {"I2V_DATA": str(folder / "data"), "I2V_RUNS": str(folder / "runs")}
    wanted = options.comma_separated(kinds) or [DEFAULT_KIND]
    included = f"data.include=[{', '.join(f'{kind}/*' for kind in wanted)}]"
    choices = Choices(
        family=FAMILY,
        preset=preset,
        config_file=config_file,
        overrides=(included, *(overrides or ())),
        seed=seed,
        device=device,
    )
    demo = _decide(choices, clips)
    steps = _steps(demo)
    page = locations.runs_root() / demo.last_run / "report" / report.PAGE_NAME
    found = {
        "report": str(page),
        "runs": demo.run_names,
        "commands": [step.command for step in steps],
    }
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
        notes=[_took(time.monotonic() - started)],
        next_command=f"i2v sample {FAMILY} --run {demo.last_run} --image photo.jpg",
    )


def _took(seconds: float) -> str:
    """Time, and memory of the largest process of all workers that have ended."""
    unit = 1 if sys.platform == "darwin" else 1024  # what the system counts memory in
    peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 1e9
    return f"finished after {seconds / 60:.1f} minutes, with {peak_gb:.1f} GB of memory at most"


def _decide(choices: Choices, clips: str) -> Demo:
    """Resolve all settings first: a wrong one comes to light before an hour of work."""
    from i2v_cli.training import decide

    stages = FAMILIES[FAMILY].stages
    # as for a new run: what is there already must not matter for its settings
    first = decide(replace(choices, stage=stages[0], is_overwrite=True))
    config = first.plan.request.model_dump()["config"]
    size_px = config["stage1"]["size_px"]
    if config["data"]["variant"] is None:  # there may be others, prepared for something else
        choices = replace(choices, overrides=(f"data.variant={size_px}px", *choices.overrides))
    trainings = [decide(replace(choices, stage=stage)) for stage in stages]
    return Demo(
        kinds=tuple(_kinds(config["data"]["include"])),
        clips=clips,
        size_px=size_px,
        choices=choices,
        run_names=tuple(training.run_dir.name for training in trainings),
    )


def _kinds(patterns: Sequence[str]) -> list[str]:
    """The kinds of clips that patterns of video ids speak of."""
    named = [pattern.split("/")[0] for pattern in patterns]
    return [kind for kind in named if kind.isidentifier()] or [DEFAULT_KIND]


def _steps(demo: Demo) -> list[Step]:
    kinds, size, seed = ",".join(demo.kinds), f"--size {demo.size_px}", demo.choices.seed
    seeded = "" if seed is None else f" --seed {seed}"
    return [
        Step(
            f"i2v download {DATASET} --kinds {kinds} --preset {demo.clips} {size}{seeded}",
            lambda: _do(_download(demo)),
        ),
        Step(f"i2v extract-frames {DATASET} {size}", lambda: _do(_extract(demo))),
        *(_train_step(demo, stage) for stage in FAMILIES[FAMILY].stages),
        Step(
            f"samples of {demo.last_run} for images it has not seen, and their numbers",
            lambda: _evaluate(demo),
        ),
        Step(f"i2v report {demo.last_run}", lambda: _do(report.plan(demo.last_run, {}))),
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
        "preset": ("--clips", demo.clips),
        "size_px": ("--size", demo.size_px),
        "seed": ("--seed", demo.choices.seed),
    }
    return download.plan(DATASET, given)


def _extract(demo: Demo) -> Plan:
    return extract_frames.plan(DATASET, {"size_px": ("--size", demo.size_px)})


def _train_step(demo: Demo, stage: str) -> Step:
    from i2v_cli.training import command_line, decide

    choices = replace(demo.choices, stage=stage)

    def do() -> bool:
        training = decide(choices)
        plan = replace(training.plan, title="")
        result = train.carry_out(replace(training, plan=plan)).result
        return bool(result.get("already_done"))

    return Step(command_line(choices, stage), do)


def _evaluate(demo: Demo) -> bool:
    from i2v_cli import presets, run_folders
    from i2v_cli.jobs import Plan

    run = run_folders.find(demo.last_run)
    if _is_measured(run.path):
        return True
    given: Mapping[str, tuple[str, Any]] = {
        "run_dir": ("RUN", str(run.path)),
        "data_root": ("$I2V_DATA", str(locations.data_root())),
        "out_dir": ("RUN", str(run.path)),
        "seed": ("--seed", demo.choices.seed),
        "device": ("--device", demo.choices.device),
    }
    model = presets.find_class(EVALUATE.request)
    request = presets.resolve(model, [presets.from_options(given)], who=FAMILY)
    return _do(Plan(verb="demo", title="", target=EVALUATE, request=request))


def _is_measured(run_dir: Path) -> bool:
    """Whether a run's numbers are younger than its newest checkpoint."""
    metrics = run_dir / "metrics.json"
    checkpoints = [path.stat().st_mtime for path in run_dir.glob("checkpoints/step-*")]
    return metrics.exists() and metrics.stat().st_mtime >= max(checkpoints, default=0.0)
