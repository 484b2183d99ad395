"""The named protocols in conf/metrics, and the presets in conf/eval that are made of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from pipelines.metrics.config import EvalRequest
from pipelines.metrics.evaluate import load_metric, load_metrics
from pipelines.metrics.frechet_set import FrechetMetric
from pipelines.metrics.one_pass import load_extractors
from pipelines.metrics.psnr import batch_psnr, channel_psnr, frame_psnr

CONF = Path(__file__).resolve().parents[3] / "conf"
PROTOCOLS = {
    f"{path.stem}/{name}": settings
    for path in sorted((CONF / "metrics").glob("*.yaml"))
    for name, settings in yaml.safe_load(path.read_text(encoding="utf-8")).items()
}


def request(*names: str) -> EvalRequest:
    protocols = {name: PROTOCOLS[name] for name in names if name in PROTOCOLS}
    return EvalRequest.model_validate(
        {"metrics": names, "source": "/videos", "protocols": protocols}
    )


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_makes_its_metric_and_says_where_it_is_from(name: str) -> None:
    asked = request(name)
    assert asked.protocols[name].about
    assert name in load_metrics(asked)


@pytest.mark.parametrize("path", sorted((CONF / "eval").glob("*.yaml")), ids=lambda p: p.stem)
def test_a_preset_names_protocols_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#") and f"--preset {path.stem}" in text
    names = yaml.safe_load(text)["metrics"]
    assert {name for name in names if "/" in name} <= set(PROTOCOLS)
    assert all(load_metric(name) for name in names if "/" not in name)


def test_protocols_with_the_same_clips_share_one_network() -> None:
    same = load_metrics(request("fvd", "fvd/poke", "fvd/bair-256", "fvd/cinn-bair"))
    features = [each.features for each in same.values() if isinstance(each, FrechetMetric)]
    assert features[0] == features[1]
    assert features[2] == features[3] != features[0]
    made = []
    for metric in same.values():
        for name in metric.extractors:
            metric.extractors[name] = lambda _, name=name: made.append(name) or name  # type: ignore[index]
    load_extractors(list(same.values()), torch.device("cpu"))
    assert len(made) == 2


def test_the_three_ways_of_psnr_differ_where_frames_and_channels_do() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.rand(4, 3, 16, 16, generator=generator)
    noise = torch.rand(4, 3, 16, 16, generator=generator) - 0.5
    noise *= torch.tensor([0.02, 0.2, 0.4]).view(1, 3, 1, 1)
    by_frame = float(frame_psnr(real, real + noise).mean())
    by_channel = float(channel_psnr(real, real + noise).mean())
    by_batch = float(batch_psnr(real, real + noise))
    assert by_channel > by_frame + 1
    assert by_batch > by_frame  # the values span more than 1
