"""Options of `i2v sample` and `i2v transfer` that name poses, and what they mean to the behavior
family.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from i2v_cli.presets import Given

BEHAVIOR = "Family behavior"

Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="POSES",
        help="posture to start from: a file of poses (.npz, .npy, .json, .csv), an image with one"
        " beside it, or DATASET:VIDEO of prepared data; @N behind it starts at frame N",
        rich_help_panel=BEHAVIOR,
    ),
]
Appearance = Annotated[
    str | None,
    typer.Option(
        metavar="IMAGE", help="person to be shown, by --render-run", rich_help_panel=BEHAVIOR
    ),
]
RenderRun = Annotated[
    str | None,
    typer.Option(
        metavar="RUN", help="run of shape-pose that renders the poses", rich_help_panel=BEHAVIOR
    ),
]

_REFERENCE = re.compile(r"^[A-Za-z][\w-]*:.+$")


def poses(text: str) -> str:
    """A name of poses that no longer depends on the current folder; DATASET:VIDEO stays."""
    place, at, frame = text.rpartition("@")
    if not (at and frame.isdecimal()) or Path(text).exists():
        place, at, frame = text, "", ""
    path = Path(place).expanduser()
    if _REFERENCE.match(place) and not path.exists():
        return text
    return f"{path.absolute()}{at}{frame}"


def given(target: Sequence[str] | None, appearance: str | None, render_run: str | None) -> Given:
    """The settings behind the options."""
    from i2v_cli import options, run_folders

    renderer = run_folders.find_of_family(render_run, "shape-pose") if render_run else None
    return {
        "target": ("--target", [poses(each) for each in target] if target else None),
        "appearance": ("--appearance", options.absolute(appearance)),
        "render_run": ("--render-run", str(renderer.path) if renderer else None),
    }
