"""Isolated environments: made on first use from their lock, checked, replaced, removed.

An environment is a folder `$I2V_HOME/envs/<name>-<hash>`, there whole or not at all, however its
creation was killed; processes that want the same one at once make it once. What decides is in
`environment_plan.py`, what builds in `environment_build.py`.
"""

from __future__ import annotations

import functools
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from i2v_cli import environment_build, environment_plan, interpreters, locations, names
from i2v_cli.environment_build import Reporter
from i2v_cli.environment_plan import Need, Plan, Stamp
from i2v_cli.interpreters import Health
from i2v_cli.progress import Display, make_display
from i2v_cli.registry import ENVS, EXTRAS
from pipelines.events import EXIT_ENVIRONMENT, EXIT_USAGE, UserError
from pipelines.files import read_json, write_json
from pipelines.schema import Config

WAIT_S = 3600.0
"""How long a process waits for another that makes the same environment."""

TUNABLES = "glibc.malloc.tcache_count=0"
"""Of the C library: it puts no small pieces aside for each thread. Between large ones they would
keep these from growing together again, which is up to a tenth of a training's memory.
"""
_SETTINGS = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "GLIBC_TUNABLES": TUNABLES,
    "GOMP_SPINCOUNT": "1000",
}
"""How the C library and OpenMP behave in a worker, unless the user has decided.

A training step frees and takes the same large arrays again; giving them back to the system costs a
fifth of its time in page faults. Threads that wait by spinning for long make a step several times
slower as soon as another program uses a core; threads that never spin make it slower always.
"""


@dataclass(frozen=True)
class Status:
    """What is known of an environment without starting it.

    python: its interpreter, unless absent.  env_dir: its folder, if this program made it.
    problem: why a broken one is broken.  older_dirs: left from other versions of this program or
    of Python, or from another build of torch.
    """

    name: str
    state: Literal["ready", "absent", "broken", "adopted"]
    python: Path | None = None
    env_dir: Path | None = None
    stamp: Stamp | None = None
    problem: str | None = None
    older_dirs: tuple[Path, ...] = ()
    is_adopted: bool = False


class Choices(Config, extra="ignore"):
    """What the user decided about environments, `$I2V_HOME/envs.json`: name -> choice."""

    adopted: dict[str, str] = Field(default_factory=dict, description="paths of interpreters")
    torch: dict[str, str] = Field(default_factory=dict, description="builds of torch")
    extras: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="what is joined to an environment"
    )


class DisplayReporter:
    """Shows creation as other work is shown; nothing appears before there is something to say."""

    def __init__(self) -> None:
        self._display: Display | None = None

    def log(self, text: str) -> None:
        """Show a line; the first one is the title."""
        if self._display is None:
            self._start(text)
        else:
            self._display.show({"event": "log", "text": text})

    def progress(self, task: str, done: float, total: float | None = None, unit: str = "") -> None:
        """Show how far a task is."""
        display = self._display or self._start(task)
        fields = {"task": task, "done": done, "total": total, "unit": unit}
        display.show({"event": "progress", **fields})

    def close(self) -> None:
        """Leave the terminal as a later line expects it."""
        if self._display:
            self._display.close()

    def _start(self, title: str) -> Display:
        self._display = make_display()
        self._display.start(title)
        return self._display


def ensure(name: str, reporter: Reporter | None = None) -> Path:
    """The interpreter of an environment, which is made first if it is absent or broken.

    Raises UserError with exit code 3 when that cannot be done.
    """
    known = status(name)
    if known.state in ("ready", "adopted") and known.python:
        return known.python
    if known.is_adopted:
        raise UserError(
            f"the interpreter adopted as the environment '{name}' is gone",
            {"was": known.python, "to fix": f"i2v env use {name} --default"},
            EXIT_ENVIRONMENT,
        )
    return interpreters.inside(_made(name, _read_choices(), reporter).env_dir)


def status(name: str) -> Status:
    """What is on disk. Reads a few small files, starts nothing."""
    _require_known(name)
    choices = _read_choices()
    if name in choices.adopted:
        python = Path(choices.adopted[name])
        if os.access(python, os.X_OK):
            return Status(name, "adopted", python, is_adopted=True)
        return Status(name, "broken", python, problem="the interpreter is gone", is_adopted=True)
    plan = _plan(name, choices)
    env_dirs = environment_build.env_dirs(plan.envs_home, name)
    older = tuple(path for path in env_dirs if path != plan.env_dir)
    if plan.env_dir not in env_dirs:
        return Status(name, "absent", older_dirs=older)
    stamp, problem = environment_build.read_stamp(plan)
    python = interpreters.inside(plan.env_dir)
    state: Literal["ready", "broken"] = "broken" if problem else "ready"
    return Status(name, state, python, plan.env_dir, stamp, problem, older)


