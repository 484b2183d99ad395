"""flow: FlowNet2 in all variants, its three custom layers, the colour wheel, the stored flow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.flownet2 import cascade, published
from pipelines.flownet2.checkpoint import flownet2_state, unwrapped
from pipelines.flownet2.config import NETWORKS
from pipelines.flownet2.correlation import Correlation
from pipelines.flownet2.warping import channel_norm, resample
from pipelines.io.flow_colour import flow_colours
from tests.parity.harness import Adapter, Case, CaseError, Result, built

_TITLES = {variant.title.replace("-", ""): name for name, variant in NETWORKS.items()}
_PARTS = {
    "flownetc": "c",
    "flownets_1": "s1",
    "flownets_2": "s2",
    "flownets_d": "sd",
    "flownetfusion": "fusion",
}


def key(document: Mapping[str, Any]) -> str:
    """Which computation a case is."""
    title = str(document["network"])
    return next((start for start in ADAPTERS if title.startswith(start)), title)


def _network(case: Case) -> nn.Module:
    if case.config.get("batchNorm"):
        raise CaseError("batchNorm = True is not a setting of any published checkpoint")
    name = _TITLES[case.config["model"]]
    unit = case.config.get("div_flow", cascade.FLOW_UNIT_PX)
    state = flownet2_state(unwrapped(case.state()), network=name)
    return built(partial(cascade.build, name, flow_unit_px=unit), state)


def _run_network(case: Case) -> Result:
    network = _network(case)
    seen = _watched(network)
    pair = cascade.normalise(case.inputs["frames"], value_max=case.config["rgb_max"])
    with torch.no_grad():
        return {"flow": network(pair), **seen}


def _watched(network: nn.Module) -> dict[str, Tensor]:
    """What the parts take and give, filled while the network runs."""
    seen: dict[str, Tensor] = {}

    def watch(part: nn.Module, name: str) -> None:
        def keep(_: nn.Module, taken: tuple[Any, ...], given: Any) -> None:
            seen[f"{name}_in"] = taken[0]
            for level, flow in given.items() if isinstance(given, dict) else ():
                seen[f"{name}_flow{level}" if name else f"flow{level}"] = flow

        part.register_forward_hook(keep)

    if isinstance(network, cascade.Cascade):
        for theirs, ours in _PARTS.items():
            if (part := getattr(network, ours)) is not None:
                watch(part, theirs)
    else:
        watch(network.network, "")
    for module in network.modules():
        if isinstance(module, Correlation):
            module.register_forward_hook(lambda *args: seen.update(corr=args[2]))
    return seen


def _run_stored_flow(case: Case) -> Result:
    settings = case.config
    images = [case.inputs[name].floor().to(torch.uint8).numpy() for name in ("img", "img2")]
    frames = published.network_input(
        *images,
        size_px=settings.get("input_size"),
        flips_colours=settings["channelOrder"] == "RGB",
    )
    flow = published.published_flow(
        _network(case),
        frames,
        stored_size_px=settings["spatial_size"],
        value_max=settings["rgb_max"],
    )
    return {"stacked": frames, "flow": flow}


def _run_correlation(case: Case) -> Result:
    settings = case.config
    if settings["kernel_size"] != 1:
        raise CaseError("the published layer reads outside its buffer for kernels larger than 1")
    layer = Correlation(
        max_displacement=settings["max_displacement"],
        stride=settings["stride2"],
        pad_px=settings["pad_size"],
        output_stride=settings["stride1"],
    )
    return {"out": layer(case.inputs["a"], case.inputs["b"])}


def _run_resample(case: Case) -> Result:
    if case.config["kernel_size"] != 1 or not case.config["bilinear"]:
        raise CaseError("the networks resample bilinearly with kernel size 1 only")
    flow = _edited(case.inputs["flow"], case.config.get("flow_edit", ""), axis=2)
    return {"out": resample(case.inputs["img"], flow)}


def _run_channel_norm(case: Case) -> Result:
    if case.config["norm_deg"] != 2:
        raise CaseError("the published layer knows norm_deg 2 only")
    return {"out": channel_norm(_edited(case.inputs["x"], case.config.get("edit", ""), axis=2))}


def _run_colours(case: Case) -> Result:
    common, _, unknown = case.config.get("edit", "").partition("for image_unknown")
    flow = _edited(case.inputs["flow"], common, axis=0)
    marked = flow.clone()
    for row, column, value in re.findall(r"flow\[(\d+), *(\d+)\] *= *([\d.e+-]+)", unknown):
        marked[int(row), int(column)] = float(value)
    return {
        "image": flow_colours(flow.permute(2, 0, 1).numpy()),
        "image_unknown": flow_colours(marked.permute(2, 0, 1).numpy()),
    }


_EDIT = re.compile(
    r"rows? (\d+)(?:\.\.(\d+))?(?: of the \w+| of \w+)? (?:is |are )?"
    r"(?:(rounded)|set to ([\d.e+-]+)|multiplied by ([\d.e+-]+))"
)


def _edited(x: Tensor, text: str, *, axis: int) -> Tensor:
    """The input after the edits of its rows that a case describes in words.

    Such as "row 0 is rounded, rows 1..2 set to 0, row 3 multiplied by 1000"; ends are included.
    """
    edits = list(_EDIT.finditer(text))
    if len(edits) != len(re.findall(r"\brows? \d", text)):
        raise CaseError(f"not all edits are understood: {text}")
    values = np.moveaxis(x.numpy().copy(), axis, 0)
    for edit in edits:
        first, last, is_rounded, value, factor = edit.groups()
        rows = slice(int(first), int(last or first) + 1)
        if is_rounded:
            values[rows] = np.round(values[rows])
        elif value is not None:
            values[rows] = float(value)
        else:
            values[rows] *= float(factor)
    return torch.from_numpy(np.moveaxis(values, 0, axis).copy())


ADAPTERS: dict[str, Adapter] = {
    "FlownetPipeline": _run_stored_flow,
    "FlowNet2": _run_network,
    "Correlation layer": _run_correlation,
    "Resample2d layer": _run_resample,
    "ChannelNorm layer": _run_channel_norm,
    "flow2img": _run_colours,
}
