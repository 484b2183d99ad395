"""Flow as colours."""

from __future__ import annotations

import numpy as np

from pipelines.io.flow_colour import colour_wheel, flow_colours


def uniform(x: float, y: float) -> np.ndarray:
    return np.broadcast_to(np.array([x, y], np.float32)[:, None, None], (2, 4, 5)).copy()


def test_the_wheel_has_55_different_colours() -> None:
    wheel = colour_wheel()
    assert wheel.shape == (55, 3)
    assert len(np.unique(wheel, axis=0)) == 55
    assert wheel.min() == 0
    assert wheel.max() == 255


def test_opposite_directions_have_different_hues() -> None:
    right, left, down, up = (
        flow_colours(uniform(*way), max_flow=1.001)[0, 0].astype(int)
        for way in ((1, 0), (-1, 0), (0, 1), (0, -1))
    )
    assert right.argmax() == 0  # red
    assert np.abs(right - left).max() > 200
    assert np.abs(down - up).max() > 200


def test_still_pixels_are_white_and_unknown_ones_black() -> None:
    flow = uniform(0, 0)
    flow[0, 1, 2] = np.nan
    flow[1, 3, 3] = 2e9
    colours = flow_colours(flow)
    assert colours.dtype == np.uint8
    assert (colours[1, 2] == 0).all()
    assert (colours[3, 3] == 0).all()
    assert (np.delete(colours.reshape(-1, 3), [1 * 5 + 2, 3 * 5 + 3], axis=0) >= 254).all()


def test_a_fixed_length_makes_maps_comparable() -> None:
    flows = np.stack([uniform(1, 0), uniform(2, 0)])
    own = flow_colours(flows)
    assert np.array_equal(own[0], own[1])
    fixed = flow_colours(flows, max_flow=4)
    assert fixed.shape == (2, 4, 5, 3)
    assert (fixed[0, ..., 1:] > fixed[1, ..., 1:]).all()  # shorter is paler


def test_longer_than_the_fixed_length_is_dimmed() -> None:
    at_rim = flow_colours(uniform(0, 0.999), max_flow=1)[0, 0]
    beyond = flow_colours(uniform(0, 3), max_flow=1)[0, 0]
    assert beyond.max() < at_rim.max()
