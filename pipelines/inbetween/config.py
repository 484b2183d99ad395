"""Settings of the inbetween family; the defaults are the published values (completion, G)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipelines.engines.config import Engine, Parts, Shard
from pipelines.schema import (
    AbsolutePath,
    Config,
    DataConfig,
    LogConfig,
    OptimizerConfig,
    TrainConfig,
)

Stage = Literal["1"]
GROUP_FRAMES = (4, 8, 16)
NUM_FRAMES = GROUP_FRAMES[-1]
NUM_INNER_FRAMES = NUM_FRAMES - 2
SMALLEST_STEP_PX = 16
"""Sizes are multiples of it: the discriminators halve the image so many times."""


class NetworkConfig(Config):
    """All networks."""

    num_channels: int = Field(3, ge=1, le=3, description="1: grey")
    encoder_channels: tuple[int, int, int] = (64, 128, 256)
    latent_channels: int = Field(64, ge=1)
    layers_per_group: int = Field(
        8,
        ge=1,
        le=64,
        description="latent layers of each of the 3 temporal resolutions",
    )
    noise_size: int = Field(128, ge=1)
    generator_channels: tuple[int, int, int] = (256, 128, 64)
    discriminator_channels: tuple[int, int, int, int] = (64, 128, 256, 512)
    mixes_ends: bool = Field(
        False,
        description="a pixel is a mixture of the first image's, the last image's and one of the "
        "generator's own, which also chooses the shares: not in the paper, learns far sooner",
    )
    is_midnet: bool = Field(
        False,
        description="exactly as the unofficial TensorFlow code: statistics of the batch also at "
        "test time, batch norm and leaky ReLU on the output, end frames not put back",
    )

    @model_validator(mode="after")
    def _midnet_has_no_mixture(self) -> NetworkConfig:
        if self.is_midnet and self.mixes_ends:
            raise ValueError("is_midnet and mixes_ends are two ways to make a pixel")
        return self


class LossConfig(Config):
    """Weights (G.5)."""

    weight_image: float = Field(1.0, ge=0, description="pixels and their differences (alpha)")
    weight_edges: float = Field(1.0, ge=0, description="of the differences, beside the pixels")
    weight_gan: float = Field(0.02, ge=0, description="both discriminators (beta); 0: none at all")
    adversarial: Literal["cross-entropy", "hinge"] = "cross-entropy"
    has_update_gate: bool = Field(
        True, description="a side that is far ahead pauses (MCNet); with cross-entropy only"
    )


class FamilyConfig(Config):
    """Everything that decides an inbetween model."""

    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig(save_every=1000)
    log: LogConfig = LogConfig()
    size_px: int = Field(
        64, ge=32, le=512, multiple_of=SMALLEST_STEP_PX, description="height and width"
    )
    frame_step: int = Field(1, ge=1, le=16, description="stored frames from one to the next")
    clips_per_video: int = Field(1, ge=1, description="times each video occurs in an epoch")
    horizontal_flip: float = Field(0.5, ge=0, le=1, description="probability")
    network: NetworkConfig = NetworkConfig()
    losses: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-4, beta1=0.5)
    last_rate: float = Field(
        1.0, gt=0, le=1, description="of the first learning rate: where a half cosine ends"
    )
    batch_size: int = Field(32, ge=1)
    steps: int = Field(30_000, ge=1, description="updates in all")

    @model_validator(mode="after")
    def _gate_fits(self) -> FamilyConfig:
        losses = self.losses
        if losses.adversarial == "hinge" and losses.has_update_gate and losses.weight_gan:
            raise ValueError("losses.has_update_gate needs losses.adversarial=cross-entropy")
        return self


class TrainRequest(Config):
    """`i2v train inbetween`."""

    config: FamilyConfig
    stage: Stage = "1"
    data_root: AbsolutePath
    run_dir: AbsolutePath
    init_run: AbsolutePath | None = Field(None, description="start from these weights")
    max_steps: int | None = Field(None, ge=1, description="stop after so many steps in all")


class SampleRequest(Config):
    """`i2v sample inbetween`."""

    run_dir: AbsolutePath
    start: AbsolutePath = Field(description="image of the first frame")
    end: AbsolutePath = Field(description="image of the last frame")
    out_dir: AbsolutePath
    num: int = Field(3, ge=1, le=256, description="different videos")
    frames: int = Field(
        NUM_INNER_FRAMES,
        ge=NUM_INNER_FRAMES,
        le=NUM_INNER_FRAMES,
        description="frames between the two; the networks make no other number",
    )
    fps: float = Field(8.0, gt=0, le=120)
    seed: int = Field(0, ge=0)
    device: str = "auto"
    engine: Engine = Field("local", description="what spreads the videos: local, ray or slurm")
    parts: Parts = 8
    shard: Shard | None = Field(
        None, description="i/n: only every n-th video, from number i; a last call finishes"
    )


class HubRequest(Config):
    """`i2v sample inbetween --backend tfhub`: a pretrained TensorFlow module."""

    module: str = Field(
        "bair", min_length=1, description="bair, kth, or the folder of another saved model"
    )
    data_root: AbsolutePath = Field(description="where downloaded weights lie")
    start: AbsolutePath = Field(description="image of the first frame")
    end: AbsolutePath = Field(description="image of the last frame")
    out_dir: AbsolutePath
    num: int = Field(1, ge=1, le=256, description="videos; they differ if the module draws noise")
    frames: int = Field(NUM_INNER_FRAMES, ge=NUM_INNER_FRAMES, le=NUM_INNER_FRAMES)
    fps: float = Field(8.0, gt=0, le=120)
    seed: int = Field(0, ge=0, description="of TensorFlow's random numbers")


FIXED_SETTINGS: dict[Stage, tuple[str, ...]] = {
    "1": (
        *("config.data.*", "config.train.seed", "config.size_px", "config.frame_step"),
        *("config.clips_per_video", "config.network.*", "config.losses.*", "config.batch_size"),
    )
}
"""Settings of a train request that a continued training must keep ..."""
FREE_SETTINGS = ("config.losses.weight_image", "config.losses.weight_edges")
"""... but for these, which only decide how it goes on."""
