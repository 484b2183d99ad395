from __future__ import annotations

import torch

from pipelines.fomm.augment import augment, draw_augmentation
from pipelines.fomm.config import AugmentConfig

PLAIN = {
    "time_flip": 0,
    "horizontal_flip": 0,
    "brightness": 0,
    "contrast": 0,
    "saturation": 0,
    "hue": 0,
}


def changed(settings: dict, num_pairs: int = 64, size_px: int = 16) -> tuple[torch.Tensor, ...]:
    """Random pairs before and after."""
    generator = torch.Generator().manual_seed(0)
    pairs = torch.rand((num_pairs, 2, 3, size_px, size_px), generator=generator)
    config = AugmentConfig(**(PLAIN | settings))
    draws = draw_augmentation(config, num_pairs, size_px=size_px, generator=generator)
    return pairs, augment(pairs, draws)


def test_without_settings_nothing_changes():
    before, after = changed({})
    assert torch.equal(before, after)


def test_a_pair_is_turned_around_in_time_or_mirrored_but_never_both():
    before, after = changed({"time_flip": 0.5, "horizontal_flip": 0.5}, num_pairs=256)
    kinds = {
        "as it was": before,
        "reversed": before.flip(1),
        "mirrored": before.flip(-1),
    }
    counts = {
        name: sum(torch.equal(a, b) for a, b in zip(after, each, strict=True))
        for name, each in kinds.items()
    }
    assert sum(counts.values()) == 256
    assert 100 < counts["reversed"] < 156
    assert 40 < counts["mirrored"] < 90


def test_a_smaller_frame_is_surrounded_by_its_edge_and_a_larger_one_cropped():
    before, after = changed({"resize": (0.5, 0.5)})
    middle = after[..., 4:12, 4:12]
    assert set(middle.unique().tolist()) <= set(before.unique().tolist())
    assert torch.equal(after[..., 0, :], after[..., 3, :])
    before, larger = changed({"resize": (2.0, 2.0)})
    assert set(larger.unique().tolist()) <= set(before.unique().tolist())
    assert max(len(row.unique()) for row in larger.flatten(0, -2)) <= 9, "half the frame is seen"


def test_both_frames_of_a_pair_change_colour_alike():
    generator = torch.Generator().manual_seed(0)
    frame = torch.rand((8, 1, 3, 16, 16), generator=generator)
    config = AugmentConfig(time_flip=0, brightness=0.3, contrast=0.3, saturation=0.3, hue=0.3)
    draws = draw_augmentation(config, 8, size_px=16, generator=generator)
    after = augment(frame.expand(-1, 2, -1, -1, -1), draws)
    torch.testing.assert_close(after[:, 0], after[:, 1])
    assert (after[:, 0] - frame[:, 0]).abs().mean() > 0.02
