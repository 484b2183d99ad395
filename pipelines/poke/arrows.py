"""Pictures of pokes: an arrow on the image, as in the paper's figures (spec: poke, 9.4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from pipelines.poke.aim import Aim

COLOUR = (230, 30, 30)
_ENLARGED = 4  # drawn larger and made smaller again, so that slanted lines are smooth
_HEAD_SHARE = 0.4


def with_arrows(picture: np.ndarray, aims: Sequence[Aim]) -> np.ndarray:
    """A copy of a picture, uint8 S S 3, with an arrow for each poke.

    The arrow shows the direction; its length is that of the poke, but at least a tenth and at most
    a third of the picture, so that it can be seen.
    """
    size = picture.shape[0]
    large = Image.fromarray(picture).resize((size * _ENLARGED,) * 2, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(large)
    width = max(round(size * _ENLARGED / 48), _ENLARGED)
    for aim in aims:
        _draw_arrow(draw, aim, size, width)
    return np.asarray(large.resize((size, size), Image.Resampling.BOX))


def _draw_arrow(draw: ImageDraw.ImageDraw, aim: Aim, size: int, width: int) -> None:
    start = (np.array([aim.column, aim.row]) + 0.5) * _ENLARGED
    vector = np.array([aim.dx, aim.dy], float)
    length = float(np.hypot(*vector))
    if length == 0:  # a poke that wants nothing: a dot
        draw.ellipse([*(start - width), *(start + width)], fill=COLOUR)
        return
    shown = float(np.clip(length, size / 10, size / 3)) * _ENLARGED
    along = vector / length
    across = np.array([-along[1], along[0]])
    tip, head = start + along * shown, _HEAD_SHARE * shown
    draw.line([*start, *(tip - along * head * 0.8)], fill=COLOUR, width=width)
    corners = [tip, *(tip - along * head + side * across * head * 0.6 for side in (1, -1))]
    draw.polygon([tuple(corner) for corner in corners], fill=COLOUR)
