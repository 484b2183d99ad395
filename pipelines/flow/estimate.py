"""`i2v estimate-flow`: from prepared frames to packed optical flow (pipelines.io.flow_pack).

Each lag is made in `lag-<lag>.tmp`, its videos in any order by several processes, and takes its
name when it is complete. Killed at any moment and started again, it ends with the same bytes. What
is finished is not made again unless what it was made from has changed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.datasets.processes import Ended, spread
from pipelines.engines.shards import held_together, own_items
from pipelines.events import UserError, Work
from pipelines.files import folder_lock, read_json, write_json
from pipelines.flow.checks import total
from pipelines.flow.config import EstimateRequest
from pipelines.flow.exchange import export_flow
from pipelines.flow.pairs import Task, Worker
from pipelines.flow.planning import Selection, changes, folder_of, lags_in_words, select
from pipelines.io.flow_pack import FlowPack, flow_dir, flow_lags
from pipelines.io.flow_packing import (
    FlowLayout,
    finish,
    is_done,
    lay_out,
    make_files,
    no_pairs,
    read_report,
)

TASK = "estimate flow"
SPARE_BYTES = 64 * 2**20

Plans = dict[int, dict[str, Any]]
"""What the flow of each lag is made from."""


def estimate_flow(request: EstimateRequest, work: Work) -> dict[str, Any]:
    """Estimate the flow of a prepared variant. The result names the folder and, for each lag, its
    pairs, their statistics and, where the true motion is known, the end-point errors.

    Raises UserError: exit code 4 when frames or weights are missing, 2 when a lag is longer than
    every video or flow of this name was made with other settings, 1 when the disk is too small.
    """
    selection = select(request, work)
    variant_dir, name = selection.packed.dir, request.folder_name()
    plans = {lag: selection.plan(request, lag) for lag in selection.lags}
    folder = folder_of(variant_dir, name)
    folder.mkdir(parents=True, exist_ok=True)
    if request.shard is not None:
        return _estimate_shard(request, selection, plans, folder, work)
    with folder_lock(folder) as is_ours:
        if not is_ours:
            raise _is_taken(folder)
        open_plans = _not_done(request, variant_dir, plans, work)
        if open_plans:
            _estimate(request, selection, open_plans, work)
    return _result(request, selection, list(open_plans), work)


@dataclass(frozen=True)
class _Lag:
    """A lag in the making."""

    lag: int
    building: Path
    target: Path
    plan: dict[str, Any]
    layout: FlowLayout

    @property
    def is_complete(self) -> bool:
        """Whether only the folder's name is missing."""
        return _done(self.building) == self.plan


def _not_done(request: EstimateRequest, variant_dir: Path, plans: Plans, work: Work) -> Plans:
    """The plans that are not carried out yet. Raises UserError where settings have changed."""
    name = request.folder_name()
    any_plan = next(iter(plans.values()))
    is_open = {}
    for lag in sorted({*plans, *flow_lags(variant_dir, name)}):
        done = _done(flow_dir(variant_dir, name, lag))
        is_replaced = request.rebuild and lag in plans
        if done and not is_replaced:
            refusal = changes(done, plans.get(lag, any_plan), lag=lag, name=name)
            if refusal:
                raise refusal
        if lag not in plans:
            continue
        if done == plans[lag] and not request.rebuild:
            work.log(f"lag {lag}: already estimated by '{name}'; nothing to do")
            continue
        if done and not request.rebuild:
            work.log(f"lag {lag}: what it was made from has changed; estimating it again")
        is_open[lag] = plans[lag]
    return is_open


def _done(folder: Path) -> dict[str, Any] | None:
    path = folder / "done.json"
    return dict(read_json(path)) if path.exists() else None


def _estimate(request: EstimateRequest, selection: Selection, plans: Plans, work: Work) -> None:
    """Carry out plans; each lag takes its name as soon as it is complete."""
    lags = []
    for lag, plan in plans.items():
        begun = _begin(request, selection, lag, plan)
        if begun.is_complete:
            _publish(begun)
        else:
            lags.append(begun)
    if lags:
        _make(request, selection, lags, work)


