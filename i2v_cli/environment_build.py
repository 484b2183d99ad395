"""Making an environment: beside its place, tried out, stamped, and only then renamed.

Only for who holds the environment's lock (`environments.py`). Whatever is killed half-way leaves a
hidden folder that the next creation deletes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from i2v_cli import __version__, environment_plan, interpreters
from i2v_cli.environment_plan import Need, Plan, Stamp
from i2v_cli.registry import Environment
from pipelines.events import EXIT_ENVIRONMENT, UserError
from pipelines.files import read_json, write_json, write_text

_STAMP = "i2v-environment.json"
_HASH_PATTERN = "[0-9a-f]" * environment_plan.HASH_LENGTH
_BYTES_PER_GB = 1e9


class Reporter(Protocol):
    """Who is told how creation goes on. `pipelines.events.Work` has the same methods."""

    def log(self, text: str) -> None:
        """Take one line that a user wants to see."""

    def progress(self, task: str, done: float, total: float | None = None, unit: str = "") -> None:
        """Take how far a task is; called about once a second."""


class Build:
    """One creation of one environment."""

    def __init__(
        self,
        plan: Plan,
        environment: Environment,
        *,
        needs: tuple[Need, ...],
        has_sibling: bool,
        reporter: Reporter,
    ) -> None:
        """has_sibling: another environment holds the same torch, whose files can be shared."""
        self._plan = plan
        self._environment = environment
        self._needs = needs
        self._reporter = reporter
        self._log_path = plan.envs_home / f"{plan.env_dir.name}.log"
        self._installer = interpreters.find_installer()
        self._variables = environment_plan.for_creation(os.environ)
        self._cache = self._choose_cache()
        same_disk = _device(self._cache) == _device(plan.envs_home)
        self._links = environment_plan.link_arguments(self._variables, same_disk=same_disk)
        self._variables["UV_CACHE_DIR"] = str(self._cache)
        shares_torch = same_disk and has_sibling and environment.has_torch
        self._needed_gb = environment_plan.needed_gb(
            environment, plan.torch, shares_torch=shares_torch
        )

    def run(self) -> None:
        """Make it, or raise and leave what was there before."""
        started = time.monotonic()
        sweep(self._plan.envs_home, self._plan.name)
        self._announce()
        self._log_path.write_bytes(b"")
        part = _hidden_dir(self._plan.env_dir, ".part")
        try:
            self._install(part)
            self._try_out(part)
            self._stamp(part, time.monotonic() - started)
            discard(self._plan.env_dir)
            os.replace(part, self._plan.env_dir)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        self._log_path.unlink()

    def _announce(self) -> None:
        home = self._plan.envs_home
        free = shutil.disk_usage(home).free / _BYTES_PER_GB
        if error := environment_plan.short_of_space(self._plan.name, self._needed_gb, free, home):
            raise error
        text = f"making the environment '{self._plan.name}', once: {self._environment.about}"
        cost = f"about {self._needed_gb:.1f} GB in {home}"
        if self._needed_gb > 1:
            cost += f", about {self._environment.minutes:g} min with a fast network"
        self._reporter.log(f"{text} ({cost})")

    def _install(self, part: Path) -> None:
        # The interpreter's links are made to survive the renaming.
        self._call(("venv", "--relocatable", "--python", sys.executable, str(part)), part)
        target = ("--python", str(interpreters.inside(part)), *self._links)
        for step in environment_plan.install_steps(self._plan.lock, self._plan.torch):
            requirements = part / "requirements.txt"
            write_text(requirements, step.requirements)
            verb, *options = step.arguments[1:]
            self._call(("pip", verb, *target, *options, str(requirements)), part)

    def _call(self, arguments: tuple[str, ...], part: Path) -> None:
        growth = _Growth(self._cache, part)
        with self._log_path.open("ab") as log:
            process = None
            try:
                with _interrupts_held():  # between its start and here nobody would end it
                    process = subprocess.Popen(
                        [self._installer, *arguments],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        env=self._variables,
                        # Not the current folder, whose project files may hold settings for the
                        # installer.
                        cwd=part.anchor,
                    )
                while _is_running(process, 1.0):
                    self._report(growth)
            finally:
                if process is not None:
                    _end(process)
        if process.returncode:
            output = self._log_path.read_text(encoding="utf-8", errors="replace")
            raise environment_plan.explain_failure(self._plan.name, output, self._log_path)

    def _report(self, growth: _Growth) -> None:
        row, torch = self._environment, self._plan.torch
        # Shared files count too: linking them is what is seen to go on.
        total = environment_plan.needed_gb(row, torch, shares_torch=False) * _BYTES_PER_GB
        # The total is an estimate; a bar that is full while the work goes on says nothing.
        done = min(growth.measure(), 0.99 * total)
        self._reporter.progress(f"environment {self._plan.name}", done, total, "B")

    def _try_out(self, part: Path) -> None:
        self._reporter.log("trying it out")
        name = self._plan.name
        python = interpreters.inside(part)
        lock = self._plan.lock
        health = interpreters.examine(name, python, needs=self._needs, lock=lock, is_own=True)
        if health.problems:
            raise UserError(
                f"the environment '{name}' was made but does not work here",
                {
                    "problem": "\n".join(health.problems),
                    "to fix": f"use an interpreter you have: i2v env use {name} /path/to/python",
                },
                EXIT_ENVIRONMENT,
            )

    def _stamp(self, part: Path, seconds: float) -> None:
        stamp = Stamp(
            name=self._plan.name,
            lock_sha256=self._plan.lock_sha256,
            python=self._plan.python,
            torch=self._plan.torch,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(seconds, 1),
            size_bytes=_folder_bytes(part),
            tool_version=__version__,
        )
        write_json(part / _STAMP, stamp.model_dump())

    def _choose_cache(self) -> Path:
        home = self._plan.envs_home
        listed = subprocess.run(
            [self._installer, "cache", "dir"],
            env=self._variables,
            cwd=home.anchor,
            capture_output=True,
            text=True,
        )
        if listed.returncode:
            raise environment_plan.explain_failure(self._plan.name, listed.stderr, None)
        users = Path(listed.stdout.strip())
        is_usable = _device(users) == _device(home) and os.access(_existing(users), os.W_OK)
        is_users_choice = "UV_CACHE_DIR" in self._variables
        return environment_plan.choose_cache(
            users, home.parent, is_usable=is_usable, is_users_choice=is_users_choice
        )


class _Growth:
    """How much an installer has written: into its cache (a download) or the environment (links)."""

    def __init__(self, cache: Path, part: Path) -> None:
        self._cache = cache
        self._part = part
        self._before = set(self._entries())

    def measure(self) -> int:
        """Bytes since the start."""
        new = (path for path in self._entries() if path not in self._before)
        return max(sum(_folder_bytes(path) for path in new), _folder_bytes(self._part))

    def _entries(self) -> Iterator[Path]:
        # uv unpacks a download into a folder `.tmp...` of its cache and then moves it under
        # `archive-...`. Should that change, progress shows only the linking.
        yield from self._cache.glob(".tmp*")
        yield from self._cache.glob("archive-*/*")


def read_stamp(plan: Plan) -> tuple[Stamp | None, str | None]:
    """The stamp of an environment that exists, and what is wrong with it, if anything."""
    try:
        stamp = Stamp.model_validate(read_json(plan.env_dir / _STAMP))
    except (OSError, ValueError):
        return None, "it is incomplete"
    if problem := environment_plan.stamp_problem(stamp, plan):
        return stamp, problem
    if not os.access(interpreters.inside(plan.env_dir), os.X_OK):
        return stamp, "the Python it was made with is gone"
    return stamp, None


def env_dirs(envs_home: Path, name: str) -> list[Path]:
    """All folders of an environment, whatever version of this program made them."""
    return sorted(envs_home.glob(f"{name}-{_HASH_PATTERN}"))


def sweep(envs_home: Path, name: str) -> None:
    """Delete what killed creations and removals left."""
    for path in envs_home.glob(f".{name}-{_HASH_PATTERN}.*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in envs_home.glob(f"{name}-{_HASH_PATTERN}.log"):
        path.unlink(missing_ok=True)


def discard(env_dir: Path) -> None:
    """Delete a folder so that half of it is never found under its name."""
    if env_dir.exists():
        aside = _hidden_dir(env_dir, ".old")
        os.replace(env_dir, aside / env_dir.name)
        shutil.rmtree(aside)


def _hidden_dir(beside: Path, suffix: str) -> Path:
    path = Path(tempfile.mkdtemp(dir=beside.parent, prefix=f".{beside.name}.", suffix=suffix))
    # A temporary folder is its maker's alone; an environment is for all who may read its home.
    path.chmod(beside.parent.stat().st_mode & 0o777)
    return path


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Within this block Ctrl-C waits; at its end it takes effect."""
    if threading.current_thread() is not threading.main_thread():  # others get no signals
        yield
        return
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
        if seen:
            signal.raise_signal(signal.SIGINT)


def _is_running(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        if _is_running(process, 5.0):
            process.kill()
            process.wait()


def _existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    return next(place for place in (path, *path.parents) if place.exists())


def _device(path: Path) -> int:
    return _existing(path).stat().st_dev


def _folder_bytes(path: Path) -> int:
    total = 0
    for root, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except FileNotFoundError:  # the installer moves things while we look
                continue
    return total
