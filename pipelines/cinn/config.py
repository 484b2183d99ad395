"""Settings of the cinn family; the defaults are the published values (specs: cinn, section 7)."""

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

Stage = Literal["1", "ae", "2"]
Score = Literal["none", "fvd", "dtfvd", "frechet-embedded"]


class AugmentConfig(Config):
    """Colour jitter and flip, one draw per clip."""

    brightness: float = Field(
        0.1, ge=0, le=1, description="largest amount added, of the range 0..1"
    )
    contrast: float = Field(0.1, ge=0, le=1, description="factor from 1-c to 1+c")
    saturation: float = Field(0.1, ge=0, le=1, description="factor from 1-s to 1+s")
    hue: float = Field(0.0, ge=0, le=0.5, description="shift in turns, from -h to h")
    horizontal_flip: float = Field(0.5, ge=0, le=1, description="probability")
    crop_margin_px: int = Field(0, ge=0, description="resize to size + margin, then crop to size")


class Stage1Config(Config):
    """Video autoencoder: encoder, decoder, two discriminators, losses (section 3.1)."""

    size_px: int = Field(64, ge=16, multiple_of=16, description="height and width of the video")
    num_frames: int = Field(16, ge=1, le=16, description="frames after the start frame")
    code_size: int = Field(64, ge=2, description="numbers that describe a clip's motion")
    encoder_channels: tuple[int, int, int, int, int] = (64, 128, 256, 512, 512)
    encoder_stride_space: tuple[int, int, int, int] = (1, 2, 2, 2)
    encoder_stride_time: tuple[int, int, int, int] = (1, 2, 2, 2)
    decoder_width: int = Field(64, ge=1, description="channels of the last block (channel_factor)")
    decoder_upsample_space: tuple[int, int] = (2, 1)
    decoder_upsample_time: tuple[int, int] = (2, 1)
    spade_channels: int = Field(128, ge=1, description="hidden channels of the start frame's maps")
    temporal_channels: tuple[int, int, int, int, int] = (64, 64, 128, 256, 512)
    temporal_stride_space: tuple[int, int, int, int] = (1, 1, 2, 2)
    temporal_window: int = Field(12, ge=1, description="frames the temporal discriminator sees")
    patch_width: int = Field(64, ge=1, description="first channels of the patch discriminator")
    patch_frames: int = Field(20, ge=1, description="frames the patch discriminator sees per step")
    perceptual_frames: int | None = Field(
        None, ge=1, description="frames the perceptual loss compares per step; all, as published"
    )
    weight_perceptual: float = Field(30.0, ge=0)
    weight_reconstruction: float = Field(10.0, ge=0)
    weight_kl: float = Field(1e-5, ge=0)
    weight_gan_temporal: float = Field(1.0, ge=0)
    weight_feature_matching: float = Field(10.0, ge=0)
    weight_gradient_penalty: float = Field(10.0, ge=0)
    warmup_epochs: int = Field(1, ge=0, description="epochs without adversarial terms")
    optimizer: OptimizerConfig = OptimizerConfig(beta1=0.5, beta2=0.9, weight_decay=1e-5)
    learning_rate_decay: float = Field(0.98, gt=0, le=1, description="factor per epoch")
    batch_size: int = Field(10, ge=1)
    epochs: int = Field(55, ge=1)
    clips_per_video: int = Field(1, ge=1, description="times each video occurs in an epoch")
    augment: AugmentConfig = AugmentConfig()
    score: Score = Field(
        "none",
        description="metric of held-out videos whose smallest value names the best checkpoint",
    )


class AutoencoderConfig(Config):
    """Image autoencoder; its encoder gives the condition of the flow (section 3.2)."""

    embedding_size: int = Field(64, ge=2)
    norm: Literal["instance", "batch"] = "instance"
    encoder_width: int = Field(64, ge=4, description="first channels of the ResNet-50")
    decoder_width: int = Field(96, ge=1, description="last channels of the BigGAN decoder")
    class_hidden: int = Field(2000, ge=1, description="hidden width of the code-to-class network")
    patch_width: int = Field(64, ge=1)
    weight_kl: float = Field(1e-5, ge=0)
    warmup_epochs: int = Field(20, ge=0, description="epochs without the adversarial term")
    optimizer: OptimizerConfig = OptimizerConfig()
    plateau_factor: float = Field(0.5, gt=0, lt=1)
    plateau_patience: int = Field(1, ge=0, description="epochs")
    batch_size: int = Field(30, ge=1)
    epochs: int = Field(60, ge=1)
    images_per_video: int = Field(1, ge=1, description="times each video occurs in an epoch")
    augment: AugmentConfig = AugmentConfig(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1)