def _make(request: EstimateRequest, selection: Selection, lags: Sequence[_Lag], work: Work) -> None:
    """Estimate what is not estimated yet."""
    num_pairs = sum(each.layout.num_pairs for each in lags)
    work.log(
        f"{num_pairs:,} pairs of {len(selection.packed):,} videos,"
        f" {lags_in_words([each.lag for each in lags])}, {request.estimator}"
        f" at {selection.input_size_px} px"
    )
    _check_space(lags)
    for each in lags:
        make_files(each.building, each.layout)
    tasks: list[Task] = []
    meter = _Meter(work, num_pairs)
    for task in _tasks(request, selection, lags):
        if is_done(task.building, task.row):
            meter.finish(task)
        else:
            tasks.append(task)
    left: dict[int, set[int]] = {each.lag: set() for each in lags}
    for task in tasks:
        left[task.lag].add(task.row)
    for each in lags:
        if not left[each.lag]:
            _finish(request, selection, each)
    by_lag = {each.lag: each for each in lags}
    with closing(_estimated(request, tasks, lags[0].building, meter)) as ended:
        for news in ended:
            if news.crash:
                raise _crashed(selection, news.task, news.crash)
            meter.finish(news.task)
            left[news.task.lag].remove(news.task.row)
            if not left[news.task.lag]:
                _finish(request, selection, by_lag[news.task.lag])


def _estimated(
    request: EstimateRequest, tasks: list[Task], building: Path, meter: _Meter
) -> Generator[Ended[Task], None, None]:
    """Estimate some tasks, in any order, on this machine or on several."""
    workers = _workers(request, len(tasks))
    return spread(
        workers,
        tasks,
        engine=request.engine,
        jobs=len(workers),
        folder=building / "videos",
        on_progress=meter.advance,
        num_gpus=int(workers[0].device.startswith("cuda")),
    )


def _estimate_shard(
    request: EstimateRequest, selection: Selection, plans: Plans, folder: Path, work: Work
) -> dict[str, Any]:
    """Estimate every n-th task; what it writes waits for the call that finishes the lags."""
    lags: list[_Lag] = []

    def begin(is_alone: bool) -> None:
        open_plans = _not_done(request, selection.packed.dir, plans, work)
        for lag, plan in open_plans.items():
            building = flow_dir(selection.packed.dir, request.folder_name(), lag)
            path = building.with_name(f"{building.name}.tmp") / "plan.json"
            if not is_alone and not (path.exists() and read_json(path) == plan):
                raise _is_taken(folder)
            lags.append(_begin(request, selection, lag, plan))
            if is_alone:
                make_files(lags[-1].building, lags[-1].layout)

    with held_together(folder, begin) as is_ours:
        if not is_ours:
            raise _is_taken(folder)
        own = own_items(list(_tasks(request, selection, lags)), request.shard)
        meter = _Meter(work, sum(task.place.count for task in own))
        tasks = [task for task in own if not is_done(task.building, task.row)]
        if tasks:
            with closing(_estimated(request, tasks, lags[0].building, meter)) as ended:
                for news in ended:
                    if news.crash:
                        raise _crashed(selection, news.task, news.crash)
                    meter.finish(news.task)
    work.log(f"shard {request.shard}: {len(own):,} videos are estimated")
    return {
        "shard": request.shard,
        "num_videos": len(own),
        "flow_dir": str(folder),
        "variant": selection.packed.dir.name,
    }


def _is_taken(folder: Path) -> UserError:
    return UserError(
        f"the flow '{folder.name}' is being estimated by another process",
        {"folder": folder, "to fix": "wait for it, or give another name, --name NAME"},
    )


