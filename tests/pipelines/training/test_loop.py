from __future__ import annotations

import pytest
import torch

from pipelines.events import Interrupted, UserError, Work
from pipelines.schema import TrainConfig
from pipelines.training.loop import train_to_next_save
from tests.pipelines.training.toy import (
    CPU,
    events,
    spoken_work,
    toy_batches,
    toy_state,
    toy_step,
    train_toy,
)


def test_every_n_steps_the_mean_of_the_scalars_is_recorded():
    work, stream = spoken_work()
    losses = []

    def step(state, batch):
        values = toy_step(state, batch)
        losses.append(float(values["loss"].detach()))
        return values

    train_toy(toy_state(), 5, work=work, step=step)
    records = events(stream, "metric")
    assert [record["step"] for record in records] == [2, 4, 5]
    means = [sum(losses[:2]) / 2, sum(losses[2:4]) / 2, losses[4]]
    assert [r["values"]["loss"] for r in records] == pytest.approx(means)
    assert set(records[0]["values"]) == {"loss", "size", "seconds_per_step"}


def test_progress_ends_at_the_last_step():
    work, stream = spoken_work()
    train_toy(toy_state(), 4, work=work)
    last = events(stream, "progress")[-1]
    assert (last["done"], last["total"], last["unit"]) == (4, 4, "steps")


def test_the_loop_returns_when_a_checkpoint_is_due_or_the_end_is_reached():
    state = toy_state()
    reached = []
    batches = toy_batches(0)
    while state.step < 7:
        train_to_next_save(
            state,
            batches,
            lambda batch: toy_step(state, batch),
            settings=TrainConfig(save_every=3),
            total_steps=7,
            device=CPU,
            work=Work(),
        )
        reached.append(state.step)
    assert reached == [3, 6, 7]


@pytest.mark.parametrize(("bad_step", "term"), [(3, "size"), (4, "loss")])
def test_a_scalar_that_is_not_finite_stops_the_training_and_is_named(bad_step, term):
    state = toy_state()

    def step(state, batch):
        values = toy_step(state, batch)
        return values if state.step + 1 < bad_step else values | {term: torch.tensor(float("nan"))}

    with pytest.raises(UserError, match=rf"diverged at step {bad_step}: {term} is nan"):
        train_toy(state, 8, step=step)


def test_a_stop_ends_the_loop_after_the_step_at_hand():
    work, stream = spoken_work()
    state = toy_state()

    def step(state, batch):
        if state.step == 2:
            work.ask_to_stop()
        return toy_step(state, batch)

    with pytest.raises(Interrupted), work.stops_at_boundaries():
        train_toy(state, 50, work=work, step=step)
    assert state.step == 3
    assert events(stream, "metric")[-1]["step"] == 3
