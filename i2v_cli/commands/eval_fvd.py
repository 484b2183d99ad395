"""`i2v eval-fvd`: the same as `i2v eval fvd`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from i2v_cli import options
from i2v_cli.commands import eval as evaluation
from i2v_cli.console import Outcome

if TYPE_CHECKING:
    from i2v_cli.presets import Given


def run(
    overrides: options.Overrides = None,
    source: evaluation.Source = None,
    real: evaluation.Real = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="as in fvd/NAME, such as poke",
            rich_help_panel=evaluation.PROTOCOL,
        ),
    ] = None,
    frames: evaluation.Frames = None,
    size: evaluation.Size = None,
    baselines: evaluation.Baselines = True,
    generated_weights: evaluation.Generated = False,
    label: evaluation.Label = None,
    out: evaluation.Out = None,
    row: evaluation.RowForm = None,
    seed: options.Seed = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
) -> Outcome:
    """The same as 'i2v eval fvd'

    i2v eval-fvd --source samples/ --real real_clips/
    """
    given: Given = {
        "num_frames": ("--frames", frames),
        "size_px": ("--size", size),
        "baselines": ("--baselines", None if baselines else False),
        "generated_weights": ("--generated-weights", generated_weights or None),
        "label": ("--label", label),
        "seed": ("--seed", seed),
        "device": ("--device", device),
        "out_path": ("--out", options.absolute(out)),
    }
    metric = "fvd" if protocol is None else f"fvd/{protocol}"
    planned = evaluation.plan([metric], given, source=source, real=real, overrides=overrides or ())
    return evaluation.carry_out(planned, row=row, dry_run=dry_run)
