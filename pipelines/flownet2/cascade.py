"""The published variants of FlowNet2: single networks and cascades of them (spec: flow, 2 and 3).

A pair, as the networks take it, is B 6 H W: two RGB frames after `normalise`, first the first, H
and W multiples of 64. What leaves is flow in pixels, B 2 H W, float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.flownet2.config import NETWORKS
from pipelines.flownet2.networks import (
    FINEST,
    FlowNetC,
    FlowNetFusion,
    FlowNetS,
    FlowNetSD,
    Maps,
)
from pipelines.flownet2.warping import brightness_error, channel_norm

FLOW_UNIT_PX = 20.0
"""Pixels in one unit of flow inside the networks."""

_CASCADE_CHANNELS = 12  # two frames, the warped one, flow, brightness error


def normalise(frames: Tensor, *, value_max: float = 1.0, mean: Tensor | None = None) -> Tensor:
    """A pair from two frames: less the colours' means over both, scaled to a range of 1.

    frames: B 3 2 H W (colour, then first or second), 0..value_max.
    mean: B 3 or 1 3, taken instead of the pair's own means.  Returns B 6 H W.
    """
    if mean is None:
        mean = frames.mean(dim=(2, 3, 4))
    centred = (frames - mean[:, :, None, None, None]) / value_max
    return centred.transpose(1, 2).flatten(1, 2)


class SingleNetwork(nn.Module):
    """FlowNet2-C, -S or -SD."""

    def __init__(
        self, network: FlowNetC | FlowNetS | FlowNetSD, *, flow_unit_px: float = FLOW_UNIT_PX
    ) -> None:
        super().__init__()
        self.network = network
        self.flow_unit_px = flow_unit_px

    @property
    def matcher(self) -> FlowNetC | None:
        """The network whose features of a frame serve every pair the frame is in."""
        return self.network if isinstance(self.network, FlowNetC) else None

    def forward(self, pair: Tensor, matched: Maps | None = None) -> Tensor:
        """pair: B 6 H W.  matched: what `matcher` made of it, if that is known already."""
        flows = self.network(pair) if matched is None else matched
        return _bilinear(flows[FINEST].float() * self.flow_unit_px)


class Cascade(nn.Module):
    """FlowNet2-CS, -CSS, or all of FlowNet2."""

    def __init__(
        self, *, has_second: bool, has_fusion: bool, flow_unit_px: float = FLOW_UNIT_PX
    ) -> None:
        super().__init__()
        self.flow_unit_px = flow_unit_px
        self.c = FlowNetC()
        self.s1 = FlowNetS(_CASCADE_CHANNELS)
        self.s2 = FlowNetS(_CASCADE_CHANNELS) if has_second else None
        self.sd = FlowNetSD() if has_fusion else None
        self.fusion = FlowNetFusion() if has_fusion else None

    @property
    def matcher(self) -> FlowNetC:
        """The network whose features of a frame serve every pair the frame is in."""
        return self.c

    def forward(self, pair: Tensor, matched: Maps | None = None) -> Tensor:
        """pair: B 6 H W.  matched: what `matcher` made of it, if that is known already."""
        unit = self.flow_unit_px
        flows = self.c(pair) if matched is None else matched
        flow = _bilinear(flows[FINEST].float() * unit)
        flow = _bilinear(self.s1(_with_flow(pair, flow, unit))[FINEST].float() * unit)
        if self.s2 is not None:
            flow = _nearest(self.s2(_with_flow(pair, flow, unit))[FINEST].float() * unit)
        if self.sd is not None and self.fusion is not None:
            # Divided, where all others multiply: so it was trained.
            small = _nearest(self.sd(pair)[FINEST].float() / unit)
            flow = self.fusion(_with_both_flows(pair, small, flow)).float()
        return flow


def build(network: str, *, flow_unit_px: float = FLOW_UNIT_PX) -> SingleNetwork | Cascade:
    """The network of a variant, by its name in config.NETWORKS."""
    parts = NETWORKS[network].parts
    if NETWORKS[network].is_cascade:
        return Cascade(
            has_second="s2" in parts, has_fusion="fusion" in parts, flow_unit_px=flow_unit_px
        )
    makers: dict[str, type[FlowNetC | FlowNetS | FlowNetSD]]
    makers = {"c": FlowNetC, "s": FlowNetS, "sd": FlowNetSD}
    return SingleNetwork(makers[parts[0]](), flow_unit_px=flow_unit_px)


def _bilinear(flow: Tensor) -> Tensor:
    """Full resolution from a quarter of it."""
    return F.interpolate(flow, scale_factor=4, mode="bilinear", align_corners=False)


def _nearest(flow: Tensor) -> Tensor:
    """Full resolution from a quarter of it."""
    return F.interpolate(flow, scale_factor=4, mode="nearest")


def _with_flow(pair: Tensor, flow: Tensor, unit: float) -> Tensor:
    """B 12 H W: the pair, the second frame warped back, the flow, and where the warp is wrong."""
    first, second = pair.chunk(2, dim=1)
    warped, error = brightness_error(first, second, flow)
    return torch.cat((pair, warped, flow / unit, error), dim=1)


def _with_both_flows(pair: Tensor, small: Tensor, large: Tensor) -> Tensor:
    """B 11 H W: the first frame, both flows, their lengths, and where each is wrong."""
    first, second = pair.chunk(2, dim=1)
    errors = [brightness_error(first, second, flow)[1] for flow in (small, large)]
    return torch.cat(
        (first, small, large, channel_norm(small), channel_norm(large), *errors), dim=1
    )
