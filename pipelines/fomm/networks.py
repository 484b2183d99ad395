"""The networks of a fomm model, from its settings."""

from __future__ import annotations

from dataclasses import dataclass

import torch

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


def in_order(networks: Networks, device: torch.device) -> None:
    """Move all to a device, their weights in the order in which it convolves large images fastest.

    On a CPU that is channels last, without copies from one order to the other around each; but for
    the discriminators, whose instance norms want images plane by plane.
    """
    for network in vars(networks).values():
        network.to(device)
    if device.type == "cpu":
        for network in (networks.keypoint_detector, networks.generator):
            network.to(memory_format=torch.channels_last)


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
