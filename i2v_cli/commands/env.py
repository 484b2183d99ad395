"""Create, check and remove environments

The work of i2v runs in isolated environments. Each is made the first time it is needed, so these
commands are for making one ahead of time, for repairs, and for using a Python you already have.

i2v env create main
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from i2v_cli import console
from i2v_cli.console import Outcome, Table
from i2v_cli.registry import ENVS
from pipelines.events import EXIT_DONE, EXIT_ENVIRONMENT, EXIT_USAGE, UserError

if TYPE_CHECKING:
    from i2v_cli.environments import Status
    from i2v_cli.interpreters import Health

app = typer.Typer(add_completion=False)

_NAMES = ", ".join(ENVS)
Name = Annotated[str, typer.Argument(metavar="NAME", help=f"one of: {_NAMES}")]
Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help=f"some of: {_NAMES}; or all")
]


@app.command("list")
def list_() -> Outcome:
    """Show every environment, its size and whether it is ready

    i2v env list
    """
    from i2v_cli import environments

    found = [environments.status(name) for name in ENVS]
    rows = [(row.name, row.state, _size(row), _torch(row), ENVS[row.name].about) for row in found]
    notes = [f"{row.name} is broken: {row.problem}" for row in found if row.problem]
    notes += [
        f"{row.name}: {len(row.older_dirs)} of other versions; to delete them: "
        f"i2v env remove {row.name} --older"
        for row in found
        if row.older_dirs
    ]
    return Outcome(
        result={"environments": [_as_json(row) for row in found]},
        table=Table(("name", "state", "size", "torch", "for"), rows),
        notes=notes,
        next_command=_next_for(found),
    )


@app.command()
def create(
    which: Names = None,
    torch: Annotated[
        str | None,
        typer.Option(
            metavar="BUILD", help="another build of torch: cpu, auto, cu126, ...; or default"
        ),
    ] = None,
    extras: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="EXTRA", help="cluster: Ray and SLURM; none: nothing more"),
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="make it again even if it works")
    ] = False,
) -> Outcome:
    """Make environments now rather than when they are first needed

    A build of torch and an extra that are chosen here are kept for later versions of i2v.

    i2v env create main
    i2v env create data flow main --with cluster
    """
    from i2v_cli import environments

    names = _required(which)
    joined = None if extras is None else [each for each in extras if each != "none"]
    made = []
    for name in names:
        # With `all`, a build of torch is meant for those that have torch.
        build = torch if ENVS.get(name) and (ENVS[name].has_torch or len(names) == 1) else None
        made.append(environments.create(name, torch=build, extras=joined, rebuild=rebuild))
    return Outcome(
        result={"environments": [_as_json(row) for row in made]},
        lines=[str(row.env_dir) for row in made],
        next_command=f"i2v env check {' '.join(names)}",
    )


@app.command()
def check(
    which: Names = None,
    repair: Annotated[bool, typer.Option("--repair", help="make broken ones again")] = False,
) -> Outcome:
    """Start environments and import what they are for; without a name, those that exist

    i2v env check main --repair
    """
    from i2v_cli import environments

    names = _expand(which or ["all"])
    if not which:
        names = [name for name in names if environments.status(name).state != "absent"]
    results = [_check(name, repair=repair) for name in names]
    bad = [health for health in results if health.problems]
    lines = [f"{health.name}: {'; '.join(health.problems) or 'works'}" for health in results]
    return Outcome(
        result={"environments": [_health_json(health) for health in results]},
        lines=lines or ["no environment has been made yet"],
        next_command=_remedy(bad[0]) if bad else None,
        exit_code=EXIT_ENVIRONMENT if bad else EXIT_DONE,
    )


@app.command()
def remove(
    which: Names = None,
    older: Annotated[
        bool, typer.Option("--older", help="and those that other versions of i2v or Python made")
    ] = False,
) -> Outcome:
    """Delete environments; they are made again when they are needed

    i2v env remove fvd
    """
    from i2v_cli import environments

    removed = [path for name in _required(which) for path in environments.remove(name, older=older)]
    return Outcome(
        result={"removed": [str(path) for path in removed]},
        lines=[f"removed {path}" for path in removed],
        notes=[] if removed else ["nothing to remove"],
        next_command="i2v env list",
    )


@app.command()
def use(
    name: Name,
    interpreter: Annotated[
        str | None,
        typer.Argument(metavar="[PYTHON]", help="a python program, or the folder of a virtual one"),
    ] = None,
    default: Annotated[
        bool, typer.Option("--default", help="go back to the environment that i2v makes")
    ] = False,
) -> Outcome:
    """Use a Python you already have as an environment: a cluster's, a container's, conda's

    It is started and must import all that the environment is for. i2v never changes it.

    i2v env use main /opt/torch/bin/python
    """
    from i2v_cli import environments

    if (interpreter is None) != default:
        raise UserError(
            "give either a PYTHON or --default",
            {"for example": f"i2v env use {name} /path/to/python"},
            EXIT_USAGE,
        )
    row = environments.adopt(name, interpreter) if interpreter else environments.use_own(name)
    text = f"{name} is {row.python}" if interpreter else f"{name} is made by i2v ({row.state})"
    return Outcome(result=_as_json(row), lines=[text], next_command=f"i2v env check {name}")


@app.command("python")
def python_(name: Name) -> Outcome:
    """Print the interpreter of an environment, which is made first if need be

    i2v env python main
    """
    from i2v_cli import environments

    path = str(environments.ensure(name))
    return Outcome(result={"python": path}, lines=[path])


def _required(which: list[str] | None) -> list[str]:
    if not which:
        raise UserError(
            "missing NAME", {"there are": f"{_NAMES}; all means all of them"}, EXIT_USAGE
        )
    return _expand(which)


def _expand(which: list[str]) -> list[str]:
    return list(ENVS) if which == ["all"] else list(dict.fromkeys(which))


def _check(name: str, *, repair: bool) -> Health:
    from i2v_cli import environments

    console.say(f"checking {name}")
    health = environments.check(name)
    if health.problems and repair and not environments.status(name).is_adopted:
        environments.create(name, rebuild=True)
        health = environments.check(name)
    return health


def _remedy(health: Health) -> str:
    from i2v_cli import environments

    if health.remedy:
        return health.remedy
    known = environments.status(health.name)
    if known.is_adopted:
        return f"i2v env use {health.name} --default"
    if known.state == "absent":
        return f"i2v env create {health.name}"
    return f"i2v env check {health.name} --repair"


def _size(row: Status) -> str:
    return f"{row.stamp.size_bytes / 1e9:.1f} GB" if row.stamp else ""


def _torch(row: Status) -> str:
    return row.stamp.torch if row.stamp and ENVS[row.name].has_torch else ""


def _next_for(found: list[Status]) -> str | None:
    if any(row.state == "broken" for row in found):
        return "i2v env check --repair"
    absent = [row.name for row in found if row.state == "absent"]
    return f"i2v env create {absent[0]}" if absent else None


def _as_json(row: Status) -> dict[str, object]:
    return {
        "name": row.name,
        "state": row.state,
        "python": str(row.python) if row.python else None,
        "folder": str(row.env_dir) if row.env_dir else None,
        "stamp": row.stamp.model_dump() if row.stamp else None,
        "problem": row.problem,
        "older": [str(path) for path in row.older_dirs],
    }


def _health_json(health: Health) -> dict[str, object]:
    return {
        "name": health.name,
        "python": str(health.python) if health.python else None,
        "problems": list(health.problems),
        "versions": health.versions,
    }
