"""The correlation layer against its definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.flownet2.correlation import Correlation


def maps(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn((2, *shape), generator=generator)
    return first, second


def by_definition(first: Tensor, second: Tensor, layer: Correlation) -> Tensor:
    """One displacement after the other, in float64."""
    pad = layer.pad_px
    first, second = (F.pad(x.double(), (pad,) * 4) for x in (first, second))
    reach, step = layer.max_displacement, layer.output_stride
    height, width = (side - 2 * reach for side in first.shape[-2:])
    displacements = [(each - layer.radius) * layer.stride for each in range(2 * layer.radius + 1)]
    channels = []
    for dy in displacements:
        for dx in displacements:
            here = first[..., reach : reach + height, reach : reach + width]
            there = second[..., reach + dy :, reach + dx :][..., :height, :width]
            channels.append((here * there).mean(1))
    return torch.stack(channels, dim=1)[..., ::step, ::step]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_displacement": 4, "stride": 1, "pad_px": 4},
        {"max_displacement": 6, "stride": 3, "pad_px": 9, "output_stride": 2},
        {"max_displacement": 5, "stride": 2, "pad_px": 3},
    ],
)
def test_each_channel_is_the_mean_product_at_its_displacement(settings: dict[str, int]) -> None:
    layer = Correlation(**settings)
    first, second = maps(2, 7, 13, 18)
    found = layer(first, second)
    wanted = by_definition(first, second, layer)
    assert found.shape == wanted.shape
    assert found.shape[1] == layer.channels
    torch.testing.assert_close(found.double(), wanted, atol=1e-6, rtol=0)


def test_row_by_row_gives_the_same_bits_as_all_rows_at_once() -> None:
    first, second = maps(1, 16, 24, 20)
    whole = Correlation(chunk_mb=100)(first, second)
    assert torch.equal(Correlation(chunk_mb=1e-6)(first, second), whole)
    assert torch.equal(Correlation(chunk_mb=0.05)(first, second), whole)


def test_pairs_of_a_batch_do_not_mix() -> None:
    first, second = maps(3, 8, 10, 12)
    together = Correlation()(first, second)
    apart = torch.cat([Correlation()(a[None], b[None]) for a, b in zip(first, second, strict=True)])
    assert torch.equal(together, apart)


def test_sums_are_float32_under_half_precision() -> None:
    first, second = maps(1, 256, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = Correlation()(first.bfloat16(), second.bfloat16())
    assert found.dtype == torch.float32
    wanted = by_definition(first.bfloat16(), second.bfloat16(), Correlation())
    torch.testing.assert_close(found.double(), wanted, atol=1e-6, rtol=0)


def test_gradients_reach_both_maps() -> None:
    first, second = (x.double().requires_grad_() for x in maps(1, 3, 6, 5))
    layer = Correlation(max_displacement=2, stride=2, pad_px=2)
    layer(first, second).square().sum().backward()
    ours = first.grad, second.grad
    first.grad = second.grad = None
    by_definition(first, second, layer).square().sum().backward()
    torch.testing.assert_close(ours, (first.grad, second.grad), atol=1e-5, rtol=1e-5)
