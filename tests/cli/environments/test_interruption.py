"""Environments are there whole or not at all, whatever is killed, and are made once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from i2v_cli import environments, interpreters
from tests.cli.environments.world import (
    PLAIN,
    Recorder,
    World,
    fails,
    script,
)

EFFECTS = ("subprocess.Popen", "os.rename", "os.mkdir", "shutil.rmtree")


def _create_and_die(effect: int) -> None:
    """Make the environment, but die as by kill -9 before the given effect on the machine."""
    seen = 0

    def count(event: str, _: tuple[object, ...]) -> None:
        nonlocal seen
        if event in EFFECTS:
            seen += 1
            if seen == effect:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    environments.create(PLAIN, reporter=Recorder(), rebuild=True)


@pytest.mark.parametrize("is_there", [False, True], ids=["first creation", "rebuilding"])
def test_a_creation_killed_at_any_step_heals_on_the_next_call(
    world: World, in_child: Callable[..., multiprocessing.Process], is_there: bool
) -> None:
    was_killed, effect = True, 0
    while was_killed:
        effect += 1
        if not is_there:
            environments.remove(PLAIN)
        child = in_child(_create_and_die, effect)
        child.join()
        was_killed = child.exitcode == -signal.SIGKILL
        assert was_killed or child.exitcode == 0
        assert world.imports(environments.ensure(PLAIN, Recorder()), "tiny"), effect
    assert effect > 10
    assert environments.status(PLAIN).state == "ready" and world.leftovers() == []


def _create_and_die_after(delay_s: float) -> None:
    threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
    environments.create(PLAIN, reporter=Recorder())


@pytest.mark.parametrize("delay_s", [0.03, 0.06, 0.1])
def test_an_installer_left_behind_by_a_kill_does_no_harm(
    world: World, in_child: Callable[..., multiprocessing.Process], delay_s: float
) -> None:
    in_child(_create_and_die_after, delay_s).join()
    assert world.imports(environments.ensure(PLAIN, Recorder()), "tiny")


def test_ctrl_c_ends_the_installer_and_leaves_nothing(
    world: World,
    in_child: Callable[..., multiprocessing.Process],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pid_path = world.root / "pid"
    slow = script(
        world.root / "slow-uv",
        f'case "$1" in cache) echo "$UV_CACHE_DIR";; *) echo $$ > {pid_path}; exec sleep 60;; esac',
    )
    monkeypatch.setattr(interpreters, "find_installer", lambda: str(slow))
    child = in_child(environments.create, PLAIN)
    _wait_for(lambda: pid_path.exists() and pid_path.read_text(encoding="utf-8").strip())
    os.kill(child.pid, signal.SIGINT)
    child.join(10)
    assert child.exitcode not in (None, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_path.read_text(encoding="utf-8")), 0)
    assert [name for name in world.leftovers() if not name.endswith(".log")] == []


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Ctrl-C interrupts, even where the tests themselves were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_ctrl_c_while_the_installer_starts_ends_it_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = script(
        world.root / "slow-uv",
        'case "$1" in cache) echo "$UV_CACHE_DIR";; *) exec sleep 60;; esac',
    )
    monkeypatch.setattr(interpreters, "find_installer", lambda: str(slow))
    start, started = subprocess.Popen, []

    def interrupted(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        process = start(command, **options)
        if "venv" in command:
            started.append(process)
            signal.raise_signal(signal.SIGINT)
        return process

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        environments.create(PLAIN, reporter=Recorder())
    assert [process.poll() is None for process in started] == [False]


def _wait_for(condition: Callable[[], object], limit_s: float = 10.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _create_and_say_whether_it_built(path: Path) -> None:
    recorder = Recorder()
    environments.ensure(PLAIN, recorder)
    path.write_text(str(any(line.startswith("making") for line in recorder.lines)), "utf-8")


def test_processes_that_want_one_environment_at_once_make_it_once(
    world: World, in_child: Callable[..., multiprocessing.Process]
) -> None:
    answers = [world.root / f"built-{number}" for number in range(4)]
    children = [in_child(_create_and_say_whether_it_built, answer) for answer in answers]
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert sorted(answer.read_text(encoding="utf-8") for answer in answers) == ["False"] * 3 + [
        "True"
    ]
    assert environments.status(PLAIN).state == "ready" and world.leftovers() == []


def test_a_lock_that_is_held_for_long_is_said_and_then_an_error(world: World) -> None:
    world.envs_home.mkdir(parents=True)
    recorder = Recorder()
    with FileLock(world.envs_home / f".{PLAIN}.lock"):
        error = fails(lambda: environments.create(PLAIN, reporter=recorder, wait_s=0.3))
    assert PLAIN in error.message and "to fix" in error.details
    assert any("waiting" in task for task in recorder.tasks)
