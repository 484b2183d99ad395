"""Held-out people as a trained renderer shows them, written at the end of its training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from pipelines.events import Work
from pipelines.io.images import contact_sheet, write_png
from pipelines.shape_pose.validation import HeldOut, Net, render

_NUM_PEOPLE = 8


def write_preview(run_dir: Path, net: Net, held_out: HeldOut, work: Work) -> None:
    """A picture: postures, people, their reconstructions, and each in another picture's looks."""
    found = next(held_out.batches(limit=_NUM_PEOPLE), None)
    if found is None:
        return
    batch, partner = found
    net.eval()
    rows = {
        "posture": batch.figure,
        "real": batch.image,
        "reconstructed": render(net, batch.appearance, batch.figure),
        "looks from": partner.image,
        "in these looks": render(net, partner.appearance, batch.figure),
    }
    path = run_dir / "samples" / "images" / "grid.png"
    write_png(path, contact_sheet([list(to_bytes(each)) for each in rows.values()], list(rows)))
    work.artifact(path, "grid")


def to_bytes(images: Tensor) -> np.ndarray:
    """... 3 H W in [-1, 1], clipped, as uint8 ... H W 3: half a level is cut off, as published."""
    levels = ((images.detach().float() + 1) * 127.5).clamp(0, 255).byte()
    return levels.movedim(-3, -1).contiguous().cpu().numpy()
