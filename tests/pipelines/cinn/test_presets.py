"""The published presets give the published networks, sizes and schedules (spec: cinn, 7)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from pipelines.cinn.config import FamilyConfig
from pipelines.cinn.networks import build_autoencoder, build_embedder, build_flow, build_stage1

FOLDER = Path(__file__).parents[3] / "conf" / "cinn"
TEXTURES = ("clouds", "fire", "vegetation", "waterfall")
PUBLISHED = ("bair", "bair_control", "iper", "landscape", *(f"dtdb_{each}" for each in TEXTURES))

ENCODER = {"bair": 73_639_488, "iper": 73_639_488, "landscape": 40_458_048, "dtdb": 38_798_528}
DECODER = {64: 152_786_243, 128: 40_868_003}

SCHEDULE: dict[str, tuple[Any, ...]] = {
    # epochs of stage 1, ae, 2; batch of stage 1; w_recon, w_kl; decay every; repeats of 1, ae, 2
    "bair": (55, 60, 31, 10, 10, 1e-5, 7, 1, 1, 1),
    "bair_control": (55, 60, 31, 10, 10, 1e-5, 7, 1, 1, 1),
    "iper": (100, 140, 31, 10, 10, 1e-4, 7, 60, 100, 80),
    "landscape": (100, 200, 31, 7, 20, 1e-6, 6, 10, 20, 10),
    "dtdb_clouds": (60, 200, 31, 7, 10, 1e-6, 6, 100, 100, 50),
    "dtdb_fire": (60, 120, 31, 7, 10, 1e-6, 6, 80, 80, 40),
    "dtdb_vegetation": (60, 60, 31, 7, 10, 1e-6, 6, 55, 55, 40),
    "dtdb_waterfall": (60, 100, 31, 7, 10, 1e-6, 6, 120, 120, 30),
}


def preset(name: str) -> FamilyConfig:
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    return FamilyConfig.model_validate(yaml.safe_load(text))


def count(network: nn.Module) -> int:
    return sum(each.numel() for each in network.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_preset_builds_the_published_networks(name):
    config = preset(name)
    dataset, size_px = name.split("_")[0], config.stage1.size_px
    assert size_px == (64 if dataset in ("bair", "iper") else 128)
    with torch.device("meta"):
        stage1 = build_stage1(config.stage1)
        flow = build_flow(config.stage2, config.stage1.code_size, config.ae.embedding_size)
        autoencoder = build_autoencoder(config.ae, size_px)
        embedder = build_embedder(config.ae, size_px)
    assert count(stage1.encoder) == ENCODER[dataset]
    assert count(stage1.decoder) == DECODER[size_px]
    assert count(stage1.temporal_discriminator) == 37_750_336
    assert count(stage1.patch_discriminator) == 2_766_529
    assert config.ae.embedding_size == (64 if dataset == "bair" else 128)
    if config.ae.embedding_size == 128:
        assert count(flow) == 49_935_360
    if name == "bair_control":
        assert count(flow) == 47_559_680
    has_norm_state = any("running" in key for key in embedder.state_dict())
    assert has_norm_state == (name in ("landscape", "dtdb_waterfall"))
    assert 100e6 < count(autoencoder.encoder) + count(autoencoder.decoder) < 108e6


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_preset_trains_on_the_published_schedule(name):
    config = preset(name)
    one, ae, two = config.stage1, config.ae, config.stage2
    found = (
        *(one.epochs, ae.epochs, two.epochs, one.batch_size),
        *(one.weight_reconstruction, one.weight_kl, two.decay_every_epochs),
        *(one.clips_per_video, ae.images_per_video, two.clips_per_video),
    )
    assert found == SCHEDULE[name]
    assert (one.optimizer.learning_rate, one.optimizer.beta1, one.optimizer.beta2) == (
        2e-4,
        0.5,
        0.9,
    )
    assert (ae.batch_size, ae.warmup_epochs, two.batch_size) == (30, 20, 50)
    assert (two.optimizer.learning_rate, two.optimizer.amsgrad) == (1e-5, True)
    assert one.weight_perceptual == (40 if name == "iper" else 30)
    assert one.score == two.score == ("fvd" if one.size_px == 64 else "dtfvd")


@pytest.mark.parametrize("name", PUBLISHED)
def test_frames_are_prepared_as_large_as_the_crops_need(name):
    config = preset(name)
    margins = {each.augment.crop_margin_px for each in (config.stage1, config.ae, config.stage2)}
    assert len(margins) == 1
    assert config.data.variant == f"{config.stage1.size_px + margins.pop()}px"


def test_only_the_controlled_preset_turns_the_mirror_off():
    flips = {name: preset(name).stage2.augment.horizontal_flip for name in PUBLISHED}
    assert {name for name, flip in flips.items() if flip == 0} == {"bair_control"}
