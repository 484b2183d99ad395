"""How prepared frames are kept, decided before any is made: raw, or as JPEG where raw is too much.

Raw frames are read many times faster (a memory map); JPEG frames take about a seventh of the space.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pipelines.datasets.config import ExtractRequest
from pipelines.datasets.inventory import Inventory, estimate_bytes
from pipelines.events import EXIT_USAGE, UserError, Work

SPARE_BYTES = 64 * 2**20

JPEG_SHARE = 1 / 5
"""Of the raw bytes: what frames of 64 x 64 take at quality 95; larger ones take a seventh."""


def decide(request: ExtractRequest, inventory: Inventory, work: Work) -> tuple[ExtractRequest, int]:
    """The request with its storage settled (not 'auto' any more), and the bytes it will take.

    Raises UserError (exit code 2) when the frames would take more than max_gb either way.
    """
    if request.storage == "none":
        return request, 0
    raw = estimate_bytes(inventory, request)
    limit = request.max_gb * 1e9
    as_jpeg = round(raw * JPEG_SHARE)
    fits = {"raw": raw <= limit, "jpeg": as_jpeg <= limit}
    allowed = ("raw", "jpeg") if request.storage == "auto" else (request.storage,)
    chosen = next((name for name in allowed if fits[name]), None)
    if chosen is None:
        raise UserError(
            f"the prepared frames would take more than {request.max_gb:g} GB",
            {
                "needs": f"about {size_text(raw)} raw, {size_text(as_jpeg)} as JPEG",
                "to fix": "raise --max-gb, lower --size, or give "
                + ("--storage jpeg" if request.storage == "raw" and fits["jpeg"] else "a --stride"),
            },
            EXIT_USAGE,
        )
    if request.storage == "auto" and chosen == "jpeg":
        work.log(
            f"raw frames would take about {size_text(raw)}, more than --max-gb {request.max_gb:g}:"
            " they are kept as JPEG, which is read more slowly"
        )
    needed = raw if chosen == "raw" else as_jpeg
    return request.model_copy(update={"storage": chosen}), needed


def check_space(needed: int, building: Path) -> None:
    """Raises UserError when the disk has not that many bytes.

    building: the folder that is written; what it holds already counts.
    """
    used = sum(path.stat().st_size for path in building.rglob("*") if path.is_file())
    free = shutil.disk_usage(building).free + used
    if needed + SPARE_BYTES > free:
        raise UserError(
            "not enough disk space for the prepared frames",
            {
                "folder": building.parent,
                "needs": f"about {size_text(needed)}",
                "free": size_text(free),
                "to fix": "free some space, or lower --size, or give a --stride",
            },
        )


def size_text(num_bytes: float) -> str:
    """A number of bytes as people say it."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.1f} {unit}"
    return f"{num_bytes:.0f} bytes"
