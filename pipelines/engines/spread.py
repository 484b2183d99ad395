"""The tasks of a data job spread over machines: by Ray, or by SLURM through submitit.

Both call the function that the local engine calls, with the same tasks, and only note which are
done; the function writes its result into a folder that all machines share. So the results are the
same, and a machine that is lost costs no more than the tasks that it had under way.
"""

from __future__ import annotations

import importlib
import os
import pickle
import re
import sys
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pipelines.engines import bootstrap
from pipelines.events import EXIT_ENVIRONMENT, UserError

Task = TypeVar("Task")
Function = Callable[..., None]

MAX_RETRIES = 3
"""How often a task may lose its machine before it counts as its own fault."""

_PACKAGE_DIR = str(Path(__file__).resolve().parents[1])
_POLL_S = 0.5


def run_on_ray(
    function: Function, tasks: Sequence[Task], *, num_gpus: float = 0
) -> Generator[tuple[Task, str | None], None, None]:
    """Call function(task, progress) for every task on the Ray cluster of RAY_ADDRESS.

    Without that variable on the cluster that runs on this machine, or on one made for this job.
    Yields each task as it ends, with how it crashed, if it did. What the function raises is raised.
    """
    ray: Any = _package("ray")
    _send_by_value(importlib.import_module("ray.cloudpickle"))
    is_ours = not ray.is_initialized()
    if is_ours:
        ray.init(log_to_driver=False, include_dashboard=False, logging_level="ERROR")
    try:
        options = {
            # the process stays for the next task, with the model that it has loaded
            "max_calls": 0,
            "max_retries": MAX_RETRIES,
            "num_cpus": 1,
            "num_gpus": num_gpus,
            "scheduling_strategy": "SPREAD",
        }
        remote = ray.remote(**options)(bootstrap.call)
        sent = ray.put(pickle.dumps(function))
        waiting = {
            remote.remote(_PACKAGE_DIR, sent, pickle.dumps([(0, task)]), None): task
            for task in tasks
        }
        while waiting:
            ended, _ = ray.wait(list(waiting), num_returns=1)
            for reference in ended:
                yield waiting.pop(reference), _outcome(ray, reference)
    finally:
        if is_ours:
            ray.shutdown()


def _outcome(ray: Any, reference: Any) -> str | None:
    """None for a task that is done; how it crashed. Raises what its function raised."""
    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as problem:
        raise problem.cause from problem
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as problem:
        return f"the process that had it died {MAX_RETRIES + 1} times ({type(problem).__name__})"
    return None


def run_on_slurm(
    function: Function,
    tasks: Sequence[Task],
    *,
    num_shards: int,
    folder: Path,
    num_gpus: int = 0,
    cluster: str | None = None,
) -> Generator[tuple[Task, str | None], None, None]:
    """The same as an array job of SLURM, a shard of the tasks for each of its members.

    folder: shared by all machines, for the job's files.  cluster: None for SLURM where there is
    one, else processes of this machine; "local" for these in any case.
    I2V_SLURM holds further settings, such as 'slurm_partition=gpu timeout_min=600 cluster=local'.
    """
    submitit: Any = _package("submitit")
    _send_by_value(importlib.import_module("cloudpickle"))
    given = dict(each.split("=", 1) for each in os.environ.get("I2V_SLURM", "").split())
    cluster = given.pop("cluster", cluster)
    executor = submitit.AutoExecutor(folder=folder / "slurm", cluster=cluster)
    executor.update_parameters(
        name="i2v",
        timeout_min=int(given.pop("timeout_min", 24 * 60)),
        **({"gpus_per_node": num_gpus} if num_gpus else {}),
        **given,
    )
    shards = [_Shard(number, num_shards, tasks, folder) for number in range(num_shards)]
    shards = [each for each in shards if each.numbered]
    sent = pickle.dumps(function)
    with executor.batch():
        for shard in shards:
            shard.submit(executor, sent)
    while shards:
        for shard in list(shards):
            is_over = shard.job.done()
            yield from ((tasks[number], None) for number in shard.news())
            if is_over and shard.is_over(executor, sent):
                shards.remove(shard)
        time.sleep(_POLL_S if shards else 0)


class _Shard:
    """A part of the tasks, and the job that does it."""

    def __init__(self, number: int, count: int, tasks: Sequence[Any], folder: Path) -> None:
        self.numbered = list(enumerate(tasks))[number::count]
        self.job: Any = None
        self._done_path = folder / "slurm" / f"done-{os.getpid()}-{number}-of-{count}"
        self._told: set[int] = set()
        self._num_tries = 0

    def submit(self, executor: Any, function: bytes) -> None:
        """Hand the tasks in, less those that are done."""
        self._num_tries += 1
        tasks = pickle.dumps(self.numbered)
        done_path = str(self._done_path)
        self.job = executor.submit(bootstrap.call, _PACKAGE_DIR, function, tasks, done_path)

    def news(self) -> list[int]:
        """Numbers of the tasks that were done since the last time."""
        if not self._done_path.exists():
            return []
        # a line that is still being written has no end yet
        lines = self._done_path.read_text().split("\n")[:-1]
        fresh = [int(line) for line in lines if int(line) not in self._told]
        self._told.update(fresh)
        return fresh

    def is_over(self, executor: Any, function: bytes) -> bool:
        """Whether all tasks of the ended job are done; hands the others in again if a node died.

        Raises what the function raised, or UserError when the job could not be done.
        """
        if len(self._told) == len(self.numbered):
            return True
        problem = self.job.exception()
        cause = getattr(problem, "__cause__", None)
        if problem is not None and type(problem).__name__ == "FailedJobError":
            raise UserError(
                "a job of the array failed",
                {"reason": _error_in(str(problem)), "log": self.job.paths.stderr},
            ) from (cause or problem)
        if problem is not None and self._num_tries > MAX_RETRIES:
            raise UserError(
                f"a job of the array was lost {self._num_tries} times",
                {"log": self.job.paths.stderr, "to fix": "see why its nodes go down"},
            ) from problem
        if problem is not None:
            self.submit(executor, function)
        return False


def _error_in(traceback: str) -> str:
    """The line of a traceback that names the error."""
    found = re.findall(r"^[\w.]+(?:Error|Exception|Interrupted)\b.*$", traceback, re.MULTILINE)
    return found[-1] if found else traceback.strip()[-200:]


def _send_by_value(pickler: Any) -> None:
    pickler.register_pickle_by_value(bootstrap)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        engine = {"ray": "ray", "submitit": "slurm"}[name]
        raise UserError(
            f"--engine {engine}: the package '{name}' is not in this environment",
            {
                "environment": sys.prefix,
                "run first": f"i2v env create {_own_name()} --with cluster",
                "or, in a Python of yours": f"{sys.executable} -m pip install {name}",
                "or": "use --engine local, or --shard with a scheduler of your own",
            },
            EXIT_ENVIRONMENT,
        ) from error


def _own_name() -> str:
    """What i2v calls the environment that this runs in, after its folder's name."""
    found = re.fullmatch(r"([a-z]+)-[0-9a-f]{12}", Path(sys.prefix).name)
    return found[1] if found else "NAME"
