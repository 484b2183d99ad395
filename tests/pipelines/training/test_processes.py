"""Several processes give what one gives: for every family and stage that the registry trains.

A family is held to it when its row is built: tests/pipelines/<family>/tiny.py has `prepare` (or
`prepare_squares`) and `request`, as those of the other families.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from i2v_cli.registry import FAMILIES
from pipelines.training.checkpoint import WEIGHTS_NAME, checkpoint_meta, list_checkpoints
from tests.pipelines.training.toy import spoken_work

ROOT = Path(__file__).parents[3]
STEPS = 3
STAGES = [
    (name, stage)
    for name, row in FAMILIES.items()
    if row.is_built and "train" in row.verbs
    for stage in row.stages
]


def tiny_of(family: str) -> Any:
    return importlib.import_module(f"tests.{FAMILIES[family].package}.tiny")


def tiny_request(family: str, root: Path, stage: str, **changes: Any) -> Any:
    request = tiny_of(family).request
    named = (stage,) if "stage" in inspect.signature(request).parameters else ()
    return request(root, *named, max_steps=STEPS, **changes)


def found(dotted: str) -> Any:
    module, name = dotted.split(":")
    return getattr(importlib.import_module(module), name)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def train_together(requests: dict[Any, Any], count: int = 2) -> str:
    """Train each request in `count` processes; returns what went wrong."""
    jobs = []
    for (family, _), request in requests.items():
        target = FAMILIES[family].target("train")
        fields = request.model_dump(mode="json")
        jobs.append([target.function, target.request, fields, free_port()])
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.pipelines.training.together", json.dumps(jobs)],
            cwd=ROOT,
            env=os.environ
            | {
                "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", ""))),
                "RANK": str(rank),
                "WORLD_SIZE": str(count),
                "MASTER_ADDR": "127.0.0.1",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    said = [process.communicate(timeout=300)[1] for process in processes]
    return "\n".join(text[-3000:] for text in said)


@dataclass
class Runs:
    """The runs of one process and of two, by family and stage, or what went wrong."""

    folders: dict[tuple[str, str], tuple[Path, Path]]
    problems: dict[tuple[str, str], Exception]
    said: str = ""

    def of(self, family: str, stage: str) -> tuple[Path, Path]:
        """Both run folders."""
        if problem := self.problems.get((family, stage)):
            raise problem
        alone, together = self.folders[family, stage]
        assert list_checkpoints(alone) and list_checkpoints(together), self.said
        return alone, together


def prepare(family: str, home: Path) -> None:
    """Data, and the run of another family that this one is built on."""
    tiny = tiny_of(family)
    if hasattr(tiny, "fomm_request"):  # its weights have to be of 64 bits too
        tiny_of("fomm").prepare_squares(home / "data")
        assert not train_together({("fomm", "1"): tiny.fomm_request(home)}, 1)
        return
    make = getattr(tiny, "prepare", None) or tiny.prepare_squares
    takes_root = "root" in inspect.signature(make).parameters
    make(home if takes_root else home / "data")


@pytest.fixture(scope="session")
def runs(request, tmp_path_factory) -> Runs:
    """Those of the families that the chosen tests are about; two processes train all in turn."""
    chosen = {
        item.callspec.params.get("family")
        for item in request.session.items
        if hasattr(item, "callspec")
    } | {STAGES[0][0]}
    root = tmp_path_factory.mktemp("together")
    made, requests = Runs({}, {}), ({}, {})
    for family, stage in STAGES:
        if family not in chosen:
            continue
        try:
            home = root / family
            if not home.exists():
                prepare(family, home)
            alone = tiny_request(family, home, stage)
            requests[0][family, stage] = alone
            together = tiny_request(family, home, stage, run_dir=home / "together" / stage)
            requests[1][family, stage] = together
            made.folders[family, stage] = alone.run_dir, together.run_dir
        except Exception as problem:
            made.problems[family, stage] = problem
    made.said = train_together(requests[0], 1) + train_together(requests[1], 2)
    return made


def weights_of(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(list_checkpoints(run_dir)[0] / WEIGHTS_NAME)


@pytest.mark.parametrize(("family", "stage"), STAGES)
def test_two_processes_give_the_weights_of_one_with_the_whole_batch(runs, family, stage):
    alone, together = (weights_of(folder) for folder in runs.of(family, stage))
    assert alone.keys() == together.keys()
    differences = {
        name: float((tensor.double() - together[name].double()).abs().max())
        for name, tensor in alone.items()
        if tensor.numel()
    }
    worst = max(differences, key=differences.__getitem__)
    assert differences[worst] <= 1e-6, f"{worst}: {differences[worst]}"


@pytest.mark.parametrize(("family", "stage"), STAGES)
def test_two_processes_leave_the_generators_as_one_does(runs, family, stage):
    alone, together = (
        torch.load(list_checkpoints(folder)[0] / "state.pt", weights_only=True)["generators"]
        for folder in runs.of(family, stage)
    )
    for name, state in alone.items():
        assert torch.equal(state, together[name]), name


def test_a_run_goes_on_with_another_number_of_processes_and_says_so(runs, tmp_path):
    family, stage = STAGES[0]
    alone, together = runs.of(family, stage)
    home = tmp_path / "home"
    shutil.copytree(alone.parents[1] / "data", home / "data")
    shutil.copytree(together, home / "run")
    work, stream = spoken_work()
    further = tiny_request(family, home, stage, run_dir=home / "run")
    further = further.model_copy(update={"max_steps": STEPS + 1})
    found(FAMILIES[family].target("train").function)(further, work)
    assert "going on with 1 processes instead of 2" in stream.getvalue()
    meta = checkpoint_meta(list_checkpoints(home / "run")[0])
    assert (meta["step"], meta["num_processes"]) == (STEPS + 1, 1)
