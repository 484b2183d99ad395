"""I3D: padding, the published layouts, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.events import UserError
from pipelines.features.i3d import I3d, same_padding
from pipelines.features.i3d_checkpoint import LAYOUTS, UNITS, i3d_state, layout_of, num_classes


def published(layout_name: str, *, classes: int = 7) -> dict[str, Tensor]:
    """Weights in a layout, the same values in all of them (and a batch norm without gain)."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in I3d(num_classes=classes).named_parameters()}
    layout, state = LAYOUTS[layout_name], {}
    for unit in UNITS:
        weight, channels = _unit_weight(unit, shapes, generator)
        stem = layout.unit(unit)
        state[stem + layout.weight] = _in_order(weight, layout.is_tensorflow)
        for name in (layout.beta, layout.mean):
            state[stem + name] = 0.1 * torch.randn(channels, generator=generator)
        state[stem + layout.variance] = 0.5 + torch.rand(channels, generator=generator)
        if layout.gamma is not None:
            state[stem + layout.gamma] = torch.ones(channels)
    weight = 0.03 * torch.randn((classes, 1024, 1, 1, 1), generator=generator)
    state[layout.logits[0]] = _in_order(weight, layout.is_tensorflow)
    state[layout.logits[1]] = torch.randn(classes, generator=generator)
    return state


def _unit_weight(
    unit: str, shapes: dict[str, torch.Size], generator: torch.Generator
) -> tuple[Tensor, int]:
    block, _, branch = unit.partition(".")
    if not branch:
        shape = list(shapes[f"{unit}.conv.weight"])
    elif branch in ("0", "1a", "2a"):
        shape = list(shapes[f"blocks.{block}.first.conv.weight"])
        later = [shapes[f"blocks.{block}.branch{i}.conv.weight"][1] for i in (1, 2)]
        widths = {"0": shape[0] - sum(later), "1a": later[0], "2a": later[1]}
        shape[0] = widths[branch]
    else:
        shape = list(shapes[f"blocks.{block}.branch{branch[0]}.conv.weight"])
    spread = (2 / (shape[1] * shape[2] * shape[3] * shape[4])) ** 0.5
    return spread * torch.randn(shape, generator=generator), shape[0]


def _in_order(weight: Tensor, is_tensorflow: bool) -> Tensor:
    return weight.permute(2, 3, 4, 1, 0).contiguous() if is_tensorflow else weight


def network(state: dict[str, Tensor], **settings: int) -> I3d:
    with torch.device("meta"):
        empty = I3d(**settings)
    empty.load_state_dict(state, assign=True)
    return empty.eval()


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (2, 2), (3, 1), (3, 2), (7, 2)])
def test_padding_gives_the_size_over_the_stride_rounded_up(
    size: int, kernel: int, stride: int
) -> None:
    padded = F.pad(torch.zeros(1, 1, size), same_padding(size, kernel, stride))
    found = F.max_pool1d(padded, kernel, stride).shape[-1]
    assert found == -(-size // stride)
    front, behind = same_padding(size, kernel, stride)
    assert behind - front in (0, 1)


def test_all_layouts_are_the_same_network() -> None:
    states = {name: i3d_state(published(name), eps=1e-3) for name in LAYOUTS}
    first = states["hassony2"]
    for state in states.values():
        assert state.keys() == first.keys()
        assert all(torch.equal(state[key], first[key]) for key in first)
    assert num_classes(published("tensorflow")) == 7


def test_layouts_differ_in_the_batch_norms_epsilon() -> None:
    assert layout_of(published("tensorflow")).eps == layout_of(published("hassony2")).eps == 1e-3
    assert layout_of(published("piergiaj")).eps == 1e-5


def test_it_has_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        ours = sum(parameter.numel() for parameter in I3d().parameters())
    layout, state = LAYOUTS["tensorflow"], published("tensorflow")
    units = sum(state[layout.unit(unit) + layout.beta].numel() for unit in UNITS)
    # less the counters of the batch norms, and the gain, mean and variance that are folded away
    assert ours == 12_711_881 - len(UNITS) - 3 * units


@pytest.mark.parametrize(("num_frames", "num_steps"), [(9, 1), (16, 1), (17, 2), (24, 2), (25, 3)])
def test_sixteen_frames_are_one_step_and_each_eight_more_another(
    num_frames: int, num_steps: int
) -> None:
    with torch.device("meta"):
        found = I3d(num_classes=7)(torch.zeros(1, 3, num_frames, 224, 224))
    assert found.pooled.shape == (1, 1024, num_steps, 1, 1)
    assert found.step_logits.shape == (1, 7, num_steps)
    assert found.logits.shape == (1, 7)


def test_the_shortest_clip_is_nine_frames_or_twentyfive() -> None:
    with torch.device("meta"):
        assert I3d().min_frames == 9
        assert I3d(pool_frames=4).min_frames == 25


@pytest.mark.parametrize("is_packed", [False, True])
def test_clips_of_a_batch_do_not_mix(is_packed: bool) -> None:
    net = network(i3d_state(published("piergiaj")), num_classes=7)
    if is_packed:
        net.pack()
    clips = torch.rand(3, 3, 9, 200, 200, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        found = net(clips)
        together = found.logits
        assert torch.equal(together, found.step_logits.mean(dim=2))
        apart = torch.cat([net(clip[None]).logits for clip in clips])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(UserError, match="not of an I3D network") as caught:
        i3d_state({"layer1.0.conv1.weight": torch.zeros(1)})
    assert caught.value.details["their first entry"] == "layer1.0.conv1.weight"
    state = published("hassony2")
    del state["mixed_4e.branch_2.1.batch3d.running_var"]
    with pytest.raises(UserError, match="not complete") as caught:
        i3d_state(state)
    assert caught.value.details["missing"] == "mixed_4e.branch_2.1.batch3d.running_var"
