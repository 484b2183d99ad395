"""`i2v data list | info | verify | preview`: what is there, is it whole, what does it look like.

Results hold `columns` and `rows` of a table, `lines` of text, or the `path` of what was written.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.datasets import inspect_flow, inspect_raw
from pipelines.datasets.base import SPLITS
from pipelines.datasets.config import InspectRequest
from pipelines.datasets.inspect_poses import picture
from pipelines.datasets.inspect_raw import size_text
from pipelines.events import EXIT_FAILED, EXIT_NO_DATA, EXIT_USAGE, UserError, Work
from pipelines.files import natural_key
from pipelines.io.images import contact_sheet, write_png
from pipelines.io.packed import PackedVideos, find_variant, variant_names

_BLOCK_BYTES = 8 * 2**20


def list_data(request: InspectRequest, work: Work) -> dict[str, Any]:
    """A table of all datasets (or one) and their prepared variants.

    Raises UserError with exit code 4 when there is no dataset.
    """
    root = request.data_root
    there = [path.name for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    names = sorted((name for name in there if name[0] != "."), key=natural_key)
    if request.name is not None:
        names = [name for name in names if name == request.name]
    rows = [row for name in names for row in _list_one(root / name)]
    if not rows:
        raise UserError(
            "no data yet", {"looked in": root, "run first": "i2v download synthetic"}, EXIT_NO_DATA
        )
    columns = ["dataset", "variant", "videos", "frames", *SPLITS, "size on disk", "state"]
    return {"columns": columns, "rows": rows}


def info(request: InspectRequest, work: Work) -> dict[str, Any]:
    """A table of facts about one variant, and about the download that it was made from.

    Raises UserError as find_variant does, when nothing was downloaded either.
    """
    manifest = inspect_raw.downloaded(request)
    facts: list[tuple[str, str]] = []
    if manifest is None or _is_prepared(request):
        facts += _facts(_opened(request))
    if manifest is not None:
        facts += inspect_raw.facts(manifest)
    return {"columns": ["what", "value"], "rows": [list(fact) for fact in facts]} | _then(request)


def verify(request: InspectRequest, work: Work) -> dict[str, Any]:
    """Compare every file of a variant with its index; without one, downloads with their checksums.

    Raises UserError (exit code 1) that names the files and videos that are not as they were
    written, and as find_variant does.
    """
    manifest = inspect_raw.downloaded(request)
    if manifest is not None and not _is_prepared(request):
        return inspect_raw.verify(manifest, work) | _then(request)
    packed = _opened(request)
    problems = list(_problems(packed, work))
    if problems:
        shown = {f"problem {number}": text for number, text in enumerate(problems[:5], 1)}
        more = {"and": f"{len(problems) - 5} more"} if len(problems) > 5 else {}
        raise UserError(
            f"prepared data of '{request.name}' is damaged",
            {
                "folder": packed.dir,
                **shown,
                **more,
                "to fix": "i2v extract-frames with the options used before, and --rebuild",
            },
            EXIT_FAILED,
        )
    num_flow = inspect_flow.check_flow(packed, str(request.name), work)
    size = sum(file["bytes"] for file in packed.index["files"].values())
    return {
        "path": str(packed.dir),
        "lines": [
            f"{len(packed.index['files'])} files, {len(packed)} videos,"
            f" {size_text(size)}: all as they were written",
            *([f"{num_flow} files of estimated flow, too"] if num_flow else []),
        ],
    }


def preview(request: InspectRequest, work: Work) -> dict[str, Any]:
    """Write a contact sheet: a row per video, evenly chosen, with frames spread over its length.

    Where nothing is prepared yet, of the videos as they were downloaded. With flow, a row of their
    flow below each video, and a video of both. Poses without frames are drawn as stick figures.
    Raises UserError as find_variant does.
    """
    manifest = inspect_raw.downloaded(request)
    if manifest is not None and not request.flow and not _is_prepared(request):
        path = request.out_path or request.data_root / str(request.name) / "preview-raw.png"
        write_png(path, inspect_raw.contact_sheet_of(request, manifest))
        work.artifact(path, "preview")
        return {"path": str(path)} | _then(request)
    packed = _opened(request)
    if request.flow:
        return inspect_flow.preview_flow(packed, request, work)
    chosen = _spread(len(packed), request.num_videos)
    rows, labels = [], []
    for row in chosen:
        total = int(packed.num_frames[row])
        numbers = _spread(total, request.num_frames)
        rows.append([picture(packed, row, number) for number in numbers])
        labels.append(_label(packed, row))
    sheet = contact_sheet(rows, labels)
    default = packed.dir.parents[1] / f"preview-{packed.dir.name}.png"
    path = request.out_path or default
    write_png(path, sheet)
    work.artifact(path, "preview")
    return {"path": str(path)}


def _is_prepared(request: InspectRequest) -> bool:
    """Whether to look at prepared frames: there are some, or a variant is asked for by name."""
    prepared = request.data_root / str(request.name) / "prepared"
    return request.variant is not None or bool(variant_names(prepared))


def _then(request: InspectRequest) -> dict[str, str]:
    """The next command, where it is another one than for prepared frames."""
    return {} if _is_prepared(request) else {"next": f"i2v extract-frames {request.name}"}


def _opened(request: InspectRequest) -> PackedVideos:
    if request.name is None:
        raise UserError("name a dataset", {"to fix": "see i2v data list"}, EXIT_USAGE)
    folder = find_variant(
        request.data_root, request.name, request.variant, to_choose="--variant {name}"
    )
    return PackedVideos(folder)


def _list_one(folder: Path) -> Iterator[list[object]]:
    prepared = folder / "prepared"
    names = variant_names(prepared)
    for name in names:
        index = PackedVideos(prepared / name).index
        splits = (index["splits"][split]["videos"] for split in SPLITS)
        size = size_text(_bytes_in(prepared / name))
        counts = (index["num_videos"], index["num_frames"], *splits)
        yield [folder.name, name, *counts, size, "ready"]
    half_done = [path for path in prepared.glob("*.tmp") if path.is_dir()]
    blank = [""] * (2 + len(SPLITS))
    for path in sorted(half_done):
        name = path.name.removesuffix(".tmp")
        yield [folder.name, name, *blank, size_text(_bytes_in(path)), "unfinished"]
    if not names and not half_done and (folder / "raw").is_dir():
        state = (
            "raw, unfinished" if inspect_raw.is_unfinished(folder / "raw") else "raw, not prepared"
        )
        yield [folder.name, "", *blank, size_text(_bytes_in(folder / "raw")), state]


def _facts(packed: PackedVideos) -> Iterator[tuple[str, str]]:
    index, rows = packed.index, packed.rows
    yield "dataset", f"{index['dataset']}, variant {index['variant']}"
    yield "folder", str(packed.dir)
    if packed.storage == "none":
        yield "frames", "none are kept, only what lies beside them"
    else:
        yield "frames", f"{packed.size_px} x {packed.size_px}, {_channels(packed)}, {index['fit']}"
        yield "kept", {"raw": "raw", "jpeg": "as JPEG"}[packed.storage]
        yield "filter", index["filter"]
    if protocol := index.get("protocol"):
        yield "splits", protocol
    yield "videos", f"{len(packed):,} with {index['num_frames']:,} frames"
    for split in SPLITS:
        count = index["splits"][split]
        yield split, f"{count['videos']:,} videos, {count['frames']:,} frames"
    lengths = packed.num_frames
    middle = int(np.median(lengths))
    yield "frames per video", f"{lengths.min()} to {lengths.max()}, middle {middle}"
    yield "frames per second", _most({f"{row.fps:g}" if row.fps else "unknown" for row in rows})
    if packed.storage != "none":
        yield "original sizes", _most({"{} x {}".format(*row.original_size) for row in rows})
    yield "groups", f"{len({row.group for row in rows}):,}"
    if labels := sorted({name for row in rows for name in row.labels}):
        yield "labels", _most(labels)
    if packed.flow_lags:
        yield "true motion", "to " + ", ".join(f"{lag} frames later" for lag in packed.flow_lags)
    yield from inspect_flow.flow_facts(packed)
    if packed.extra_names:
        yield "per frame", ", ".join(packed.extra_names)
    yield "size on disk", size_text(_bytes_in(packed.dir))
    reasons = Counter(each["reason"] for each in _rejected(packed.dir))
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    yield "left out", left_out or "nothing"


def _problems(packed: PackedVideos, work: Work) -> Iterator[str]:
    """What is not as the index says, in words."""
    files = packed.index["files"]
    total = sum(file["bytes"] for file in files.values()) / 1e6
    done = 0.0
    for name, expected in files.items():
        path = packed.dir / name
        if not path.is_file():
            yield f"{name} is missing"
        elif path.stat().st_size != expected["bytes"]:
            yield f"{name} has {path.stat().st_size:,} bytes, not {expected['bytes']:,}"
        else:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(_BLOCK_BYTES):
                    digest.update(block)
                    done += len(block) / 1e6
                    work.progress("verify", min(done, total), total, "MB")
            if digest.hexdigest() != expected["sha256"]:
                videos = ", ".join(_damaged_videos(packed, name)) or "no whole video"
                yield f"{name} has changed: {videos}"
    work.progress("verify", total, total, "MB")
    if len(packed.rows) != len(packed) or any(
        (row.id, row.num_frames) != (packed.ids[number], packed.num_frames[number])
        for number, row in enumerate(packed.rows)
    ):
        yield "videos.jsonl and rows.npz do not agree"
    if len(packed) != packed.index["num_videos"]:
        yield f"{len(packed)} rows, not {packed.index['num_videos']}"


def _damaged_videos(packed: PackedVideos, name: str) -> Iterator[str]:
    for number, row in enumerate(packed.rows):
        in_this = name.startswith(f"frames-{row.shard:03d}.")
        if in_this and zlib.crc32(packed.stored_frames(number).data) != row.crc32:
            yield row.id


def _label(packed: PackedVideos, row: int) -> str:
    text = packed.ids[row]
    short = text if len(text) <= 32 else f"...{text[-29:]}"
    return f"{short} ({packed.rows[row].split}, {packed.num_frames[row]})"


def _spread(total: int, wanted: int) -> list[int]:
    """At most `wanted` numbers below total, evenly from first to last."""
    return sorted({int(n) for n in np.linspace(0, total - 1, min(wanted, total)).round()})


def _most(values: Any, shown: int = 4) -> str:
    ordered = sorted(values, key=natural_key)
    more = f" and {len(ordered) - shown} more" if len(ordered) > shown else ""
    return ", ".join(ordered[:shown]) + more


def _channels(packed: PackedVideos) -> str:
    return "grey" if packed.channels == 1 else "colour"


def _rejected(folder: Path) -> list[dict[str, str]]:
    text = (folder / "rejected.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
