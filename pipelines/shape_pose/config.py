"""Settings of the shape-pose family; the defaults are those for Human3.6M (spec: behavior, 2.4,
3.3, 7). Settings keep their published meaning; where the published name says nothing it is in
brackets.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from pipelines.behavior.config import KlControlConfig
from pipelines.schema import (
    AbsolutePath,
    Config,
    DataConfig,
    LogConfig,
    OptimizerConfig,
    TrainConfig,
)

NUM_LATENT_SCALES = 2
NUM_PARTS = 10
"""Parts of a person that are cut out, three channels each."""

Stage = Literal["1"]
JointsName = Literal["joints_h36m", "joints_deepfashion", "joints_market", "joints"]


class NetworkConfig(Config):
    """Sizes that both networks share."""

    size_px: int = Field(256, ge=16, description="of the stick figure and of the image made")
    appearance_channels: int = Field(
        3, ge=1, description="3: an image; 30: crops of ten parts (inplane_normalize)"
    )
    width: int = Field(32, ge=1, description="channels at full size (nf_start)")
    max_width: int = Field(128, ge=1, description="most channels (nf_max)")
    bottleneck_factor: int = Field(2, ge=0, description="scales left out at the small end")
    box_factor: int = Field(2, ge=0, description="scales fewer for part crops")
    convolution: Literal["l1", "l2", "instance"] = Field(
        "l1",
        description="of most layers: weights normalised with a magnitude of their own; or without, "
        "begun by looking at data; or plain, with instance norm (conv_layer_type)",
    )

    has_subpixel_upsampling: bool = Field(
        True, description="larger images by sub-pixels, or by interpolation (subpixel_upsampling)"
    )

    @property
    def num_scales(self) -> int:
        """Resolutions of the stick figure."""
        return 1 + round(math.log2(self.size_px)) - self.bottleneck_factor

    @property
    def num_appearance_scales(self) -> int:
        """Resolutions of the appearance input."""
        return self.num_scales - (self.box_factor if self.appearance_channels > 3 else 0)

    @property
    def part_px(self) -> int | None:
        """Height and width of a part's crop; None where the appearance is the image itself."""
        return self.size_px // 2**self.box_factor if self.appearance_channels > 3 else None

    @property
    def code_sizes_px(self) -> tuple[int, int]:
        """Height and width of the codes, fine first."""
        coarse = self.size_px >> (self.num_scales - 1)
        return 2 * coarse, coarse


class PeopleConfig(Config):
    """Whose pictures are learned, and how they are drawn for a batch."""

    joints: JointsName = Field("joints_h36m", description="per-frame array with the joints")
    sampling: Literal["person", "uniform", "once"] = Field(
        "person",
        description="every person as often as another; or frames with replacement; or "
        "each frame once in an epoch",
    )
    split: Literal["prepared", "actions", "actions-apart"] = Field(
        "prepared",
        description="that of the data; or by Human3.6M's actions, as published, where "
        "the test actions are trained on too; or without those",
    )


class PerceptualConfig(Config):
    """The network that the likelihood looks through."""

    backbone: Literal["vgg19", "efficientnet-lite0"] = Field(
        "vgg19", description="vgg19: as published (downloaded); the other ships in a package"
    )
    pixel_weight: float = Field(
        3.0, ge=0, description="of the pixels beside efficientnet-lite0's maps"
    )


class RegressorConfig(Config):
    """The regressor that tries to tell the posture from appearance codes (3.3)."""

    weight: float = Field(4.0, ge=0, description="of its error, which the net shall raise")
    bound: float = Field(1.2, ge=0, description="an error above it counts no more")
    num_images: int = Field(5, ge=1, description="images of each step, one update each (reg_steps)")
    learning_rate: float = Field(1e-3, gt=0)
    trains_net: bool = Field(
        False, description="the error reaches the net; as published it only shifts the number"
    )


class FamilyConfig(Config):
    """Everything that decides a shape-pose model."""

    kind: Literal["shape-pose", "vunet"] = Field("shape-pose", description="vunet: the baseline")
    data: DataConfig = DataConfig(dataset="h36m")
    people: PeopleConfig = PeopleConfig()
    train: TrainConfig = TrainConfig(save_every=1000, keep=10)
    log: LogConfig = LogConfig()
    network: NetworkConfig = NetworkConfig()
    perceptual: PerceptualConfig = PerceptualConfig()
    weight_likelihood: float = Field(1.0, ge=0, description="ll_weight")
    kl: KlControlConfig = KlControlConfig(largest_information=1000.0)
    kl_first: float = Field(1e-6, ge=0, description="baseline: weight in the first half (kl_init)")
    kl_last: float = Field(1.0, ge=0, description="baseline: weight in the last quarter (kl_max)")
    steps_without_kl: int = Field(
        4,
        ge=0,
        description="first steps, in which l2 convolutions also look at the data (n_init_batches)",
    )
    regressor: RegressorConfig | None = RegressorConfig()
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=5e-4, beta1=0.5, beta2=0.9)
    batch_size: int = Field(12, ge=1)
    steps: int = Field(150_000, ge=1, description="in all (end_iteration)")
    score: Literal["none", "ssim"] = Field(
        "none", description="ssim: the checkpoint that shows held-out people best is the best"
    )

    @model_validator(mode="after")
    def _fits(self) -> FamilyConfig:
        network = self.network
        if network.num_appearance_scales < NUM_LATENT_SCALES:
            raise ValueError("network.size_px is too small for its bottleneck and box factors")
        if network.appearance_channels not in (3, 3 * NUM_PARTS):
            raise ValueError("network.appearance_channels must be 3 or 30")
        if network.appearance_channels > 3 and self.people.joints in ("joints_h36m", "joints"):
            raise ValueError(f"parts are not cut out by {self.people.joints}: 3 channels")
        return self


class TrainRequest(Config):
    """`i2v train shape-pose`."""

    config: FamilyConfig
    stage: Stage = "1"
    data_root: AbsolutePath
    run_dir: AbsolutePath
    init_run: AbsolutePath | None = Field(None, description="start from these weights")
    max_steps: int | None = Field(None, ge=1, description="stop after so many steps in all")


FIXED_SETTINGS: dict[Stage, tuple[str, ...]] = {
    "1": (
        *("config.kind", "config.data.*", "config.people.*", "config.train.seed"),
        *("config.network.*", "config.perceptual.*", "config.regressor.num_images"),
        "config.batch_size",
    )
}
"""Settings of a train request that a continued training must keep ..."""
FREE_SETTINGS: tuple[str, ...] = ("config.perceptual.pixel_weight",)
"""... but for these, which only decide how it goes on."""
