"""A look at variants that hold poses and no frames: each pose as a stick figure."""

from __future__ import annotations

import numpy as np

from pipelines.io.packed import PackedVideos
from pipelines.shape_pose.skeletons import SKELETONS
from pipelines.shape_pose.stick_figure import stick_figure

SIZE_PX = 128
JOINTS = "joints_h36m"


def picture(packed: PackedVideos, row: int, number: int) -> np.ndarray:
    """Frame `number` of a video, uint8 H W C, or its pose drawn where no frames are kept.

    Raises UserError where there is neither.
    """
    if packed.storage != "none" or JOINTS not in packed.extra_names:
        return packed.frames(row, number, 1)[0]
    joints = packed.extra(JOINTS)(row, number, 1)[0]
    return stick_figure(joints * SIZE_PX, SIZE_PX, skeleton=SKELETONS["human36m"])
