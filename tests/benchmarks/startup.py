"""What the program itself takes: help, and a job from the command to its end where there is nothing
to do. Processor time, which other programs do not change much.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial

from tests.benchmarks.rows import Measurement, Settings, cpu_clock, interleaved

_COMMANDS: tuple[tuple[str, Sequence[str], float, str], ...] = (
    ("i2v --help", ("--help",), 0.5, "processor time"),
    ("i2v train --help", ("train", "--help"), 0.5, "processor time"),
    (
        "i2v train --dry-run, presets and checks",
        ("train", "cinn", "--stage", "1", "--preset", "demo", "--dry-run"),
        1.0,
        "processor time",
    ),
    (
        "a job that has nothing to do",
        ("download", "synthetic", "--kinds", "fire", "--size", "32", "--preset", "tiny"),
        1.0,
        "data that is there already; program and worker together, imports included",
    ),
)


def measure(settings: Settings) -> Iterator[Measurement]:
    """Each command as a process of its own, in turn; the first call of each, which may have work to
    do, is not counted.
    """
    variables = os.environ | {
        "I2V_DATA": str(settings.scratch_dir / "data"),
        "I2V_RUNS": str(settings.scratch_dir / "runs"),
    }
    works = [
        partial(
            subprocess.run,
            [sys.executable, "-m", "i2v_cli", *arguments],
            env=variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        for _, arguments, _, _ in _COMMANDS
    ]
    taken = interleaved(works, repeats=settings.repeats, clock=cpu_clock)
    for (name, _, at_most, note), times in zip(_COMMANDS, taken, strict=True):
        yield Measurement(name, times, "s", at_most=at_most, note=note)
