"""The networks of a fomm model, from its settings."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.fomm.config import ModelConfig
from pipelines.fomm.discriminator import MultiScaleDiscriminator
from pipelines.fomm.generator import OcclusionAwareGenerator
from pipelines.fomm.keypoints import KeypointDetector


@dataclass(frozen=True)
class Networks:
    """What is trained."""

    keypoint_detector: KeypointDetector
    generator: OcclusionAwareGenerator
    discriminator: MultiScaleDiscriminator


def build(config: ModelConfig) -> Networks:
    """All three networks, freshly initialised."""
    return Networks(
        build_keypoint_detector(config), build_generator(config), build_discriminator(config)
    )


def build_keypoint_detector(config: ModelConfig) -> KeypointDetector:
    """The keypoint detector."""
    return KeypointDetector(
        config.keypoints, num_keypoints=config.num_keypoints, num_channels=config.num_channels
    )


def build_generator(config: ModelConfig) -> OcclusionAwareGenerator:
    """The generator with its dense motion network."""
    return OcclusionAwareGenerator(
        config.generator,
        num_keypoints=config.num_keypoints,
        num_channels=config.num_channels,
        align_corners=config.grid_align_corners,
    )


def build_discriminator(config: ModelConfig) -> MultiScaleDiscriminator:
    """The discriminators."""
    return MultiScaleDiscriminator(
        config.discriminator, num_keypoints=config.num_keypoints, num_channels=config.num_channels
    )
