from __future__ import annotations

import pytest
import torch
from torch import nn

from pipelines.events import UserError, Work
from pipelines.nn.spectral_norm import SpectralConv2d
from pipelines.schema import TrainConfig
from pipelines.training.checkpoint import TrainState
from pipelines.training.levers import can_compile, checkpoint_blocks, parts_of
from pipelines.training.loop import train_to_next_save
from tests.pipelines.training.toy import CPU, toy_batches


class Pictures(nn.Module):
    """Blocks of convolutions in 2 and 3 dimensions."""

    def __init__(self, *, in_3d: bool = True) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.Tanh()) for _ in range(3)
        )
        self.last = nn.Conv3d(2, 1, (1, 3, 3)) if in_3d else nn.Conv2d(2, 1, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        in_3d = isinstance(self.last, nn.Conv3d)
        return self.last(x.unsqueeze(2) if in_3d else x).flatten(1)


def trained(
    steps: int = 3, *, in_3d: bool = True, **settings
) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """The weights after some steps of 8 clips, and what was logged."""
    torch.manual_seed(0)
    net, critic = Pictures(in_3d=in_3d), nn.Linear(4, 1)
    optimizers = {
        "net": torch.optim.Adam(net.parameters(), lr=0.01),
        "critic": torch.optim.Adam(critic.parameters(), lr=0.01),
    }
    state = TrainState({"net": net, "critic": critic}, optimizers, {}, {"steps": 0.0})
    logged = []

    class Heard(Work):
        def metric(self, step, values):
            logged.append(values)

    def step(batch):
        made = net(batch.float().view(-1, 2, 4, 4) / 255)
        critic_loss = critic(made.detach()).square().mean()
        for name, loss in (("critic", critic_loss), ("net", (made - 0.5).square().mean())):
            optimizers[name].zero_grad(set_to_none=True)
            loss.backward()
            optimizers[name].step()
        state.scalars["steps"] += 1
        return {"loss": loss}

    train_to_next_save(
        state,
        toy_batches(0, width=32),
        step,
        settings=TrainConfig(log_every=1, save_every=steps, **settings),
        total_steps=steps,
        device=CPU,
        work=Heard(),
    )
    assert state.scalars["steps"] == steps, "what a step counts is counted once per batch"
    weights = {**net.state_dict(prefix="net."), **critic.state_dict(prefix="critic.")}
    return weights, logged


@pytest.mark.parametrize(
    "settings",
    [
        {"accumulate": 4},
        {"channels_last": True},
        {"checkpointing": True},
        {"channels_last": True, "checkpointing": True, "accumulate": 2},
    ],
    ids=str,
)
def test_a_lever_for_memory_or_speed_changes_no_numbers(settings):
    (plain, plain_log), (other, other_log) = trained(), trained(**settings)
    assert plain.keys() == other.keys()
    for name, tensor in plain.items():
        assert torch.allclose(tensor, other[name], atol=1e-6), name
    for one, two in zip(plain_log, other_log, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)


def test_without_a_compiler_a_training_goes_on_uncompiled_and_says_so(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    warnings = []
    assert not can_compile(warnings.append)
    assert "no-such-compiler" in warnings[0] and "apt-get install g++" in warnings[0]
    (plain, _), (other, _) = trained(), trained(compile=True)
    assert all(torch.equal(plain[name], other[name]) for name in plain)


def test_half_precision_learns_nearly_the_same():
    (plain, _), (half, _) = (trained(in_3d=False, precision=each) for each in ("fp32", "bf16"))
    assert all(tensor.dtype == torch.float32 for tensor in half.values())
    changes = [float((plain[name] - half[name]).abs().max()) for name in plain]
    assert 0 < max(changes) < 0.05


def test_half_precision_of_3d_convolutions_is_refused_on_a_cpu():
    with pytest.raises(UserError, match="no bf16 on a CPU"):
        trained(precision="bf16")


def test_blocks_with_a_state_are_not_computed_twice():
    stateful = nn.Sequential(SpectralConv2d(1, 1, 3), nn.BatchNorm2d(1), nn.Conv2d(1, 1, 3))
    assert checkpoint_blocks(stateful) == 1


def test_a_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(UserError, match="cannot be taken in 3 equal parts"):
        list(parts_of(torch.zeros(8, 2), 3))


def test_what_belongs_to_all_clips_belongs_to_every_part():
    batch = {"frames": torch.arange(4), "reach": torch.tensor([1.0, 2.0, 3.0])}
    first, second = parts_of(batch, 2)
    assert first["frames"].tolist() == [0, 1] and second["frames"].tolist() == [2, 3]
    assert first["reach"].tolist() == second["reach"].tolist() == [1.0, 2.0, 3.0]
