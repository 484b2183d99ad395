"""Flip, turn, scale, shift, crop: frames, flow, points and vectors stay together."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional

from pipelines.clips.geometry import (
    Geometry,
    GeometryRanges,
    draw_geometry,
    move_flow,
    move_frames,
    move_points,
    move_vectors,
)

SIZE = 48

EVERYTHING = GeometryRanges(
    horizontal_flip=0.5,
    turn_deg=(-30.0, 30.0),
    scale=(0.8, 1.25),
    shift=(0.1, 0.1),
    has_whole_shifts=False,
    crop_margin_px=6,
)


def drawn(ranges: GeometryRanges, num: int = 4, seed: int = 0, size_px: int = SIZE) -> Geometry:
    generator = torch.Generator().manual_seed(seed)
    return draw_geometry(ranges, num, size_px=size_px, generator=generator)


def places(size_px: int = SIZE) -> Tensor:
    """1 H W 2: x, y of every pixel."""
    y, x = torch.meshgrid(torch.arange(size_px), torch.arange(size_px), indexing="ij")
    return torch.stack((x, y), dim=-1).float().unsqueeze(0)


def picture(at: Tensor) -> Tensor:
    """A smooth picture at any places ... 2."""
    x, y = at.unbind(-1)
    return 0.5 + 0.2 * torch.sin(0.21 * x + 0.1 * y) + 0.2 * torch.cos(0.17 * y - 0.05 * x)


def motion(at: Tensor) -> Tensor:
    """A smooth flow at places ... 2, which is not the same anywhere: ... 2."""
    x, y = (at - SIZE / 2).unbind(-1)
    return torch.stack((2.0 + 0.05 * y, -1.0 - 0.03 * x + 0.02 * y), dim=-1)


def sampled(frames: Tensor, at: Tensor) -> Tensor:
    """frames B C H W at B H W 2 pixels."""
    grid = at * (2 / (frames.shape[-1] - 1)) - 1
    return F.grid_sample(frames, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def moving_pair(num: int) -> tuple[Tensor, Tensor]:
    """Two frames and the flow of the first: frame 1 at p + flow(p) is frame 0 at p.

    Frame 0 is made from frame 1, the one that has a formula. B 2 1 H W and B 1 2 H W.
    """
    flow = motion(places())
    frame_0, frame_1 = picture(places() + flow), picture(places())
    frames = torch.stack((frame_0, frame_1), dim=1).unsqueeze(2)
    return frames.expand(num, -1, -1, -1, -1), flow.permute(0, 3, 1, 2).expand(num, 1, -1, -1, -1)


@pytest.mark.parametrize(
    "ranges",
    [
        EVERYTHING,
        GeometryRanges(horizontal_flip=1.0),
        GeometryRanges(turn_deg=(25.0, 25.0)),
        GeometryRanges(scale=(1.3, 1.3)),
        GeometryRanges(shift=(0.1, 0.1)),
        GeometryRanges(crop_margin_px=8),
    ],
    ids=["everything", "flip", "turn", "scale", "shift", "crop"],
)
def test_warping_by_the_moved_flow_gives_what_moving_the_warped_frame_gives(ranges) -> None:
    geometry = drawn(ranges)
    frames, flow = moving_pair(4)
    # with zeros outside, so that what is compared was inside before
    moved = move_frames(frames, geometry, padding="constant")
    moved_flow = move_flow(flow, geometry, padding="constant")[:, 0].permute(0, 2, 3, 1)
    warped_after = sampled(moved[:, 1], places(geometry.size_after_px) + moved_flow)
    warped_before = sampled(frames[:, 1], places() + flow[:, 0].permute(0, 2, 3, 1))
    moved_after_warp = move_frames(warped_before.unsqueeze(1), geometry, padding="constant")[:, 0]
    inside = torch.ones_like(frames[:, :1])
    inside[..., 4:-4, 4:-4] = 2  # the warp itself has no source near the border
    is_inside = move_frames(inside, geometry, padding="constant")[:, 0] > 1.999
    is_inside[..., :5, :] = is_inside[..., -5:, :] = False
    is_inside[..., :5] = is_inside[..., -5:] = False
    assert is_inside.float().mean() > 0.3
    error = (warped_after - moved_after_warp).abs()[is_inside]
    unturned = sampled(
        moved[:, 1],
        places(geometry.size_after_px) + moved_flow.flip(-1),
    )
    assert error.max() < 0.02
    assert error.mean() < 0.003
    assert (unturned - moved_after_warp).abs()[is_inside].mean() > 10 * error.mean()


def test_reflected_motion_runs_the_other_way() -> None:
    geometry = drawn(GeometryRanges(shift=(0.25, 0.0)), num=6)
    frames, flow = moving_pair(6)
    moved, moved_flow = move_frames(frames, geometry), move_flow(flow, geometry)
    warped = sampled(moved[:, 1], places() + moved_flow[:, 0].permute(0, 2, 3, 1))
    error = (warped - moved[:, 0]).abs()
    for each, shift in zip(error, geometry.shift[:, 0].tolist(), strict=True):
        # away from the border and from the edge that the picture was reflected at
        edge = shift if shift > 0 else SIZE - 1 + shift
        is_clear = (torch.arange(SIZE) - edge).abs() > 5
        is_clear[:5] = is_clear[-5:] = False
        assert each[0, 5:-5, is_clear].max() < 0.02
    assert (geometry.shift[:, 0].abs() > 5).sum() >= 3


def test_flips_crops_and_whole_shifts_move_pixels_and_keep_their_values() -> None:
    frames = torch.rand(1, 3, 2, 8, 8)
    flipped = move_frames(frames, drawn(GeometryRanges(horizontal_flip=1.0), 1, size_px=8))
    assert torch.equal(flipped, frames.flip(-1))
    for seed in range(20):
        geometry = drawn(GeometryRanges(crop_margin_px=3), 1, seed, size_px=8)
        cropped = move_frames(frames, geometry)
        corners = [
            (row, column)
            for row in range(4)
            for column in range(4)
            if torch.equal(cropped, frames[..., row : row + 5, column : column + 5])
        ]
        assert len(corners) == 1
        shifted = move_frames(frames, drawn(GeometryRanges(shift=(0.3, 0.3)), 1, seed, size_px=8))
        assert torch.isin(shifted, frames).all()


def test_a_shift_reflects_or_repeats_the_border_or_fills_it() -> None:
    row = torch.arange(5.0).expand(1, 1, 1, 5, 5)
    right = Geometry(
        torch.eye(2).unsqueeze(0), torch.tensor([[2.0, 0.0]]), torch.tensor([False]), 5, 5
    )
    assert move_frames(row, right)[0, 0, 0, 0].tolist() == [2, 1, 0, 1, 2]
    assert move_frames(row, right, padding="edge")[0, 0, 0, 0].tolist() == [0, 0, 0, 1, 2]
    zeros = move_frames(row, right, padding="constant")[0, 0, 0, 0]
    torch.testing.assert_close(zeros, torch.tensor([0.0, 0.0, 0.0, 1.0, 2.0]), atol=1e-5, rtol=0)
    white = move_frames(row, right, padding="constant", fill=1.0)[0, 0, 0, 0]
    torch.testing.assert_close(white, torch.tensor([1.0, 1.0, 0.0, 1.0, 2.0]), atol=1e-5, rtol=0)


def test_points_go_where_their_pixels_go() -> None:
    geometry = drawn(EVERYTHING, num=6)
    points = torch.tensor([[20.0, 24.0], [28.0, 22.0], [24.0, 30.0]]).expand(6, 3, 2)
    spots = torch.exp(-((places().unsqueeze(1) - points[:1, :, None, None]) ** 2).sum(-1) / 4)
    moved = move_frames(spots.unsqueeze(2).expand(6, 3, 1, SIZE, SIZE), geometry)[:, :, 0]
    weights = moved / moved.sum((-1, -2), keepdim=True)
    found = (weights.unsqueeze(-1) * places(geometry.size_after_px).unsqueeze(1)).sum((2, 3))
    torch.testing.assert_close(found, move_points(points, geometry), atol=0.1, rtol=0)


def test_a_poke_points_from_its_moved_start_to_its_moved_end() -> None:
    geometry = drawn(EVERYTHING, num=5)
    start, poke = torch.rand(5, 7, 2) * SIZE, torch.randn(5, 7, 2) * 5
    ends = move_points(start, geometry) + move_vectors(poke, geometry)
    torch.testing.assert_close(ends, move_points(start + poke, geometry), atol=1e-4, rtol=0)
    one = move_vectors(poke[:, 0], geometry)
    torch.testing.assert_close(one, move_vectors(poke, geometry)[:, 0])


def test_flow_at_a_place_is_the_vector_at_the_moved_place() -> None:
    geometry = drawn(GeometryRanges(horizontal_flip=1.0, crop_margin_px=4), num=2)
    flow = torch.randn(2, 3, 2, SIZE, SIZE)
    place = torch.tensor([[20.0, 31.0]] * 2)
    moved = move_flow(flow, geometry)
    x, y = move_points(place, geometry).long().unbind(-1)
    for clip in range(2):
        found = moved[clip, :, :, y[clip], x[clip]]
        expected = flow[clip, :, :, 31, 20] * torch.tensor([-1.0, 1.0])
        torch.testing.assert_close(found, expected)


def test_unknown_flow_stays_unknown_and_spoils_nothing_else() -> None:
    flow = torch.ones(1, 1, 2, SIZE, SIZE)
    flow[0, 0, :, 10:14, 20:24] = math.nan
    moved = move_flow(flow, drawn(GeometryRanges(turn_deg=(20.0, 20.0)), num=1))
    assert 8 <= moved.isnan()[0, 0, 0].sum() <= 60
    assert moved.nan_to_num(0).abs().max() < 1.5
    assert torch.equal(moved.isnan()[:, :, 0], moved.isnan()[:, :, 1])


def test_clips_run_backwards_or_are_flipped_but_never_both() -> None:
    ranges = GeometryRanges(horizontal_flip=0.5, time_flip=0.5)
    geometry = drawn(ranges, num=4000)
    is_flipped = geometry.matrix[:, 0, 0] < 0
    assert not (is_flipped & geometry.is_reversed).any()
    assert 0.46 < geometry.is_reversed.float().mean() < 0.54
    assert 0.22 < is_flipped.float().mean() < 0.28
    frames = torch.rand(8, 3, 1, 6, 6)
    some = drawn(GeometryRanges(time_flip=0.5), num=8, size_px=6)
    moved = move_frames(frames, some)
    for clip, result, is_reversed in zip(frames, moved, some.is_reversed, strict=True):
        assert torch.equal(result, clip.flip(0) if is_reversed else clip)
    unknown = move_flow(torch.zeros(8, 1, 2, 6, 6), some).isnan().all((1, 2, 3, 4))
    assert torch.equal(unknown, some.is_reversed)


def test_what_is_drawn_fills_its_ranges_evenly() -> None:
    ranges = GeometryRanges(
        turn_deg=(-15.0, 15.0), scale=(0.9, 1.1), shift=(0.05, 0.05), chance=0.8
    )
    geometry = drawn(ranges, num=6000, size_px=64)
    turn = torch.atan2(geometry.matrix[:, 1, 0], geometry.matrix[:, 1, 1]).rad2deg()
    scale = torch.linalg.det(geometry.matrix).sqrt()
    is_moved = turn != 0
    assert 0.78 < is_moved.float().mean() < 0.82
    assert (geometry.shift[~is_moved] == 0).all() and (scale[~is_moved] == 1).all()
    for values, low, high in ((turn[is_moved], -15, 15), (scale[is_moved], 0.9, 1.1)):
        counts = torch.histc(values, 5, low, high)
        assert counts.sum() == len(values)
        assert counts.min() > 0.85 * counts.mean()
    shifts = geometry.shift[is_moved].flatten()
    counts = torch.stack([(shifts == each).sum() for each in range(-3, 4)]).float()
    assert counts.sum() == len(shifts)
    assert counts.min() > 0.85 * counts.mean()


def test_all_frames_of_a_clip_move_alike_and_clips_differently() -> None:
    frames = torch.rand(1, 1, 3, SIZE, SIZE).expand(5, 4, 3, SIZE, SIZE)
    moved = move_frames(frames, drawn(EVERYTHING, num=5))
    assert moved.shape == (5, 4, 3, SIZE - 6, SIZE - 6)
    assert torch.equal(moved[:, 0], moved[:, 3])
    assert not any(torch.equal(moved[0], other) for other in moved[1:])


def test_the_published_affine_transform_is_the_same_one() -> None:
    frames = torch.rand(1, 2, 3, 32, 32)
    geometry = Geometry(
        matrix=torch.tensor([[math.cos(0.2), -math.sin(0.2)], [math.sin(0.2), math.cos(0.2)]])[
            None
        ],
        shift=torch.tensor([[3.0, -2.0]]),
        is_reversed=torch.tensor([False]),
        size_px=32,
        size_after_px=32,
    )
    padded = functional.pad(frames, [16, 16, 16, 16], padding_mode="reflect")
    turned = functional.affine(
        padded,
        math.degrees(0.2),
        [3, -2],
        1.0,
        [0.0],
        interpolation=functional.InterpolationMode.BILINEAR,
    )
    expected = functional.center_crop(turned, [32, 32])
    torch.testing.assert_close(move_frames(frames, geometry), expected, atol=1e-4, rtol=0)


def test_a_batch_of_another_size_than_drawn_for_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="48 px"):
        move_frames(torch.rand(4, 1, 3, 32, 32), drawn(EVERYTHING))
