"""Workplaces for the tests of the command line."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.checkouts import Workplace, make_checkout, make_workplace


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One checkout with stand-ins for all tests."""
    return make_checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture
def workplace(checkout: Path, tmp_path: Path) -> Workplace:
    """A fresh place to type commands in."""
    return make_workplace(checkout, tmp_path / "place")


def _refuse(name: str, *_: object) -> Path:
    raise AssertionError(f"a test wanted to make the environment '{name}'")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder, with home, data and runs below it, for calls in this process."""
    for name in ("HOME", "DATA", "RUNS"):
        monkeypatch.setenv(f"I2V_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("i2v_cli.environments.ensure", _refuse)
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)
