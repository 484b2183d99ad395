"""Entry in every environment: read the job, import its target, call it, write the result.

Started by path, `<env python> -I pipelines/worker.py JOB_JSON EVENTS_FD`, so that nothing of the
program that starts it leaks in: the package `pipelines` is registered by the place of this file.
What libraries print goes to the starter's log file; what the job says goes to the pipe EVENTS_FD.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import importlib
import importlib.util
import io
import os
import resource
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any


def _register_package() -> None:
    folder = Path(__file__).resolve().parent
    spec = importlib.util.spec_from_file_location(
        "pipelines", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["pipelines"] = package
    spec.loader.exec_module(package)


# At the top, not in main(): processes that a target starts with `spawn` run this file again and
# need the package too.
if "pipelines" not in sys.modules:
    _register_package()

from pipelines.engines.config import place_in  # noqa: E402 (needs the package)
from pipelines.engines.others import OtherWork, PartDone  # noqa: E402
from pipelines.engines.siblings import siblings  # noqa: E402
from pipelines.events import (  # noqa: E402
    EXIT_DONE,
    EXIT_ENVIRONMENT,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    Interrupted,
    UserError,
    Work,
)
from pipelines.files import write_json  # noqa: E402

if TYPE_CHECKING:
    from pipelines.schema import Job

PARENT_CHECK_S = 0.5
ORPHAN_GRACE_S = 20.0
"""Time that a worker whose starter has died gets for an orderly end."""

RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024
"""What getrusage counts memory in."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


def main(arguments: list[str]) -> int:
    """Do the job named by the arguments JOB_JSON EVENTS_FD; returns the exit code."""
    job_path, events_fd = Path(arguments[0]), int(arguments[1])
    os.set_inheritable(events_fd, False)  # a program that the target starts must not hold the pipe
    faulthandler.enable()
    if isinstance(sys.stdout, io.TextIOWrapper):  # so that the log keeps the order of things
        sys.stdout.reconfigure(line_buffering=True)
    _watch_parent()
    stream = os.fdopen(events_fd, "w", encoding="utf-8")
    try:
        code = _do(job_path, stream)
    finally:
        _ignore_stops()
        _end_children(signal.SIGTERM)
        with contextlib.suppress(OSError):  # nobody may be left to read what is still buffered
            stream.close()
    return code


def _do(job_path: Path, stream: IO[str]) -> int:
    work = Work(stream)
    try:
        work.install_signal_handlers()
        job = _read_job(job_path)
        place = place_in(os.environ) if job.verb == "train" else None
        if place and place.rank:
            return _do_part(job, stream)
        work = Work(stream, job.record_dir / "events.jsonl")
        work.install_signal_handlers()
        result = _call(job, work, job_path)
        _ignore_stops()
        report = {"version": 1, "exit_code": EXIT_DONE, "result": result, "error": None}
        write_json(job.record_dir / "result.json", report | {"used": _used()})
        work.done(result)
    except BaseException as problem:
        _ignore_stops()
        error = explain(problem)
        if error.exit_code == EXIT_FAILED and not isinstance(problem, UserError):
            traceback.print_exc()
        _report_failure(error, job_path.parent, work, stream)
        return error.exit_code
    return EXIT_DONE


def _do_part(job: Job, stream: IO[str]) -> int:
    """The same as another process than the first of a training: it leaves no files."""
    work = OtherWork(stream)
    work.install_signal_handlers()
    code = EXIT_DONE
    try:
        _call(job, work)
    except PartDone:
        pass
    except BaseException as problem:
        traceback.print_exc()
        error = explain(problem)
        work.error(error)
        code = error.exit_code
    if code == EXIT_DONE:
        work.done({})
    return code


def _read_job(path: Path) -> Job:
    from pipelines.schema import Job

    return Job.model_validate_json(path.read_text(encoding="utf-8"))


def _call(job: Job, work: Work, job_path: Path | None = None) -> dict[str, Any]:
    """Call the target. job_path: where it may start other processes on the same job."""
    from pydantic import ValidationError

    try:
        request = _find(job.config_class).model_validate(job.config)
    except ValidationError as invalid:
        first = invalid.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"the request does not fit {job.verb}: {where}: {first['msg']}",
            {"job": job.record_dir / "job.json"},
            EXIT_USAGE,
        ) from invalid
    target = _find(job.target)
    may_share = job.verb == "train" and job_path is not None and place_in(os.environ) is None
    devices = request.config.train.devices if may_share else ()
    with siblings(job_path or Path(), devices):
        result: dict[str, Any] = target(request, work)
    return result


