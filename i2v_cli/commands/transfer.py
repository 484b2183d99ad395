"""`i2v transfer`: the motion of one video onto other images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from i2v_cli import options
from i2v_cli.commands import poses
from i2v_cli.commands.sample import Fps, Frames, Images, MoreImages, Out, RunName, outcome, plan
from i2v_cli.console import Outcome

if TYPE_CHECKING:
    from i2v_cli.presets import Given

FOMM = "Family fomm"

Driving = Annotated[
    str | None,
    typer.Option(
        metavar="VIDEO",
        help="video, or folder of frames, that the image moves like",
        rich_help_panel=FOMM,
    ),
]
Relative = Annotated[
    bool | None,
    typer.Option(
        "--relative",
        help="move by what the video moves from its first frame on, not to where it is",
        rich_help_panel=FOMM,
    ),
]
AdaptScale = Annotated[
    bool | None,
    typer.Option(
        "--adapt-scale",
        help="with --relative: moves fit the size of what the image shows",
        rich_help_panel=FOMM,
    ),
]
BestFrame = Annotated[
    str | None,
    typer.Option(
        metavar="auto|N",
        help="with --relative: the video's frame that looks like the image (0, its first)",
        rich_help_panel=FOMM,
    ),
]
Videos = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="videos that drive each other's first frames, in place of --source and --driving",
        rich_help_panel=FOMM,
    ),
]
Pairs = Annotated[
    str | None,
    typer.Option(
        metavar="CSV",
        help="with --videos: columns source and driving (50 pairs, drawn as published)",
        rich_help_panel=FOMM,
    ),
]


def run(
    family: Annotated[str, options.family("transfer")],
    arguments: MoreImages = None,
    run: RunName = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="video, or folder of frames, whose motion is taken; for fomm the image to move;"
            " for behavior poses (see --target), given twice to go from one to the other",
            rich_help_panel=options.INPUT,
        ),
    ] = None,
    target: poses.Targets = None,
    appearance: poses.Appearance = None,
    render_run: poses.RenderRun = None,
    driving: Driving = None,
    relative: Relative = None,
    adapt_scale: AdaptScale = None,
    best_frame: BestFrame = None,
    videos: Videos = None,
    pairs: Pairs = None,
    image: Images = None,
    frames: Frames = None,
    fps: Fps = None,
    out: Out = None,
    config_file: options.ConfigFile = None,
    preset: options.Preset = None,
    seed: options.Seed = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
) -> Outcome:
    """Move one video's motion to an image

    i2v transfer cinn --run cinn-stage2-demo --source clouds.mp4 --image photo.jpg
    i2v transfer fomm --run fomm-vox-256 --source face.png --driving talk.mp4 --relative
    i2v transfer behavior --run behavior-stage2-h36m --source walk.npz --target pose.json

    Writes an mp4 and a gif per image, one picture of all, and meta.json.
    """
    from i2v_cli import runner

    more_images, overrides = options.split_arguments(arguments)
    given: Given = {
        "source": ("--source", _source(family, source)),
        **poses.given(target, appearance, render_run),
        "driving": ("--driving", options.absolute(driving)),
        "relative": ("--relative", relative),
        "adapt_scale": ("--adapt-scale", adapt_scale),
        "best_frame": ("--best-frame", best_frame),
        "videos": ("--videos", options.absolute(videos)),
        "pairs": ("--pairs", options.absolute(pairs)),
        "frames": ("--frames", frames),
        "fps": ("--fps", fps),
        "seed": ("--seed", seed),
        "device": ("--device", device),
    }
    planned = plan(
        "transfer",
        family,
        given,
        run=run,
        images=[*(image or ()), *more_images],
        out=out,
        overrides=overrides,
        config_file=config_file,
        preset=preset,
        backend="videos" if videos else None,
    )
    if dry_run:
        return runner.dry_run(planned)
    return outcome(planned, runner.carry_out(planned), run or "")


def _source(family: str, texts: list[str] | None) -> object:
    """What --source means: one file, but for behavior the names of one or two sequences."""
    from pipelines.events import EXIT_USAGE, UserError

    if not texts:
        return None
    if family == "behavior":
        return [poses.poses(each) for each in texts]
    if len(texts) > 1:
        raise UserError(
            f"{family} takes one --source", {"to fix": "give the option once"}, EXIT_USAGE
        )
    return options.absolute(texts[0])
