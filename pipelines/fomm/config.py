"""Settings of the fomm family; the defaults are those most published configurations share (F)."""

from __future__ import annotations

from pydantic import Field

from pipelines.schema import Config

Scale = float


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
