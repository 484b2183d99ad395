"""`i2v download`: raw data of a dataset, into <data>/<dataset>/raw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from i2v_cli import locations, names, options
from i2v_cli.console import Outcome, short
from i2v_cli.registry import DATASETS, Target
from pipelines.events import EXIT_USAGE, UserError

if TYPE_CHECKING:
    from i2v_cli.jobs import Plan
    from i2v_cli.presets import Given, Texts

CLIPS = "Generated clips"


def run(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="what to get: synthetic")],
    overrides: options.Overrides = None,
    kinds: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="only these kinds (all)", rich_help_panel=CLIPS),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="how many: tiny or default (default)", rich_help_panel=CLIPS
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(metavar="PX", help="height and width (64)", rich_help_panel=CLIPS)
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(metavar="N", help="frames per clip (the preset's)", rich_help_panel=CLIPS),
    ] = None,
    ood: Annotated[
        bool,
        typer.Option(
            "--ood", help="test clips move faster than any training clip", rich_help_panel=CLIPS
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="replace clips that were made with other settings",
            rich_help_panel=CLIPS,
        ),
    ] = False,
    config_file: options.ConfigFile = None,
    jobs: options.Jobs = None,
    seed: options.Seed = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
) -> Outcome:
    """Get a dataset or published weights

    i2v download synthetic --kinds clouds,fire --preset tiny

    The data goes to $I2V_DATA/DATASET/raw (./data/DATASET/raw when $I2V_DATA is not set). What is
    there already is checked and kept.
    """
    from i2v_cli import runner

    given: Given = {
        "kinds": ("--kinds", options.comma_separated(kinds)),
        "preset": ("--preset", preset),
        "size_px": ("--size", size),
        "num_frames": ("--frames", frames),
        "ood": ("--ood", ood or None),
        "force": ("--force", force or None),
        "jobs": ("--jobs", jobs),
        "seed": ("--seed", seed),
        "device": ("--device", device),
    }
    planned = plan(dataset, given, overrides=overrides or (), config_file=config_file)
    if dry_run:
        return runner.dry_run(planned)
    result = runner.carry_out(planned)
    raw_dir = planned.outputs["raw data"]
    return Outcome(
        result={**result, "raw_dir": str(raw_dir)},
        lines=[short(raw_dir)],
        notes=[f"{result['made']} made, {result['kept']} there already"]
        if "made" in result
        else (),
        next_command=result.get("next") or f"i2v extract-frames {dataset}",
    )


def plan(
    dataset: str, given: Given, *, overrides: Texts = (), config_file: str | None = None
) -> Plan:
    """The job that gets a dataset. UserError for one that cannot be had this way."""
    from i2v_cli import presets
    from i2v_cli.jobs import Plan

    if dataset == "custom":
        raise UserError(
            "'custom' stands for your own files: there is nothing to download",
            {"run instead": "i2v extract-frames FOLDER"},
            EXIT_USAGE,
        )
    there = {name: row for name, row in DATASETS.items() if name != "custom"}
    row = names.choose("dataset", dataset, there)
    target = Target(f"{row.module}:download", "pipelines.datasets.config:DownloadRequest", "data")
    model = presets.find_class(target.request)
    layers = presets.stack(
        model,
        defaults={
            "dataset": dataset,
            "data_root": str(locations.data_root()),
            "jobs": options.available_cores(),
        },
        config_file=config_file,
        overrides=overrides,
        options=options.that_matter(model, given),
    )
    return Plan(
        verb="download",
        title=f"download {dataset}",
        target=target,
        request=presets.resolve(model, layers, who=f"download {dataset}"),
        outputs={"raw data": locations.data_root() / dataset / "raw"},
        after_stop={"kept": "every finished clip; the same command goes on from there"},
    )
