"""Augmentation of the cinn family: what is drawn, and that a clip is treated as one."""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.cinn.augment import AugmentDraws, augment, draw_augmentation, prepare
from pipelines.cinn.config import AugmentConfig

STILL = AugmentConfig(brightness=0, contrast=0, saturation=0, hue=0, horizontal_flip=0)
UNCHANGED = [1.0, 1.0, 1.0, 0.0]


def clips(num: int = 2, size_px: int = 8) -> Tensor:
    return torch.rand(num, 3, 3, size_px, size_px, generator=torch.Generator().manual_seed(0))


def no_draws(num: int) -> AugmentDraws:
    return draw_augmentation(STILL, num, torch.Generator().manual_seed(0))


def test_without_any_change_augmentation_only_normalises() -> None:
    assert torch.equal(augment(clips(), 8, STILL, no_draws(2)), clips() * 2 - 1)
    assert torch.equal(prepare(clips(), 8), clips() * 2 - 1)


def test_all_frames_of_a_clip_are_treated_alike_and_clips_differently() -> None:
    config = AugmentConfig(
        brightness=0.3, contrast=0.3, saturation=0.3, hue=0.2, horizontal_flip=0.5, crop_margin_px=4
    )
    one = torch.rand(3, 8, 8)
    same = one.expand(6, 3, 3, 8, 8)
    draws = draw_augmentation(config, 6, torch.Generator().manual_seed(0))
    result = augment(same, 8, config, draws)
    assert torch.equal(result[:, 0], result[:, 2])
    assert not any(torch.equal(result[0], other) for other in result[1:])
    assert result.abs().max() <= 1


def test_flip_mirrors_and_crop_takes_exact_pixels() -> None:
    config = AugmentConfig(
        brightness=0, contrast=0, saturation=0, hue=0, horizontal_flip=1, crop_margin_px=2
    )
    values = clips(1, 8)
    draws = AugmentDraws(
        flip=torch.tensor([True]),
        crop=torch.tensor([[0, 2]]),
        factors=torch.tensor([UNCHANGED]),
        order=torch.tensor([[0, 1, 2, 3]]),
    )
    expected = values.flip(-1)[..., 0:6, 2:8] * 2 - 1
    assert torch.equal(augment(values, 6, config, draws), expected)


def test_draws_stay_in_their_ranges_and_reach_both_ends() -> None:
    config = AugmentConfig(brightness=0.1, contrast=0.2, saturation=0.3, hue=0.15, crop_margin_px=3)
    draws = draw_augmentation(config, 2000, torch.Generator().manual_seed(0))
    reach = torch.tensor([0.1, 0.2, 0.3, 0.15])
    away = (draws.factors - torch.tensor(UNCHANGED)).abs().amax(dim=0)
    assert (away <= reach + 1e-6).all()
    assert (away > 0.95 * reach).all()
    assert set(draws.crop.flatten().tolist()) == {0, 1, 2, 3}
    assert 0.45 < draws.flip.float().mean() < 0.55
    assert len({tuple(row) for row in draws.order.tolist()}) == 24


def test_one_more_kind_of_change_does_not_shift_the_others_draws() -> None:
    plain, cropped = AugmentConfig(), AugmentConfig(crop_margin_px=16, hue=0.5)
    first, second = (
        draw_augmentation(c, 5, torch.Generator().manual_seed(7)) for c in (plain, cropped)
    )
    assert torch.equal(first.flip, second.flip)
    assert torch.equal(first.factors[:, :3], second.factors[:, :3])
    assert torch.equal(first.order, second.order)
