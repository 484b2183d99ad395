"""The frame of a driving video that looks most like the image it is to move (completion, D).

Published for faces, with a landmark detector of its own; here with the model's keypoints, so that
it works for whatever the model was trained on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.fomm.keypoints import hull_area


def best_frame(source: Tensor, driving: Tensor) -> int:
    """Number of the frame whose keypoints are arranged most like the image's.

    source: 1 K 2.  driving: N K 2. Arrangements are compared wherever they are and however large:
    around their centroid, in units of the root of their hull's area.
    """
    wanted = _arrangement(source[0])
    errors = [float((_arrangement(each) - wanted).square().sum()) for each in driving]
    return int(torch.tensor(errors).argmin())


def _arrangement(value: Tensor) -> Tensor:
    centred = value - value.mean(0)
    return centred / max(hull_area(value) ** 0.5, torch.finfo(value.dtype).eps)