class FlowConfig(Config):
    """Conditional flow between motion codes and residuals (section 3.3)."""

    num_flows: int = Field(20, ge=1, description="coupling blocks")
    hidden_depth: int = Field(2, ge=0)
    hidden_width: int = Field(512, ge=1)
    is_controlled: bool = Field(False, description="condition on the end position of the arm too")
    endpoint_array: str = Field(
        "endeffector_pos", description="per-frame array with the arm's position, each axis in 0..1"
    )
    endpoint_in_image: bool = Field(
        False, description="whether its first two axes are column and row in the frame"
    )
    allow_other_data: bool = Field(
        False, description="build on stages that were trained on other data"
    )
    optimizer: OptimizerConfig = OptimizerConfig(
        learning_rate=1e-5, beta1=0.9, beta2=0.99, amsgrad=True
    )
    decay_every_epochs: int = Field(7, ge=1)
    decay_factor: float = Field(0.5, gt=0, le=1)
    batch_size: int = Field(50, ge=1)
    epochs: int = Field(31, ge=1)
    clips_per_video: int = Field(1, ge=1)
    augment: AugmentConfig = AugmentConfig()
    score: Score = Field(
        "none",
        description="metric of held-out videos whose smallest value names the best checkpoint",
    )


class PerceptualConfig(Config):
    """The network that the perceptual loss looks through."""

    backbone: Literal["vgg16", "efficientnet-lite0"] = Field(
        "vgg16", description="vgg16: LPIPS as published (downloaded); the other ships in a package"
    )


class FamilyConfig(Config):
    """Everything that decides a cinn model, all stages."""

    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    log: LogConfig = LogConfig()
    perceptual: PerceptualConfig = PerceptualConfig()
    stage1: Stage1Config = Stage1Config()
    ae: AutoencoderConfig = AutoencoderConfig()
    stage2: FlowConfig = FlowConfig()

    @model_validator(mode="after")
    def _window_fits(self) -> FamilyConfig:
        if self.stage1.temporal_window > self.stage1.num_frames:
            raise ValueError(
                "stage1.temporal_window must not exceed stage1.num_frames "
                f"({self.stage1.temporal_window} > {self.stage1.num_frames})"
            )
        return self


class TrainRequest(Config):
    """`i2v train cinn`."""

    config: FamilyConfig
    stage: Stage
    data_root: AbsolutePath
    run_dir: AbsolutePath
    stage1_run: AbsolutePath | None = Field(None, description="stage 2 only")
    ae_run: AbsolutePath | None = Field(None, description="stage 2 only")
    init_run: AbsolutePath | None = Field(None, description="start from these weights")
    max_steps: int | None = Field(None, ge=1, description="stop after so many steps in all")


class SampleRequest(Config):
    """`i2v sample cinn`."""

    run_dir: AbsolutePath
    images: tuple[AbsolutePath, ...] = Field(min_length=1)
    out_dir: AbsolutePath
    num: int = Field(6, ge=1, le=256, description="different videos per image")
    frames: int = Field(16, ge=1, le=1024, description="frames per video")
    fps: float = Field(8.0, gt=0, le=120)
    seed: int = Field(0, ge=0)
    temperature: float = Field(1.0, ge=0, le=10, description="scale of the residual")
    endpoint: tuple[float, ...] | None = Field(
        None, min_length=2, max_length=3, description="where the arm shall end: x, y or x, y, z"
    )
    endpoint_unit: Literal["fraction", "px"] = "fraction"
    device: str = "auto"
    engine: Engine = Field("local", description="what spreads the videos: local, ray or slurm")
    parts: Parts = 8
    shard: Shard | None = Field(
        None, description="i/n: only every n-th video, from number i; a last call finishes"
    )


class TransferRequest(Config):
    """`i2v transfer cinn`."""

    run_dir: AbsolutePath
    source: AbsolutePath = Field(description="video, or folder of frames, whose motion is taken")
    images: tuple[AbsolutePath, ...] = Field(min_length=1)
    out_dir: AbsolutePath
    frames: int = Field(16, ge=1, le=1024)
    fps: float = Field(8.0, gt=0, le=120)
    device: str = "auto"


class EvaluateRequest(Config):
    """Held-out reconstruction, samples and their numbers for a finished stage 2."""

    run_dir: AbsolutePath
    data_root: AbsolutePath
    out_dir: AbsolutePath
    clips: int = Field(16, ge=2, le=4096, description="held-out start frames")
    num: int = Field(5, ge=2, le=64, description="samples per start frame")
    seed: int = Field(0, ge=0)
    device: str = "auto"


_MODEL = ("config.data.*", "config.train.seed", "config.perceptual.*", "config.stage1.size_px")
FIXED_SETTINGS: dict[Stage, tuple[str, ...]] = {
    "1": (*_MODEL, "config.stage1.*"),
    "ae": (*_MODEL, "config.ae.*"),
    "2": (*_MODEL, "config.stage1.*", "config.ae.*", "config.stage2.*"),
}
"""Settings of a train request that a continued training of a stage must keep ..."""
FREE_SETTINGS = (
    *("*.epochs", "*.optimizer.*", "*.weight_*", "*_decay", "*.decay_*", "*.plateau_*"),
    *("*.score", "*.allow_other_data"),
)
"""... but for these, which only decide how it goes on."""
