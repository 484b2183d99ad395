"""Flow networks: pairs per second, memory, and FlowNet2 against a plain version with `unfold`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.flow.raft import RaftEstimator
from pipelines.flownet2.cascade import Cascade, SingleNetwork, build, normalise
from pipelines.flownet2.correlation import Correlation
from pipelines.flownet2.estimate import FlowNet2Estimator
from pipelines.training.device import choose_device
from tests.benchmarks.rows import Measurement, Settings, apart, interleaved, ratios, seconds
from tests.pipelines.flownet2.weights import published_state, write_published

_NOTE = "random weights; batch {batch}, {size} x {size}, {device} {precision}"


class UnfoldCorrelation(nn.Module):
    """The correlation as one would write it with `unfold`, in the fastest of several ways tried.

    All displacements at once would be 441 copies of a map of 256 channels, 7 GB for a pair of
    1024 x 1024 pixels. Windows that are views, compared one by one with channels last, need none.
    """

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """first, second: B C h w.  Returns B 441 h w."""
        channels, height, width = first.shape[1:]
        first = first.permute(0, 2, 3, 1).contiguous()
        padded = F.pad(second, (20,) * 4).permute(0, 2, 3, 1).contiguous()
        windows = padded.unfold(1, height, 2).unfold(2, width, 2)  # B 21 21 C h w
        views = [windows[:, i, j].permute(0, 2, 3, 1) for i in range(21) for j in range(21)]
        return torch.stack([torch.linalg.vecdot(first, view) for view in views], dim=1) / channels


def measure(settings: Settings) -> Iterator[Measurement]:
    """Rows of all networks, those with an aim first."""
    device = choose_device(settings.device)
    yield from _against_unfold(settings, device)
    yield _correlation_memory(settings, device)
    networks = ("flownet2-c",) if settings.quick else ("flownet2", "flownet2-c")
    for network in networks:
        path = settings.scratch_dir / f"{network}.pth.tar"
        write_published(path, published_state(network))
        yield from _rates(settings, device, network, path)
        path.unlink()
    for network in ("raft-large", "raft-small"):
        yield from _rates(settings, device, network, None)


def _against_unfold(settings: Settings, device: torch.device) -> Iterator[Measurement]:
    """Both versions take turns in one process, on the same weights and frames."""
    size, batch = (128, 1) if settings.quick else (256, 2)
    for network in ("flownet2-c",) if settings.quick else ("flownet2-c", "flownet2"):
        ours, plain = build(network), build(network)
        plain.load_state_dict(ours.state_dict())
        _use_unfold(plain)
        for each in (ours, plain):
            each.eval().to(device, memory_format=torch.channels_last)
        frames = torch.rand((batch, 3, 2, size, size), generator=_generator()).to(device)
        with torch.inference_mode():
            runs = [partial(net, normalise(frames)) for net in (ours, plain)]
            fast, slow = interleaved(runs, repeats=settings.repeats)
        note = f"batch {batch}, {size} x {size}, {device.type}"
        yield Measurement(
            f"{network}, over the same with unfold",
            ratios(slow, fast),
            "x",
            at_least=1.0,
            note=note,
        )
    side = size // 8
    maps = torch.randn((2, batch, 256, side, side), generator=_generator()).to(device)
    with torch.inference_mode():
        runs = [partial(layer, *maps) for layer in (Correlation(), UnfoldCorrelation())]
        fast, slow = interleaved(runs, repeats=settings.repeats)
    yield Measurement(
        "correlation, over the same with unfold", ratios(slow, fast), "x", at_least=1.0, note=note
    )


def _use_unfold(network: SingleNetwork | Cascade) -> None:
    assert network.matcher is not None
    network.matcher.correlation = UnfoldCorrelation()


def _correlation_memory(settings: Settings, device: torch.device) -> Measurement:
    """What a pair of 1024 x 1024 takes above the process that only holds its two maps."""
    with_layer = apart(_correlate, device.type, True)
    without = apart(_correlate, device.type, False)
    on_gpu = device.type == "cuda"
    needed = with_layer.result if on_gpu else with_layer.peak_mb - without.peak_mb
    return Measurement(
        "correlation of a pair of 1024 x 1024, memory",
        [needed],
        "MB",
        at_most=2000,
        note=f"result (29 MB) included, {device.type}",
        peak_mb=with_layer.peak_mb,
    )


def _correlate(device: str, runs_layer: bool) -> float:
    """Peak memory on a GPU in MB; 0 on a CPU."""
    torch.set_num_threads(1)
    first, second = torch.zeros((2, 1, 256, 128, 128), device=device)
    if runs_layer:
        with torch.inference_mode():
            Correlation()(first, second)
    return torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else 0.0


def _rates(
    settings: Settings, device: torch.device, network: str, path: Path | None
) -> Iterator[Measurement]:
    """Each size and precision in a process of its own, whose memory the row tells."""
    precisions = ("float32", "float16") if device.type == "cuda" else ("float32",)
    for size in (128,) if settings.quick else (256, 512):
        batch = max(1, (4 if device.type == "cpu" else 16) * 256**2 // size**2)
        for precision in precisions:
            found = apart(
                _estimate, network, path, device.type, precision, size, batch, settings.repeats
            )
            note = _NOTE.format(batch=batch, size=size, device=device.type, precision=precision)
            yield Measurement(
                f"{network}, {size} x {size}" + (", float16" if precision != "float32" else ""),
                [batch / each for each in found.result],
                "pairs/s",
                note=note,
                peak_mb=found.peak_mb,
            )


def _estimate(
    network: str,
    path: Path | None,
    device: str,
    precision: str,
    size: int,
    batch: int,
    repeats: int,
) -> list[float]:
    """Seconds per batch."""
    where = torch.device(device)
    estimator: FlowNet2Estimator | RaftEstimator
    if path is not None:
        estimator = FlowNet2Estimator(path, network, where, precision)
    else:
        raft_size = "large" if network == "raft-large" else "small"
        estimator = RaftEstimator(raft_size, None, where, precision, random_seed=0)
    draw = np.random.default_rng(0)
    first, second = draw.integers(0, 256, (2, batch, size, size, 3), dtype=np.uint8)
    return seconds(lambda: estimator.flow(first, second), repeats=repeats)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
