"""A training that torchrun or srun starts as several processes: one job, and a worker in each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from i2v_cli.registry import FAMILIES
from pipelines.events import read_events
from pipelines.files import write_json
from pipelines.schema import Job
from pipelines.training.checkpoint import checkpoint_meta, list_checkpoints
from tests.pipelines.engines import slurm
from tests.pipelines.inbetween import tiny

ROOT = Path(__file__).parents[3]
STEPS = 3
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node")


class Home:
    """Data, and a job on it."""

    def __init__(self, root: Path) -> None:
        self.root, self.run_dir = root, root / "run"
        tiny.prepare_squares(root / "data")

    def trained(self, launcher: Sequence[str], max_steps: int, **variables: str) -> dict[str, Any]:
        """Train by a launcher; returns what the newest checkpoint says of itself."""
        request = tiny.request(self.root, max_steps=max_steps, run_dir=self.run_dir)
        target = FAMILIES["inbetween"].target("train")
        job = Job(
            verb="train",
            target=target.function,
            config_class=target.request,
            config=request.model_dump(mode="json"),
            record_dir=self.run_dir,
        )
        self.run_dir.mkdir(parents=True, exist_ok=True)
        write_json(self.root / "job.json", job.model_dump(mode="json"))
        worker = (sys.executable, "-I", ROOT / "pipelines" / "worker.py", self.root / "job.json")
        # the events of all processes come on standard error
        done = subprocess.run(
            [*launcher, *map(str, worker), "2"],
            env=os.environ | {"OMP_NUM_THREADS": "1"} | variables,
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return checkpoint_meta(list_checkpoints(self.run_dir)[0])

    def losses(self) -> list[dict[str, float]]:
        """Of all steps in the run's record."""
        events = read_events(self.run_dir / "events.jsonl")
        return [each["values"] for each in events if each["event"] == "metric"]

    def lines(self) -> str:
        """What the run's record says in words."""
        events = read_events(self.run_dir / "events.jsonl")
        return "\n".join(each["text"] for each in events if each["event"] == "log")


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path)


def check_two_processes(home: Home, launcher: Sequence[str], tmp_path: Path, **more: str) -> None:
    alone = Home(tmp_path / "alone")
    alone.trained((), STEPS)
    meta = home.trained(launcher, STEPS, **more)
    assert (meta["step"], meta["num_processes"]) == (STEPS, 2)
    assert len(home.losses()) == len(alone.losses()), "one record, that of the first process"
    first, same = home.losses()[0], alone.losses()[0]
    for name in first.keys() - {"seconds_per_step"}:
        assert first[name] == pytest.approx(same[name], rel=1e-3), name


def test_torchrun_starts_a_training_by_rendezvous_and_it_goes_on_alone(home, tmp_path):
    meet = ("--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--no-python")
    check_two_processes(home, (*TORCHRUN, "2", *meet), tmp_path)
    meta = home.trained((*TORCHRUN, "1", *meet), STEPS + 1)
    assert (meta["step"], meta["num_processes"]) == (STEPS + 1, 1)
    assert "going on with 1 processes instead of 2" in home.lines()


def test_srun_starts_a_training(home, tmp_path):
    if not slurm.is_installed():
        pytest.skip("SLURM is not installed: apt-get install slurmctld slurmd slurm-client munge")
    with slurm.slurm(tmp_path / "slurm") as variables:
        check_two_processes(home, ("srun", "--ntasks", "2"), tmp_path, **variables)
