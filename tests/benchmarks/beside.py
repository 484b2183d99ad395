"""Our code beside the published one: the same work by both, in turns for their speed, and each in a
process of its own for its memory.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from pipelines.training.device import choose_device
from tests.benchmarks.rows import Measurement, Settings, apart, cpu_clock, interleaved, ratios

_SAME = 1e-3


class Sides(NamedTuple):
    """One piece of work.  difference: largest of the two results, over the size of theirs."""

    ours: Callable[[], object]
    theirs: Callable[[], object]
    difference: Callable[[], float]


Build = Callable[..., Sides]
"""A function of a module: folder of the published code, device, further arguments -> both sides."""


class Turns(NamedTuple):
    """Seconds of each turn, and by how much the results differ."""

    ours: list[float]
    theirs: list[float]
    difference: float


def speed(
    title: str, settings: Settings, build: Build, *arguments: object, at_least: float, note: str
) -> Measurement:
    """How many times as fast as the published code we are."""
    done = apart(turns, build, settings.repeats, str(settings.against), settings.device, *arguments)
    found = Turns(*done.result)
    return Measurement(
        f"{title}, over the published code",
        ratios(found.theirs, found.ours),
        "x",
        at_least=at_least,
        note=f"{how(settings.device)}; results differ by {found.difference:.0e}; {note}",
        peak_mb=done.peak_mb,
    )


def memory(title: str, settings: Settings, build: Build, *arguments: object) -> Measurement:
    """Our peak memory over theirs."""
    ours, theirs = (
        apart(
            once,
            build,
            whose,
            str(settings.against),
            settings.device,
            *arguments,
            is_ours=whose == "ours",
        ).peak_mb
        for whose in ("ours", "theirs")
    )
    return Measurement(
        f"{title}, memory over the published code's",
        [ours / theirs],
        "x",
        at_most=1,
        note=f"{ours:.0f} of {theirs:.0f} MB",
        peak_mb=ours,
    )


def turns(build: Build, repeats: int, against: str, device: str, *arguments: object) -> Turns:
    """Both sides in turns; an error where they do not compute the same."""
    prepare(device)
    sides = build(against, device, *arguments)
    difference = sides.difference()
    if not difference < _SAME:
        raise RuntimeError(f"the results differ by {difference:g}")
    clock = clock_of(device)
    taken = interleaved([sides.ours, sides.theirs], repeats=repeats, clock=clock)
    return Turns(*taken, difference)


def once(build: Build, whose: str, against: str, device: str, *arguments: object) -> None:
    """One side's work, the other's networks thrown away before."""
    prepare(device)
    work = getattr(build(against, device, *arguments), whose)
    gc.collect()
    work()


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest, over the largest of what is expected, or over 1."""
    return float((found - expected).abs().max()) / max(1.0, float(expected.abs().max()))


def prepare(device: str) -> None:
    """On a CPU one thread: what else runs on the machine then counts less."""
    if choose_device(device).type == "cpu":
        torch.set_num_threads(1)


def clock_of(device: str) -> Callable[[], float]:
    """The processor's time on a CPU, and the time that passes on any other device."""
    return cpu_clock if choose_device(device).type == "cpu" else time.perf_counter


def how(device: str) -> str:
    """What one must know of all of these numbers."""
    is_cpu = choose_device(device).type == "cpu"
    return f"random weights; {device}" + (", one thread, processor time" if is_cpu else "")
