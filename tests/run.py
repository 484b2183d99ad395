"""Run every test suite in the environment that its code runs in.

    .venv/bin/python -m tests.run [SUITE...] [-- PYTEST ARGUMENTS]

The environments are the user's own, so that they are made once; pytest itself comes from a folder
beside them and never enters them. All suites run even if one fails; nothing is printed after
pytest's own closing lines.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from i2v_cli import console, environments, interpreters
from i2v_cli.environment_plan import for_creation
from pipelines.events import UserError

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "tests" / "requirements.lock"


@dataclass(frozen=True)
class Suite:
    """Test folders that run in one environment; None is the command line's own."""

    environment: str | None
    folders: tuple[str, ...]
    by_default: bool = True


SUITES = {
    "cli": Suite(None, ("tests/cli", "tests/e2e")),
    "data": Suite("data", ("tests/pipelines/io", "tests/pipelines/datasets")),
    "main": Suite(
        "main",
        (
            *(
                f"tests/pipelines/{part}"
                for part in (
                    "clips",
                    "nn",
                    "training",
                    "features",
                    "metrics",
                    "report",
                    "cinn",
                    "flownet2",
                    "poke",
                    "behavior",
                    "shape_pose",
                )
            ),
            "tests/parity",
            "tests/contract",
            "tests/benchmarks",
        ),
    ),
    "flow": Suite("flow", ("tests/pipelines/flow",)),
    "fvd": Suite("fvd", ("tests/pipelines/fvd",)),
    "parity": Suite("main", ("tests/parity",), by_default=False),
    "learn": Suite("main", ("tests/learning",), by_default=False),
}

# Folders of the table that have nothing to test yet. One that is not listed must have tests.
EMPTY: frozenset[str] = frozenset()


def main(arguments: Sequence[str]) -> int:
    """Run the suites that are named, or all that run by default; returns the exit status."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    names = arguments[:split] or [name for name, suite in SUITES.items() if suite.by_default]
    if problems := _unknown(names) or _table_problems(names):
        print("\n".join(f"error: {problem}" for problem in problems), file=sys.stderr)
        return 2
    tools_dir = _tools_dir()
    results = [_run(name, tools_dir, arguments[split + 1 :]) for name in names]
    return int(any(results))


def _unknown(names: Sequence[str]) -> list[str]:
    known = ", ".join(SUITES)
    return [f"no suite '{name}'; there are {known}" for name in names if name not in SUITES]


def _table_problems(names: Sequence[str]) -> list[str]:
    """Where the table and the tree differ: a test that no suite runs would never fail."""
    folders = {folder for suite in SUITES.values() for folder in suite.folders}
    chosen = {folder for name in names for folder in SUITES[name].folders}
    missing = sorted(folder for folder in chosen - EMPTY if not _has_tests(folder))
    problems = [f"{folder} has no tests" for folder in missing]
    problems += [f"{folder} has tests: take it off EMPTY" for folder in filter(_has_tests, EMPTY)]
    covered = tuple(f"{folder}/" for folder in folders)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if not path.relative_to(ROOT).as_posix().startswith(covered):
            problems.append(f"no suite runs {path.relative_to(ROOT)}")
    return problems


def _has_tests(folder: str) -> bool:
    return any((ROOT / folder).rglob("test_*.py"))


def _run(name: str, tools_dir: Path, pytest_arguments: Sequence[str]) -> int:
    suite = SUITES[name]
    folders = [folder for folder in suite.folders if _has_tests(folder)]
    variables = environments.worker_environment()
    python = Path(sys.executable)
    if suite.environment:
        try:
            python = environments.ensure(suite.environment)
        except UserError as error:
            console.show_error(error)
            return error.exit_code
        variables["PYTHONPATH"] = os.pathsep.join((str(tools_dir), str(ROOT)))
    print(f"== {name}: {', '.join(folders)} ({python})", flush=True)
    command = [str(python), "-m", "pytest", "-p", "no:cacheprovider", *folders, *pytest_arguments]
    return subprocess.run(command, cwd=ROOT, env=variables).returncode


def _tools_dir() -> Path:
    """A folder with pytest in it, made once for each version of its lock file."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    tools_dir = ROOT / ".build" / "test-tools" / digest
    if not tools_dir.exists():
        tools_dir.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=tools_dir.parent, suffix=".part"))
        install = (
            "pip",
            "install",
            "--quiet",
            "--no-build",
            "--require-hashes",
            "--link-mode=copy",
        )
        target = ("--python", sys.executable, "--target", str(part), "-r", str(LOCK))
        command = [interpreters.find_installer(), *install, *target]
        subprocess.run(command, check=True, env=for_creation(os.environ), cwd=part.anchor)
        try:
            os.replace(part, tools_dir)
        except OSError:  # another run made it first
            shutil.rmtree(part)
    return tools_dir


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
