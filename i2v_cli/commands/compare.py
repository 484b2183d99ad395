"""`i2v compare`: what several runs put between the ends of the same clips, on one page."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from i2v_cli import locations, names, options
from i2v_cli.commands import eval as eval_verb
from i2v_cli.commands import report
from i2v_cli.console import Outcome, Table, short
from i2v_cli.registry import METRICS, Target

if TYPE_CHECKING:
    from i2v_cli.jobs import Plan
    from i2v_cli.presets import Given

MEASURED = ("psnr", "ssim")


def run(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="runs of inbetween and motion")
    ],
    clips: Annotated[
        int | None,
        typer.Option(metavar="N", help="held-out clips (8)", rich_help_panel=options.INPUT),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="of which videos (test)", rich_help_panel=options.INPUT),
    ] = None,
    num: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="videos per clip, where a model draws noise (2)",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="where to write (the runs folder, compare-TIME)",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"what to measure, as in i2v eval (repeat) ({', '.join(MEASURED)})",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    seed: options.Seed = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
) -> Outcome:
    """Compare what models put between two frames

    i2v compare inbetween-stage1-demo motion-stage1-demo

    Real clips, a cross-fade and the videos of each run, of the same held-out clips: measured, and
    side by side on one page.
    """
    from i2v_cli import runner

    given: Given = {
        "clips": ("--clips", clips),
        "split": ("--split", split),
        "num": ("--num", num),
        "out_dir": ("--out", options.absolute(out)),
        "seed": ("--seed", seed),
        "device": ("--device", device),
    }
    wanted = tuple(metric or MEASURED)
    for each in wanted:
        names.choose("metric", each, METRICS)
    planned = plan(runs, given)
    if dry_run:
        return runner.dry_run(planned)
    made = runner.carry_out(planned)
    folder = planned.outputs["comparison"]
    measured = {
        name: runner.carry_out(_measurement(folder, name, wanted)) for name in made["folders"]
    }
    page = report.plan(str(folder), {})
    runner.carry_out(page)
    table = together(measured)
    return Outcome(
        result={
            **made,
            "metrics": str(folder / "metrics.json"),
            "page": str(page.outputs["page"]),
            "columns": table.headings,
            "rows": table.rows,
        },
        table=table,
        notes=[f"side by side on {short(page.outputs['page'])}"],
    )


def together(measured: Mapping[str, Mapping[str, Any]]) -> Table:
    """One row for each folder of videos, one column for each metric with its unit."""
    first = next(iter(measured.values()))["rows"]
    headings = ["videos", *(f"{row[0]} ({row[4]})" if row[4] else row[0] for row in first)]
    return Table(
        headings, [[name, *(row[1] for row in each["rows"])] for name, each in measured.items()]
    )


def plan(runs: list[str], given: Given) -> Plan:
    """The job that fills the clips."""
    from i2v_cli import presets, run_folders
    from i2v_cli.jobs import Plan

    target = Target(
        "pipelines.motion.compare:compare", "pipelines.motion.config:CompareRequest", "main"
    )
    model = presets.find_class(target.request)
    found = [run_folders.find(name) for name in runs]
    for each in found:
        run_folders.require_checkpoint(each)
    folder = locations.runs_root() / f"compare-{time.strftime('%Y%m%d-%H%M%S')}"
    layers = presets.stack(
        model,
        defaults={
            "runs": [str(each.path) for each in found],
            "data_root": str(locations.data_root()),
            "out_dir": str(folder),
        },
        options=options.that_matter(model, given),
    )
    request = presets.resolve(model, layers, who="compare")
    return Plan(
        verb="compare",
        title=f"compare {', '.join(each.name for each in found)}",
        target=target,
        request=request,
        outputs={"comparison": request.model_dump()["out_dir"]},
    )


def _measurement(folder: Path, name: str, metrics: Sequence[str]) -> Plan:
    """The job that measures one of the folders; all numbers go to one file."""
    given: Given = {
        "label": ("--label", name),
        "out_path": ("--out", str(folder / "metrics.json")),
        "skip_start_frame": ("", False),
        "baselines": ("--baselines", False),
    }
    samples = folder / "samples"
    return eval_verb.plan(metrics, given, source=str(samples / name), real=str(samples / "real"))
