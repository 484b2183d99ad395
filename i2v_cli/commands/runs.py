"""List, show and remove runs

i2v runs list
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from i2v_cli import console, locations
from i2v_cli.console import Outcome, Table, short
from pipelines.events import EXIT_USAGE, UserError

if TYPE_CHECKING:
    from i2v_cli.run_folders import Run

app = typer.Typer(add_completion=False)


@app.command("list")
def list_() -> Outcome:
    """Show every run: family, stage, how far it is, when it was last worked on

    i2v runs list
    """
    from i2v_cli import run_folders

    runs = run_folders.list_all()
    rows = [
        (run.path.name, run.family, run.stage, _status(run), _step(run), _when(run)) for run in runs
    ]
    headings = ("run", "family", "stage", "status", "step", "last change")
    return Outcome(
        result={"runs": [_as_json(run) for run in runs]},
        table=Table(headings, rows) if rows else None,
        notes=[] if rows else [f"no runs in {short(locations.runs_root())}"],
        next_command="i2v runs show RUN" if rows else "i2v train cinn --stage 1",
    )


@app.command()
def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="a run's name or folder")],
) -> Outcome:
    """Show one run: its state, what is in its folder, its settings

    i2v runs show cinn-stage1-demo
    """
    import yaml

    from i2v_cli import run_folders

    found = run_folders.find(run)
    settings = yaml.safe_dump(found.request, sort_keys=False, allow_unicode=True)
    facts = {
        "run": short(found.path),
        "family": found.family,
        "stage": found.stage,
        "status": _status(found),
        "step": _step(found),
        "size": _size(found.path),
        "report": short(found.path / "report") if (found.path / "report").is_dir() else "none",
    }
    lines = [f"# {label}: {value}" for label, value in facts.items()]
    return Outcome(
        result=_as_json(found) | {"request": found.request},
        lines=[*lines, *settings.rstrip().split("\n")],
        next_command=f"i2v report {found.name}",
    )


@app.command()
def rm(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="names or folders of runs")],
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> Outcome:
    """Delete runs with everything in them; asks first

    i2v runs rm cinn-stage1-test
    """
    from i2v_cli import run_folders

    found = list(dict.fromkeys(run_folders.locate(name) for name in runs))
    for path in found:
        run_folders.refuse_busy(path)
    removed = [path for path in found if yes or _agrees(path)]
    for path in removed:
        run_folders.remove(path)
    return Outcome(
        result={"removed": [str(path) for path in removed]},
        notes=[f"{'removed' if path in removed else 'kept'} {short(path)}" for path in found],
        next_command="i2v runs list",
    )


def _agrees(path: Path) -> bool:
    if not sys.stdin.isatty():
        raise UserError(
            "nobody is there to ask",
            {"to fix": f"i2v runs rm {path.name} --yes"},
            EXIT_USAGE,
        )
    return console.ask(f"delete {short(path)} ({_size(path)})?")


def _status(run: Run) -> str:
    from i2v_cli import run_folders

    if run.status == "running" and not run_folders.is_busy(run.path):
        return "stopped"
    return run.status


def _step(run: Run) -> str:
    return "-" if run.step is None else str(run.step)


def _when(run: Run) -> str:
    newest = max(path.stat().st_mtime for path in (run.path, *run.path.iterdir()))
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(newest))


def _size(path: Path) -> str:
    total = sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    return f"{total / 1e6:,.1f} MB"


def _as_json(run: Run) -> dict[str, object]:
    return {
        "name": run.path.name,
        "path": str(run.path),
        "family": run.family,
        "stage": run.stage,
        "status": _status(run),
        "step": run.step,
    }
