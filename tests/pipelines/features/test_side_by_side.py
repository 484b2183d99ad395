"""Clips of a batch in threads: their order, what the threads share, and what is left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from pipelines.features.side_by_side import side_by_side


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    former = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(former)


def test_results_come_in_the_order_of_the_clips() -> None:
    clips = torch.arange(7.0).view(7, 1)
    assert [float(found) for found in side_by_side(lambda clip: 2 * clip.sum(), clips)] == [
        0, 2, 4, 6, 8, 10, 12,
    ]  # fmt: skip
    assert side_by_side(lambda clip: clip, clips[:0]) == []


def test_each_clip_has_its_share_of_threads_and_they_meet() -> None:
    all_here = threading.Barrier(3, timeout=60)

    def work(_: Tensor) -> int:
        all_here.wait()
        return torch.get_num_threads()

    assert side_by_side(work, torch.zeros(3, 1)) == [1, 1, 1]
    assert torch.get_num_threads() == 3
    assert side_by_side(lambda _: torch.get_num_threads(), torch.zeros(1, 1)) == [3]


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_nothing_is_kept_for_gradients(mode: type) -> None:
    weight = torch.ones(1, requires_grad=True)
    with mode():
        found = side_by_side(lambda clip: weight * clip, torch.ones(2, 1))
    assert not any(each.requires_grad for each in found)


def test_a_failure_is_passed_on_and_the_threads_are_given_back() -> None:
    def fail(_: Tensor) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        side_by_side(fail, torch.zeros(2, 1))
    assert torch.get_num_threads() == 3
