"""The fixtures of the tests of environments."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from i2v_cli import locations
from i2v_cli.registry import ENVS
from tests.cli.environments.world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    made = World(tmp_path)
    monkeypatch.setenv("I2V_HOME", str(made.home))
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(locations, "envs_dir", lambda: tmp_path / "locks")
    for name in ENVS:
        made.lock(name, made.wheel("tiny"))
    return made


@pytest.fixture
def in_child() -> Iterator[Callable[..., multiprocessing.process.BaseProcess]]:
    """Starts a function in a process of its own that shares this one's set-up."""
    context = multiprocessing.get_context("fork")
    started = []

    def run(function: Callable[..., object], *arguments: object) -> None:
        # ignored where the tests themselves were started in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
        function(*arguments)

    def start(function: Callable[..., object], *arguments: object) -> multiprocessing.Process:
        process = context.Process(target=run, args=(function, *arguments))
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()
