"""What a benchmark uses and gives: `Settings` in, `Measurement`s out. Standard library only.

A benchmark is a function of a module in this folder, with one line in `catalog.py`:

    def measure(settings: Settings) -> Iterator[Measurement]:
        ours = seconds(lambda: step(batch), repeats=settings.repeats)
        theirs = seconds(lambda: slow_step(batch), repeats=settings.repeats)
        yield Measurement("step", [32 / s for s in ours], "clips/s", at_least=100)
        yield Measurement("step, over the plain way", ratios(theirs, ours), "x", at_least=1.5)

It runs in a process of its own, with the interpreter of the environment that the catalog names, so
it may import what it likes. Each measurement becomes one JSON row (see `as_row`) with the median
of its values, their spread, the process's peak memory so far, versions and hardware. What it
prints goes to standard error. Measure both sides of a ratio in one run, taking
turns: `interleaved`.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import platform
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

_LIBRARIES = {
    "cv2": "opencv-python-headless",
    "imageio_ffmpeg": "imageio-ffmpeg",
    "numpy": "numpy",
    "PIL": "pillow",
    "scipy": "scipy",
    "tensorflow": "tensorflow",
    "torch": "torch",
    "torchvision": "torchvision",
}
"""Module -> distribution: what a row tells the version of, when it was imported."""


@dataclass(frozen=True)
class Settings:
    """How to measure.

    quick: small inputs, to see that it works.  repeats: values per measurement (odd).
    device: cpu, cuda or auto.  scratch_dir: an empty folder, removed afterwards.
    against: a folder with other code to compare with (what must be in it, the benchmark says);
    None: leave that comparison out.
    """

    quick: bool
    repeats: int
    device: str
    scratch_dir: Path
    against: Path | None = None


@dataclass(frozen=True)
class Measurement:
    """One measured thing.

    name: what, in words.  values: one of each repetition.  unit: "clips/s", "ms", "MB", "x", ...
    at_least, at_most: the aim, if there is one.  note: what one must know to read the number.
    peak_mb: peak memory, where it is another process's than the benchmark's own.
    """

    name: str
    values: Sequence[float]
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""
    peak_mb: float | None = None


def seconds(work: Callable[[], object], *, repeats: int, warmups: int = 1) -> list[float]:
    """How long each of several calls takes. A GPU is waited for."""
    return interleaved([work], repeats=repeats, warmups=warmups)[0]


def interleaved(
    works: Sequence[Callable[[], object]],
    *,
    repeats: int,
    warmups: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """The same for several pieces of work that take turns, so that a busy machine slows all.

    clock: `cpu_clock` counts what all cores spent instead of the time that passed.
    """
    for work in works:
        for _ in range(warmups):
            work()
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for work, times in zip(works, taken, strict=True):
            gc.collect()
            _wait_for_gpu()
            start = clock()
            work()
            _wait_for_gpu()
            times.append(clock() - start)
    return taken


def cpu_clock() -> float:
    """Seconds that this process and those it has waited for have spent on any core."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Round by round; of seconds (theirs, ours) it says how many times as fast we are."""
    return [above / below for above, below in zip(numerators, denominators, strict=True)]


class Apart(NamedTuple):
    """result: what the function returned.  peak_mb: of its process.  largest_child_mb: likewise."""

    result: Any
    peak_mb: float
    largest_child_mb: float


_SETTING = "GLIBC_TUNABLES"
"""How the C library is set up for what this program starts."""


def apart(function: Callable[..., Any], *arguments: object, is_ours: bool = True) -> Apart:
    """Call a module's function in a fresh process, to learn how much memory it alone needs.

    is_ours: whether that process is set up as this program's are.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_call_apart, args=(sender, function, arguments))
    setting = None if is_ours else os.environ.pop(_SETTING, None)
    process.start()
    if setting is not None:
        os.environ[_SETTING] = setting
    sender.close()
    try:
        outcome = receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"{function.__name__} died with status {process.exitcode}") from None
    process.join()
    return Apart(*outcome)


def _call_apart(sender: Any, function: Callable[..., Any], arguments: Sequence[object]) -> None:
    result = function(*arguments)
    sender.send((result, peak_memory_mb(), peak_memory_mb(resource.RUSAGE_CHILDREN)))


def peak_memory_mb(who: int = resource.RUSAGE_SELF) -> float:
    """The most memory this process (or the largest of its children) has held so far, in 10^6 B."""
    status = Path("/proc/self/status")
    if who == resource.RUSAGE_SELF and status.exists():
        # A fresh process starts with its parent's peak in ru_maxrss, but not in this line.
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))
        if found:
            return int(found[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(who).ru_maxrss * unit / 1e6


def as_row(benchmark: str, measured: Measurement, settings: Settings) -> dict[str, object]:
    """A measurement and its circumstances, as JSON values; `value` is the median."""
    peak_mb = peak_memory_mb() if measured.peak_mb is None else measured.peak_mb
    return {
        "benchmark": benchmark,
        "name": measured.name,
        "value": _rounded(statistics.median(measured.values)),
        "unit": measured.unit,
        "spread": [_rounded(min(measured.values)), _rounded(max(measured.values))],
        "repeats": len(measured.values),
        "at_least": measured.at_least,
        "at_most": measured.at_most,
        "peak_memory_mb": round(peak_mb, 1),
        "peak_gpu_memory_mb": _peak_gpu_memory_mb(),
        "note": measured.note,
        "is_quick": settings.quick,
        "hardware": hardware(),
        "versions": versions(),
        "measured": time.strftime("%Y-%m-%d"),
    }


def is_met(row: Mapping[str, Any]) -> bool | None:
    """Whether a row reaches its aim; None when it has none."""
    if row["at_least"] is None and row["at_most"] is None:
        return None
    is_enough = row["at_least"] is None or row["value"] >= row["at_least"]
    return bool(is_enough and (row["at_most"] is None or row["value"] <= row["at_most"]))


def hardware() -> dict[str, object]:
    """Processor, cores this process may use, memory, how busy the machine is, GPU (if used)."""
    gpu = _cuda().get_device_name() if _cuda() else None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gb": round(memory, 1),
        "load": round(os.getloadavg()[0], 1),
        "gpu": gpu,
    }


def versions() -> dict[str, str]:
    """Python's and those of the libraries imported so far."""
    loaded = {name: each for name, each in _LIBRARIES.items() if name in sys.modules}
    found = {"python": platform.python_version()}
    for name, distribution in loaded.items():
        try:
            found[name] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            found[name] = str(getattr(sys.modules[name], "__version__", "unknown"))
    return found


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _cuda() -> Any:
    """torch.cuda when this process has used it, else None."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None


def _wait_for_gpu() -> None:
    if _cuda():
        _cuda().synchronize()


def _peak_gpu_memory_mb() -> float | None:
    return round(_cuda().max_memory_allocated() / 1e6, 1) if _cuda() else None


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
