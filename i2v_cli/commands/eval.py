"""`i2v eval`: any set of metrics over one folder of videos, in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from i2v_cli import locations, names, options
from i2v_cli.console import Outcome, Table, short
from i2v_cli.registry import METRICS, Target

if TYPE_CHECKING:
    from i2v_cli.jobs import Plan
    from i2v_cli.presets import Given, Texts

PROTOCOL = "Protocol"
REQUEST = "pipelines.metrics.config:EvalRequest"
_BUILT = ", ".join(name for name, row in METRICS.items() if row.is_built)


def run(
    metrics: Annotated[
        list[str], typer.Argument(metavar="METRIC...", help=f"one or several of: {_BUILT}")
    ],
    source: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|RUN",
            help="generated videos: a folder, or a run with samples",
            rich_help_panel=options.INPUT,
        ),
    ] = None,
    real: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="real videos; names match those of the source",
            rich_help_panel=options.INPUT,
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="first frames of each video (all)", rich_help_panel=PROTOCOL
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            metavar="PX", help="resize all videos first (as they are)", rich_help_panel=PROTOCOL
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="name of this evaluation (the folder's)",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="JSON to write (metrics.json of the run, or in the source)",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    config_file: options.ConfigFile = None,
    preset: options.Preset = None,
    seed: options.Seed = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
) -> Outcome:
    """Measure generated videos

    i2v eval ssim psnr diversity --source cinn-stage2-demo
    i2v eval frechet-embedded --source samples/ --real real_clips/

    Settings key=value may follow the metrics. Every number comes with the protocol it was measured
    under; metrics.json keeps both.
    """
    from i2v_cli import runner

    wanted, overrides = options.split_arguments(metrics)
    given: Given = {
        "num_frames": ("--frames", frames),
        "size_px": ("--size", size),
        "label": ("--label", label),
        "seed": ("--seed", seed),
        "device": ("--device", device),
        "out_path": ("--out", options.absolute(out)),
    }
    planned = plan(
        wanted,
        given,
        source=source,
        real=real,
        overrides=overrides,
        config_file=config_file,
        preset=preset,
    )
    if dry_run:
        return runner.dry_run(planned)
    return outcome(planned, runner.carry_out(planned))


def plan(
    metrics: Sequence[str],
    given: Given,
    *,
    source: str | None,
    real: str | None,
    overrides: Texts = (),
    config_file: str | None = None,
    preset: str | None = None,
) -> Plan:
    """The job that measures a folder of videos."""
    from i2v_cli import presets
    from i2v_cli.jobs import Input, Plan

    rows = [names.choose("metric", name, METRICS) for name in metrics]
    target = Target("pipelines.metrics.evaluate:evaluate", REQUEST, rows[0].env if rows else "main")
    model = presets.find_class(target.request)
    source_path = _folder(source)
    layers = presets.stack(
        model,
        defaults={"out_path": str(_metrics_path(source_path))} if source_path else None,
        preset=preset,
        presets_of="eval",
        config_file=config_file,
        overrides=overrides,
        options={
            **options.that_matter(model, given),
            "metrics": ("METRIC", list(metrics) or None),
            "source": ("--source", str(source_path) if source_path else None),
            "real": ("--real", options.absolute(real)),
        },
    )
    request = presets.resolve(model, layers, who="eval")
    chosen = request.model_dump()
    inputs = [Input(f"folder of videos '{source}'", chosen["source"], _SOURCE_REMEDY)]
    if chosen["real"]:
        inputs.append(Input(f"folder of real videos '{real}'", chosen["real"]))
    return Plan(
        verb="eval",
        title=f"measure {', '.join(metrics)} of {chosen['source'].name}",
        target=target,
        request=request,
        inputs=tuple(inputs),
        outputs={"metrics": chosen["out_path"]},
    )


def outcome(planned: Plan, result: Mapping[str, Any]) -> Outcome:
    """The numbers as a table; where they were written."""
    from i2v_cli import run_folders

    metrics_path = planned.outputs["metrics"]
    run = run_folders.read(metrics_path.parent)
    return Outcome(
        result=result,
        table=Table(result["columns"], result["rows"]) if "columns" in result else None,
        notes=[f"written to {short(metrics_path)}"],
        next_command=f"i2v report {run.name}" if run else None,
    )


_SOURCE_REMEDY = {
    "to fix": "give a folder of videos, or the name of a run with samples",
    "run first": "i2v sample FAMILY --run RUN --image FILE",
}


def _metrics_path(source: Path) -> Path:
    """Where numbers belong: with the run that the videos are part of, else beside the videos."""
    from i2v_cli.run_folders import RUN_NAME

    folders = (source, *source.parents[:2])
    run_dir = next((folder for folder in folders if (folder / RUN_NAME).is_file()), source)
    return run_dir / "metrics.json"


def _folder(text: str | None) -> Path | None:
    """A folder, or the folder of a run of that name."""
    if text is None:
        return None
    by_name = locations.runs_root() / text
    path = Path(text).expanduser().absolute()
    return by_name if by_name.is_dir() and not path.is_dir() else path
