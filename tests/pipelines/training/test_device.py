from __future__ import annotations

import platform
import resource
from pathlib import Path

import pytest
import torch

from pipelines.events import UserError
from pipelines.training.device import (
    choose_device,
    freed_memory_given_back,
    keep_freed_memory,
    prepare_device,
)


def test_auto_finds_a_device_that_works():
    device = choose_device("auto")
    assert float((torch.ones(2, device=device) * 2).sum()) == 4


def test_threads_are_set():
    prepare_device("cpu", threads=1)
    assert torch.get_num_threads() == 1


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_new_tensor_takes_the_pages_of_a_freed_one():
    """Ten times 64 MB are 160,000 pages, which the system would have to fill with zeros."""
    keep_freed_memory()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 80_000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_where_it_is_asked_for_the_memory_of_a_freed_tensor_is_given_back():
    keep_freed_memory()
    with freed_memory_given_back():
        before = resident_mb()
        tensor = torch.ones(2**25)
        assert resident_mb() - before > 100
        del tensor
        assert resident_mb() - before < 30


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() / 1e6


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            "mps", marks=pytest.mark.skipif(torch.backends.mps.is_available(), reason="has mps")
        ),
        pytest.param("cuda:99"),
    ],
)
def test_a_device_that_is_not_there_is_an_error_with_a_way_out(name):
    with pytest.raises(UserError, match=f"device '{name}' is not available") as caught:
        choose_device(name)
    assert caught.value.exit_code == 3
    assert "--device cpu" in caught.value.details["to fix"]
