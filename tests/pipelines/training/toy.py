"""A network of a few numbers, trained by the real loop in the tests of that loop."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.events import Work
from pipelines.schema import TrainConfig
from pipelines.training.checkpoint import TrainState
from pipelines.training.generators import torch_generator
from pipelines.training.loop import train_to_next_save

CPU = torch.device("cpu")


def toy_state(*, width: int = 4) -> TrainState:
    generator = torch_generator(0, "weights")
    net = nn.Linear(width, 1)
    for parameter in net.parameters():
        nn.init.normal_(parameter, generator=generator)
    norm = nn.BatchNorm1d(width)
    parameters = [*net.parameters(), *norm.parameters()]
    return TrainState(
        modules={"net": net, "norm": norm},
        optimizers={"adam": torch.optim.Adam(parameters, lr=0.01, amsgrad=True)},
        generators={"noise": torch_generator(0, "noise")},
        scalars={"best": 99.0},
    )


def toy_batches(first: int, *, width: int = 4) -> Iterator[np.ndarray]:
    while True:
        yield np.random.Generator(np.random.PCG64(first)).integers(
            0, 256, (8, width), dtype=np.uint8
        )
        first += 1


def toy_step(state: TrainState, batch: Tensor) -> dict[str, Tensor]:
    x = state.modules["norm"](batch.float() / 255)
    noise = torch.randn(x.shape, generator=state.generators["noise"])
    loss = (state.modules["net"](x + 0.1 * noise) - x.sum(1, keepdim=True)).square().mean()
    state.optimizers["adam"].zero_grad()
    loss.backward()
    state.optimizers["adam"].step()
    state.scalars["best"] = min(state.scalars["best"], float(loss.detach()))
    return {"loss": loss, "size": x.square().mean()}


def train_toy(state: TrainState, until: int, *, work: Work | None = None, step=toy_step) -> None:
    settings = TrainConfig(log_every=2, save_every=until)
    train_to_next_save(
        state,
        toy_batches(state.step),
        lambda batch: step(state, batch),
        settings=settings,
        total_steps=until,
        device=CPU,
        work=work or Work(),
    )


def spoken_work() -> tuple[Work, io.StringIO]:
    stream = io.StringIO()
    return Work(stream), stream


def events(stream: io.StringIO, kind: str) -> list[dict]:
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [line for line in lines if line["event"] == kind]


def assert_equal_states(one: TrainState, other: TrainState) -> None:
    assert one.step == other.step
    assert one.scalars == other.scalars
    for name, module in one.modules.items():
        theirs = other.modules[name].state_dict()
        for key, tensor in module.state_dict().items():
            assert torch.equal(tensor, theirs[key]), f"{name}.{key}"
    for name, optimizer in one.optimizers.items():
        assert_equal_trees(optimizer.state_dict(), other.optimizers[name].state_dict())
    for name, generator in one.generators.items():
        assert torch.equal(generator.get_state(), other.generators[name].get_state())


def assert_equal_trees(one: object, other: object) -> None:
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal_trees(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            assert_equal_trees(mine, theirs)
    else:
        assert one == other
