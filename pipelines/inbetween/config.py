"""Settings of the inbetween family; the defaults are the published values (completion, G)."""

from __future__ import annotations

from pydantic import Field

from pipelines.schema import Config

LAYERS_PER_GROUP = 8
GROUP_FRAMES = (4, 8, 16)
NUM_FRAMES = GROUP_FRAMES[-1]


class NetworkConfig(Config):
    """All networks."""

    num_channels: int = Field(3, ge=1, le=3, description="1: grey")
    encoder_channels: tuple[int, int, int] = (64, 128, 256)
    latent_channels: int = Field(64, ge=1)
    noise_size: int = Field(128, ge=1)
    generator_channels: tuple[int, int, int] = (256, 128, 64)
    discriminator_channels: tuple[int, int, int, int] = (64, 128, 256, 512)
    is_midnet: bool = Field(
        False,
        description="exactly as the unofficial TensorFlow code: statistics of the batch also at "
        "test time, batch norm and leaky ReLU on the output, end frames not put back",
    )


class LossConfig(Config):
    """Weights (G.5)."""

    weight_image: float = Field(1.0, ge=0, description="pixels and their differences (alpha)")
    weight_gan: float = Field(0.02, ge=0, description="both discriminators (beta)")
