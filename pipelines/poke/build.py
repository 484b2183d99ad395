"""Builds the networks and the optimizers of a poke model from its settings."""

from __future__ import annotations

from itertools import chain

import torch
from torch import nn

from pipelines.poke.config import FamilyConfig, ModelConfig
from pipelines.poke.discriminators import PatchDiscriminator, TemporalDiscriminator
from pipelines.poke.networks import (
    Layout,
    PokeModel,
    SingleScaleModel,
    explicit_layout,
    published_layout,
)
from pipelines.poke.steps import Networks, Optimizers
from pipelines.schema import OptimizerConfig


def build_model(config: FamilyConfig) -> PokeModel:
    """The network that answers pokes."""
    settings = config.model
    model = PokeModel if settings.kind == "hierarchical" else SingleScaleModel
    return model(
        _layout(settings),
        norm=settings.norm,
        spectral_decoder=settings.spectral_decoder,
        sees_image=settings.sees_image,
        is_length_aware=config.poke.length_aware,
        ignores_poke=settings.ignores_poke,
        num_cells=settings.num_cells,
        update_bias=settings.update_bias,
        unit_px=config.poke.unit_px or settings.size_px / 8,
    )


def build_networks(config: FamilyConfig) -> Networks:
    """The model and its discriminators."""
    patch, temporal = config.patch, config.temporal
    return Networks(
        build_model(config),
        PatchDiscriminator(width=patch.width, num_layers=patch.num_layers, num_deep=patch.num_deep),
        TemporalDiscriminator(
            width=temporal.width,
            num_frames=config.clips.num_frames,
            is_per_frame=temporal.is_per_frame,
            sees_poke=temporal.sees_poke,
        ),
    )


def build_optimizers(networks: Networks, config: FamilyConfig) -> Optimizers:
    """Four optimizers; the decoder belongs to two of them, with moments of its own in each."""
    model, settings = networks.model, config.optimizer
    moving: list[nn.Module] = [model.poke_encoder, model.cells]
    if config.losses.moves_decoder:
        moving.append(model.decoder)
    if config.losses.single_stage:
        moving.append(model.image_encoder)
    return Optimizers(
        static=_adam([[model.image_encoder], [model.decoder]], settings),
        moving=_adam([moving], settings),
        patch=_adam([[networks.patch]], settings),
        temporal=_adam([[networks.temporal]], settings),
    )


def _adam(groups: list[list[nn.Module]], config: OptimizerConfig) -> torch.optim.Adam:
    """Adam over groups of modules, each with a learning rate of its own."""
    parameters = [
        {"params": list(chain.from_iterable(module.parameters() for module in group))}
        for group in groups
    ]
    return torch.optim.Adam(
        parameters,
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
        amsgrad=config.amsgrad,
        fused=True,
    )


def _layout(settings: ModelConfig) -> Layout:
    if settings.widths:
        return explicit_layout(settings.widths, deep=settings.deep)
    return published_layout(
        settings.size_px,
        deep=settings.deep,
        smallest_px=settings.smallest_px,
        has_skips=settings.kind == "hierarchical",
    )
