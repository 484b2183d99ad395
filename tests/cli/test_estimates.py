from __future__ import annotations

import pytest

from i2v_cli import estimates

COST = {
    "preset": "demo",
    "settings": {"batch": "part.batch", "size_px": "part.size", "num_frames": "part.frames"},
    "seconds": {"fixed": 0.5, "per_million": 2.0},
    "memory_mb": {"fixed": 100.0, "per_million": 50.0},
    "checkpoint_mb": 10,
    "device": "a core",
}


def settings(**changes):
    return {"part": {"batch": 4, "size": 500, "frames": 2} | changes, "train": {"keep": 2}}


def test_time_and_memory_grow_with_the_pixels_of_a_batch():
    assert estimates.estimate(COST, settings()) == (4.5, 200.0, 30.0)
    more, memory, disk = estimates.estimate(COST, settings(batch=8))
    assert (more, memory, disk) == (8.5, 300.0, 30.0)
    assert estimates.estimate(COST, settings(size=1000))[0] == pytest.approx(16.5)


def test_a_stage_that_was_not_measured_has_no_estimate():
    (line,) = estimates.lines_for("cinn", "no such stage", settings(), preset=None)
    assert "has not been measured" in line