def create(
    name: str,
    *,
    torch: str | None = None,
    extras: Sequence[str] | None = None,
    reporter: Reporter | None = None,
    rebuild: bool = False,
    wait_s: float = WAIT_S,
) -> Status:
    """Make an environment, unless it is there and sound; rebuild makes it again in any case.

    torch: 'default', 'cpu', 'auto', 'cu126', ...; remembered; None keeps what was chosen before.
    extras: names of EXTRAS that are joined to it; remembered and kept likewise.
    wait_s: how long to wait for another process that makes it at the same time.
    """
    _require_known(name)
    choices = _read_choices()
    if name in choices.adopted:
        raise UserError(
            f"the environment '{name}' is an interpreter of yours, which i2v does not change",
            {"it is": choices.adopted[name], "to undo": f"i2v env use {name} --default"},
            EXIT_USAGE,
        )
    chosen = {}
    if torch is not None:
        chosen[name] = environment_plan.check_torch_choice(torch, ENVS[name])
    joined = {} if extras is None else {name: tuple(_require_extras(extras))}
    choices = _with(choices, chosen, joined)
    _made(name, choices, reporter, rebuild=rebuild, wait_s=wait_s)
    if chosen or joined:
        _change_choices(lambda now: _with(now, chosen, joined))
    return status(name)


def check(name: str) -> Health:
    """Start an environment's interpreter and import all that the environment is for."""
    found = status(name)
    if found.state == "absent" or found.python is None:
        return Health(name, None, ("it has not been made yet",))
    if found.problem:
        return Health(name, found.python, (found.problem,))
    extras = () if found.is_adopted else _read_choices().extras.get(name, ())
    needs, lock, is_own = _needs(name, extras), _lock_text(name, extras), found.state == "ready"
    return interpreters.examine(name, found.python, needs=needs, lock=lock, is_own=is_own)


def adopt(name: str, interpreter: str) -> Status:
    """Use an interpreter the user already has, from now on; it is tried out first."""
    _require_known(name)
    python = interpreters.find(interpreter)
    needs, lock = _needs(name), _lock_text(name)
    health = interpreters.examine(name, python, needs=needs, lock=lock, is_own=False)
    if health.problems:
        details = {"interpreter": python, "problem": "\n".join(health.problems)}
        details["to fix"] = health.remedy or "choose another interpreter"
        raise UserError(
            f"this interpreter cannot be the environment '{name}'", details, EXIT_ENVIRONMENT
        )
    adopted = {name: str(python)}
    _change_choices(lambda now: now.model_copy(update={"adopted": now.adopted | adopted}))
    return status(name)


def use_own(name: str) -> Status:
    """Undo adopt: the environment is again the one this program makes."""
    _require_known(name)

    def without(now: Choices) -> Choices:
        left = {key: value for key, value in now.adopted.items() if key != name}
        return now.model_copy(update={"adopted": left})

    if name in _read_choices().adopted:
        _change_choices(without)
    return status(name)


def remove(name: str, *, older: bool = False, wait_s: float = WAIT_S) -> tuple[Path, ...]:
    """Delete an environment (older: and those of other versions). Returns the folders deleted.

    An adopted interpreter is never touched.
    """
    _require_known(name)
    plan = _plan(name, _read_choices())
    if not plan.envs_home.exists():
        return ()
    with _shown(None) as reporter, _locked(name, reporter, wait_s):
        environment_build.sweep(plan.envs_home, name)
        env_dirs = environment_build.env_dirs(plan.envs_home, name)
        doomed = tuple(path for path in env_dirs if older or path == plan.env_dir)
        for path in doomed:
            environment_build.discard(path)
    return doomed


def worker_environment() -> dict[str, str]:
    """The variables for a worker: the user's, less what would leak packages into it."""
    return _SETTINGS | environment_plan.without_leaks(os.environ)


