"""Trainings that are killed at random moments: python -m tests.pipelines.training.killed FOLDER N.

Each of N processes goes on with the run that the one before left and saves at every step, until it
is killed with SIGKILL. After each kill the newest complete checkpoint must load and be what an
uninterrupted training has at that step. Prints the steps that were found, one line for each kill.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from pipelines.training import background, checkpoint
from pipelines.training.checkpoint import (
    STATE_NAME,
    WEIGHTS_NAME,
    TrainState,
    find_checkpoint,
    restore,
    save_checkpoint,
)
from tests.pipelines.training.toy import assert_equal_states, toy_batches, toy_state, toy_step

WIDTH = 4_000
LONGEST_S = 0.08


def main(folder: str, num_kills: str) -> None:
    torch.set_num_threads(1)
    draw = random.Random(0)
    for number in range(int(num_kills)):
        checkpoint._WORTH_A_COPY = 0 if number % 2 else 10**9  # in the background, and not
        read_end, write_end = os.pipe()
        process = os.fork()
        if not process:
            train_for_ever(Path(folder), write_end)
        os.read(read_end, 1)
        os.close(read_end)
        os.close(write_end)
        time.sleep(draw.uniform(0, LONGEST_S))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        print(json.dumps(found_step(Path(folder))), flush=True)


def train_for_ever(run_dir: Path, ready: int) -> None:
    state = newest(run_dir)
    with background.writing(run_dir):
        while True:
            one_step(state)
            save_checkpoint(run_dir, state, keep=2)
            os.write(ready, b".")


def newest(run_dir: Path) -> TrainState:
    """The run's state, from its newest checkpoint; a warning (a torn one) is an error."""
    state = toy_state(width=WIDTH)
    found = find_checkpoint(run_dir, files=(WEIGHTS_NAME, STATE_NAME), warn=sys.exit)
    if found:
        restore(found, state)
    return state


_expected = None


def found_step(run_dir: Path) -> int:
    """The step of the newest checkpoint, which equals an uninterrupted training's."""
    global _expected
    _expected = _expected or toy_state(width=WIDTH)
    state = newest(run_dir)
    while _expected.step < state.step:
        one_step(_expected)
    assert_equal_states(state, _expected)
    return state.step


def one_step(state: TrainState) -> None:
    toy_step(state, torch.from_numpy(next(toy_batches(state.step, width=WIDTH))))
    state.step += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
