"""`i2v download`: raw data of a dataset into <data>/<dataset>/raw, weights into <data>/weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from i2v_cli import locations, names, options, published
from i2v_cli.console import Outcome, short
from i2v_cli.registry import DATASETS, Target
from pipelines.events import EXIT_USAGE, UserError

if TYPE_CHECKING:
    from i2v_cli.jobs import Plan
    from i2v_cli.presets import Given, Texts

PUBLISHED, ACCESS, CLIPS = "Published data", "Access", "Generated clips"
GENERATED = "synthetic"


def run(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET",
            help="synthetic, plants, iper, h36m, taichi, bair, landscape, dtdb, kth, deepfashion,"
            " market, or weights/NAME; 'weights' lists those",
        ),
    ],
    overrides: options.Overrides = None,
    accept_terms: Annotated[
        bool,
        typer.Option(
            "--accept-terms",
            help="accept the terms, which are shown first",
            rich_help_panel=PUBLISHED,
        ),
    ] = False,
    subset: Annotated[
        str | None,
        typer.Option(
            metavar="PART", help="one part, such as test of bair", rich_help_panel=PUBLISHED
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="files whose names fit; may be given several times",
            rich_help_panel=PUBLISHED,
        ),
    ] = None,
    from_dir: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="take over files that you have already: archives or what is in them",
            rich_help_panel=PUBLISHED,
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="read every file again and compare its checksum",
            rich_help_panel=PUBLISHED,
        ),
    ] = False,
    retry_missing: Annotated[
        bool,
        typer.Option(
            "--retry-missing",
            help="try videos again that were gone for good",
            rich_help_panel=PUBLISHED,
        ),
    ] = False,
    no_unpack: Annotated[
        bool,
        typer.Option("--no-unpack", help="leave archives as they are", rich_help_panel=PUBLISHED),
    ] = False,
    drop_archives: Annotated[
        bool,
        typer.Option(
            "--drop-archives",
            help="remove archives once they are unpacked",
            rich_help_panel=PUBLISHED,
        ),
    ] = False,
    phpsessid: Annotated[
        str | None,
        typer.Option(
            metavar="VALUE",
            help="session cookie for h36m (asked for, or from $I2V_H36M_PHPSESSID)",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    cookies: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="cookies.txt of a browser, for Google Drive and YouTube",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    cookies_from_browser: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="take the cookies for YouTube from firefox, chrome, ...",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    sleep: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="wait between two YouTube videos (0)", rich_help_panel=ACCESS
        ),
    ] = None,
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
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            metavar="N",
            help="files at a time (2); of generated clips, processes (one per core)",
            rich_help_panel=options.RUN,
        ),
    ] = None,
    seed: options.Seed = None,
    device: options.Device = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="list files, sizes and outputs; fetch nothing",
            rich_help_panel=options.RUN,
        ),
    ] = False,
) -> Outcome:
    """Get a dataset or published weights

    i2v download bair --subset test

    Data goes to $I2V_DATA/DATASET/raw, weights to $I2V_DATA/weights/NAME (./data when $I2V_DATA is
    not set). What is there already is checked and kept; what was begun goes on.
    """
    given: Given = {
        "accept_terms": ("--accept-terms", accept_terms or None),
        "subset": ("--subset", subset),
        "only": ("--only", only or None),
        "from_dir": ("--from-dir", options.absolute(from_dir)),
        "verify": ("--verify", verify or None),
        "retry_missing": ("--retry-missing", retry_missing or None),
        "unpack": ("--no-unpack", False if no_unpack else None),
        "keep_archives": ("--drop-archives", False if drop_archives else None),
        "cookies_path": ("--cookies", options.absolute(cookies)),
        "cookies_from_browser": ("--cookies-from-browser", cookies_from_browser),
        "pause_s": ("--sleep", sleep),
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
    if dataset.rstrip("/") == published.WEIGHTS.rstrip("/"):
        return published.list_weights()
    if _choose(dataset) == GENERATED:
        planned = plan(dataset, given, overrides=overrides or (), config_file=config_file)
        return _generate(planned, dry_run=dry_run)
    given = {**given, "dry_run": ("--dry-run", dry_run or None)}
    planned = published.plan(dataset, given, overrides=overrides or (), config_file=config_file)
    if dry_run:
        return published.dry_run(planned)
    return published.carry_out(planned, cookie=phpsessid)


def plan(
    dataset: str, given: Given, *, overrides: Texts = (), config_file: str | None = None
) -> Plan:
    """The job that generates clips."""
    from i2v_cli import presets
    from i2v_cli.jobs import Plan

    target = Target(
        f"{DATASETS[dataset].module}:download", "pipelines.datasets.config:DownloadRequest", "data"
    )
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


def _choose(dataset: str) -> str:
    """The name, if there is something to get under it. UserError with the nearest name if not."""
    if dataset == "custom":
        raise UserError(
            "'custom' stands for your own files: there is nothing to download",
            {"run instead": "i2v extract-frames FOLDER"},
            EXIT_USAGE,
        )
    if dataset.startswith(published.WEIGHTS):
        published.check_weights_name(dataset)
    elif dataset not in (there := [GENERATED, *published.dataset_names()]):
        raise names.unknown(f"no dataset '{dataset}'", dataset, there)
    return dataset


def _generate(planned: Plan, *, dry_run: bool) -> Outcome:
    from i2v_cli import runner

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
        next_command=result.get("next") or f"i2v extract-frames {GENERATED}",
    )
