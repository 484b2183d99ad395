"""Run every test suite in the environment that its code runs in.

    .venv/bin/python -m tests.run [SUITE...] [-- PYTEST ARGUMENTS]

The environments are the user's own, so that they are made once; pytest itself comes from a folder
beside them and never enters them. Suites run side by side, as many as there are cores (two at
most), and are shown one after the other. All run even if one fails; nothing is printed after
pytest's own closing lines.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from i2v_cli import console, environments, interpreters
from i2v_cli.environment_plan import for_creation
from pipelines.events import UserError

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "tests" / "requirements.lock"
MOST_LANES = 2
FOLLOW_S = 0.2


@dataclass(frozen=True)
class Suite:
    """Test folders that run in one environment; None is the command line's own.

    variables: of the process that runs them.  extra: joined to the environment for the tests.
    """

    environment: str | None
    folders: tuple[str, ...]
    by_default: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)
    extra: str | None = None


SUITES = {  # the longest first: they begin in this order
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
                    "serve",
                    "inbetween",
                    "motion",
                    "fomm",
                    "behavior",
                    "shape_pose",
                )
            ),
            "tests/parity",
            "tests/contract",
            "tests/benchmarks",
        ),
    ),
    "learning": Suite("main", ("tests/learning",)),
    "engines": Suite("main", ("tests/pipelines/engines",), extra="cluster"),
    "data": Suite("data", ("tests/pipelines/io", "tests/pipelines/datasets")),
    "cli": Suite(None, ("tests/cli", "tests/e2e")),
    "flow": Suite("flow", ("tests/pipelines/flow",), extra="cluster"),
    "fvd": Suite("fvd", ("tests/pipelines/fvd",)),
    "parity": Suite("main", ("tests/parity",), by_default=False),
    "learn": Suite("main", ("tests/learning",), by_default=False, variables={"I2V_LEARN": "full"}),
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
    tools = {
        name: [_tools_dir(LOCK), *([_tools_dir(_extra_lock(extra))] if extra else [])]
        for name, extra in ((name, SUITES[name].extra) for name in names)
    }
    try:
        pythons = {name: _python_of(SUITES[name]) for name in names}
    except UserError as error:
        console.show_error(error)
        return error.exit_code
    lanes = min(len(names), os.cpu_count() or 1, MOST_LANES)
    with ThreadPoolExecutor(lanes) as pool, tempfile.TemporaryDirectory() as folder:
        running = {
            name: (
                log := Path(folder, name),
                pool.submit(_run, name, python, tools[name], log, arguments[split + 1 :], lanes),
            )
            for name, python in pythons.items()
        }
        return int(any([_shown(name, *each) for name, each in running.items()]))


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


def _python_of(suite: Suite) -> Path:
    """The interpreter of its environment, which is made where it is missing."""
    return environments.ensure(suite.environment) if suite.environment else Path(sys.executable)


def _run(
    name: str,
    python: Path,
    tools: Sequence[Path],
    log: Path,
    more: Sequence[str],
    lanes: int,
) -> int:
    """Run a suite, all that it prints into a file; returns pytest's status."""
    suite = SUITES[name]
    folders = [folder for folder in suite.folders if _has_tests(folder)]
    variables = {**environments.worker_environment(), **suite.variables}
    if suite.environment:
        variables["PYTHONPATH"] = os.pathsep.join(map(str, (*tools, ROOT)))
    if lanes > 1:  # threads that wait for a core they share are slower than none
        variables["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // lanes))
    command = [str(python), "-m", "pytest", "-p", "no:cacheprovider", *folders, *more]
    with log.open("wb") as output:
        output.write(f"== {name}: {', '.join(folders)} ({python})\n".encode())
        output.flush()
        return subprocess.run(
            command, cwd=ROOT, env=variables, stdout=output, stderr=subprocess.STDOUT
        ).returncode


def _shown(name: str, log: Path, running: Future[int]) -> int:
    """Pass on what a suite prints, while it prints it; returns its status."""
    while not log.exists() and not running.done():
        time.sleep(FOLLOW_S)
    if not log.exists():
        return running.result()
    with log.open("rb") as output:
        is_last = False
        while not is_last:
            is_last = running.done()  # asked first: what came before that is read below
            sys.stdout.buffer.write(output.read())
            sys.stdout.buffer.flush()
            if not is_last:
                time.sleep(FOLLOW_S)
    return running.result()


def _extra_lock(extra: str) -> Path:
    return ROOT / "envs" / f"{extra}.lock"


def _tools_dir(lock: Path) -> Path:
    """A folder with what a lock file names, made once for each version of it."""
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
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
        target = ("--python", sys.executable, "--target", str(part), "-r", str(lock))
        command = [interpreters.find_installer(), *install, *target]
        subprocess.run(command, check=True, env=for_creation(os.environ), cwd=part.anchor)
        try:
            os.replace(part, tools_dir)
        except OSError:  # another run made it first
            shutil.rmtree(part)
    return tools_dir


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