def _made(
    name: str,
    choices: Choices,
    reporter: Reporter | None,
    *,
    rebuild: bool = False,
    wait_s: float = WAIT_S,
) -> Plan:
    """The plan of an environment that exists when this returns."""
    plan = _plan(name, choices)
    has_sibling = any(
        (stamp := status(other).stamp) is not None and stamp.torch == plan.torch
        for other, row in ENVS.items()
        if row.has_torch and other != name
    )
    with _shown(reporter) as shown, _locked(name, shown, wait_s):
        # Another process may have made it while this one waited.
        _, problem = environment_build.read_stamp(plan)
        if problem or rebuild:
            if plan.env_dir.exists() and problem:
                shown.log(f"the environment '{name}' is broken ({problem}) and is made again")
            environment_build.Build(
                plan,
                ENVS[name],
                needs=_needs(name, choices.extras.get(name, ())),
                has_sibling=has_sibling,
                reporter=shown,
            ).run()
    return plan


def _plan(name: str, choices: Choices) -> Plan:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    # Home folders are shared between machines of different kinds on a cluster.
    python = f"{sys.implementation.name}-{version}-{sys.platform}-{platform.machine()}"
    torch = choices.torch.get(name, environment_plan.DEFAULT_TORCH)
    lock = _lock_text(name, choices.extras.get(name, ()))
    return Plan(name, lock, python, torch, locations.i2v_home() / "envs")


def _require_known(name: str) -> None:
    if name not in ENVS:
        raise names.unknown("environment", name, ENVS)


def _require_extras(extras: Sequence[str]) -> Sequence[str]:
    for each in extras:
        if each not in EXTRAS:
            raise names.unknown(f"nothing to join is called '{each}'", each, EXTRAS)
    return extras


def _lock_text(name: str, extras: Sequence[str] = ()) -> str:
    lock, *others = (
        locations.shipped_text(locations.envs_dir() / f"{each}.lock") for each in (name, *extras)
    )
    return functools.reduce(environment_plan.joined, others, lock)


def _needs(name: str, extras: Sequence[str] = ()) -> tuple[Need, ...]:
    paths = [locations.envs_dir() / f"{each}.in" for each in (name, *extras)]
    return tuple(
        need
        for path in paths
        for need in environment_plan.parse_needs(locations.shipped_text(path))
    )


def _choices_path() -> Path:
    return locations.i2v_home() / "envs.json"


def _read_choices() -> Choices:
    path = _choices_path()
    try:
        return Choices.model_validate(read_json(path))
    except (FileNotFoundError, NotADirectoryError):
        return Choices()
    except (OSError, ValueError, ValidationError) as error:
        raise UserError(
            "the record of your environments cannot be read",
            {"file": path, "reason": str(error).splitlines()[0], "to fix": "repair or delete it"},
            EXIT_ENVIRONMENT,
        ) from error


def _change_choices(change: Callable[[Choices], Choices]) -> None:
    with _shown(None) as reporter, _locked("choices", reporter, WAIT_S):
        write_json(_choices_path(), {"version": 1} | change(_read_choices()).model_dump())


def _with(
    choices: Choices, torch: Mapping[str, str], extras: Mapping[str, tuple[str, ...]]
) -> Choices:
    changes = {"torch": choices.torch | dict(torch), "extras": choices.extras | dict(extras)}
    return choices.model_copy(update=changes)


@contextmanager
def _shown(reporter: Reporter | None) -> Iterator[Reporter]:
    """The reporter, or one of our own; trouble with the home folder becomes a clear error."""
    own = DisplayReporter()
    try:
        yield reporter or own
    except OSError as error:
        raise environment_plan.cannot_write(error, locations.i2v_home()) from error
    finally:
        own.close()


@contextmanager
def _locked(name: str, reporter: Reporter, wait_s: float) -> Iterator[None]:
    """Hold an environment's lock; another process that holds it is waited for, which is said."""
    from filelock import FileLock, Timeout

    home = locations.i2v_home() / "envs"
    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home / f".{name}.lock")
    task = f"waiting for another i2v at work on '{name}'"
    started = time.monotonic()
    while not lock.is_locked:
        waited_s = time.monotonic() - started
        if waited_s > wait_s:
            raise UserError(
                f"another i2v is at work on the environment '{name}' and does not end",
                {"waited": f"{waited_s:.0f} s", "to fix": "end it, or wait and run again"},
                EXIT_ENVIRONMENT,
            )
        try:
            lock.acquire(timeout=min(1.0, wait_s))
        except Timeout:
            reporter.progress(task, waited_s, None, "s")
    try:
        yield
    finally:
        lock.release()
