"""Stands in for `i2v download synthetic`: the kind that is asked for says how the job behaves."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pipelines.datasets.config import DownloadRequest
from pipelines.events import EXIT_NO_DATA, UserError, Work
from pipelines.files import write_json


class OutOfMemoryError(RuntimeError):
    """Has the name of torch's own."""


def download(request: DownloadRequest, work: Work) -> dict[str, Any]:
    """Do what the first kind says, with `request.data_root` as the place for notes."""
    kind = request.kinds[0] if request.kinds else "fine"
    raw_dir = request.data_root / "synthetic" / "raw"
    raw_dir.mkdir(parents=True, exist_ok=True)
    done = raw_dir / "download.json"
    if done.exists():
        return {"made": 0, "kept": 3}
    result = globals()[kind](request.data_root, work) or {}
    write_json(done, {"kinds": list(request.kinds)})
    return {"made": 3, "kept": 0, **result}


def fine(place: Path, work: Work) -> None:
    """Report some progress and end well."""
    for step in range(4):
        work.progress("clips", step, 3, "clips")
    work.metric(3, {"loss": 0.25, "bad": float("nan")})
    work.warning("look out")
    work.artifact(place, "folder")


def noisy(place: Path, work: Work) -> None:
    """Print in all the ways a library prints."""
    print("NOISE from print")
    print("NOISE from stderr", file=sys.stderr)
    os.write(1, b"NOISE from descriptor 1\n")
    subprocess.run(
        ["sh", "-c", "echo NOISE from a child; echo NOISE of its errors >&2"], check=True
    )


def surroundings(place: Path, work: Work) -> dict[str, Any]:
    """Say what a worker sees of the program that started it."""
    return {"path": sys.path, "variables": dict(os.environ), "modules": sorted(sys.modules)}


def spawned(place: Path, work: Work) -> dict[str, Any]:
    """Let a fresh process of the pool import the package too."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return {"seen": pool.apply(_import_events)}


def _import_events() -> str:
    from pipelines.events import Work as there

    return there.__module__


def user_error(place: Path, work: Work) -> None:
    """Fail in a way the user can put right."""
    raise UserError("no clips there", {"looked in": place, "run first": "x"}, EXIT_NO_DATA)


def bug(place: Path, work: Work) -> None:
    """Fail in a way nobody has foreseen."""
    print("this was said before the failure")
    raise ValueError("the answer is not 42")


def out_of_memory(place: Path, work: Work) -> None:
    """As numpy does when an array does not fit."""
    raise MemoryError("Unable to allocate 9 TiB")


def gpu_out_of_memory(place: Path, work: Work) -> None:
    """As torch does when a tensor does not fit on the card."""
    raise OutOfMemoryError("CUDA out of memory. Tried to allocate 9 TiB")


def disk_full(place: Path, work: Work) -> None:
    """As the system does when nothing more can be written."""
    raise OSError(28, "No space left on device", str(place / "x.npz"))


def record_full(place: Path, work: Work) -> None:
    """As a disk that is full when the job's own record is written."""
    work._record = Path("/dev/full").open("a")  # noqa: SIM115 (the job's to close)
    work.metric(1, {"loss": 1.0})


def read_only(place: Path, work: Work) -> None:
    """As the system does on a disk that cannot be written."""
    raise OSError(30, "Read-only file system", str(place / "x.npz"))


def no_package(place: Path, work: Work) -> None:
    """As Python does in an environment that lacks something."""
    import a_package_that_nobody_has  # type: ignore[import-not-found]  # noqa: F401


def killed(place: Path, work: Work) -> None:
    """As the system does with a process that takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def segfault(place: Path, work: Work) -> None:
    """As a broken library does."""
    print("this was said before the crash", flush=True)
    ctypes.string_at(0)


def silent_exit(place: Path, work: Work) -> None:
    """Leave without a word."""
    os._exit(7)


def torn(place: Path, work: Work) -> None:
    """Break off in the middle of an event, then fail in an orderly way."""
    stream = work._stream
    assert stream is not None
    stream.write('{"event": "progress", "task": "cli')
    stream.write('\n{"event": "progr')
    raise UserError("ended after half an event")


def sleepy(place: Path, work: Work) -> None:
    """Work until told to stop, with a child and a grandchild."""
    command = "sleep 600 & echo $! > grandchild.pid; echo $$ > child.pid; wait"
    subprocess.Popen(["sh", "-c", command], cwd=place)
    _wait_for(place / "child.pid", place / "grandchild.pid")
    (place / "worker.pid").write_text(str(os.getpid()))
    work.progress("sleep", 0, 1)
    try:
        time.sleep(600)
    finally:
        (place / "cleaned").touch()


def stubborn(place: Path, work: Work) -> None:
    """Do not listen to anybody, and have a child that does not either."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    child = subprocess.Popen(["sh", "-c", "trap '' INT TERM; sleep 600 & wait; sleep 600"])
    (place / "child.pid").write_text(str(child.pid))
    (place / "worker.pid").write_text(str(os.getpid()))
    work.progress("sleep", 0, 1)
    time.sleep(600)


def leaves_child(place: Path, work: Work) -> None:
    """End well, but leave a process behind."""
    child = subprocess.Popen(["sleep", "600"])
    (place / "child.pid").write_text(str(child.pid))


def at_boundary(place: Path, work: Work) -> None:
    """Stop at a place of its own choice, as a training step does."""
    (place / "worker.pid").write_text(str(os.getpid()))
    with work.stops_at_boundaries():
        while not work.stopping:
            time.sleep(0.01)
        (place / "checkpoint").write_text(json.dumps({"whole": True}))


def _wait_for(*paths: Path) -> None:
    while not all(path.exists() and path.read_text().strip() for path in paths):
        time.sleep(0.01)
