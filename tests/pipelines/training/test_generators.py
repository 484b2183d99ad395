from __future__ import annotations

import torch
from torch import nn

from pipelines.training.generators import (
    derived_seed,
    numpy_generator,
    seeded_initialisation,
    torch_generator,
)


def test_a_seed_is_the_same_on_every_platform():
    assert derived_seed(42, "clip order", 0) == 7695145273789423152


def test_meanings_do_not_share_draws():
    draws = {
        float(numpy_generator(seed, name, number).random())
        for seed in (1, 2)
        for name in ("order", "starts")
        for number in (0, 1)
    }
    assert len(draws) == 8
    assert float(numpy_generator(1, "order", 0).random()) in draws


def test_torch_generators_repeat():
    one, other = torch_generator(3, "noise"), torch_generator(3, "noise")
    assert torch.equal(torch.randn(5, generator=one), torch.randn(5, generator=other))


def test_initial_weights_depend_on_the_seed_alone_and_leave_the_global_state():
    before = torch.get_rng_state()
    with seeded_initialisation(7, "stage 1"):
        one = nn.Linear(3, 3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    with seeded_initialisation(7, "stage 1"):
        other = nn.Linear(3, 3)
    with seeded_initialisation(8, "stage 1"):
        third = nn.Linear(3, 3)
    assert torch.equal(one.weight, other.weight)
    assert not torch.equal(one.weight, third.weight)
