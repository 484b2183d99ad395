"""The published presets give the published networks and schedules (spec: completion, F)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from pipelines.fomm.config import FamilyConfig
from pipelines.fomm.networks import build

FOLDER = Path(__file__).parents[3] / "conf" / "fomm"

PUBLISHED = {
    # batch, epochs, milestones, repeats, gan, spectral norm, sees keypoints, identities, single map
    "vox-256": (40, 100, (60, 90), 75, 0, True, False, True, False),
    "vox-adv-256": (36, 50, (), 75, 1, False, True, True, False),  # 50 after 100 of vox-256
    "taichi-256": (30, 100, (60, 90), 150, 0, False, False, True, False),
    "taichi-adv-256": (27, 50, (), 150, 1, False, True, True, False),  # likewise
    "fashion-256": (27, 100, (60, 90), 50, 1, False, False, False, False),
    "bair-256": (36, 20, (12, 18), 1, 1, True, False, False, False),
    "mgif-256": (36, 100, (60, 90), 25, 1, True, False, False, True),
    "nemo-256": (36, 100, (60, 90), 8, 1, True, False, False, False),
    "kth-128": (50, 100, (60, 90), 30, 0, False, False, False, False),
}
JITTER = {"fashion-256": (0, 0, 0, 0.1), "mgif-256": (0, 0, 0, 0.5), "nemo-256": (0, 0, 0, 0)}


def preset(name: str) -> FamilyConfig:
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    return FamilyConfig.model_validate(yaml.safe_load(text))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_preset_trains_on_the_published_schedule(name):
    config = preset(name)
    discriminator = config.model.discriminator
    found = (
        *(config.batch_size, config.epochs, config.milestones, config.pairs_per_video),
        *(config.losses.generator_gan, discriminator.has_spectral_norm),
        *(discriminator.sees_keypoints, config.draws_identities),
        config.model.keypoints.has_single_jacobian_map,
    )
    assert found == PUBLISHED[name]
    jitter = config.augment
    factors = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    assert factors == JITTER.get(name, (0.1,) * 4)
    assert jitter.resize == ((0.9, 1.1) if name == "mgif-256" else (1, 1))
    assert (jitter.time_flip, jitter.horizontal_flip) == (0.5, 0.5)
    optimizer = config.optimizer
    assert (optimizer.learning_rate, optimizer.beta1, optimizer.beta2) == (2e-4, 0.5, 0.999)
    assert config.keypoint_learning_rate == (0 if name == "taichi-adv-256" else None)
    assert config.losses.scales == (1, 0.5, 0.25, 0.125)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_preset_builds_the_published_networks(name):
    config = preset(name).model
    is_kth = name == "kth-128"
    assert (config.size_px, config.num_channels) == ((128, 1) if is_kth else (256, 3))
    scale = 0.5 if is_kth else 0.25
    assert config.keypoints.scale_factor == config.generator.dense_motion.scale_factor == scale
    with torch.device("meta"):
        networks = build(config)
    count = {
        part: sum(each.numel() for each in network.parameters())
        for part, network in vars(networks).items()
    }
    if not is_kth and name != "mgif-256":
        # 14.2 M and 45.6 M (spec: completion, B.2 and B.4)
        assert round(count["keypoint_detector"] / 1e6, 1) == 14.2
        assert round(count["generator"] / 1e6, 1) == 45.6


@pytest.mark.parametrize("name", ["kth-64", "bair-64", "demo", "tiny"])
def test_our_own_presets_keep_the_image_large_enough_for_every_network(name):
    config = preset(name)
    assert config.model.size_px == (32 if name == "tiny" else 64)
