"""From a trained model and two images to the videos between them (spec: completion, G).

The one place with the inference procedure of our own model; tfhub.py has the pretrained modules'.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.engines.items import Items
from pipelines.events import Work
from pipelines.inbetween.config import FamilyConfig, SampleRequest
from pipelines.inbetween.data import as_clips
from pipelines.inbetween.networks import Inbetweener
from pipelines.inbetween.preview import to_bytes
from pipelines.io.two_images import Ends, read_ends, write_videos
from pipelines.training.beginning import settings_of
from pipelines.training.checkpoint import WEIGHTS_NAME, checkpoint_meta, load_weights
from pipelines.training.device import prepare_device
from pipelines.training.generators import torch_generator
from pipelines.training.run_folder import Run, load_run, require_checkpoint

FAMILY = "inbetween"


@dataclass(frozen=True)
class Sampler:
    """A trained model, ready to be used. checkpoint: where its weights are from, with SHA-256."""

    run: Run
    config: FamilyConfig
    model: Inbetweener
    device: torch.device
    checkpoint: dict[str, Any]

    @property
    def is_grey(self) -> bool:
        """Whether it makes grey videos."""
        return self.config.network.num_channels == 1

    def noise(self, seed: int, number: int) -> Tensor:
        """Standard normal numbers, 1 N, for one video."""
        generator = torch_generator(seed, "noise", number)
        return torch.randn((1, self.config.network.noise_size), generator=generator)

    @torch.no_grad()
    def between(self, start: np.ndarray, end: np.ndarray, noise: Tensor) -> np.ndarray:
        """The video from start to end, both uint8 S S 3: uint8 16 S S 3."""
        channels = self.config.network.num_channels
        ends = torch.from_numpy(np.stack([start, end])[None, ..., :channels])
        clip = as_clips(ends).to(self.device)
        return to_bytes(self.model(clip[:, 0], clip[:, 1], noise.to(self.device))[0])


def load(run_dir: Path, device: torch.device, *, warn: Callable[[str], None]) -> Sampler:
    """The model of a run, from its newest sound checkpoint.

    warn: told about damaged checkpoints that are passed over. Raises UserError when the folder is
    no such run or has no checkpoint that can be used.
    """
    run = load_run(run_dir, family=FAMILY)
    config = settings_of(run, FamilyConfig)
    newest = require_checkpoint(run, warn=warn)
    with torch.device("meta"):
        model = Inbetweener(config.network)
    model = model.to_empty(device=device).eval().requires_grad_(False)
    load_weights(newest, {"model": model})
    meta = checkpoint_meta(newest)
    digest = meta["files"][WEIGHTS_NAME]["sha256"]
    about = {"path": str(newest), "step": meta["step"], "sha256": digest}
    return Sampler(run, config, model, device, about)


def sample(request: SampleRequest, work: Work) -> dict[str, Any]:
    """Write `num` videos between two images: mp4, gif, grids, meta.json. Same seed, same frames."""
    sampler = load(request.run_dir, prepare_device(request.device), warn=work.warning)
    ends = read_ends(
        request.start,
        request.end,
        size_px=sampler.config.size_px,
        is_grey=sampler.is_grey,
        work=work,
    )
    videos = _videos(request, sampler, ends, work)
    if request.shard:
        return videos.make_shard()
    videos.spread(sample)
    result = write_videos(
        request.out_dir,
        ends,
        videos.in_order(),
        fps=request.fps,
        meta=_meta(request, sampler),
        work=work,
    )
    videos.clear()
    return result


def _videos(request: SampleRequest, sampler: Sampler, ends: Ends, work: Work) -> Items:
    def made(number: int) -> np.ndarray:
        return sampler.between(ends.start, ends.end, sampler.noise(request.seed, number))

    return Items(request, request.num, made, sampler.checkpoint, work)


def _meta(request: SampleRequest, sampler: Sampler) -> dict[str, Any]:
    return {
        "family": FAMILY,
        "run": str(request.run_dir),
        "checkpoints": {"model": sampler.checkpoint},
        "frames": request.frames,
        "size_px": sampler.config.size_px,
        "seed": request.seed,
        "device": str(sampler.device),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "command": shlex.join(_command(request)),
    }


def _command(request: SampleRequest) -> list[str]:
    """What to type to make the same again."""
    words = ["i2v", "sample", FAMILY, "--run", str(request.run_dir)]
    words += ["--start", str(request.start), "--end", str(request.end)]
    for name in ("num", "frames", "fps", "seed", "device"):
        words += [f"--{name}", str(getattr(request, name))]
    return [*words, "--out", str(request.out_dir)]
