"""Generated clips with ground truth: every family can be trained and checked without a download.

What the kinds are: pipelines.datasets.generate.kinds. A clip is decided by (seed, kind, index), the
same on every platform to within one grey level; `future` chooses among true continuations of its
first frame, which stays the same to the last bit.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from pipelines.datasets import processes
from pipelines.datasets.base import SPLITS, DatasetSpec, RawVideo, Rejected
from pipelines.datasets.config import DownloadRequest
from pipelines.datasets.generate.clip_files import write_clip, written_with
from pipelines.datasets.generate.kinds import KINDS, Kind, Poke, kind_named
from pipelines.datasets.generate.scene import FPS, Clip, Scene
from pipelines.events import EXIT_FAILED, EXIT_NO_DATA, EXIT_USAGE, UserError, Work
from pipelines.files import fingerprint, folder_lock, read_json, write_json

SPEC = DatasetSpec(
    about="generated clips with known flow, endpoints, joints and labels",
    licence="that of this project",
    fps=FPS,
    has_poses=True,
)

PRESET_COUNTS = {
    "tiny": {"train": 64, "val": 16, "test": 16},
    "default": {"train": 800, "val": 100, "test": 100},
}
PRESET_FRAMES = {"tiny": 20, "default": 32}

FIRST_INDEX = {"train": 0, "val": 1_000_000, "test": 2_000_000}
"""Index of a split's clip 0; a clip is the same whatever the preset."""

HELD_OUT_FROM = 0.75
"""With `ood`, test clips draw their speed above this fraction of the range, all others below."""

GENERATOR_VERSION = 1
"""Counted up when the same seed gives other clips than before."""

MANIFEST = "download.json"
_PROGRESS_TASK = "generate clips"


def generate(
    kind: str,
    index: int,
    *,
    seed: int = 0,
    size_px: int = 64,
    num_frames: int = 32,
    future: int = 0,
    speed_range: tuple[float, float] = (0.0, 1.0),
    with_truth: bool = True,
) -> Clip:
    """The clip (seed, kind, index), or another future of its first frame.

    index: FIRST_INDEX[split] + number for the clips that `download` writes.
    future: 0 is what is written; any other number is another draw of what happens next.
    speed_range: part of the kind's range of speeds, in 0..1.
    with_truth: without it only frames and labels are made, in a fraction of the time.
    Raises UserError (exit code 2) for an unknown kind or sizes that cannot be.
    """
    row = kind_named(kind)
    scene = _scene(row, index, seed, size_px, num_frames)
    if future < 0:
        raise ValueError("futures are counted from 0")
    scene = replace(scene, future=future, speed_range=speed_range)
    return _labelled(row.generate(scene, with_truth=with_truth), kind, scene)


def simulate(
    kind: str,
    index: int,
    *,
    poke: Poke,
    lag: int = 10,
    seed: int = 0,
    size_px: int = 64,
    num_frames: int = 32,
    speed_range: tuple[float, float] = (0.0, 1.0),
    with_truth: bool = True,
) -> Clip:
    """What really happens when the first frame of a clip is poked: plant and arm only.

    poke: column and row of a pixel, and how far (pixels, x and y) what it shows shall have moved
      after `lag` frames. The physics come as near to it as they can; the flow of the clip tells how
      near. A poke where nothing can move moves nothing.
    """
    row = kind_named(kind)
    if row.simulate is None:
        able = ", ".join(name for name, each in KINDS.items() if each.simulate)
        raise UserError(f"'{kind}' answers no pokes", {"to fix": f"choose from {able}"}, EXIT_USAGE)
    scene = replace(_scene(row, index, seed, size_px, num_frames), speed_range=speed_range)
    if not (0 <= poke[0] < size_px and 0 <= poke[1] < size_px):
        raise UserError(
            f"the poke at ({poke[0]:g}, {poke[1]:g}) lies outside the frame",
            {"to fix": f"give a column and a row from 0 to {size_px - 1}"},
            EXIT_USAGE,
        )
    if not 1 <= lag < num_frames:
        raise UserError(
            f"no frame lies {lag} frames after the first",
            {"to fix": f"give a lag from 1 to {num_frames - 1}"},
            EXIT_USAGE,
        )
    return _labelled(row.simulate(scene, poke, lag=lag, with_truth=with_truth), kind, scene)


def layout(raw: Path) -> Iterable[RawVideo | Rejected]:
    """The clips that the manifest lists, kind by kind; those not written yet are given as Rejected.

    Raises UserError (exit code 4) when nothing has been generated there.
    """
    manifest = _read_manifest(raw)
    if not manifest["kinds"]:
        raise UserError(
            "no generated clips",
            {"looked in": raw, "run first": "i2v download synthetic"},
            EXIT_NO_DATA,
        )
    return list(_listed(raw, manifest))


