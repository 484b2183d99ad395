"""`i2v report`: one static folder with a run's curves, videos and numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from i2v_cli import options
from i2v_cli.console import Outcome, short
from i2v_cli.registry import Target

if TYPE_CHECKING:
    from i2v_cli.jobs import Plan
    from i2v_cli.presets import Given, Texts

PAGE_NAME = "index.html"


def run(
    run: Annotated[str, typer.Argument(metavar="RUN", help="a run's name or folder")],
    overrides: options.Overrides = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help="where to write (RUN/report)", rich_help_panel=options.OUTPUT
        ),
    ] = None,
    config_file: options.ConfigFile = None,
    preset: options.Preset = None,
    seed: options.Seed = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
) -> Outcome:
    """Write a page with curves and videos

    i2v report cinn-stage2-demo

    The page is a folder that opens by double click: it needs no server and no network.
    """
    from i2v_cli import runner

    given: Given = {
        "out_dir": ("--out", options.absolute(out)),
        "seed": ("--seed", seed),
        "device": ("--device", device),
    }
    planned = plan(run, given, overrides=overrides or (), config_file=config_file, preset=preset)
    if dry_run:
        return runner.dry_run(planned)
    result = runner.carry_out(planned)
    page = planned.outputs["page"]
    return Outcome(result={**result, "page": str(page)}, lines=[short(page)])


def plan(
    run: str,
    given: Given,
    *,
    overrides: Texts = (),
    config_file: str | None = None,
    preset: str | None = None,
) -> Plan:
    """The job that writes a run's page."""
    from i2v_cli import presets, run_folders
    from i2v_cli.jobs import Plan

    found = run_folders.find(run)
    target = Target("pipelines.report.page:report", "pipelines.report.config:ReportRequest", "main")
    model = presets.find_class(target.request)
    layers = presets.stack(
        model,
        defaults={"run_dir": str(found.path), "out_dir": str(found.path / "report")},
        preset=preset,
        presets_of="report",
        config_file=config_file,
        overrides=overrides,
        options=options.that_matter(model, given),
    )
    request = presets.resolve(model, layers, who="report")
    page = request.model_dump()["out_dir"] / PAGE_NAME
    return Plan(
        verb="report",
        title=f"report of {found.name}",
        target=target,
        request=request,
        outputs={"page": page},
    )
