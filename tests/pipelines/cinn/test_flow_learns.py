"""A flow learns to go where it is told: on made-up codes that know their endpoint, in seconds."""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.cinn.config import FlowConfig
from pipelines.cinn.flow import ConditionalFlow, endpoint_code
from pipelines.cinn.networks import build_flow
from pipelines.cinn.steps import flow_step
from pipelines.schema import OptimizerConfig
from pipelines.training.generators import seeded_initialisation, torch_generator
from pipelines.training.optim import build_adam

CODE_SIZE, EMBEDDING_SIZE, BATCH, STEPS = 8, 4, 64, 200
OPTIMIZER = OptimizerConfig(learning_rate=3e-3, beta1=0.9, beta2=0.99, amsgrad=True)


def codes_of(endpoint: Tensor, generator: torch.Generator) -> Tensor:
    """Motion codes whose first two numbers say where the motion ends; the rest is chance."""
    noise = torch.randn((len(endpoint), CODE_SIZE), generator=generator)
    return torch.cat((6 * endpoint[:, :2] - 3 + 0.1 * noise[:, :2], noise[:, 2:]), dim=1)


def trained(*, is_controlled: bool) -> ConditionalFlow:
    config = FlowConfig(
        num_flows=4,
        hidden_width=48,
        hidden_depth=1,
        is_controlled=is_controlled,
        optimizer=OPTIMIZER,
    )
    generator = torch_generator(0, "endpoints")
    with seeded_initialisation(0, "flow"):
        flow = build_flow(config, CODE_SIZE, EMBEDDING_SIZE)
    optimizer = build_adam([flow], OPTIMIZER)
    for _ in range(STEPS):
        endpoint = torch.rand((BATCH, 3), generator=generator)
        condition = condition_for(endpoint, is_controlled=is_controlled)
        flow_step(flow, optimizer, codes_of(endpoint, generator), condition)
    return flow.eval()


def condition_for(endpoint: Tensor, *, is_controlled: bool) -> Tensor:
    embedding = torch.zeros((len(endpoint), EMBEDDING_SIZE))
    return torch.cat((embedding, endpoint_code(endpoint)), dim=1) if is_controlled else embedding


@torch.no_grad()
def distance_to_asked(flow: ConditionalFlow, *, is_controlled: bool) -> float:
    """Mean distance between where samples end and where they were asked to."""
    generator = torch_generator(1, "asked")
    asked = torch.rand((256, 3), generator=generator)
    residual = torch.randn((256, CODE_SIZE), generator=generator)
    code = flow.inverse(residual, condition_for(asked, is_controlled=is_controlled))
    ends = (code[:, :2] + 3) / 6
    return float((ends - asked[:, :2]).norm(dim=1).mean())


def test_a_controlled_flow_ends_nearer_to_the_asked_endpoint_by_a_factor_of_two():
    controlled = distance_to_asked(trained(is_controlled=True), is_controlled=True)
    free = distance_to_asked(trained(is_controlled=False), is_controlled=False)
    assert free / controlled >= 2, (free, controlled)
