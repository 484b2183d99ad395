"""List, check and look at prepared data

i2v data list
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from i2v_cli import locations, options
from i2v_cli.console import Outcome, Table, short
from i2v_cli.registry import DATASETS, Target

if TYPE_CHECKING:
    from i2v_cli.jobs import Plan
    from i2v_cli.presets import Given

app = typer.Typer(add_completion=False)

Name = Annotated[str, typer.Argument(metavar="NAME", help="a dataset, such as synthetic")]
Variant = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="prepared variant, such as 64px (the only one there is)"),
]


@app.command("list")
def list_(dry_run: options.DryRun = False) -> Outcome:
    """Show every dataset: raw data, prepared variants, sizes

    i2v data list
    """
    return _run("list_data", "list data", {}, dry_run=dry_run, next_command="i2v data info NAME")


@app.command()
def info(name: Name, variant: Variant = None, dry_run: options.DryRun = False) -> Outcome:
    """Show what a dataset holds: videos, frames, splits, labels, rejected files

    i2v data info synthetic
    """
    given: Given = {"name": ("NAME", name), "variant": ("--variant", variant)}
    return _run("info", f"describe {name}", given, dry_run=dry_run, next_command=_preview(name))


@app.command()
def verify(name: Name, variant: Variant = None, dry_run: options.DryRun = False) -> Outcome:
    """Check that every prepared file is complete and as it was written

    i2v data verify synthetic

    Of a dataset that is not prepared yet, the downloaded files are checked.
    """
    given: Given = {"name": ("NAME", name), "variant": ("--variant", variant)}
    return _run("verify", f"verify {name}", given, dry_run=dry_run, next_command=_preview(name))


@app.command()
def preview(
    name: Name,
    variant: Variant = None,
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="PNG to write (beside the dataset)")
    ] = None,
    videos: Annotated[int | None, typer.Option(metavar="N", help="rows (8)")] = None,
    frames: Annotated[int | None, typer.Option(metavar="N", help="columns (8)")] = None,
    flow: Annotated[
        bool, typer.Option("--flow", help="show the optical flow, and write a video of it")
    ] = False,
    flow_name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="flow by this estimator, or truth (the only one)"),
    ] = None,
    lag: Annotated[
        int | None, typer.Option(metavar="N", help="flow over so many frames (the least)")
    ] = None,
    dry_run: options.DryRun = False,
) -> Outcome:
    """Write one picture with frames of several videos

    i2v data preview synthetic --out look.png
    """
    given: Given = {
        "name": ("NAME", name),
        "variant": ("--variant", variant),
        "out_path": ("--out", options.absolute(out)),
        "num_videos": ("--videos", videos),
        "num_frames": ("--frames", frames),
        "flow": ("--flow", flow or bool(flow_name or lag) or None),
        "flow_name": ("--flow-name", flow_name),
        "lag": ("--lag", lag),
    }
    train = f"i2v train cinn --stage 1 --dataset {name}"
    return _run("preview", f"preview {name}", given, dry_run=dry_run, next_command=train)


def _run(function: str, title: str, given: Given, *, dry_run: bool, next_command: str) -> Outcome:
    from i2v_cli import runner

    planned = _plan(function, title, given)
    if dry_run:
        return runner.dry_run(planned)
    result = runner.carry_out(planned)
    return Outcome(
        result=result,
        lines=_lines(result),
        table=Table(result["columns"], result["rows"]) if "columns" in result else None,
        next_command=result.get("next") or next_command,
    )


def _plan(function: str, title: str, given: Given) -> Plan:
    from i2v_cli import presets
    from i2v_cli.jobs import Input, Plan

    target = Target(
        f"pipelines.datasets.inspect:{function}", "pipelines.datasets.config:InspectRequest", "data"
    )
    model = presets.find_class(target.request)
    root = locations.data_root()
    layers = presets.stack(model, defaults={"data_root": str(root)}, options=given)
    request = presets.resolve(model, layers, who=f"data {function}")
    name = given["name"][1] if "name" in given else None
    inputs: tuple[Input, ...] = ()
    if name is not None:
        verb = "download" if name in DATASETS and name != "custom" else "extract-frames"
        remedy = {"run first": f"i2v {verb} {name}"}
        inputs = (Input(f"data for dataset '{name}'", root / str(name), remedy),)
    return Plan(verb="data", title=title, target=target, request=request, inputs=inputs)


def _lines(result: dict[str, Any]) -> list[str]:
    lines = [str(line) for line in result.get("lines", ())]
    return [*lines, short(Path(str(result["path"])))] if result.get("path") else lines


def _preview(name: str) -> str:
    return f"i2v data preview {name}"
