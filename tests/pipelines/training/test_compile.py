"""A family's stage with train.compile=true: its networks really compiled, the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipelines.behavior.train import train
from pipelines.training import levers
from tests.pipelines.behavior import tiny

STEPS = 2


def losses(home: Path, name: str, *, compiled: bool) -> list[dict[str, float]]:
    """Of stage 2, trained for some steps."""
    config = tiny.changed(
        train={"compile": compiled, "log_every": 1},
        stage2={"flow": {"num_flows": 1, "hidden_width": 8, "hidden_depth": 0}},
    )
    heard = tiny.Heard()
    train(tiny.request(home, "2", max_steps=STEPS, run_dir=home / name, config=config), heard)
    assert not heard.of("warning")
    values = [each["values"] for each in heard.of("metric")]
    return [each for each in values if "seconds_per_step" in each]


def test_a_compiled_stage_learns_the_same(tmp_path):
    if not levers.can_compile(lambda text: None):
        pytest.skip("no C++ compiler: apt-get install g++")
    tiny.prepare(tmp_path / "data")
    train(tiny.request(tmp_path, "1", max_steps=1), tiny.Heard())
    plain = losses(tmp_path, "plain", compiled=False)
    torch._dynamo.reset()
    compiled = losses(tmp_path, "compiled", compiled=True)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert len(compiled) == STEPS
    for one, other in zip(plain, compiled, strict=True):
        for key in one.keys() - {"seconds_per_step"}:
            assert other[key] == pytest.approx(one[key], rel=1e-3, abs=1e-6), key
