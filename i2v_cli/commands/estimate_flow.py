"""`i2v estimate-flow`: prepared frames to packed flow, into <variant>/flow/<name>."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from i2v_cli import locations, options
from i2v_cli.console import Outcome, short
from i2v_cli.registry import Target
from pipelines.events import EXIT_USAGE, UserError

if TYPE_CHECKING:
    from i2v_cli.jobs import Input, Plan
    from i2v_cli.presets import Given, Texts

FLOW = "Flow"
TARGET = Target(
    "pipelines.flow.estimate:estimate_flow", "pipelines.flow.config:EstimateRequest", "flow"
)


def run(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="a prepared dataset's name")],
    overrides: options.Overrides = None,
    variant: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="prepared variant, such as 64px (the only one there is)",
            rich_help_panel=options.INPUT,
        ),
    ] = None,
    frames_of: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="look at the frames of this variant, such as 256px (its own)",
            rich_help_panel=options.INPUT,
        ),
    ] = None,
    estimator: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="dis, raft-small, raft-large, flownet2 or one of its parts (dis)",
            rich_help_panel=FLOW,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="weights (the downloaded ones)", rich_help_panel=options.INPUT
        ),
    ] = None,
    lags: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="frames from the first to the second of a pair (the dataset's own)",
            rich_help_panel=FLOW,
        ),
    ] = None,
    input_size: Annotated[
        int | None,
        typer.Option(
            metavar="PX", help="size the estimator sees (the frames')", rich_help_panel=FLOW
        ),
    ] = None,
    flow_size: Annotated[
        int | None,
        typer.Option(
            metavar="PX", help="size of the stored flow (the frames')", rich_help_panel=FLOW
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="estimate backwards too, mark pixels where both disagree",
            rich_help_panel=FLOW,
        ),
    ] = False,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="name of the flow (the estimator's)",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    files: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="take the flow from published files instead of estimating it",
            rich_help_panel=options.INPUT,
        ),
    ] = None,
    export_to: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="also write a file per pair, named as published",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORM",
            help="of these files: npy, flo or kitti (npy)",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    config_file: options.ConfigFile = None,
    preset: options.Preset = None,
    devices: Annotated[
        str | None,
        typer.Option(
            metavar="D,D,...",
            help="such as 0,1 or cuda:0,cuda:1 or cpu (auto)",
            rich_help_panel=options.RUN,
        ),
    ] = None,
    workers_per_device: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="processes with a model each (1; for dis one per core)",
            rich_help_panel=options.RUN,
        ),
    ] = None,
    engine: options.Engine = None,
    shard: options.Shard = None,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="estimate again even if done", rich_help_panel=options.RUN),
    ] = False,
    seed: options.Seed = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
) -> Outcome:
    """Estimate optical flow between frames

    i2v estimate-flow synthetic
    i2v estimate-flow plants --variant 64px --frames-of 256px --estimator raft-large --check

    The flow goes beside the frames; an interrupted call goes on where it stopped. dis needs no
    weights and no graphics card.
    """
    from i2v_cli import runner

    given: Given = {
        "name": ("DATASET", dataset),
        "variant": ("--variant", variant),
        "frames_of": ("--frames-of", frames_of),
        "estimator": ("--estimator", estimator or ("files" if files else None)),
        "weights_path": ("--weights", options.absolute(weights)),
        "lags": ("--lags", _numbers("--lags", lags)),
        "input_size_px": ("--input-size", input_size),
        "flow_size_px": ("--flow-size", flow_size),
        "check": ("--check", check or None),
        "flow_name": ("--name", name),
        "files_dir": ("--files", options.absolute(files)),
        "export_dir": ("--export-to", options.absolute(export_to)),
        "export_format": ("--format", form),
        "devices": _devices(devices, device),
        "workers_per_device": ("--workers-per-device", workers_per_device),
        "engine": ("--engine", engine),
        "shard": ("--shard", shard),
        "rebuild": ("--rebuild", rebuild or None),
        "seed": ("--seed", seed),
    }
    planned = plan(given, overrides=overrides or (), config_file=config_file, preset=preset)
    if dry_run:
        return runner.dry_run(planned)
    result = runner.carry_out(planned)
    if shard is not None:
        notes = ["when all shards are done: the same command without --shard"]
        return Outcome(result=result, lines=[short(Path(str(result["flow_dir"])))], notes=notes)
    lines = [short(Path(str(result[key]))) for key in ("flow_dir", "export_dir") if key in result]
    return Outcome(
        result=result,
        lines=lines,
        next_command=f"i2v data preview {dataset} --flow --variant {result['variant']}",
    )


def plan(
    given: Given,
    *,
    overrides: Texts = (),
    config_file: str | None = None,
    preset: str | None = None,
) -> Plan:
    """The job that estimates the flow of a dataset."""
    from i2v_cli import presets
    from i2v_cli.jobs import Plan

    model = presets.find_class(TARGET.request)
    data_root = locations.data_root()
    defaults = {
        "data_root": str(data_root),
        "weights_root": str(data_root / "weights"),
        "cores": options.available_cores(),
    }
    layers = presets.stack(
        model,
        defaults=defaults,
        preset=preset,
        presets_of="estimate-flow",
        config_file=config_file,
        overrides=overrides,
        options=options.that_matter(model, given),
    )
    request: Any = presets.resolve(model, layers, who="estimate-flow")
    prepared = data_root / request.name / "prepared"
    return Plan(
        verb="estimate-flow",
        title=f"estimate the flow of {request.name}",
        target=TARGET,
        request=request,
        inputs=tuple(_inputs(request, prepared)),
        outputs={"flow": prepared / (request.variant or "*") / "flow" / request.folder_name()},
        after_stop={
            "kept": "the flow of every finished video; the same command goes on from there"
        },
    )


def _inputs(request: Any, prepared: Path) -> list[Input]:
    from i2v_cli.jobs import Input

    frames = prepared / request.variant if request.variant else prepared
    remedy = {"run first": f"i2v extract-frames {request.name}"}
    needed = [Input(f"prepared frames for dataset '{request.name}'", frames, remedy)]
    weights = request.weights_file()
    if weights is not None:
        remedy = {"run first": f"i2v download weights/{request.estimator}"}
        needed.append(Input(f"weights for '{request.estimator}'", weights, remedy))
    if request.files_dir is not None:
        needed.append(Input("folder of flow files", request.files_dir))
    return needed


def _numbers(option: str, text: str | None) -> list[int] | None:
    """The numbers of '5,10'; None stays None."""
    parts = options.comma_separated(text)
    if parts is None:
        return None
    if not parts or not all(part.isdecimal() for part in parts):
        raise UserError(
            f"option {option}",
            {"": f"must be whole numbers, such as 5,10, not '{text}'"},
            EXIT_USAGE,
        )
    return [int(part) for part in parts]


def _devices(several: str | None, one: str | None) -> tuple[str, list[str] | None]:
    """Devices by name; a plain number is a CUDA device."""
    option = "--devices" if several is not None else "--device"
    parts = options.comma_separated(several if several is not None else one)
    if parts is None:
        return option, None
    return option, [f"cuda:{part}" if part.isdecimal() else part for part in parts]
