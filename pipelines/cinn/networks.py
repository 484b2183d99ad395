"""Builds the networks of each stage from its settings."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2, prod

from torch import nn

from pipelines.cinn.autoencoder import ImageDecoder, ImageEncoder
from pipelines.cinn.config import AutoencoderConfig, FlowConfig, Stage1Config
from pipelines.cinn.decoder import VideoDecoder
from pipelines.cinn.discriminators import PatchDiscriminator, TemporalDiscriminator
from pipelines.cinn.encoder import VideoEncoder
from pipelines.cinn.flow import ENDPOINT_CODE_SIZE, ConditionalFlow
from pipelines.events import EXIT_USAGE, UserError

_DECODER_FIXED_UPSAMPLING = 8  # in time and in space, before the configured part


@dataclass(frozen=True)
class Stage1Networks:
    """The video autoencoder and its two discriminators."""

    encoder: VideoEncoder
    decoder: VideoDecoder
    temporal_discriminator: TemporalDiscriminator
    patch_discriminator: PatchDiscriminator


@dataclass(frozen=True)
class AutoencoderNetworks:
    """The image autoencoder and its discriminator."""

    encoder: ImageEncoder
    decoder: ImageDecoder
    discriminator: PatchDiscriminator


def build_stage1(config: Stage1Config) -> Stage1Networks:
    """The four networks of stage 1; UserError when the settings do not fit together."""
    _check_decoder(config)
    encoder = VideoEncoder(
        size_px=config.size_px,
        code_size=config.code_size,
        channels=config.encoder_channels,
        stride_space=config.encoder_stride_space,
        stride_time=config.encoder_stride_time,
    )
    if config.num_frames > encoder.max_frames:
        raise UserError(
            "the encoder's strides in time are too small for the clips",
            {
                "stage1.num_frames": config.num_frames,
                "frames it takes": encoder.max_frames,
                "to fix": "raise stage1.encoder_stride_time",
            },
            EXIT_USAGE,
        )
    decoder = VideoDecoder(
        size_px=config.size_px,
        code_size=config.code_size,
        width=config.decoder_width,
        upsample_space=config.decoder_upsample_space,
        upsample_time=config.decoder_upsample_time,
        spade_channels=config.spade_channels,
    )
    temporal = TemporalDiscriminator(
        channels=config.temporal_channels, stride_space=config.temporal_stride_space
    )
    patch = build_patch_discriminator(config.patch_width, config.size_px)
    return Stage1Networks(encoder, decoder, temporal, patch)


def build_autoencoder(config: AutoencoderConfig, size_px: int) -> AutoencoderNetworks:
    """The three networks of the image autoencoder for images of one size."""
    try:
        decoder = ImageDecoder(
            size_px=size_px,
            embedding_size=config.embedding_size,
            width=config.decoder_width,
            class_hidden=config.class_hidden,
        )
    except ValueError as error:
        details = {"to fix": "choose another size or embedding_size"}
        raise UserError(str(error), details, EXIT_USAGE) from error
    encoder = build_embedder(config, size_px)
    discriminator = build_patch_discriminator(config.patch_width, size_px)
    return AutoencoderNetworks(encoder, decoder, discriminator)


def build_embedder(config: AutoencoderConfig, size_px: int) -> ImageEncoder:
    """The autoencoder's encoder alone, which is all that stage 2 needs of it."""
    return ImageEncoder(
        size_px=size_px,
        embedding_size=config.embedding_size,
        norm=config.norm,
        width=config.encoder_width,
    )


def build_flow(config: FlowConfig, code_size: int, embedding_size: int) -> ConditionalFlow:
    """The flow between motion codes of `code_size` numbers and residuals."""
    if code_size % 2:
        raise UserError(
            "the motion code cannot be split into halves",
            {"stage1.code_size": code_size, "to fix": "train stage 1 with an even code_size"},
            EXIT_USAGE,
        )
    return ConditionalFlow(
        code_size=code_size,
        condition_size=embedding_size + (ENDPOINT_CODE_SIZE if config.is_controlled else 0),
        num_flows=config.num_flows,
        hidden_width=config.hidden_width,
        hidden_depth=config.hidden_depth,
        is_controlled=config.is_controlled,
    )


def build_patch_discriminator(width: int, size_px: int) -> PatchDiscriminator:
    """Three halvings as published; fewer where an image below 32 pixels would vanish."""
    return PatchDiscriminator(width=width, num_layers=min(3, int(log2(size_px)) - 2))


def _check_decoder(config: Stage1Config) -> None:
    frames = _DECODER_FIXED_UPSAMPLING * prod(config.decoder_upsample_time)
    if frames != config.num_frames:
        raise UserError(
            "the decoder's upsampling in time does not give the clips' length",
            {
                "stage1.num_frames": config.num_frames,
                "frames it gives": f"{frames} (8 times stage1.decoder_upsample_time)",
                "to fix": "decoder_upsample_time [2, 1] gives 16 frames, [1, 1] gives 8",
            },
            EXIT_USAGE,
        )
    seed_px, rest = divmod(
        config.size_px, _DECODER_FIXED_UPSAMPLING * prod(config.decoder_upsample_space)
    )
    if rest or seed_px < 2:
        raise UserError(
            "the decoder's upsampling in space does not give the video's size",
            {
                "stage1.size_px": config.size_px,
                "it must be": "twice, three times ... 8 times stage1.decoder_upsample_space",
                "to fix": "decoder_upsample_space [2, 2] for 128 px, [2, 1] for 64, [1, 1] for 32",
            },
            EXIT_USAGE,
        )


def set_training(networks: Stage1Networks | AutoencoderNetworks, mode: bool = True) -> None:
    """Put every network of a stage into training or eval mode."""
    for network in vars(networks).values():
        assert isinstance(network, nn.Module)
        network.train(mode)
