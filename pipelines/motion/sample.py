"""From a trained motion model and two images to videos (spec: completion, H).

The one place with the inference procedure: keypoints of both ends, a motion between them, and the
frames that the fomm renders from the first image.
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
from pipelines.fomm import sample as fomm
from pipelines.fomm.keypoints import Keypoints
from pipelines.io.two_images import Ends, read_ends, write_videos
from pipelines.motion.config import FamilyConfig, SampleRequest
from pipelines.motion.models import MotionModel, build
from pipelines.motion.renderer import fomm_dir
from pipelines.motion.vectors import NUMBERS_PER_KEYPOINT, JacobianRange, to_keypoints, to_vectors
from pipelines.training.beginning import settings_of
from pipelines.training.checkpoint import WEIGHTS_NAME, checkpoint_meta, load_weights
from pipelines.training.device import prepare_device
from pipelines.training.generators import torch_generator
from pipelines.training.run_folder import Run, load_run, require_checkpoint

FAMILY = "motion"


@dataclass(frozen=True)
class Sampler:
    """A trained model with its fomm. checkpoint: where its weights are from, with SHA-256."""

    run: Run
    config: FamilyConfig
    model: MotionModel
    limits: JacobianRange
    animator: fomm.Animator
    device: torch.device
    checkpoint: dict[str, Any]

    def noise(self, seed: int, number: int, num_frames: int) -> Tensor:
        """Standard normal numbers for one video, 1 T N."""
        return self.model.noise(1, num_frames, torch_generator(seed, "noise", number))

    @torch.no_grad()
    def between(self, start: np.ndarray, end: np.ndarray, noise: Tensor) -> np.ndarray:
        """The video from start to end, both uint8 S S 3: uint8 T S S 3, T that of the noise."""
        ends = self.animator.frames(np.stack([start, end]))
        found = self.animator.find(ends)
        first, last = to_vectors(found, self.limits)[:, None].unbind(0)
        motion = self.model.between(first, last, noise.to(self.device))[0]
        return rendered(self.animator, ends[:1], taken(found, 0), self.limits, motion, start, end)


def load(run_dir: Path, device: torch.device, *, warn: Callable[[str], None]) -> Sampler:
    """The model of a run, from its newest sound checkpoint, and the fomm kept in it.

    warn: told about damaged checkpoints that are passed over. Raises UserError when the folder is
    no such run or has no checkpoint that can be used.
    """
    run = load_run(run_dir, family=FAMILY)
    config = settings_of(run, FamilyConfig)
    newest = require_checkpoint(run, warn=warn)
    animator = fomm.load(fomm_dir(run_dir), device, warn=warn)
    with torch.random.fork_rng(devices=[]):
        model = build(config, animator.num_keypoints * NUMBERS_PER_KEYPOINT)
    for network in model.networks.values():
        network.to(device).eval().requires_grad_(False)
    load_weights(newest, model.networks)
    meta = checkpoint_meta(newest)
    limits = JacobianRange(*meta["jacobian_range"])
    digest = meta["files"][WEIGHTS_NAME]["sha256"]
    about = {"path": str(newest), "step": meta["step"], "sha256": digest}
    return Sampler(run, config, model, limits, animator, device, about)


def sample(request: SampleRequest, work: Work) -> dict[str, Any]:
    """Write `num` videos between two images: mp4, gif, grids, meta.json. Same seed, same frames."""
    sampler = load(request.run_dir, prepare_device(request.device), warn=work.warning)
    animator = sampler.animator
    ends = read_ends(
        request.start,
        request.end,
        size_px=animator.size_px,
        is_grey=animator.num_channels == 1,
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


def rendered(
    animator: fomm.Animator,
    image: Tensor,
    source: Keypoints,
    limits: JacobianRange,
    motion: Tensor,
    start: np.ndarray,
    end: np.ndarray,
) -> np.ndarray:
    """The frames of a motion, T D, moved from one image, 1 C S S, with the ends as they are given.

    source: the image's keypoints, of one frame.  start, end: uint8 S S 3. Returns uint8 T S S 3.
    """
    driving = to_keypoints(motion[1:-1], limits)
    inner = animator.video(animator.source(image, source), driving)
    return np.concatenate([start[None], inner, end[None]])


def taken(keypoints: Keypoints, frame: int) -> Keypoints:
    """Those of one frame, as a batch of one."""
    return keypoints.map(lambda each: each[frame : frame + 1])


def _videos(request: SampleRequest, sampler: Sampler, ends: Ends, work: Work) -> Items:
    num_frames = sampler.config.num_frames if request.frames is None else request.frames + 2
    num = request.num if sampler.model.draws_noise else 1
    if num < request.num:
        kind = sampler.config.kind
        work.warning(f"kind {kind} has one motion between two frames: one video, not {request.num}")

    def made(number: int) -> np.ndarray:
        noise = sampler.noise(request.seed, number, num_frames)
        return sampler.between(ends.start, ends.end, noise)

    made_from = [sampler.checkpoint, sampler.animator.checkpoint]
    return Items(request, num, made, made_from, work)


def _meta(request: SampleRequest, sampler: Sampler) -> dict[str, Any]:
    return {
        "family": FAMILY,
        "kind of motion": sampler.config.kind,
        "run": str(request.run_dir),
        "checkpoints": {"motion": sampler.checkpoint, "fomm": sampler.animator.checkpoint},
        "size_px": sampler.animator.size_px,
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
        value = getattr(request, name)
        words += [f"--{name}", str(value)] if value is not None else []
    return [*words, "--out", str(request.out_dir)]