def _find(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def explain(problem: BaseException) -> UserError:
    """The failure in words a user can act on, where the cause is known; else 'the job failed'."""
    if isinstance(problem, UserError):
        return problem
    if isinstance(problem, (Interrupted, KeyboardInterrupt)):
        return UserError("the job was interrupted", exit_code=EXIT_INTERRUPTED)
    known = (
        _explain_memory(problem)
        or _explain_disk(problem)
        or _explain_device(problem)
        or _explain_import(problem)
    )
    if known:
        return known
    reason = traceback.format_exception_only(problem)[-1].strip().splitlines()
    return UserError("the job failed", {"reason": reason[0] if reason else type(problem).__name__})


def _explain_memory(problem: BaseException) -> UserError | None:
    names = {kind.__name__ for kind in type(problem).__mro__}
    text = str(problem)
    if "OutOfMemoryError" in names or "CUDA out of memory" in text:
        return UserError(
            "the graphics card has not enough memory for this job",
            {"to fix": "lower batch_size or size_px, or choose another --device"},
        )
    if "MemoryError" in names or "can't allocate memory" in text:
        return UserError(
            "not enough memory for this job",
            {"to fix": "lower batch_size, size_px or --jobs, or close other programs"},
        )
    if "BrokenProcessPool" in names:
        return UserError(
            "a child process was killed, most likely for lack of memory",
            {"to fix": "give fewer --jobs, or close other programs"},
        )
    return None


def _explain_disk(problem: BaseException) -> UserError | None:
    number = problem.errno if isinstance(problem, OSError) else None
    details: dict[str, object] = {}
    if isinstance(problem, OSError) and problem.filename:
        details["writing"] = problem.filename
    if number in _DISK_FULL or os.strerror(errno.ENOSPC) in str(problem):
        return UserError(
            "no space left on the disk",
            details | {"to fix": "free some space, then run the same command again"},
        )
    if number in _NOT_ALLOWED:
        details = {"path": details["writing"]} if details else {}
        return UserError(
            f"not allowed: {os.strerror(number or errno.EACCES)}",
            details | {"to fix": "choose a folder you may read and write"},
        )
    return None


def _explain_device(problem: BaseException) -> UserError | None:
    signs = ("NVIDIA driver", "not compiled with CUDA", "no CUDA-capable device", "no CUDA GPUs")
    if any(sign in str(problem) for sign in signs):
        return UserError(
            "no graphics card that this environment can use",
            {"reason": str(problem).splitlines()[0], "to fix": "give --device cpu"},
        )
    return None


def _explain_import(problem: BaseException) -> UserError | None:
    if not isinstance(problem, ImportError) or (problem.name or "").startswith("pipelines"):
        return None
    return UserError(
        "the environment is not complete",
        {"reason": problem, "environment": sys.prefix, "to fix": "i2v env check"},
        EXIT_ENVIRONMENT,
    )


def _report_failure(error: UserError, record_dir: Path, work: Work, stream: IO[str]) -> None:
    report = {
        "version": 1,
        "exit_code": error.exit_code,
        "result": None,
        "error": {"message": error.message, "details": error.details},
        "used": _used(),
    }
    # On a full disk neither file can be written, but the starter must still hear of it.
    with contextlib.suppress(OSError):
        write_json(record_dir / "result.json", report)
    try:
        work.error(error)
    except OSError:
        Work(stream).error(error)


def _used() -> dict[str, float]:
    """What this worker and its ended children took: CPU time, and memory of the largest process."""
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    cpu_s = sum(usage.ru_utime + usage.ru_stime for usage in (own, children))
    peak = max(own.ru_maxrss, children.ru_maxrss) * RSS_UNIT_BYTES
    return {"cpu_s": round(cpu_s, 2), "peak_memory_mb": round(peak / 1e6, 1)}


def _ignore_stops() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _watch_parent() -> None:
    parent, main_thread = os.getppid(), threading.get_ident()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        # To the main thread, not to the process: a call that blocks there must end.
        signal.pthread_kill(main_thread, signal.SIGTERM)
        time.sleep(ORPHAN_GRACE_S)
        _end_children(signal.SIGKILL)
        os._exit(EXIT_INTERRUPTED)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _end_children(number: int) -> None:
    """Signal everything that the target started and left, where this process owns its group."""
    if os.getpgrp() == os.getpid():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(0, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
