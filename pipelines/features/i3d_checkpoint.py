"""Weights of I3D in the layouts they were published in -> ours (spec: metrics, 2 and 3).

Each layout names the same units, and each unit is a convolution and a batch norm. Ours is the
convolution that does both, and one convolution for the three that read a block's input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from pipelines.events import EXIT_USAGE, UserError
from pipelines.features.i3d import MIXED

State = dict[str, Tensor]

_TF_PREFIX = "RGB/inception_i3d/"
_TF_EPS, _TORCH_EPS = 1e-3, 1e-5
_UNITS_OF_BLOCK = ("0", "1a", "1b", "2a", "2b", "3b")
UNITS = (
    "conv_1a",
    "conv_2b",
    "conv_2c",
    *(f"{block}.{unit}" for block in MIXED for unit in _UNITS_OF_BLOCK),
)
"""All convolutions with a batch norm: in a block by branch, and a or b for first or second."""


class Layout(NamedTuple):
    """How a published file is laid out.

    unit: a unit's name as the file has it.  The rest: what follows it, and the last layer's.
    eps: of the batch norms.  is_tensorflow: weights are T H W in out, and there is no gamma.
    """

    unit: Callable[[str], str]
    weight: str
    gamma: str | None
    beta: str
    mean: str
    variance: str
    logits: tuple[str, str]
    eps: float
    is_tensorflow: bool = False


def layout_of(keys: Iterable[str]) -> Layout:
    """The layout that entries of these names are in; UserError when it is none of I3D's."""
    present = set(keys)
    for layout in LAYOUTS.values():
        if layout.unit("conv_1a") + layout.weight in present:
            return layout
    raise UserError(
        "the weights are not of an I3D network",
        {
            "their first entry": min(present, default="none"),
            "to fix": "give a file of i2v download weights/i3d-tf",
        },
        EXIT_USAGE,
    )


def i3d_state(published: Mapping[str, Tensor], *, eps: float | None = None) -> State:
    """State dict of features.i3d.I3d from a published one, of any layout.

    eps: of the batch norms, where it differs from the layout's.
    Raises UserError when an entry is missing.
    """
    layout = layout_of(published)
    if eps is not None:
        layout = layout._replace(eps=eps)
    try:
        folded = {unit: _folded(published, layout, unit) for unit in UNITS}
        weight, bias = (published[name] for name in layout.logits)
    except KeyError as error:
        raise UserError(
            "the weights of I3D are not complete",
            {"missing": error.args[0], "to fix": "download them again"},
        ) from error
    state = {"to_logits.weight": _torch_order(weight, layout), "to_logits.bias": bias}
    for unit in ("conv_1a", "conv_2b", "conv_2c"):
        state |= _named(unit, *folded[unit])
    for block in MIXED:
        first = [folded[f"{block}.{unit}"] for unit in ("0", "1a", "2a")]
        joined = (torch.cat(parts) for parts in zip(*first, strict=True))
        state |= _named(f"blocks.{block}.first", *joined)
        for branch, unit in (("branch1", "1b"), ("branch2", "2b"), ("branch3", "3b")):
            state |= _named(f"blocks.{block}.{branch}", *folded[f"{block}.{unit}"])
    return state


def num_classes(published: Mapping[str, Tensor]) -> int:
    """How many classes published weights tell apart."""
    return len(published[layout_of(published).logits[1]])


def _folded(published: Mapping[str, Tensor], layout: Layout, unit: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that does the unit's batch norm as well."""
    stem = layout.unit(unit)
    weight = _torch_order(published[stem + layout.weight], layout).double()
    beta, mean, variance = (
        published[stem + name].double().flatten()
        for name in (layout.beta, layout.mean, layout.variance)
    )
    scale = torch.rsqrt(variance + layout.eps)
    if layout.gamma is not None:
        scale = scale * published[stem + layout.gamma].double()
    return (weight * scale.view(-1, 1, 1, 1, 1)).float(), (beta - mean * scale).float()


def _torch_order(weight: Tensor, layout: Layout) -> Tensor:
    return weight.permute(4, 3, 0, 1, 2) if layout.is_tensorflow else weight


def _named(name: str, weight: Tensor, bias: Tensor) -> State:
    return {f"{name}.conv.weight": weight.contiguous(), f"{name}.conv.bias": bias}


_STEM = {"conv_1a": "Conv3d_1a_7x7", "conv_2b": "Conv3d_2b_1x1", "conv_2c": "Conv3d_2c_3x3"}


def _hassony2_unit(unit: str) -> str:
    if unit in _STEM:
        return _STEM[unit].lower()
    block, branch = unit.split(".")
    place = {"0": "0", "1a": "1.0", "1b": "1.1", "2a": "2.0", "2b": "2.1", "3b": "3.1"}[branch]
    return f"{block}.branch_{place}"


def _piergiaj_unit(unit: str) -> str:
    if unit in _STEM:
        return _STEM[unit]
    block, branch = unit.split(".")
    return f"{block.capitalize()}.b{branch}"


def _tensorflow_unit(unit: str) -> str:
    if unit in _STEM:
        return _TF_PREFIX + _STEM[unit]
    block, branch = unit.split(".")
    kernel = "3x3" if branch in ("1b", "2b") else "1x1"
    place = f"0{'b' if branch.endswith('b') else 'a'}_{kernel}"
    if (block, branch) == ("mixed_5b", "2b"):
        place = "0a_3x3"  # misnamed in the published graph
    return f"{_TF_PREFIX}{block.capitalize()}/Branch_{branch[0]}/Conv3d_{place}"


LAYOUTS = {
    "hassony2": Layout(
        _hassony2_unit,
        ".conv3d.weight",
        ".batch3d.weight",
        ".batch3d.bias",
        ".batch3d.running_mean",
        ".batch3d.running_var",
        ("conv3d_0c_1x1.conv3d.weight", "conv3d_0c_1x1.conv3d.bias"),
        _TF_EPS,
    ),
    "piergiaj": Layout(
        _piergiaj_unit,
        ".conv3d.weight",
        ".bn.weight",
        ".bn.bias",
        ".bn.running_mean",
        ".bn.running_var",
        ("logits.conv3d.weight", "logits.conv3d.bias"),
        _TORCH_EPS,
    ),
    "tensorflow": Layout(
        _tensorflow_unit,
        "/conv_3d/w",
        None,
        "/batch_norm/beta",
        "/batch_norm/moving_mean",
        "/batch_norm/moving_variance",
        (
            f"{_TF_PREFIX}Logits/Conv3d_0c_1x1/conv_3d/w",
            f"{_TF_PREFIX}Logits/Conv3d_0c_1x1/conv_3d/b",
        ),
        _TF_EPS,
        is_tensorflow=True,
    ),
}
"""The layouts by the code base that they come from."""
