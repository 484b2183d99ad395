"""`i2v compare`: what several runs put between the ends of the same clips, on one page."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from i2v_cli import locations, options
from i2v_cli.commands import eval as eval_verb
from i2v_cli.commands import report
from i2v_cli.console import Outcome, short
from i2v_cli.registry import Target

if TYPE_CHECKING:
    from i2v_cli.jobs import Plan
    from i2v_cli.presets import Given

METRICS = ("psnr", "ssim")


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
    planned = plan(runs, given)
    if dry_run:
        return runner.dry_run(planned)
    made = runner.carry_out(planned)
    folder = planned.outputs["comparison"]
    for name in made["folders"]:
        runner.carry_out(_measurement(folder, name))
    page = report.plan(str(folder), {})
    runner.carry_out(page)
    return Outcome(
        result={**made, "metrics": str(folder / "metrics.json"), "page": str(page.outputs["page"])},
        lines=[short(page.outputs["page"])],
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


def _measurement(folder: Path, name: str) -> Plan:
    """The job that measures one of the folders; all numbers go to one file."""
    given: Given = {
        "label": ("--label", name),
        "out_path": ("--out", str(folder / "metrics.json")),
        "skip_start_frame": ("", False),
        "baselines": ("--baselines", False),
    }
    samples = folder / "samples"
    return eval_verb.plan(METRICS, given, source=str(samples / name), real=str(samples / "real"))
