"""Arrays that a job makes one by one, here or on other machines, such as its videos.

Whoever makes an item of a shard keeps it in a file beside the job's output; the call that finishes
takes from there what it finds and makes the rest. So the result does not depend on who made what.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from pipelines.engines.shards import own_items
from pipelines.engines.spread import run_on_ray, run_on_slurm
from pipelines.events import UserError, Work
from pipelines.files import atomic_writer, fingerprint, sha256

_NO_CHANGE = {"engine", "parts", "shard", "out_dir", "fps"}
"""Settings that the items do not depend on."""


class SpreadRequest(Protocol):
    """The part of a request that is needed here."""

    @property
    def engine(self) -> Any:
        """Of pipelines.engines.config."""
        ...

    @property
    def parts(self) -> int:
        """How many shards another engine than local is given."""
        ...

    @property
    def shard(self) -> str | None:
        """The shard that this call makes."""
        ...

    @property
    def out_dir(self) -> Path:
        """Where the finished job writes."""
        ...

    @property
    def model_dump(self) -> Callable[..., dict[str, Any]]:
        """Of pydantic."""
        ...

    @property
    def model_copy(self) -> Callable[..., Any]:
        """Of pydantic."""
        ...


Job = Callable[[Any, Work], dict[str, Any]]


@dataclass(frozen=True)
class Items:
    """The items of a job, numbered from 0.

    make: makes one.  made_from: what else they depend on, as JSON: checkpoints with their hashes.
    unit: what they are, for progress.
    """

    request: SpreadRequest
    total: int
    make: Callable[[int], np.ndarray]
    made_from: Any
    work: Work
    unit: str = "videos"

    @cached_property
    def folder(self) -> Path:
        """Where items are kept until all are there; another request has another folder."""
        out_dir = self.request.out_dir
        settings = self.request.model_dump(mode="json", exclude=_NO_CHANGE)
        values = self.request.model_dump(exclude=_NO_CHANGE).values()
        files = [str(sha256(path)) for value in values for path in _files_in(value)]
        what = fingerprint([settings, files, self.made_from, self.total])
        return out_dir.with_name(f"{out_dir.name}.parts") / what[:16]

    def __getitem__(self, number: int) -> np.ndarray:
        path = self._path(number)
        if path.exists():
            return np.asarray(np.load(path, allow_pickle=False))
        return self.make(number)

    def in_order(self) -> Iterator[np.ndarray]:
        """All of them, one after the other."""
        for number in range(self.total):
            yield self[number]
            self.work.progress("sample", number + 1, self.total, self.unit)

    def make_shard(self) -> dict[str, Any]:
        """Make and keep the items of request.shard that are not there yet."""
        numbers = own_items(range(self.total), self.request.shard)
        for done, number in enumerate(numbers, 1):
            if not self._path(number).exists():
                made = self.make(number)
                self.folder.mkdir(parents=True, exist_ok=True)
                with atomic_writer(self._path(number), "wb") as stream:
                    np.save(stream, made)
            self.work.progress("make", done, len(numbers), self.unit)
        self.work.log(f"shard {self.request.shard}: {len(numbers)} of {self.total} {self.unit}")
        return {"shard": self.request.shard, "parts_dir": str(self.folder), "made": len(numbers)}

    def spread(self, job: Job) -> None:
        """Have the items made by the request's engine: as calls of job with one shard each.

        The local engine makes them one by one, when they are asked for.
        """
        if self.request.engine == "local":
            return
        count = min(self.request.parts, self.total)
        changes: dict[str, Any] = {"engine": "local"}
        if str(getattr(self.request, "device", "")).startswith("cuda"):
            changes["device"] = "cuda"  # there each process has one, and sees no other
        tasks = [
            ShardTask(
                job,
                self.request.model_copy(update=changes | {"shard": f"{number}/{count}"}),
                torch.get_num_threads(),
            )
            for number in range(count)
        ]
        done = 0
        with closing(run_shards(tasks, self.request.engine, self.folder)) as ended:
            for task in ended:
                done += len(own_items(range(self.total), task.shard))
                self.work.progress("make", done, self.total, self.unit)

    def clear(self) -> None:
        """Delete what was kept."""
        if self.folder.parent.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):  # another request's items lie there too
                self.folder.parent.rmdir()

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npy"


@dataclass(frozen=True)
class ShardTask:
    """A call of a job for one shard. num_threads: as where it is finished, so that sums agree."""

    job: Job
    request: Any
    num_threads: int

    @property
    def shard(self) -> str:
        """Which one."""
        return str(self.request.shard)


def make_shard(task: ShardTask, progress: Callable[[float], None]) -> None:
    """Do a shard's call; what it says is nobody's to hear."""
    torch.set_num_threads(task.num_threads)
    task.job(task.request, Work())


def run_shards(tasks: list[ShardTask], engine: str, folder: Path) -> Any:
    """Yield each task when an engine has done it; folder: shared by all machines.

    Raises UserError when one could not be done, and what a job raises.
    """
    num_gpus = int(str(getattr(tasks[0].request, "device", "")).startswith("cuda"))
    folder.mkdir(parents=True, exist_ok=True)
    if engine == "ray":
        ended = run_on_ray(make_shard, tasks, num_gpus=num_gpus)
    else:
        ended = run_on_slurm(
            make_shard, tasks, num_shards=len(tasks), folder=folder, num_gpus=num_gpus
        )
    with closing(ended):
        for task, crash in ended:
            if crash:
                raise UserError(
                    f"shard {task.shard} could not be made",
                    {"reason": crash, "to go on": "run the same command again"},
                )
            yield task


def _files_in(value: object) -> list[Path]:
    values = value if isinstance(value, tuple | list) else [value]
    return [each for each in values if isinstance(each, Path) and each.is_file()]
