"""The published variants of FlowNet2 and how they are run. Light: no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Network = Literal[
    "flownet2", "flownet2-c", "flownet2-s", "flownet2-sd", "flownet2-cs", "flownet2-css"
]
Precision = Literal["float32", "float16", "bfloat16"]

SIZE_MULTIPLE_PX = 64
"""Sides are multiples of this inside the networks, which halve their input six times."""


@dataclass(frozen=True)
class Variant:
    """One published variant.

    title: its name in the paper.  weights_file: name of the published file.
    parts: its networks in the order they run, as their entries are called in our state dict.
    """

    title: str
    weights_file: str
    parts: tuple[str, ...]

    @property
    def is_cascade(self) -> bool:
        """Whether several networks follow each other, all but the first on warped images."""
        return len(self.parts) > 1


NETWORKS: dict[str, Variant] = {
    "flownet2": Variant(
        "FlowNet2", "FlowNet2_checkpoint.pth.tar", ("c", "s1", "s2", "sd", "fusion")
    ),
    "flownet2-c": Variant("FlowNet2-C", "FlowNet2-C_checkpoint.pth.tar", ("c",)),
    "flownet2-s": Variant("FlowNet2-S", "FlowNet2-S_checkpoint.pth.tar", ("s",)),
    "flownet2-sd": Variant("FlowNet2-SD", "FlowNet2-SD_checkpoint.pth.tar", ("sd",)),
    "flownet2-cs": Variant("FlowNet2-CS", "FlowNet2-CS_checkpoint.pth.tar", ("c", "s1")),
    "flownet2-css": Variant("FlowNet2-CSS", "FlowNet2-CSS_checkpoint.pth.tar", ("c", "s1", "s2")),
}
"""The variants by the name that `i2v download weights/NAME` knows them by."""
