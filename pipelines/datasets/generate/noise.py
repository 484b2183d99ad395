"""Value noise that repeats at its borders, and fast ways to look it up.

A field may have fresh parts: cells that frame 0 does not see are drawn from another generator, so
that what drifts into the picture later belongs to the dynamics.
"""

from __future__ import annotations

import numpy as np

from pipelines.datasets.generate.scene import Floats, Scene

OCTAVE_RATIO = 0.55


def value_noise(
    rng: np.random.Generator,
    cells: tuple[int, int],
    *,
    octaves: int,
    shape: tuple[int, int],
    fresh: np.random.Generator | None = None,
    kept: tuple[float, float] = (1.0, 1.0),
) -> Floats:
    """Tileable noise, float32 of `shape`, values 0..1.

    cells: rows and columns of random values in the first octave; each further octave has twice as
      many and OCTAVE_RATIO of the amplitude.
    fresh: draws the values outside the first `kept` fraction of rows and columns.
    The kept part does not depend on `fresh`, its values span exactly 0..1.
    """
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        count = (cells[0] << octave, cells[1] << octave)
        grid = rng.random(count, dtype=np.float32)
        if fresh is not None:
            grid = _renew(grid, fresh.random(count, dtype=np.float32), kept, shape)
        total += np.float32(OCTAVE_RATIO**octave) * _interpolate(grid, shape)
    seen = total[: max(1, round(kept[0] * shape[0])), : max(1, round(kept[1] * shape[1]))]
    low, high = seen.min(), seen.max()
    return np.clip((total - low) / (high - low), 0, 1)


def drifting_noise(
    scene: Scene,
    name: str,
    cells: tuple[int, int],
    *,
    octaves: int,
    canvas: tuple[int, int],
    kept: tuple[float, float],
) -> Floats:
    """Noise on a canvas larger than the frame, for what drifts through the picture.

    canvas, kept: heights and widths in frames, of all of it and of what frame 0 can see.
    """
    return value_noise(
        scene.appearance(name),
        cells,
        octaves=octaves,
        shape=(canvas[0] * scene.size_px, canvas[1] * scene.size_px),
        fresh=scene.dynamics(name),
        kept=(kept[0] / canvas[0], kept[1] / canvas[1]),
    )


def lerp_rows(field: Floats, rows: Floats) -> Floats:
    """The field at real row positions (in rows of the field, wrapped around): len(rows) W."""
    below = np.floor(rows)
    part = (rows - below)[:, None]
    first = below.astype(np.int64) % len(field)
    upper, lower = field[first], field[(first + 1) % len(field)]
    return upper + part * (lower - upper)


def lerp_columns(field: Floats, columns: Floats) -> Floats:
    """The field at real column positions, wrapped around, equal for all rows: H len(columns)."""
    left = np.floor(columns)
    part = columns - left
    first = left.astype(np.int64) % field.shape[1]
    before, after = field[:, first], field[:, (first + 1) % field.shape[1]]
    return before + part * (after - before)


def gather_columns(field: Floats, columns: Floats) -> Floats:
    """The field at a column position of its own for each place: columns is H W, field H V."""
    left = np.floor(columns)
    part = columns - left
    width = field.shape[1]
    first = left.astype(np.int32) % width
    start = (np.arange(len(field), dtype=np.int32) * width)[:, None]
    flat = field.ravel()
    before = flat.take(start + first)
    after = flat.take(start + (first + 1) % width)
    return before + part * (after - before)


def _renew(
    grid: Floats, fresh: Floats, kept: tuple[float, float], shape: tuple[int, int]
) -> Floats:
    # Looking up between the last kept sample and the next ones touches a little more than is kept.
    rows, columns = (
        int(np.ceil((part * size + 2) * cells / size)) + 1
        for part, size, cells in zip(kept, shape, grid.shape, strict=True)
    )
    fresh[:rows, :columns] = grid[:rows, :columns]
    return fresh


def _interpolate(grid: Floats, shape: tuple[int, int]) -> Floats:
    for axis in (0, 1):
        cells = grid.shape[axis]
        place = np.arange(shape[axis], dtype=np.float32) * np.float32(cells / shape[axis])
        first = place.astype(np.int64)
        u = place - first
        u = u * u * (3 - 2 * u)
        u = u[:, None] if axis == 0 else u
        before = grid.take(first % cells, axis)
        grid = before + u * (grid.take((first + 1) % cells, axis) - before)
    return grid
