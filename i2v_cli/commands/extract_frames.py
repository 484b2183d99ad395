"""`i2v extract-frames`: raw videos to packed frames, into <data>/<name>/prepared/<variant>."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from i2v_cli import locations, names, options
from i2v_cli.console import Outcome, short
from i2v_cli.registry import DATASETS, Target
from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError
from pipelines.files import safe_name

if TYPE_CHECKING:
    from i2v_cli.jobs import Plan
    from i2v_cli.presets import Given, Texts

FRAMES, SELECTION = "Frames", "Selection"
TARGET = Target(
    "pipelines.datasets.prepare:extract_frames", "pipelines.datasets.config:ExtractRequest", "data"
)


def run(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DATASET|FOLDER", help="a dataset's name, or a folder of videos or frames"
        ),
    ],
    overrides: options.Overrides = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="name of the dataset to make (the folder's)",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="folder below prepared/ (named after the options)",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(metavar="PX", help="height and width (64)", rich_help_panel=FRAMES)
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(
            metavar="HOW",
            help="squash, center-crop or pad (squash, as published)",
            rich_help_panel=FRAMES,
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(metavar="N", help="frames per second (as they are)", rich_help_panel=FRAMES),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(metavar="N", help="take every n-th frame (1)", rich_help_panel=FRAMES),
    ] = None,
    grey: Annotated[
        bool, typer.Option("--grey", help="one channel", rich_help_panel=FRAMES)
    ] = False,
    compat: Annotated[
        bool,
        typer.Option(
            "--compat", help="resize bit for bit as the published code", rich_help_panel=FRAMES
        ),
    ] = False,
    images: Annotated[
        bool,
        typer.Option(
            "--images",
            help="also write a folder of images per video, named as published",
            rich_help_panel=FRAMES,
        ),
    ] = False,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="HOW",
            help="raw, jpeg, or none to keep poses only (raw while it fits --max-gb, else jpeg)",
            rich_help_panel=FRAMES,
        ),
    ] = None,
    max_gb: Annotated[
        float | None,
        typer.Option(
            metavar="GB", help="space that the frames may take (50)", rich_help_panel=FRAMES
        ),
    ] = None,
    split: Annotated[
        tuple[float, float, float] | None,
        typer.Option(
            metavar="TRAIN VAL TEST", help="parts (0.8 0.1 0.1)", rich_help_panel=SELECTION
        ),
    ] = None,
    split_by: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT", help="video, time or group (video)", rich_help_panel=SELECTION
        ),
    ] = None,
    group_regex: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX", help="its one group names a video's group", rich_help_panel=SELECTION
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="whose published split to follow; own for --split (the dataset's usual one)",
            rich_help_panel=SELECTION,
        ),
    ] = None,
    clip_frames: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="cut videos into clips of N frames", rich_help_panel=SELECTION
        ),
    ] = None,
    min_frames: Annotated[
        int | None,
        typer.Option(metavar="N", help="leave out shorter videos (17)", rich_help_panel=SELECTION),
    ] = None,
    drop_static: Annotated[
        float | None,
        typer.Option(
            metavar="LEVELS",
            help="leave out videos that change less (keep all)",
            rich_help_panel=SELECTION,
        ),
    ] = None,
    scene_cut: Annotated[
        float | None,
        typer.Option(
            metavar="LEVELS",
            help="cut where frames differ more (do not cut)",
            rich_help_panel=SELECTION,
        ),
    ] = None,
    keep_damaged: Annotated[
        bool,
        typer.Option(
            "--keep-damaged",
            help="keep the frames before the damage of a damaged video",
            rich_help_panel=SELECTION,
        ),
    ] = False,
    config_file: options.ConfigFile = None,
    preset: options.Preset = None,
    jobs: options.Jobs = None,
    engine: options.Engine = None,
    shard: options.Shard = None,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="prepare again even if done", rich_help_panel=options.RUN),
    ] = False,
    seed: options.Seed = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
) -> Outcome:
    """Turn raw videos into packed frames for training

    i2v extract-frames synthetic
    i2v extract-frames my_clips/ --fps 12 --size 64

    Takes videos, images and folders of frames. The result goes to $I2V_DATA/NAME/prepared; an
    interrupted call goes on where it stopped.
    """
    from i2v_cli import runner

    given: Given = {
        "name": ("--name", name),
        "variant": ("--variant", variant),
        "size_px": ("--size", size),
        "fit": ("--fit", fit),
        "fps": ("--fps", fps),
        "stride": ("--stride", stride),
        "grey": ("--grey", grey or None),
        "write_images": ("--images", images or None),
        "storage": ("--storage", storage),
        "max_gb": ("--max-gb", max_gb),
        "split": ("--split", split),
        "split_by": ("--split-by", split_by),
        "group_regex": ("--group-regex", group_regex),
        "protocol": ("--protocol", protocol),
        "compat": ("--compat", compat or None),
        "clip_frames": ("--clip-frames", clip_frames),
        "min_frames": ("--min-frames", min_frames),
        "drop_static": ("--drop-static", drop_static),
        "scene_cut": ("--scene-cut", scene_cut),
        "keep_damaged": ("--keep-damaged", keep_damaged or None),
        "engine": ("--engine", engine),
        "shard": ("--shard", shard),
        "rebuild": ("--rebuild", rebuild or None),
        "jobs": ("--jobs", jobs),
        "seed": ("--seed", seed),
        "device": ("--device", device),
    }
    planned = plan(source, given, overrides=overrides or (), config_file=config_file, preset=preset)
    if dry_run:
        return runner.dry_run(planned)
    result = runner.carry_out(planned)
    dataset = str(planned.request.model_dump()["name"])
    if shard is not None:
        return Outcome(
            result=result,
            lines=[str(result.get("parts_dir", result.get("variant_dir")))],
            notes=["when all shards are done: the same command without --shard"],
        )
    variant_dir = Path(str(result.get("variant_dir", planned.outputs["prepared frames"])))
    return Outcome(
        result=result,
        lines=[short(variant_dir)],
        next_command=_next_command(dataset, result),
    )


def _next_command(dataset: str, result: Mapping[str, object]) -> str:
    """Training on the clips; a look at what there is where there are none."""
    num_videos = result.get("num_videos")
    is_single = num_videos is not None and result.get("num_frames") == num_videos
    if is_single or result.get("storage") == "none":
        return f"i2v data info {dataset}"
    return f"i2v train cinn --stage 1 --dataset {dataset}"


def plan(
    source: str,
    given: Given,
    *,
    overrides: Texts = (),
    config_file: str | None = None,
    preset: str | None = None,
) -> Plan:
    """The job that prepares a dataset or a folder."""
    from i2v_cli import presets
    from i2v_cli.jobs import Input, Plan

    model = presets.find_class(TARGET.request)
    where = {"data_root": str(locations.data_root()), "jobs": options.available_cores()}
    if preset is None and source in presets.available("extract-frames"):
        preset = source  # what the papers on this dataset agree on
    layers = presets.stack(
        model,
        defaults=where | _origin(source),
        preset=preset,
        presets_of="extract-frames",
        config_file=config_file,
        overrides=overrides,
        options=options.that_matter(model, given),
    )
    request = presets.resolve(model, layers, who="extract-frames")
    chosen = request.model_dump()
    dataset_dir = locations.data_root() / chosen["name"]
    if chosen["source"]:
        needed = Input(f"folder or file '{source}'", chosen["source"])
    else:
        remedy = {"run first": f"i2v download {source}"}
        needed = Input(f"raw data for dataset '{source}'", dataset_dir / "raw", remedy)
    return Plan(
        verb="extract-frames",
        title=f"extract frames of {source}",
        target=TARGET,
        request=request,
        inputs=(needed,),
        outputs={"prepared frames": dataset_dir / "prepared"},
        after_stop={"kept": "every finished video; the same command goes on from there"},
    )


def _origin(source: str) -> dict[str, str]:
    """What a dataset's name or a folder means for the request."""
    path = Path(source).expanduser()
    if source in DATASETS and source != "custom" and not _looks_like_path(source):
        names.choose("dataset", source, DATASETS)
        return {"name": source, "kind": source}
    if not path.exists():
        raise _not_found(source, path)
    return {
        "name": safe_name(path.absolute().stem),
        "kind": "custom",
        "source": str(path.absolute()),
    }


def _looks_like_path(source: str) -> bool:
    return "/" in source or source.startswith((".", "~"))


def _not_found(source: str, path: Path) -> UserError:
    if _looks_like_path(source):
        return UserError(
            f"no folder or file '{source}'",
            {"looked in": short(path.absolute().parent), "to fix": "check the path"},
            EXIT_NO_DATA,
        )
    built: Sequence[str] = [name for name, row in DATASETS.items() if row.is_built]
    guess = names.nearest(source, built)
    return UserError(
        f"no dataset and no folder '{source}'",
        {
            **({"did you mean": guess} if guess else {}),
            "datasets": ", ".join(name for name in built if name != "custom"),
            "to fix": "give one of these names, or the path of a folder of videos",
        },
        EXIT_USAGE,
    )
