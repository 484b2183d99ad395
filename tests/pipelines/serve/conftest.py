"""A server with two tiny poke models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.poke.train import train
from tests.pipelines.poke import tiny
from tests.pipelines.serve.asking import Served, served_runs


@pytest.fixture(scope="session")
def runs_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trained runs, and folders that are none."""
    root = tmp_path_factory.mktemp("served")
    tiny.prepare_squares(root / "data")
    for name in ("first", "second"):
        train(tiny.request(root, run_dir=root / "runs" / name, max_steps=2), tiny.Heard())
    (root / "runs" / "no run").mkdir()
    (root / "runs" / "damaged").mkdir()
    (root / "runs" / "damaged" / "run.json").write_text("{")
    return root / "runs"


@pytest.fixture(scope="session")
def served(runs_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served_runs(runs_root, tmp_path_factory.mktemp("sessions") / "mine") as found:
        assert found.send("POST", "/api/warm", {"run": "first"}).lines[-1] == {"type": "done"}
        yield found
