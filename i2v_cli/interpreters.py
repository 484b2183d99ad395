"""Python interpreters: where one is, whether it runs, whether it has what is needed of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from i2v_cli import environment_plan
from i2v_cli.environment_plan import Need
from pipelines.events import EXIT_ENVIRONMENT, UserError
from pipelines.schema import Config

OLDEST_PYTHON = (3, 11)
_TIMEOUT_S = 300.0

# Runs inside the interpreter that is examined. What libraries print while they are imported goes to
# standard error, so that standard output holds the answer only.
_PROBE = """
import importlib, importlib.metadata, json, os, sys
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
failed, versions = {}, {}
for package, module in json.loads(sys.argv[1]):
    try:
        importlib.import_module(module)
    except BaseException as error:
        failed[package] = f"{type(error).__name__}: {error}".splitlines()[0]
    try:
        versions[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        pass
json.dump({"python": sys.version_info[:3], "failed": failed, "versions": versions}, answer)
"""


class Probed(Config):
    """What an interpreter answered: its version, imports that failed, versions of packages."""

    python: tuple[int, int, int]
    failed: dict[str, str]
    versions: dict[str, str]


@dataclass(frozen=True)
class Health:
    """The result of an examination; no problems: it works. remedy: a command, if one helps."""

    name: str
    python: Path | None
    problems: tuple[str, ...]
    remedy: str | None = None
    versions: dict[str, str] = field(default_factory=dict)


def inside(env_dir: Path) -> Path:
    """The interpreter of a virtual environment."""
    return env_dir / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def find(given: str) -> Path:
    """The interpreter a user means: a path, the folder of a virtual environment, or a command.

    Links are kept: the interpreter of a virtual environment is a link, and following it leaves it.
    """
    path = Path(given).expanduser().absolute()
    if path.is_dir():
        path = inside(path)
    elif not path.exists() and os.sep not in given and (command := shutil.which(given)):
        path = Path(command).absolute()
    if not os.access(path, os.X_OK):
        raise UserError(
            f"there is no interpreter '{given}'",
            {"looked for": path, "to fix": "give the path of a python program"},
            EXIT_ENVIRONMENT,
        )
    return path


def find_installer() -> str:
    """The path of uv, which comes with this program as a package."""
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if not found:
        raise UserError(
            "uv, which makes environments, is missing",
            {"to fix": "install i2v again, or install uv: python -m pip install uv"},
            EXIT_ENVIRONMENT,
        )
    return found


def examine(name: str, python: Path, *, needs: Iterable[Need], lock: str, is_own: bool) -> Health:
    """Start an interpreter and import all that the environment `name` is for.

    is_own: this program made it, so versions must be the locked ones. An interpreter of the user's
    may have others, but must be new enough and agree on the major version of pydantic, which checks
    what is passed to it.
    """
    needs = tuple(needs)
    answer = _probe(python, needs)
    if isinstance(answer, str):
        return Health(name, python, (f"it does not run: {answer}",))
    problems = [f"{package}: {reason}" for package, reason in answer.failed.items()]
    problems += _version_problems(answer, environment_plan.locked_versions(lock), is_own=is_own)
    missing = " ".join(need.package for need in needs if need.package in answer.failed)
    remedy = f"{python} -m pip install {missing}" if missing and not is_own else None
    return Health(name, python, tuple(problems), remedy, answer.versions)


def _version_problems(answer: Probed, locked: dict[str, set[str]], *, is_own: bool) -> list[str]:
    problems = []
    if answer.python[:2] < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        problems.append(f"Python {'.'.join(map(str, answer.python))} is older than {oldest}")
    for package, version in answer.versions.items():
        # The part after + names the build, such as 2.9.0+cpu.
        wanted, found = locked.get(package, set()), version.split("+")[0]
        if is_own and wanted and found not in wanted:
            problems.append(f"{package} is {found}, the lock has {' or '.join(sorted(wanted))}")
    majors = {version.split(".")[0] for version in locked.get("pydantic", ())}
    found = answer.versions.get("pydantic", "").split(".")[0]
    if not is_own and majors and found and found not in majors:
        problems.append(f"pydantic {answer.versions['pydantic']} is not version {majors.pop()}")
    return problems


def _probe(python: Path, needs: Iterable[Need]) -> Probed | str:
    """What an interpreter answers, or why it does not."""
    modules = json.dumps([(need.package, need.module) for need in needs])
    try:
        done = subprocess.run(
            [python, "-I", "-c", _PROBE, modules],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment_plan.without_leaks(os.environ),
            timeout=_TIMEOUT_S,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            return said[-1] if said else f"exit status {done.returncode}"
        return Probed.model_validate_json(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return str(error).splitlines()[0]
