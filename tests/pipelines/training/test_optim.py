from __future__ import annotations

import pytest
import torch
from torch import nn

from pipelines.schema import OptimizerConfig
from pipelines.training.optim import (
    Plateau,
    build_adam,
    exponential_rate,
    set_learning_rate,
    stepped_rate,
)


def test_frozen_parameters_are_not_trained():
    trained, frozen = nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)
    adam = build_adam([trained, frozen], OptimizerConfig())
    assert [id(p) for p in adam.param_groups[0]["params"]] == [id(p) for p in trained.parameters()]


def test_adam_takes_the_settings_and_a_new_learning_rate():
    config = OptimizerConfig(beta1=0.5, beta2=0.9, weight_decay=1e-5, amsgrad=True)
    adam = build_adam([nn.Linear(2, 2)], config)
    group = adam.param_groups[0]
    assert (group["betas"], group["weight_decay"], group["amsgrad"]) == ((0.5, 0.9), 1e-5, True)
    set_learning_rate(adam, 0.25)
    assert group["lr"] == 0.25


def test_schedules_agree_with_the_schedulers_of_torch():
    parameter = [nn.Parameter(torch.zeros(1))]
    one, two = torch.optim.SGD(parameter, lr=0.2), torch.optim.SGD(parameter, lr=0.2)
    exponential = torch.optim.lr_scheduler.ExponentialLR(one, 0.98)
    stepped = torch.optim.lr_scheduler.StepLR(two, 7, 0.5)
    for epoch in range(20):
        mine = exponential_rate(0.2, decay=0.98, epoch=epoch)
        assert mine == pytest.approx(exponential.get_last_lr()[0])
        mine = stepped_rate(0.2, factor=0.5, every_epochs=7, epoch=epoch)
        assert mine == pytest.approx(stepped.get_last_lr()[0])
        one.step(), two.step()
        exponential.step(), stepped.step()


def test_plateau_agrees_with_the_scheduler_of_torch():
    adam = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        adam, factor=0.5, patience=1, threshold=1e-4, threshold_mode="abs"
    )
    mine = Plateau()
    for value in (5.0, 4.0, 4.0, 3.99995, 3.9, 4.0, 4.1, 4.2, 4.3, 1.0, 1.0, 1.0):
        theirs.step(value)
        mine = mine.after_epoch(value, factor=0.5, patience=1)
        assert mine.scale == adam.param_groups[0]["lr"]
    assert mine.scale == 0.0625
