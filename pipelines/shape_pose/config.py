"""Settings of the shape-pose family; the defaults are those for Human3.6M (spec: behavior, 2.4)."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from pipelines.schema import Config

NUM_LATENT_SCALES = 2


class NetworkConfig(Config):
    """Sizes that both networks share."""

    size_px: int = Field(256, ge=16, description="of the stick figure and of the image made")
    appearance_channels: int = Field(3, ge=1, description="3: an image; 30: crops of ten parts")
    width: int = Field(32, ge=1, description="channels at full size")
    max_width: int = Field(128, ge=1)
    bottleneck_factor: int = Field(2, ge=0, description="scales left out at the small end")
    box_factor: int = Field(2, ge=0, description="scales fewer for part crops")
    convolution: Literal["l1", "l2"] = Field("l1", description="which weights are normalised how")

    @property
    def num_scales(self) -> int:
        """Resolutions of the stick figure."""
        return 1 + round(math.log2(self.size_px)) - self.bottleneck_factor

    @property
    def num_appearance_scales(self) -> int:
        """Resolutions of the appearance input."""
        return self.num_scales - (self.box_factor if self.appearance_channels > 3 else 0)
