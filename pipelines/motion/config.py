"""Settings of the motion family; the defaults are the published values (spec: completion, H)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

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
Kind = Literal["wgan", "autoregressive", "linear"]


class WganConfig(Config):
    """Adversarial motion model (H.2)."""

    noise_size: int = Field(40, ge=1, description="random numbers per frame")
    encoded_size: int = Field(40, ge=1, description="numbers an end frame is encoded to")
    hidden_size: int = Field(256, ge=1)
    objective: Literal["penalty", "clip"] = Field(
        "penalty", description="what bounds the critic; clip: as published, with RMSprop"
    )
    weight_gradient_penalty: float = Field(10.0, ge=0)
    clip: float = Field(0.01, gt=0, description="largest critic weight, with objective clip")
    critic_steps: int = Field(5, ge=1, description="updates of the critic for one of the generator")
    weight_reconstruction: float = Field(
        0.0, ge=0, description="squared distance to the true motion, beside what the critic says"
    )


class AutoregressiveConfig(Config):
    """Frame-by-frame motion model (H.3)."""

    hidden_size: int = Field(256, ge=1)
    is_as_published: bool = Field(
        False,
        description="learns the last frame alone, runs backwards with what it learnt forwards, and "
        "joins both runs with the published gap",
    )
    fade_frames: int = Field(
        4, ge=0, le=64, description="over which the two runs are mixed where they are joined"
    )


class FamilyConfig(Config):
    """Everything that decides a motion model."""

    kind: Kind = "wgan"
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig(save_every=1000, log_every=50)
    log: LogConfig = LogConfig()
    num_frames: int = Field(16, ge=3, le=256, description="frames of a clip, both ends included")
    frame_step: int = Field(1, ge=1, le=16, description="stored frames from one to the next")
    wgan: WganConfig = WganConfig()
    autoregressive: AutoregressiveConfig = AutoregressiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-4, beta1=0.0, beta2=0.9)
    batch_size: int = Field(8, ge=1)
    steps: int = Field(20_000, ge=1, description="updates in all; linear has nothing to learn")


class TrainRequest(Config):
    """`i2v train motion`."""

    config: FamilyConfig
    stage: Stage = "1"
    data_root: AbsolutePath
    run_dir: AbsolutePath
    fomm_run: AbsolutePath | None = Field(
        None, description="trained fomm that finds the keypoints and will render"
    )
    keypoints: AbsolutePath | None = Field(
        None, description="folder of keypoints that this fomm found before"
    )
    init_run: AbsolutePath | None = Field(None, description="start from these weights")
    max_steps: int | None = Field(None, ge=1, description="stop after so many steps in all")


class SampleRequest(Config):
    """`i2v sample motion`."""

    run_dir: AbsolutePath
    start: AbsolutePath = Field(description="image of the first frame")
    end: AbsolutePath = Field(description="image of the last frame")
    out_dir: AbsolutePath
    num: int = Field(3, ge=1, le=256, description="different videos")
    frames: int | None = Field(
        None, ge=1, le=1024, description="frames between the two; as many as in training"
    )
    fps: float = Field(8.0, gt=0, le=120)
    seed: int = Field(0, ge=0)
    device: str = "auto"
    engine: Engine = Field("local", description="what spreads the videos: local, ray or slurm")
    parts: Parts = 8
    shard: Shard | None = Field(
        None, description="i/n: only every n-th video, from number i; a last call finishes"
    )


class CompareRequest(Config):
    """`i2v compare`: what several models put between the ends of the same held-out clips."""

    runs: tuple[AbsolutePath, ...] = Field(
        min_length=1, max_length=8, description="of inbetween and motion, trained on the same data"
    )
    data_root: AbsolutePath
    out_dir: AbsolutePath
    split: Literal["train", "val", "test"] = "test"
    clips: int = Field(8, ge=1, le=1000, description="at most so many")
    num: int = Field(2, ge=1, le=32, description="videos of each clip, where a model draws noise")
    seed: int = Field(0, ge=0)
    device: str = "auto"


FIXED_SETTINGS: dict[Stage, tuple[str, ...]] = {
    "1": (
        *("config.kind", "config.data.*", "config.train.seed", "config.num_frames"),
        *("config.frame_step", "config.wgan.*", "config.autoregressive.*", "config.batch_size"),
    )
}
"""Settings of a train request that a continued training must keep ..."""
FREE_SETTINGS = (
    *("config.wgan.weight_*", "config.autoregressive.fade_frames", "config.optimizer.*"),
)
"""... but for these, which only decide how it goes on."""
