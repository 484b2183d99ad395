"""Frames of any size through a network that takes multiples only."""

from __future__ import annotations

import pytest
import torch

from pipelines.nn.padding import pad_to_multiple


@pytest.mark.parametrize(
    ("size", "multiple", "at_least", "expected"),
    [
        ((64, 64), 64, 1, (64, 64)),
        ((65, 63), 64, 1, (128, 64)),
        ((5, 9), 8, 1, (8, 16)),
        ((5, 9), 8, 24, (24, 24)),
    ],
)
def test_sides_become_multiples_and_come_back(size, multiple, at_least, expected) -> None:
    frames = torch.rand(2, 3, *size)
    padded, crop = pad_to_multiple(frames, multiple, at_least=at_least)
    assert tuple(padded.shape[-2:]) == expected
    assert torch.equal(crop(padded), frames)
    assert crop(padded[:, :1]).shape == (2, 1, *size)


def test_borders_are_repeated_half_on_each_side() -> None:
    row = torch.tensor([1.0, 2.0, 3.0]).expand(1, 1, 1, 3)
    padded, _ = pad_to_multiple(row, 3, at_least=6)
    assert padded[0, 0, 0].tolist() == [1, 1, 2, 3, 3, 3]


def test_what_fits_is_not_copied() -> None:
    frames = torch.rand(1, 3, 16, 16)
    assert pad_to_multiple(frames, 8)[0] is frames
