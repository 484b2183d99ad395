"""Colours of whole clips: what each operation does to them, and what is drawn."""

from __future__ import annotations

import colorsys

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as torchvision_colours

from pipelines.clips.colour import (
    ADDED,
    BLENDED,
    BRIGHTNESS,
    CONTRAST,
    HUE,
    SATURATION,
    ColourRanges,
    colour_jitter,
    draw_colour,
)
from pipelines.clips.frames import from_bytes

UNCHANGED = [1.0, 1.0, 1.0, 0.0]
IN_ORDER = [0, 1, 2, 3]


def clips(num: int = 2, size_px: int = 8) -> Tensor:
    return torch.rand(num, 3, 3, size_px, size_px, generator=torch.Generator().manual_seed(0))


def jittered(values: Tensor, kind: int, factor: float, operations=ADDED) -> Tensor:
    factors = torch.tensor([UNCHANGED] * len(values))
    factors[:, kind] = factor
    return colour_jitter(values, factors, torch.tensor([IN_ORDER] * len(values)), operations)


def test_bytes_become_channels_first_numbers_in_the_unit_range() -> None:
    frames = torch.tensor([[[[0, 128, 255]]]], dtype=torch.uint8)
    assert from_bytes(frames).flatten().tolist() == pytest.approx([0, 128 / 255, 1])
    assert from_bytes(torch.zeros(5, 2, 4, 6, 3, dtype=torch.uint8)).shape == (5, 2, 3, 4, 6)


def test_brightness_adds_and_contrast_multiplies_within_the_range() -> None:
    values = torch.tensor([0.1, 0.5, 0.9]).view(1, 1, 3, 1, 1)
    brighter, stronger = jittered(values, BRIGHTNESS, 1.2), jittered(values, CONTRAST, 1.2)
    assert brighter.flatten().tolist() == pytest.approx([0.3, 0.7, 1.0], abs=1e-5)
    assert stronger.flatten().tolist() == pytest.approx([0.12, 0.6, 1.0], abs=1e-5)


@pytest.mark.parametrize(("kind", "factor"), [(SATURATION, 0.5), (SATURATION, 1.7), (HUE, -0.13)])
def test_saturation_and_hue_are_those_of_hsv(kind: int, factor: float) -> None:
    values = clips(1, 4)
    result = jittered(values, kind, factor).movedim(2, -1).flatten(0, -2)
    for before, after in zip(values.movedim(2, -1).flatten(0, -2), result, strict=True):
        h, s, v = colorsys.rgb_to_hsv(*before.tolist())
        changed = (h, min(s * factor, 1), v) if kind == SATURATION else ((h + factor) % 1, s, v)
        assert after.tolist() == pytest.approx(colorsys.hsv_to_rgb(*changed), abs=1e-4)


def test_grey_stays_grey_and_black_stays_black() -> None:
    values = torch.tensor([0.0, 0.4, 1.0]).view(1, 3, 1, 1, 1).expand(1, 3, 3, 2, 2)
    for kind, factor in ((SATURATION, 1.5), (HUE, 0.3)):
        result = jittered(values, kind, factor)
        torch.testing.assert_close(result, values, atol=1e-5, rtol=0)


def test_operations_run_in_each_clips_own_order() -> None:
    values = torch.full((2, 1, 3, 1, 1), 0.4)
    factors = torch.tensor([[1.2, 0.5, 1.0, 0.0]] * 2)
    order = torch.tensor([[BRIGHTNESS, CONTRAST, 2, 3], [3, CONTRAST, 2, BRIGHTNESS]])
    result = colour_jitter(values, factors, order)
    assert result[:, 0, 0, 0, 0].tolist() == pytest.approx([0.3, 0.4], abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "name", "factor"),
    [
        (BRIGHTNESS, "adjust_brightness", 1.4),
        (CONTRAST, "adjust_contrast", 0.6),
        (CONTRAST, "adjust_contrast", 1.5),
        (SATURATION, "adjust_saturation", 0.3),
        (SATURATION, "adjust_saturation", 1.4),
        (HUE, "adjust_hue", 0.2),
    ],
)
def test_blended_operations_are_those_of_torchvision(kind: int, name: str, factor: float) -> None:
    values = clips(2, 6)
    expected = getattr(torchvision_colours, name)(values, factor)
    torch.testing.assert_close(jittered(values, kind, factor, BLENDED), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("operations", [ADDED, BLENDED])
def test_frames_without_colour_keep_one_channel_and_change_their_brightness_alone(
    operations,
) -> None:
    values = clips(1)[:, :, :1]
    factors = torch.tensor([[1.1, 1.0, 0.3, 0.4]])
    result = colour_jitter(values, factors, torch.tensor([IN_ORDER]), operations)
    expected = jittered(values.expand(1, 3, 3, 8, 8), BRIGHTNESS, 1.1, operations)[:, :, :1]
    torch.testing.assert_close(result, expected)


def test_the_clips_given_are_not_changed() -> None:
    values = clips()
    jittered(values, BRIGHTNESS, 1.3)
    assert torch.equal(values, clips())


def test_colour_is_drawn_evenly_from_ranges_that_may_be_lopsided() -> None:
    ranges = ColourRanges((0.6, 1.4), (0.5, 1.5), (0.6, 1.4), (-0.15, 0.3))
    factors = draw_colour(ranges, 4000, torch.Generator().manual_seed(0)).factors
    low, high = torch.tensor([[0.6, 1.4], [0.5, 1.5], [0.6, 1.4], [-0.15, 0.3]]).unbind(1)
    assert (factors >= low).all() and (factors <= high).all()
    quarters = ((factors - low) / (high - low) * 4).long().clamp(max=3)
    for kind in range(4):
        counts = torch.bincount(quarters[:, kind], minlength=4)
        assert (counts > 900).all() and (counts < 1100).all()
    assert factors.T.corrcoef().fill_diagonal_(0).abs().max() < 0.06


def test_a_share_of_the_clips_keeps_its_colours() -> None:
    ranges = ColourRanges(brightness=(0.6, 1.4), hue=(0.1, 0.2), chance=0.8)
    factors = draw_colour(ranges, 4000, torch.Generator().manual_seed(1)).factors
    is_kept = (factors == torch.tensor(UNCHANGED)).all(1)
    assert 0.17 < is_kept.float().mean() < 0.23
    assert (factors[~is_kept][:, HUE] >= 0.1).all()


def test_the_order_is_drawn_for_each_clip_unless_it_is_given() -> None:
    drawn = draw_colour(ColourRanges(), 500, torch.Generator().manual_seed(0)).order
    assert len({tuple(order) for order in drawn.tolist()}) == 24
    order = (BRIGHTNESS, CONTRAST, HUE, SATURATION)
    fixed = draw_colour(ColourRanges(order=order), 5, torch.Generator().manual_seed(0)).order
    assert fixed.tolist() == [list(order)] * 5


def test_another_range_does_not_shift_the_other_draws() -> None:
    first, second = (
        draw_colour(ranges, 9, torch.Generator().manual_seed(3))
        for ranges in (
            ColourRanges(contrast=(0.5, 1.5)),
            ColourRanges(contrast=(0.5, 1.5), hue=(0, 1)),
        )
    )
    assert torch.equal(first.factors[:, :3], second.factors[:, :3])
    assert torch.equal(first.order, second.order)