def download(request: DownloadRequest, work: Work) -> dict[str, Any]:
    """Generate clips into <data_root>/<dataset>/raw/<kind>/<split>/<number>.npz.

    Complete clips of the same settings are kept, so an interrupted run goes on where it was.
    Returns path, clips (kind -> split -> count), made, kept, size_bytes, next.
    Raises UserError for unknown kinds, clips of other settings (without `force`), a full disk.
    """
    raw = request.data_root / request.dataset / "raw"
    wanted = [_order(request, name) for name in dict.fromkeys(request.kinds or KINDS)]
    raw.mkdir(parents=True, exist_ok=True)
    with folder_lock(raw) as is_ours:
        if not is_ours:
            raise UserError(
                "another process is generating clips into this folder",
                {"folder": raw, "to fix": "wait until it is done, or stop it"},
            )
        return _complete(raw, wanted, request, work)


def _complete(
    raw: Path, wanted: list[_Order], request: DownloadRequest, work: Work
) -> dict[str, Any]:
    """Make what is missing, then list it."""
    manifest = _read_manifest(raw)
    found = {order.kind: _look_at(raw, order, manifest, force=request.force) for order in wanted}
    todo = [task for each in found.values() for task in each.missing]
    _check_disk(raw, todo)
    entries = {order.kind: _entry(order, manifest) for order in wanted}
    manifest["kinds"] |= entries
    write_json(raw / MANIFEST, manifest)
    _make_all(todo, request.jobs, work)
    for kind, entry in entries.items():
        for path in found[kind].leftover:
            path.unlink(missing_ok=True)
        entry["is_complete"] = True
    write_json(raw / MANIFEST, manifest)
    return _report(raw, wanted, manifest, made=len(todo))


@dataclass(frozen=True)
class _Settings:
    """What decides the clips of one kind, apart from their number."""

    kind: str
    seed: int
    size_px: int
    num_frames: int
    ood: bool
    generator_version: int = GENERATOR_VERSION

    @property
    def id(self) -> str:
        return fingerprint(asdict(self))

    def speed_range(self, split: str) -> tuple[float, float]:
        if not self.ood:
            return 0.0, 1.0
        return (HELD_OUT_FROM, 1.0) if split == "test" else (0.0, HELD_OUT_FROM)


@dataclass(frozen=True)
class _Order:
    """All clips of one kind that are wanted: split -> how many."""

    settings: _Settings
    counts: dict[str, int]

    @property
    def kind(self) -> str:
        return self.settings.kind


@dataclass(frozen=True)
class _Task:
    """One clip to be written."""

    path: Path
    settings: _Settings
    split: str
    number: int


@dataclass(frozen=True)
class _Found:
    """missing: clips to write.  leftover: files that nothing wanted replaces or goes on with."""

    missing: list[_Task]
    leftover: list[Path]


def _scene(row: Kind, index: int, seed: int, size_px: int, num_frames: int) -> Scene:
    if size_px < 32 or size_px % 16:
        raise UserError(
            f"generated clips cannot be {size_px} px wide",
            {"to fix": "give a multiple of 16, at least 32, such as 64 or 128"},
            EXIT_USAGE,
        )
    if num_frames < 2 or index < 0:
        raise UserError(
            f"no clip {index} of {num_frames} frames",
            {"to fix": "give an index from 0 on and at least 2 frames"},
            EXIT_USAGE,
        )
    return Scene(seed, row.id, index, size_px, num_frames)


def _labelled(clip: Clip, kind: str, scene: Scene) -> Clip:
    """With what it takes to make this clip, or other futures of it, again."""
    origin: dict[str, JsonValue] = {
        "kind": kind,
        "seed": scene.seed,
        "index": scene.index,
        "future": scene.future,
        "speed_range": list(scene.speed_range),
    }
    return replace(clip, labels=origin | clip.labels)


def _order(request: DownloadRequest, kind: str) -> _Order:
    kind_named(kind)
    num_frames = request.num_frames or PRESET_FRAMES[request.preset]
    settings = _Settings(kind, request.seed, request.size_px, num_frames, request.ood)
    return _Order(settings, PRESET_COUNTS[request.preset])


def _look_at(raw: Path, order: _Order, manifest: dict[str, Any], *, force: bool) -> _Found:
    """Compare what is there with what is wanted."""
    known = manifest["kinds"].get(order.kind)
    is_other = known is not None and known["settings_id"] != order.settings.id
    wanted = {task.path: task for task in _tasks(raw, order)}
    there = {path: written_with(path) for path in _clip_paths(raw / order.kind)}
    foreign = [path for path, id in there.items() if id not in (None, order.settings.id)]
    # An interrupted replacement leaves clips of both settings; the manifest has the new ones.
    if not force and (is_other or (known is None and foreign)):
        raise _other_settings(raw, order, known)
    missing = [task for path, task in wanted.items() if there.get(path) != order.settings.id]
    parts = list((raw / order.kind).glob("*/.*.part"))  # of a run that was killed
    return _Found(missing, [*parts, *(path for path in foreign if path not in wanted)])


def _tasks(raw: Path, order: _Order) -> Iterator[_Task]:
    for split, count in order.counts.items():
        for number in range(count):
            path = raw / order.kind / split / f"{number:05d}.npz"
            yield _Task(path, order.settings, split, number)


