"""Anti-aliased drawing of simple bodies: sticks with round ends, and discs."""

from __future__ import annotations

import numpy as np

from pipelines.datasets.generate.scene import Bytes, Floats, to_bytes


class Canvas:
    """A picture in the making: colours H W 3 (0..255) and which part each pixel shows."""

    def __init__(self, background: Floats) -> None:
        self.color = background.copy()
        self.part: Bytes = np.zeros(background.shape[:2], np.uint8)

    def stick(
        self,
        start: Floats,
        end: Floats,
        *,
        radius: tuple[float, float],
        color: Floats,
        part: int,
        shading: float = 0.25,
    ) -> None:
        """Draw a capsule over what is there; its rim is darker by the fraction `shading`."""
        x, y, rows, columns = self._window(start, end, max(radius))
        if x.size == 0 or y.size == 0:
            return
        x0, y0 = float(start[0]), float(start[1])
        dx, dy = float(end[0]) - x0, float(end[1]) - y0
        length2 = max(dx * dx + dy * dy, 1e-6)
        x, y = x - np.float32(x0), y - np.float32(y0)
        along = np.clip((x * np.float32(dx) + y * np.float32(dy)) / np.float32(length2), 0, 1)
        off_x, off_y = x - along * np.float32(dx), y - along * np.float32(dy)
        distance = np.sqrt(off_x * off_x + off_y * off_y)
        reach = np.float32(radius[0]) + along * np.float32(radius[1] - radius[0])
        cover = np.clip(reach - distance + np.float32(0.5), 0, 1)
        dark = np.minimum(distance / reach, 1)
        light = 1 - np.float32(shading) * dark * dark
        self.blend(rows, columns, cover, color * light[..., None], part)

    def disc(self, centre: Floats, radius: float, *, color: Floats, part: int) -> None:
        """Draw a shaded disc over what is there."""
        self.stick(centre, centre, radius=(radius, radius), color=color, part=part)

    def blend(self, rows: slice, columns: slice, cover: Floats, color: Floats, part: int) -> None:
        """Lay colours h w 3 over a window with the given cover h w (0..1)."""
        under = self.color[rows, columns]
        under += cover[..., None] * (color - under)
        self.part[rows, columns][cover > 0.5] = part

    def picture(self) -> Bytes:
        """The colours as uint8 H W 3."""
        return to_bytes(self.color)

    def _window(
        self, start: Floats, end: Floats, radius: float
    ) -> tuple[Floats, Floats, slice, slice]:
        height, width = self.part.shape
        margin = radius + 1
        left = min(max(int(min(start[0], end[0]) - margin), 0), width)
        right = min(max(int(max(start[0], end[0]) + margin) + 1, left), width)
        top = min(max(int(min(start[1], end[1]) - margin), 0), height)
        bottom = min(max(int(max(start[1], end[1]) + margin) + 1, top), height)
        x = np.arange(left, right, dtype=np.float32) + np.float32(0.5)
        y = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5))[:, None]
        return x, y, slice(top, bottom), slice(left, right)
