"""The options that all job verbs share, spelled once. Light: help texts need no more than this."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from i2v_cli import console
from i2v_cli.registry import families_with

INPUT, OUTPUT, MODEL, SETTINGS, RUN = "Input", "Output", "Model", "Settings", "Run"

OVERRIDE = re.compile(r"([A-Za-z_][\w-]*(?:\.[\w-]+)*)=(.*)", re.DOTALL)
"""A setting as an argument; a file whose name looks like one can be given as ./name=x."""


def family(verb: str) -> Any:
    """The argument that names the model family of a verb."""
    names = ", ".join(families_with(verb))
    return typer.Argument(metavar="FAMILY", help=f"model family: {names}")


Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="settings by name; dots descend into sections: stage1.batch_size=4",
        rich_help_panel=SETTINGS,
    ),
]
ConfigFile = Annotated[
    str | None,
    typer.Option(
        "--config", metavar="FILE", help="settings from a YAML file", rich_help_panel=SETTINGS
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset", metavar="NAME", help="settings that ship with i2v", rich_help_panel=SETTINGS
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", metavar="N", help="processes (one per core)", rich_help_panel=RUN),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", help="seed of all random draws", rich_help_panel=RUN),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:1 (auto)", rich_help_panel=RUN
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT",
        help="what spreads the work: local, ray or slurm (local)",
        rich_help_panel=RUN,
    ),
]
Parts = Annotated[
    int | None,
    typer.Option("--parts", metavar="N", help="parts for ray or slurm (8)", rich_help_panel=RUN),
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="only the I-th of N parts, from 0; a last call without it finishes",
        rich_help_panel=RUN,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="show settings, environment, inputs and outputs; do nothing",
        rich_help_panel=RUN,
    ),
]


def split_arguments(arguments: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Arguments that are no settings, and those of the form key=value; each in order."""
    overrides = [text for text in arguments or () if OVERRIDE.fullmatch(text)]
    return [text for text in arguments or () if not OVERRIDE.fullmatch(text)], overrides


def that_matter(
    model: Any, given: Mapping[str, tuple[str, object]]
) -> dict[str, tuple[str, object]]:
    """The given options without --seed and --device where the request has no such thing."""
    useless = {name for name in ("seed", "device") if name not in model.model_fields}
    for name in useless:
        option, value = given.get(name, ("", None))
        if value not in (None, "auto", "cpu"):
            console.warn(f"{option} makes no difference here")
    return {name: pair for name, pair in given.items() if name not in useless}


def comma_separated(text: str | None) -> list[str] | None:
    """The parts of 'a,b'; None stays None."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def absolute(text: str | None) -> str | None:
    """A path as it was typed, made independent of the current folder."""
    return None if text is None else str(Path(text).expanduser().absolute())


def available_cores() -> int:
    """Cores this process may use; in a container or a cluster job fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