def _begin(request: EstimateRequest, selection: Selection, lag: int, plan: dict[str, Any]) -> _Lag:
    """Keep what an interrupted run with the same plan has left; clear anything else."""
    target = flow_dir(selection.packed.dir, request.folder_name(), lag)
    building = target.with_name(f"{target.name}.tmp")
    path = building / "plan.json"
    is_kept = _done(building) == plan or (path.exists() and read_json(path) == plan)
    if not is_kept:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        write_json(path, plan)
    for half_written in building.glob(".*.part"):
        half_written.unlink()
    counts = [max(0, int(length) - lag) for length in selection.packed.num_frames]
    layout = lay_out(counts, selection.flow_size_px, is_checked=request.check)
    return _Lag(lag, building, target, plan, layout)


def _check_space(lags: Sequence[_Lag]) -> None:
    needed = sum(sum(each.layout.files().values()) for each in lags)
    building = lags[0].building
    # The files are made in their full size at once, but take space only as they are filled.
    held = sum(
        path.stat().st_blocks * 512
        for each in lags
        for path in each.building.iterdir()
        if path.is_file()
    )
    free = shutil.disk_usage(building).free + held
    if needed + SPARE_BYTES > free:
        raise UserError(
            "not enough disk space for the flow",
            {
                "folder": building.parent,
                "needs": f"about {needed / 1e9:.1f} GB",
                "free": f"{free / 1e9:.1f} GB",
                "to fix": "free some space, or give fewer --lags or a smaller --flow-size",
            },
        )


def _tasks(request: EstimateRequest, selection: Selection, lags: Sequence[_Lag]) -> Iterator[Task]:
    variant_dir, frames_dir = selection.packed.dir, selection.frames.dir
    for each in lags:
        for row, place in enumerate(each.layout.places):
            if place.count:
                yield Task(
                    row,
                    each.lag,
                    request,
                    variant_dir,
                    frames_dir,
                    selection.frame_rows[row],
                    each.building,
                    place,
                    each.layout.pair_bytes,
                    selection.input_size_px,
                    selection.flow_size_px,
                    each.lag in selection.packed.flow_lags,
                )


