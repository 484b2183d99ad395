"""`i2v transfer`: the motion of one video onto other images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from i2v_cli import options
from i2v_cli.commands.sample import Fps, Frames, Images, MoreImages, Out, RunName, outcome, plan
from i2v_cli.console import Outcome

if TYPE_CHECKING:
    from i2v_cli.presets import Given


def run(
    family: Annotated[str, typer.Argument(metavar="FAMILY", help="model family: cinn")],
    arguments: MoreImages = None,
    run: RunName = None,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="VIDEO",
            help="video, or folder of frames, whose motion is taken",
            rich_help_panel=options.INPUT,
        ),
    ] = None,
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

    Writes an mp4 and a gif per image, one picture of all, and meta.json.
    """
    from i2v_cli import runner

    more_images, overrides = options.split_arguments(arguments)
    given: Given = {
        "source": ("--source", options.absolute(source)),
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
    )
    if dry_run:
        return runner.dry_run(planned)
    return outcome(planned, runner.carry_out(planned), run or "")
