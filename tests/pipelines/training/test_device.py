from __future__ import annotations

import multiprocessing
import platform
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from i2v_cli.environments import worker_environment
from pipelines.events import UserError
from pipelines.training.device import (
    choose_device,
    freed_memory_given_back,
    keep_freed_memory,
    prepare_device,
    states_lie_apart,
)


def test_auto_finds_a_device_that_works():
    device = choose_device("auto")
    assert float((torch.ones(2, device=device) * 2).sum()) == 4


def test_threads_are_set():
    prepare_device("cpu", threads=1)
    assert torch.get_num_threads() == 1


InAWorker = Callable[[Callable[[], None]], None]


@pytest.fixture
def in_a_worker(monkeypatch: pytest.MonkeyPatch) -> InAWorker:
    """Runs a function in a process of its own, whose memory other tests have not used."""
    for name, value in worker_environment().items():
        monkeypatch.setenv(name, value)

    def run(function: Callable[[], None]) -> None:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            pool.submit(function).result()

    return run


needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


@needs_glibc
def test_a_new_tensor_takes_the_pages_of_a_freed_one(in_a_worker: InAWorker) -> None:
    in_a_worker(make_and_free_tensors)


def make_and_free_tensors() -> None:
    """Ten times 64 MB are 160,000 pages, which the system would have to fill with zeros."""
    keep_freed_memory()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 80_000


@needs_glibc
def test_where_it_is_asked_for_the_memory_of_a_freed_tensor_is_given_back(
    in_a_worker: InAWorker,
) -> None:
    in_a_worker(ask_for_it)


def ask_for_it() -> None:
    keep_freed_memory()
    with freed_memory_given_back():
        before = resident_mb()
        tensor = torch.ones(2**25)
        assert resident_mb() - before > 100
        del tensor
        assert resident_mb() - before < 30


@needs_glibc
def test_the_memory_of_a_first_step_is_given_back_and_that_of_the_next_one_kept(
    in_a_worker: InAWorker,
) -> None:
    in_a_worker(take_steps)


def take_steps() -> None:
    keep_freed_memory()
    weight = torch.nn.Parameter(torch.ones(4))
    optimizer = torch.optim.Adam([weight])

    def grown_by_a_step() -> float:
        before = resident_mb()
        with states_lie_apart([optimizer]):
            (torch.ones(2**25).sum() * weight.sum()).backward()
            optimizer.step()
        return resident_mb() - before

    grown_by_a_step()  # loads libraries
    optimizer.state.clear()
    assert grown_by_a_step() < 30
    assert grown_by_a_step() > 100
    grown_by_a_step()  # may lie beside it
    assert grown_by_a_step() < 30


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