def _workers(request: EstimateRequest, num_tasks: int) -> list[Worker]:
    """One for each process, spread over the devices; no more than there are videos."""
    on_processor = request.estimator in ("dis", "files")
    devices = ["cpu"] if on_processor else _devices(request.devices)
    per_device = request.workers_per_device or (request.cores if on_processor else 1)
    places = [device for _ in range(per_device) for device in devices][: max(1, num_tasks)]
    return [Worker(device, max(1, request.cores // len(places))) for device in places]


def _devices(names: Sequence[str]) -> list[str]:
    from pipelines.training.device import choose_device

    return [str(choose_device(name)) for name in dict.fromkeys(names)]


def _crashed(selection: Selection, task: Task, how: str) -> UserError:
    return UserError(
        f"estimating the flow of '{selection.packed.ids[task.row]}' failed",
        {
            "reason": how,
            "to fix": "run the same command again with fewer --workers-per-device",
        },
    )


def _finish(request: EstimateRequest, selection: Selection, made: _Lag) -> None:
    """Write the index of a lag and give it its name."""
    reports = [
        read_report(made.building, row) if place.count else no_pairs(made.layout)
        for row, place in enumerate(made.layout.places)
    ]
    notes = [report.notes for report in reports]
    facts = {
        "dataset": request.name,
        "variant": selection.packed.dir.name,
        "estimator": request.estimator,
        "lag": made.lag,
        "settings": made.plan["settings"],
        "num_missing": sum(each.get("num_missing", 0) for each in notes),
        "errors": _errors(selection, notes),
    }
    finish(made.building, made.layout, reports, facts)
    os.replace(made.building / "plan.json", made.building / "done.json")
    _publish(made)


def _publish(made: _Lag) -> None:
    """Give the finished folder its name; an older one goes only then."""
    shutil.rmtree(made.building / "videos", ignore_errors=True)
    parent, name = made.target.parent, made.target.name
    if made.target.exists():
        old = Path(tempfile.mkdtemp(dir=parent, prefix=f".{name}.old-"))
        os.replace(made.target, old / name)
    os.replace(made.building, made.target)
    for old in parent.glob(f".{name}.old-*"):
        shutil.rmtree(old)


def _errors(
    selection: Selection, notes: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, float | int]]:
    """The errors against the true motion, summed over each kind of video (first part of its id)."""
    by_kind: dict[str, list[Mapping[str, float]]] = {}
    for video_id, each in zip(selection.packed.ids, notes, strict=True):
        if "error" in each:
            by_kind.setdefault(video_id.split("/", 1)[0], []).append(each["error"])
    return {kind: total(errors).as_values() for kind, errors in sorted(by_kind.items())}


def _result(
    request: EstimateRequest, selection: Selection, new_lags: Sequence[int], work: Work
) -> dict[str, Any]:
    name = request.folder_name()
    lags = {}
    for lag in selection.lags:
        pack = FlowPack(flow_dir(selection.packed.dir, name, lag))
        lags[str(lag)] = _facts(pack)
        if lag in new_lags:
            _tell(pack, work)
    result: dict[str, Any] = {
        "flow_dir": str(folder_of(selection.packed.dir, name)),
        "name": name,
        "variant": selection.packed.dir.name,
        "new_lags": list(new_lags),
        "lags": lags,
    }
    if request.export_dir:
        for lag in selection.lags:
            pack = FlowPack(flow_dir(selection.packed.dir, name, lag))
            form = request.export_format
            export_flow(selection.packed, pack, request.export_dir, form=form, work=work)
        result["export_dir"] = str(request.export_dir)
    work.artifact(Path(result["flow_dir"]), "flow")
    return result


def _facts(pack: FlowPack) -> dict[str, Any]:
    index = pack.index
    errors = {}
    for kind, values in index["errors"].items():
        error = total([values])
        if error.endpoint_px is not None and error.zero_px is not None:
            errors[kind] = {
                "endpoint_px": round(error.endpoint_px, 4),
                "zero_flow_px": round(error.zero_px, 4),
            }
    parts = pack.reliable_part() if index["is_checked"] else None
    return {
        "num_pairs": index["num_pairs"],
        "num_valid": index["num_valid"],
        "statistics": index["statistics"],
        "reliable_part": parts,
        "errors": errors,
    }


def _tell(pack: FlowPack, work: Work) -> None:
    """Say what was made, how long the motion is and, where it is known, how wrong the estimate."""
    index, facts = pack.index, _facts(pack)
    numbers = facts["statistics"]
    text = f"lag {pack.lag}: {index['num_valid']:,} of {index['num_pairs']:,} pairs valid"
    if numbers["max_norm"] is not None:
        text += (
            f"; longest motion {numbers['max_norm']:.1f} px,"
            f" of the middle pair {numbers['percentiles']['50']:.1f} px"
        )
    if facts["reliable_part"] is not None:
        text += f"; {facts['reliable_part']:.0%} of all pixels agree both ways"
    work.log(text)
    if index["num_missing"]:
        work.warning(f"lag {pack.lag}: no file for {index['num_missing']:,} pairs")
    if facts["errors"]:
        listed = ", ".join(
            f"{kind} {error['endpoint_px']:.2f} ({error['zero_flow_px']:.2f})"
            for kind, error in facts["errors"].items()
        )
        work.log(f"lag {pack.lag}: end-point error on moving pixels, px (of zero flow): {listed}")


class _Meter:
    """Progress over videos of different lengths, in pairs."""

    def __init__(self, work: Work, num_pairs: int) -> None:
        self._work, self._total = work, num_pairs
        self._parts: dict[tuple[int, int], float] = {}
        self._done = 0.0

    def advance(self, task: Task, part: float) -> None:
        """Note how much of a task is done."""
        before = self._parts.get((task.lag, task.row), 0.0)
        self._parts[task.lag, task.row] = max(before, min(part, 0.99))
        self._show((self._parts[task.lag, task.row] - before) * task.place.count)

    def finish(self, task: Task) -> None:
        """Note that a task is done."""
        before = self._parts.pop((task.lag, task.row), 0.0)
        self._show((1.0 - before) * task.place.count)

    def _show(self, gained: float) -> None:
        self._done += gained
        done = min(round(self._done, 6), self._total)
        self._work.progress(TASK, done, self._total, "pairs")
