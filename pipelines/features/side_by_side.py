"""Clips of a batch on a CPU, each in a thread of its own.

A network whose layers are many short steps leaves cores idle when each step is shared out; several
clips at a time do not wait for each other.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


def side_by_side(work: Callable[[Tensor], Result], clips: Tensor) -> list[Result]:
    """What `work` makes of each clip, 1 ..., of a batch, B ..., without gradients.

    As many clips at a time as torch has threads, which they share. `work` must be safe to call from
    several threads at once.
    """
    num_threads = torch.get_num_threads()
    num_workers = min(num_threads, len(clips))
    if num_workers <= 1:
        return [work(clip[None]) for clip in clips]
    is_inference = torch.is_inference_mode_enabled()
    waiting, found = iter(range(len(clips))), dict[int, Result]()

    def take_turns() -> None:
        with torch.inference_mode(is_inference), torch.no_grad():  # modes are a thread's own
            for number in waiting:
                found[number] = work(clips[number : number + 1])

    share = num_threads // num_workers
    others = [_threads(num_workers - 1, share).submit(take_turns) for _ in range(num_workers - 1)]
    torch.set_num_threads(share)
    try:
        take_turns()  # this thread too: it has memory to use again
    finally:
        wait(others)
        torch.set_num_threads(num_threads)
    for other in others:
        other.result()
    return [found[number] for number in range(len(clips))]


@cache
def _threads(count: int, share: int) -> ThreadPoolExecutor:
    """They stay, and with them the memory that they use. share: threads of torch's for each."""
    return ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(share,))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # a fork has none of the threads