def _clip_paths(folder: Path) -> Iterator[Path]:
    for split in SPLITS:
        yield from sorted(path for path in (folder / split).glob("*.npz") if path.name[0] != ".")


def _other_settings(raw: Path, order: _Order, known: dict[str, Any] | None) -> UserError:
    before = known["settings"] if known else {}
    changed = {
        key: f"{before.get(key, 'unknown')} before, {value} now"
        for key, value in asdict(order.settings).items()
        if before.get(key) != value
    }
    return UserError(
        f"the clips of '{order.kind}' were generated with other settings",
        {
            "they are in": raw / order.kind,
            **changed,
            "to fix": "give --force to replace them, or the settings they have",
        },
        EXIT_USAGE,
    )


def _check_disk(raw: Path, todo: list[_Task]) -> None:
    needed = 0.0
    for task in todo:
        pixels = task.settings.size_px**2 * task.settings.num_frames
        needed += KINDS[task.settings.kind].bytes_per_pixel * pixels
    free = shutil.disk_usage(raw).free
    if needed > free:
        raise UserError(
            "not enough space on the disk for the generated clips",
            {
                "writing to": raw,
                "needed": f"about {needed / 1e9:.1f} GB",
                "free": f"{free / 1e9:.1f} GB",
                "to fix": "choose fewer --kinds, --preset tiny or a smaller --size",
            },
            EXIT_FAILED,
        )


def _make_all(todo: list[_Task], jobs: int, work: Work) -> None:
    work.progress(_PROGRESS_TASK, 0, len(todo), "clips")
    jobs = min(jobs, max(1, len(todo)))
    with closing(processes.run(_make, todo, jobs=jobs, on_progress=_ignore)) as tasks:
        for done, ended in enumerate(tasks, 1):
            if ended.crash:
                raise UserError(
                    f"could not generate clip {ended.task.number} of '{ended.task.settings.kind}'",
                    {"reason": ended.crash, "to fix": "run the same command again"},
                )
            work.progress(_PROGRESS_TASK, done, len(todo), "clips")


def _ignore(task: _Task, part: float) -> None:
    """A clip takes a fraction of a second: only whole clips are reported."""


def _make(task: _Task, progress: processes.Progress) -> None:
    """Generate and write one clip; runs in any process."""
    settings = task.settings
    clip = generate(
        settings.kind,
        FIRST_INDEX[task.split] + task.number,
        seed=settings.seed,
        size_px=settings.size_px,
        num_frames=settings.num_frames,
        speed_range=settings.speed_range(task.split),
    )
    write_clip(task.path, clip, settings_id=settings.id)


def _read_manifest(raw: Path) -> dict[str, Any]:
    """What has been generated in a raw folder; empty where nothing has."""
    path = raw / MANIFEST
    if not path.exists():
        return {"version": 1, "dataset": "synthetic", "kinds": {}}
    try:
        manifest: dict[str, Any] = read_json(path)
        manifest["kinds"].items()
    except (ValueError, KeyError, AttributeError, TypeError) as problem:
        raise UserError(
            "the list of generated clips is damaged",
            {"file": path, "reason": problem, "to fix": "delete it and run the download again"},
        ) from problem
    return manifest


def _entry(order: _Order, manifest: dict[str, Any]) -> dict[str, JsonValue]:
    """The manifest's row of a kind; more clips of the same settings stay listed."""
    known = manifest["kinds"].get(order.kind, {})
    stays = known.get("is_complete") and known["settings_id"] == order.settings.id
    before = known["counts"] if stays else {}
    counts = {split: max(n, before.get(split, 0)) for split, n in order.counts.items()}
    return {
        "settings": asdict(order.settings),
        "settings_id": order.settings.id,
        "counts": dict(counts),
        "is_complete": False,
    }


def _listed(raw: Path, manifest: dict[str, Any]) -> Iterator[RawVideo | Rejected]:
    for kind in (name for name in KINDS if name in manifest["kinds"]):
        entry = manifest["kinds"][kind]
        for split, count in entry["counts"].items():
            for number in range(count):
                name = f"{kind}/{split}/{number:05d}"
                path = raw / f"{name}.npz"
                if not path.exists():
                    detail = "generation was interrupted; run 'i2v download synthetic' again"
                    yield Rejected(name, str(path), "missing", detail)
                    continue
                # Two views of one take belong together.
                group = f"{kind}/{split}/{number // 2:05d}" if kind == "walker_3d" else name
                yield RawVideo(name, path, "array", group, split, {"kind": kind}, fps=FPS)


def _report(
    raw: Path, wanted: list[_Order], manifest: dict[str, Any], *, made: int
) -> dict[str, Any]:
    clips = {order.kind: manifest["kinds"][order.kind]["counts"] for order in wanted}
    total = sum(sum(order.counts.values()) for order in wanted)
    size = sum(path.stat().st_size for kind in clips for path in _clip_paths(raw / kind))
    return {
        "path": str(raw),
        "clips": clips,
        "made": made,
        "kept": total - made,
        "size_bytes": size,
        "next": "i2v extract-frames synthetic",
    }
