"""`i2v extract-frames`: from a raw folder to a prepared variant (pipelines.io.packed).

Work goes on in `<variant>.tmp`: processes make parts, this process packs them in order. Killed at
any moment and started again, it ends with the same bytes. A finished variant is not made again
unless what it was made from has changed; then the new one replaces it when it is complete.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.datasets import storage
from pipelines.datasets.base import SPLITS, Rejected
from pipelines.datasets.config import ExtractRequest
from pipelines.datasets.extraction import Part, Piece, Task, extract, is_complete, reject
from pipelines.datasets.frame_images import FIRST_FRAME, Naming, write_frame_images
from pipelines.datasets.inventory import Inventory, take_inventory
from pipelines.datasets.processes import Ended, spread
from pipelines.datasets.protocols import OWN, described, resize_rule_of, rule_of
from pipelines.datasets.splits import assign, group_of
from pipelines.datasets.storage import size_text
from pipelines.engines.shards import held_together, own_items
from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError, Work
from pipelines.files import folder_lock, read_json, write_json, write_text
from pipelines.io.fitting import FILTER
from pipelines.io.packed import PackedVideos
from pipelines.io.packing import PackWriter, Row

TASK = "extract frames"
PLAN_VERSION = 1
"""Counted up when the same plan gives other bytes than before."""


def extract_frames(request: ExtractRequest, work: Work) -> dict[str, Any]:
    """Prepare a dataset. The result names the variant folder, what is in it, what was left out.

    Raises UserError with exit code 4 when there is nothing to prepare, 2 when a variant of this
    name was made otherwise, 1 when the disk is too small.
    """
    raw = _raw(request)
    if request.compat:
        resize_rule_of(request.kind, request.protocol)
    variant_dir = request.data_root / request.name / "prepared" / request.variant_name()
    done = _done(variant_dir)
    try:
        inventory = take_inventory(raw, request.kind, work, protocol=request.protocol)
    except UserError:
        if done and done["settings"] == request.settings() and not request.rebuild:
            work.log(f"already prepared: {variant_dir.name} (the raw folder is gone)")
            return _result(request, variant_dir, work, is_new=False)
        raise
    plan = {
        "version": PLAN_VERSION,
        "source": str(raw),
        "settings": request.settings(),
        "inputs": inventory.state,
    }
    if done and not request.rebuild and _is_same(done, plan):
        work.log(f"already prepared: {variant_dir.name}; nothing to do")
        return _result(request, variant_dir, work, is_new=False)
    if done and not request.rebuild:
        _check_may_replace(request, done, plan)
        work.log(f"the files in {raw.name} have changed: preparing {variant_dir.name} again")
    if request.shard is not None:
        return _prepare_shard(request, inventory, plan, variant_dir, work)
    _prepare(request, inventory, plan, variant_dir, work)
    return _result(request, variant_dir, work, is_new=True)


def _raw(request: ExtractRequest) -> Path:
    return request.source or request.data_root / request.name / "raw"


def _prepare(
    request: ExtractRequest,
    inventory: Inventory,
    plan: Mapping[str, object],
    variant_dir: Path,
    work: Work,
) -> None:
    decided, needed = storage.decide(request, inventory, work)
    plan = {**plan, "storage": decided.storage}
    building = variant_dir.with_name(f"{variant_dir.name}.tmp")
    building.mkdir(parents=True, exist_ok=True)
    with folder_lock(building) as is_ours:
        if not is_ours:
            raise _is_taken(variant_dir)
        is_packed = _done(building) == plan
        if not is_packed:
            _begin(building, plan)
            much = f"about {size_text(needed)} of frames" if needed else "without frames"
            work.log(f"{len(inventory.videos):,} videos, {much}")
            storage.check_space(needed, building)
            with PackWriter(
                building,
                size_px=request.size_px,
                channels=request.channels,
                storage=decided.storage,
            ) as writer:
                _pack(decided, inventory, writer, work)
                _finish(request, inventory, writer)
            os.replace(building / "plan.json", building / "done.json")
        _publish(building, variant_dir)


def _done(folder: Path) -> dict[str, Any] | None:
    path = folder / "done.json"
    return dict(read_json(path)) if path.exists() else None


def _is_same(done: Mapping[str, object], plan: Mapping[str, object]) -> bool:
    """Equal, wherever the raw folder lies now and whatever max_gb led to."""
    free = {"source": "", "storage": ""}
    return {**done, **free} == {**plan, **free}


def _check_may_replace(
    request: ExtractRequest, done: Mapping[str, Any], plan: Mapping[str, Any]
) -> None:
    """Files that changed are taken up; other settings or another folder may be a mistake."""
    old, new = done["settings"], plan["settings"]
    changed = [
        f"{key}: {old.get(key)} before, {new[key]} now" for key in new if old.get(key) != new[key]
    ]
    if changed:
        raise UserError(
            f"variant '{request.variant_name()}' of '{request.name}' was made with other settings",
            {
                **{f"changed {number}": text for number, text in enumerate(changed, 1)},
                "to fix": "give it another name, variant=NAME, or --rebuild to replace it",
            },
            EXIT_USAGE,
        )
    if done["source"] != plan["source"]:
        raise UserError(
            f"dataset '{request.name}' was made from another folder",
            {
                "made from": done["source"],
                "asked for": plan["source"],
                "to fix": "give another --name, or --rebuild to replace it",
            },
            EXIT_USAGE,
        )


def _begin(building: Path, plan: Mapping[str, object]) -> None:
    """Keep what an interrupted run with the same plan has left; clear anything else."""
    path = building / "plan.json"
    if path.exists() and read_json(path) == plan:
        return
    for each in building.iterdir():
        if each.is_dir():
            shutil.rmtree(each)
        elif each.name != ".lock":
            each.unlink()
    write_json(path, plan)


def _pack(request: ExtractRequest, inventory: Inventory, writer: PackWriter, work: Work) -> None:
    """Make and pack what is not packed yet."""
    num_packed, total = len(writer.entries), len(inventory.videos)
    if num_packed:
        work.log(f"going on after {num_packed:,} of {total:,} videos")
    tasks = _tasks(request, inventory, writer.folder)
    meter = _Meter(work, inventory.sizes)
    for task in tasks[:num_packed]:
        meter.finish(task)
    to_do = []
    for task in tasks[num_packed:]:
        if _is_made(task):
            meter.finish(task)
        else:
            to_do.append(task)
    _pack_ready(tasks, writer, inventory)
    with closing(_extracted(request, to_do, writer.folder, meter)) as ended:
        for news in ended:
            if news.crash:
                reject(news.task, "unreadable", news.crash)
            meter.finish(news.task)
            _pack_ready(tasks, writer, inventory)


def _tasks(request: ExtractRequest, inventory: Inventory, building: Path) -> list[Task]:
    parts_dir = building / "parts"
    return [
        Task(number, video, request, parts_dir / f"{number:07d}")
        for number, video in enumerate(inventory.videos)
    ]


def _extracted(
    request: ExtractRequest, tasks: list[Task], building: Path, meter: _Meter
) -> Generator[Ended[Task], None, None]:
    """Make the parts of some videos, in any order."""
    return spread(
        extract,
        tasks,
        engine=request.engine,
        jobs=min(request.jobs, max(1, len(tasks))),
        folder=building / "parts",
        on_progress=meter.advance,
    )


def _prepare_shard(
    request: ExtractRequest,
    inventory: Inventory,
    plan: Mapping[str, object],
    variant_dir: Path,
    work: Work,
) -> dict[str, Any]:
    """Make the parts of every n-th video; they wait for the call that packs them all."""
    decided, needed = storage.decide(request, inventory, work)
    plan = {**plan, "storage": decided.storage}
    building = variant_dir.with_name(f"{variant_dir.name}.tmp")
    building.mkdir(parents=True, exist_ok=True)

    def begin(is_alone: bool) -> None:
        if is_alone:
            _begin(building, plan)
            storage.check_space(needed, building)
        elif read_json(building / "plan.json") != plan:
            raise _is_taken(variant_dir)

    with held_together(building, begin) as is_ours:
        if not is_ours:
            raise _is_taken(variant_dir)
        own = own_items(_tasks(decided, inventory, building), request.shard)
        meter = _Meter(work, inventory.sizes)
        to_do = [task for task in own if not _is_made(task)]
        with closing(_extracted(decided, to_do, building, meter)) as ended:
            for news in ended:
                if news.crash:
                    reject(news.task, "unreadable", news.crash)
                meter.finish(news.task)
    work.progress(TASK, 1, 1, "shard")
    work.log(f"shard {request.shard}: {len(own):,} of {len(inventory.videos):,} videos are made")
    return {"shard": request.shard, "num_videos": len(own), "parts_dir": str(building / "parts")}


def _is_taken(variant_dir: Path) -> UserError:
    return UserError(
        f"{variant_dir.name} is being prepared by another process",
        {
            "folder": variant_dir.with_name(f"{variant_dir.name}.tmp"),
            "to fix": "wait for it, or give another name, variant=NAME",
        },
    )


def _is_made(task: Task) -> bool:
    if is_complete(task.part_dir):
        return True
    shutil.rmtree(task.part_dir, ignore_errors=True)
    return False


def _pack_ready(tasks: list[Task], writer: PackWriter, inventory: Inventory) -> None:
    """Pack parts as long as the next one in order is there."""
    while len(writer.entries) < len(tasks):
        task = tasks[len(writer.entries)]
        if not is_complete(task.part_dir):
            return
        writer.commit(_pack_part(task, writer, inventory))
        shutil.rmtree(task.part_dir)


def _pack_part(task: Task, writer: PackWriter, inventory: Inventory) -> dict[str, Any]:
    video, part = task.video, Part(task.part_dir, task.request)
    source = inventory.source(video.path)
    if video.clip:
        source = f"{source}@{video.clip.first_byte}"
    rows: list[Row] = []
    rejected = [
        Rejected(video.id + suffix, source, reason, detail)
        for suffix, reason, detail in part.rejected
    ]
    for piece in part.pieces:
        row = {
            "id": video.id + piece.suffix,
            "source": source,
            "group": group_of(video.id, video.group, task.request.group_regex),
            "split": piece.split or video.split,
            "fps": part.fps,
            "original_size": part.original_size,
            "labels": {**video.labels, **part.labels, **_place_in_source(task, piece)},
        }
        frames, flow, extra = part.frames(piece), part.flow(piece), part.extra(piece)
        try:
            rows.append(writer.add(row, frames, flow=flow, extra=extra))
        except ValueError as problem:
            rejected.append(Rejected(str(row["id"]), source, "unlike the others", str(problem)))
    return {"rows": rows, "rejected": [asdict(each) for each in rejected]}


def _place_in_source(task: Task, piece: Piece) -> dict[str, int]:
    """A label that tells where a part of a longer video begins, in its raw frames."""
    first = task.video.first_frame + piece.first * task.request.stride
    is_known = task.request.fps is None and task.video.clock_fps is None
    return {FIRST_FRAME: first} if first and is_known else {}


def _finish(request: ExtractRequest, inventory: Inventory, writer: PackWriter) -> None:
    """Decide the splits and write the index; index.json is the last file."""
    rows = [row for entry in writer.entries for row in entry["rows"]]
    rejected = [each for entry in writer.entries for each in entry["rejected"]]
    for each in inventory.rejected:
        rejected.append(asdict(each) | {"source": inventory.source(each.source)})
    rule = rule_of(request.kind, request.protocol)
    if not rows:
        shutil.rmtree(writer.folder)
        raise _nothing_usable(inventory.raw, rejected)
    by = "group" if request.split_by == "group" else "source"
    free = [(row["id"], row[by]) for row in rows if row["split"] is None]
    drawn = assign(free, request.split, seed=request.seed) if free else {}
    rows = [row | {"split": row["split"] or drawn[row["id"]]} for row in rows]
    lines = (json.dumps(each) + "\n" for each in rejected)
    write_text(writer.folder / "rejected.jsonl", "".join(lines))
    facts = {
        "dataset": request.name,
        "variant": request.variant_name(),
        "kind": request.kind,
        "fit": request.fit,
        "protocol": rule.about if rule else None,
        "filter": described(rule) if rule and request.compat else FILTER,
        "fps": request.fps,
        "stride": request.stride,
        "options": request.settings(),
        "source": {
            "num_videos": len(inventory.videos),
            "bytes": sum(inventory.sizes),
            "manifest": inventory.manifest,
        },
        "num_rejected": len(rejected),
    }
    writer.finish(rows, facts)


def _nothing_usable(raw: Path, rejected: list[dict[str, str]]) -> UserError:
    counts = Counter(each["reason"] for each in rejected)
    details = {f"{each['id']}"[:40]: f"{each['reason']}: {each['detail']}" for each in rejected[:3]}
    if len(rejected) > 3:
        details["in all"] = ", ".join(f"{count} {reason}" for reason, count in counts.items())
    remedies = {
        "too short": "record longer videos, or lower --min-frames",
        "static": "lower --drop-static",
        "damaged": "get the files again, or give keep_damaged=true",
        "not listed": "correct the lists train.txt, val.txt, test.txt",
    }
    most = counts.most_common(1)[0][0] if counts else ""
    remedy = remedies.get(most, "give a folder of videos that play")
    return UserError(
        f"no usable video in '{raw.name}'", {**details, "to fix": remedy}, EXIT_NO_DATA
    )


def _publish(building: Path, variant_dir: Path) -> None:
    """Give the finished folder its name; an older one goes only then."""
    shutil.rmtree(building / "parts", ignore_errors=True)
    (building / "journal.jsonl").unlink(missing_ok=True)
    for litter in building.glob(".*.part"):  # of a process that was killed while it wrote
        litter.unlink()
    if variant_dir.exists():
        old = Path(tempfile.mkdtemp(dir=variant_dir.parent, prefix=f".{variant_dir.name}.old-"))
        os.replace(variant_dir, old / variant_dir.name)
    os.replace(building, variant_dir)
    for old in variant_dir.parent.glob(f".{variant_dir.name}.old-*"):
        shutil.rmtree(old)


def _result(
    request: ExtractRequest, variant_dir: Path, work: Work, *, is_new: bool
) -> dict[str, Any]:
    packed = PackedVideos(variant_dir)
    splits = packed.index["splits"]
    text = (variant_dir / "rejected.jsonl").read_text(encoding="utf-8")
    reasons = Counter(json.loads(line)["reason"] for line in text.splitlines())
    if is_new:
        _tell(packed, reasons, variant_dir / "rejected.jsonl", work)
    result = {
        "variant_dir": str(variant_dir),
        "is_new": is_new,
        "storage": packed.storage,
        "num_videos": packed.index["num_videos"],
        "num_frames": packed.index["num_frames"],
        "splits": splits,
        "bytes": sum(file["bytes"] for file in packed.index["files"].values()),
        "rejected": dict(reasons),
        "rejected_path": str(variant_dir / "rejected.jsonl"),
    }
    if request.write_images:
        images_dir = request.data_root / request.name / "frames" / variant_dir.name
        naming = Naming(rule_of(request.kind, request.protocol), _raw(request))
        write_frame_images(variant_dir, images_dir, naming, jobs=request.jobs, work=work)
        result["images_dir"] = str(images_dir)
    work.artifact(variant_dir, "prepared frames")
    return result


def _tell(packed: PackedVideos, reasons: Mapping[str, int], listed_in: Path, work: Work) -> None:
    """Say what was made and what was not."""
    index = packed.index
    parts = ", ".join(f"{name} {index['splits'][name]['videos']:,}" for name in SPLITS)
    size = size_text(sum(file["bytes"] for file in index["files"].values()))
    work.log(f"{index['num_videos']:,} videos ({parts}), {index['num_frames']:,} frames, {size}")
    if reasons:
        counts = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
        work.warning(f"{sum(reasons.values()):,} left out ({counts}): see {listed_in}")
    asked = dict(zip(SPLITS, index["options"]["split"], strict=True))
    empty = [name for name in SPLITS if asked[name] > 0 and not index["splits"][name]["videos"]]
    if empty:
        options = index["options"]
        hint = "" if options["split_by"] == "time" else "; --split-by time cuts every video"
        if index["protocol"] and options["protocol"] != OWN:
            hint = f" ({index['protocol']}; --protocol {OWN} follows --split)"
        work.warning(f"no video is left for {' and '.join(empty)}{hint}")
    groups: dict[str, set[str]] = {}
    for row in packed.rows if index["options"]["split_by"] == "group" else ():
        groups.setdefault(row.group, set()).add(row.split)
    straddling = [group for group, splits in groups.items() if len(splits) > 1]
    if straddling:
        work.warning(
            f"{len(straddling):,} groups are in several of the dataset's own splits,"
            f" such as '{straddling[0]}'"
        )


class _Meter:
    """Progress over videos of very different lengths, in megabytes of raw data."""

    def __init__(self, work: Work, sizes: Sequence[int]) -> None:
        self._work, self._sizes = work, sizes
        self._parts: dict[int, float] = {}
        self._done, self._num_open = 0.0, len(sizes)

    def advance(self, task: Task, part: float) -> None:
        """Note how much of a task's video is done; files may be read back and forth."""
        before = self._parts.get(task.number, 0.0)
        self._parts[task.number] = max(before, min(part, 0.99))
        self._show((self._parts[task.number] - before) * self._sizes[task.number])

    def finish(self, task: Task) -> None:
        """Note that a task's video is done."""
        before = self._parts.pop(task.number, 0.0)
        self._num_open -= 1
        self._show((1.0 - before) * self._sizes[task.number])

    def _show(self, gained: float) -> None:
        self._done += gained
        total = sum(self._sizes) / 1e6
        self._work.progress(TASK, self._done / 1e6 if self._num_open else total, total, "MB")
