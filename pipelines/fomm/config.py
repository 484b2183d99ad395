"""Settings of the fomm family; the defaults are those most published configurations share (F)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipelines.schema import (
    AbsolutePath,
    Config,
    DataConfig,
    LogConfig,
    OptimizerConfig,
    TrainConfig,
)

Stage = Literal["1"]
Scale = float
_SMALLEST_PX = 16  # of the image pyramid: the feature networks halve it four times


class HourglassConfig(Config):
    """Size of an hourglass network."""

    block_expansion: int = Field(64, ge=1, description="channels at full size")
    num_blocks: int = Field(5, ge=1, le=8, description="times that it halves the size")
    max_features: int = Field(1024, ge=1)
    scale_factor: Scale = Field(0.25, gt=0, le=1, description="size it works at, over the image's")


class KeypointConfig(HourglassConfig):
    """Keypoint detector."""

    block_expansion: int = Field(32, ge=1, description="channels at full size")
    temperature: float = Field(0.1, gt=0, description="of the softmax over positions")
    has_jacobian: bool = True
    has_single_jacobian_map: bool = Field(False, description="one map for all keypoints (mgif)")


class DenseMotionConfig(HourglassConfig):
    """Dense motion network."""


class GeneratorConfig(Config):
    """Occlusion-aware generator."""

    block_expansion: int = Field(64, ge=1)
    max_features: int = Field(512, ge=1)
    num_down_blocks: int = Field(2, ge=0)
    num_bottleneck_blocks: int = Field(6, ge=0)
    has_occlusion_map: bool = True
    dense_motion: DenseMotionConfig = DenseMotionConfig()


class DiscriminatorConfig(Config):
    """Patch discriminators, one per scale."""

    scales: tuple[Scale, ...] = (1.0,)
    block_expansion: int = Field(32, ge=1)
    max_features: int = Field(512, ge=1)
    num_blocks: int = Field(4, ge=1)
    sees_keypoints: bool = Field(False, description="Gaussians of the keypoints beside the image")
    has_spectral_norm: bool = False


class TransformConfig(Config):
    """The random warp under which keypoints must be equivariant (C)."""

    sigma_affine: float = Field(0.05, ge=0)
    sigma_tps: float = Field(0.005, ge=0, description="of the thin-plate part")
    points_tps: int = Field(5, ge=2, description="control points along each side")


class LossConfig(Config):
    """Weights of the losses (C)."""

    scales: tuple[Scale, ...] = Field((1.0, 0.5, 0.25, 0.125), description="of the image pyramid")
    perceptual: tuple[float, ...] = (10.0, 10.0, 10.0, 10.0, 10.0)
    generator_gan: float = Field(0.0, ge=0, description="0: no discriminator at all")
    discriminator_gan: float = Field(1.0, ge=0)
    feature_matching: tuple[float, ...] = (10.0, 10.0, 10.0, 10.0)
    equivariance_value: float = Field(10.0, ge=0)
    equivariance_jacobian: float = Field(10.0, ge=0)


class ModelConfig(Config):
    """The networks."""

    size_px: int = Field(256, ge=16, le=2048, description="height and width")
    num_keypoints: int = Field(10, ge=1)
    num_channels: int = Field(3, ge=1, le=3, description="1: grey")
    grid_align_corners: bool = Field(
        True,
        description="sampling convention: true as the old weights were trained and for new ones, "
        "false as the published code runs today",
    )
    keypoints: KeypointConfig = KeypointConfig()
    generator: GeneratorConfig = GeneratorConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()


class AugmentConfig(Config):
    """What may happen to both frames of a pair alike (E)."""

    time_flip: float = Field(0.5, ge=0, le=1, description="probability; then nothing is mirrored")
    horizontal_flip: float = Field(0.5, ge=0, le=1, description="probability")
    rotation_deg: float = Field(0.0, ge=0, le=180, description="from -r to r")
    resize: tuple[float, float] = Field(
        (1.0, 1.0), description="range of the factor; what is larger is then cropped"
    )
    brightness: float = Field(0.1, ge=0, description="factor from 1-b to 1+b")
    contrast: float = Field(0.1, ge=0, description="factor from 1-c to 1+c")
    saturation: float = Field(0.1, ge=0, description="factor from 1-s to 1+s")
    hue: float = Field(0.1, ge=0, le=0.5, description="shift in turns, from -h to h")

    @model_validator(mode="after")
    def _is_a_range(self) -> AugmentConfig:
        low, high = self.resize
        if not 0 < low <= high:
            raise ValueError("augment.resize must be two factors above 0, the smaller one first")
        return self


class PerceptualConfig(Config):
    """The network that the perceptual loss looks through."""

    backbone: Literal["vgg19", "efficientnet-lite0"] = Field(
        "vgg19", description="vgg19: as published (downloaded); the other ships in a package"
    )


class FamilyConfig(Config):
    """Everything that decides a fomm model."""

    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig(save_every=1000)
    log: LogConfig = LogConfig()
    model: ModelConfig = ModelConfig()
    losses: LossConfig = LossConfig()
    transform: TransformConfig = TransformConfig()
    perceptual: PerceptualConfig = PerceptualConfig()
    augment: AugmentConfig = AugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig(beta1=0.5)
    keypoint_learning_rate: float | None = Field(
        None, ge=0, description="of the keypoint detector; 0 leaves all but its statistics as is"
    )
    milestones: tuple[int, ...] = Field((60, 90), description="epochs at which all rates fall")
    milestone_factor: float = Field(0.1, gt=0, le=1)
    pairs_per_video: int = Field(1, ge=1, description="times a video, or person, is in an epoch")
    draws_identities: bool = Field(
        False, description="each person as often as any other (ids up to '#'), not each video"
    )
    validation_frames: int = Field(16, ge=2, description="frames of a held-out clip")
    batch_size: int = Field(36, ge=1)
    epochs: int = Field(100, ge=1)

    @model_validator(mode="after")
    def _fits_together(self) -> FamilyConfig:
        check_size(self.model)
        smallest = self.model.size_px * min(self.losses.scales)
        if smallest < _SMALLEST_PX:
            raise ValueError(
                f"losses.scales: the smallest image has {smallest:g} px, {_SMALLEST_PX} are needed"
            )
        missing = set(self.model.discriminator.scales) - set(self.losses.scales)
        if self.losses.generator_gan > 0 and missing:
            raise ValueError("losses.scales must hold all of model.discriminator.scales")
        return self


def check_size(model: ModelConfig) -> None:
    """Raise ValueError unless the networks can halve the image as often as they want to."""
    if model.size_px % 2**model.generator.num_down_blocks:
        raise ValueError("model.size_px must be divisible by 2^generator.num_down_blocks")
    for name, part in (
        ("keypoints", model.keypoints),
        ("generator.dense_motion", model.generator.dense_motion),
    ):
        size = model.size_px * part.scale_factor
        if size % 2**part.num_blocks:
            raise ValueError(
                f"model.{name}: {size:g} px (size_px times scale_factor) cannot be halved "
                f"{part.num_blocks} times"
            )


class TrainRequest(Config):
    """`i2v train fomm`."""

    config: FamilyConfig
    stage: Stage = "1"
    data_root: AbsolutePath
    run_dir: AbsolutePath
    init_run: AbsolutePath | None = Field(None, description="start from these weights")
    max_steps: int | None = Field(None, ge=1, description="stop after so many steps in all")


class TransferRequest(Config):
    """`i2v transfer fomm`."""

    run_dir: AbsolutePath
    source: AbsolutePath = Field(description="image to move; of a video its first frame")
    driving: AbsolutePath = Field(description="video, or folder of frames, that it moves like")
    out_dir: AbsolutePath
    relative: bool = Field(
        False, description="moves by what the driving video moves, not to where it is"
    )
    adapt_scale: bool = Field(
        False, description="with relative: moves as large as the image's keypoints lie apart"
    )
    best_frame: Annotated[int, Field(ge=0)] | Literal["auto"] | None = Field(
        None, description="driving frame that looks like the image, from 0; auto: looked for"
    )
    frames: int | None = Field(None, ge=2, description="first frames of the driving video; all")
    fps: float | None = Field(None, gt=0, le=120, description="the driving video's")
    sound: bool = Field(
        True, description="the driving video's, where it has one and fps stays its own"
    )
    size_px: int | None = Field(
        None, ge=16, le=2048, description="height and width to work at; as in training"
    )
    fit: Literal["squash", "center-crop", "pad"] = "squash"
    grid_align_corners: bool | None = Field(
        None, description="sampling convention; that of the run (model.grid_align_corners)"
    )
    device: str = "auto"


class AnimateRequest(Config):
    """`i2v transfer fomm --videos`: the published animation of a whole folder."""

    run_dir: AbsolutePath
    videos: AbsolutePath = Field(description="folder of videos that drive each other's first frame")
    pairs: AbsolutePath | None = Field(
        None, description="csv with columns source and driving; the published draw"
    )
    num_pairs: int = Field(50, ge=1, le=10_000)
    out_dir: AbsolutePath
    relative: bool = Field(True, description="as published: moves by what the driving video moves")
    adapt_scale: bool = Field(
        False, description="with relative: moves as large as the image's keypoints lie apart"
    )
    frames: int | None = Field(None, ge=2, description="first frames of each video; all")
    device: str = "auto"


FIXED_SETTINGS: dict[Stage, tuple[str, ...]] = {
    "1": (
        "config.data.*",
        "config.train.seed",
        "config.model.*",
        "config.losses.*",
        "config.transform.*",
        "config.perceptual.*",
        "config.augment.*",
        "config.pairs_per_video",
        "config.draws_identities",
        "config.batch_size",
    )
}
"""Settings of a train request that a continued training must keep ..."""
FREE_SETTINGS = ("config.losses.equivariance_*", "config.losses.*_gan", "config.augment.*")
"""... but for these, which only decide how it goes on."""
