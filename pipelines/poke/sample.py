"""From a trained model, still images and pokes to videos (spec: poke, 5).

The one place with the inference procedure of a job; the arithmetic is in inference.py.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipelines.engines.items import Items
from pipelines.events import Work
from pipelines.files import sha256
from pipelines.io.fitting import Placement, place
from pipelines.io.flow_files import read_flow
from pipelines.io.images import fit_image, read_image
from pipelines.io.sample_writer import GRID_COLUMNS, GRID_ROWS, sample_writer, scene_names, still
from pipelines.poke.aim import Aim, aimed, aims_map, drawn_aims, guessed_aims, placed_flow
from pipelines.poke.arrows import with_arrows
from pipelines.poke.build import build_model
from pipelines.poke.config import FamilyConfig, Poke, SampleRequest
from pipelines.poke.inference import (
    answer,
    answer_video,
    from_bytes,
    prepare_published,
    published_placement,
    to_bytes,
)
from pipelines.poke.networks import PokeModel
from pipelines.poke.run_config import FAMILY, run_config
from pipelines.poke.sampling_form import for_sampling
from pipelines.poke.test_set import write_test_set
from pipelines.training.checkpoint import WEIGHTS_NAME, checkpoint_meta, load_weights
from pipelines.training.device import prepare_device
from pipelines.training.generators import torch_generator
from pipelines.training.run_folder import Run, load_run, require_checkpoint

_DRAWN_LENGTH = 1 / 8  # of a poke that nothing is known of, as part of the image


@dataclass(frozen=True)
class Sampler:
    """A trained model, ready to answer: `answer` at once, `frames` one by one.

    A poke in the user's image becomes an Aim by `aim.aimed(poke, image_size=..., target=placement)`
    and the image by `picture`. checkpoint: where its weights are from, with SHA-256.
    """

    run: Run
    config: FamilyConfig
    model: PokeModel
    device: torch.device
    checkpoint: dict[str, Any]

    @property
    def size_px(self) -> int:
        """Height and width of images and videos."""
        return self.config.model.size_px

    def placement(self, image: np.ndarray, fit: Any) -> Placement:
        """How an image, uint8 H W 3, becomes the square that the model sees."""
        height, width = image.shape[:2]
        if self.config.model.resize == "opencv":
            return published_placement(width, height, self.size_px)
        return place(width, height, self.size_px, fit=fit)

    def picture(self, image: np.ndarray, fit: Any) -> np.ndarray:
        """The image as the model sees it, uint8 S S 3."""
        if self.config.model.resize == "opencv":
            return prepare_published(image, self.size_px)
        return np.asarray(fit_image(Image.fromarray(image), self.size_px, fit=fit))

    def answer(self, picture: np.ndarray, aims: Sequence[Aim], num_frames: int) -> np.ndarray:
        """The video after the pokes, all at once: uint8 T S S 3. picture: uint8 S S 3."""
        start, poke = self._asked(picture, aims)
        schedule = self.config.model.schedule
        return to_bytes(answer_video(self.model, start, poke, num_frames, schedule=schedule)[0])

    def frames(
        self, picture: np.ndarray, aims: Sequence[Aim], num_frames: int
    ) -> Iterator[np.ndarray]:
        """The same video, each frame uint8 S S 3 as soon as it is made.

        Equal to `answer` but for the rounding of the last grey level.
        """
        start, poke = self._asked(picture, aims)
        schedule = self.config.model.schedule
        for frame in answer(self.model, start, poke, num_frames, schedule=schedule):
            yield to_bytes(frame[0])

    def _asked(self, picture: np.ndarray, aims: Sequence[Aim]) -> tuple[Tensor, Tensor]:
        """Image and poke map as the model takes them, 1 3 S S and 1 2 S S."""
        poke = aims_map(aims, size_px=self.size_px, patch_px=self.config.poke.patch_px)
        return from_bytes(picture)[None].to(self.device), poke.to(self.device)


def load(run_dir: Path, device: torch.device, *, warn: Callable[[str], None]) -> Sampler:
    """The model of a run, from its newest sound checkpoint.

    warn: told about damaged checkpoints that are passed over. Raises UserError when the folder is
    no such run or has no checkpoint that can be used.
    """
    run = load_run(run_dir, family=FAMILY)
    config = run_config(run)
    newest = require_checkpoint(run, warn=warn)
    with torch.device("meta"):
        model = build_model(config)
    model = model.to_empty(device=device).eval().requires_grad_(False)
    load_weights(newest, {"model": model})
    model = for_sampling(model)
    meta = checkpoint_meta(newest)
    digest = meta["files"][WEIGHTS_NAME]["sha256"]
    about = {"path": str(newest), "step": meta["step"], "sha256": digest}
    return Sampler(run, config, model, device, about)


def sample(request: SampleRequest, work: Work) -> dict[str, Any]:
    """Write the answers to pokes of each image: mp4, gif, grids and meta.json."""
    images = [read_image(path) for path in request.images]
    sampler = load(request.run_dir, prepare_device(request.device), warn=work.warning)
    if request.test_clips:
        return _answer_test_set(request, sampler, work)
    scenes = scene_names([path.stem for path in request.images])
    plans = [_aims(request, sampler, number, image, work) for number, image in enumerate(images)]
    num_frames = request.frames or sampler.config.clips.num_frames
    arrives = sampler.config.flow_lag // sampler.config.clips.frame_step
    pictures = [sampler.picture(image, request.fit) for image in images]
    asked = [
        (picture, aims) for picture, plan in zip(pictures, plans, strict=True) for aims in plan
    ]
    videos = Items(
        request,
        len(asked),
        lambda number: sampler.answer(*asked[number], num_frames),
        sampler.checkpoint,
        work,
    )
    if request.shard:
        return videos.make_shard()
    videos.spread(sample)
    done = 0
    rows: list[list[np.ndarray]] = []
    sheet: list[tuple[str, np.ndarray]] = []
    with sample_writer(request.out_dir, kind="sample", fps=request.fps) as writer:
        for scene, picture, plan in zip(scenes, pictures, plans, strict=True):
            rows.append([still(picture, num_frames)])
            for number, aims in enumerate(plan):
                video = videos[done]
                facts = {"pokes": [aim.facts() for aim in aims], "arrives": arrives}
                marked = with_arrows(picture, aims)
                writer.add(scene, video, sample=number, start=picture, marked=marked, facts=facts)
                sheet.append((f"{scene} {number}", np.concatenate([marked[None], video])))
                if number < GRID_COLUMNS and len(rows) <= GRID_ROWS:
                    rows[-1].append(np.concatenate([marked[None], video]))
                done += 1
                work.progress("sample", done, len(asked), "videos")
            rows[-1][0] = still(picture, num_frames + 1)
        writer.add_grid(_even(rows), sheet)
        writer.finish(_meta(request, sampler, scenes, num_frames))
    videos.clear()
    work.artifact(request.out_dir / "grid.mp4", "grid")
    work.artifact(request.out_dir / "grid.png", "grid")
    grid = str(request.out_dir / "grid.mp4")
    return {"samples": str(request.out_dir), "grid": grid, "videos": len(asked)}


def _answer_test_set(request: SampleRequest, sampler: Sampler, work: Work) -> dict[str, Any]:
    return write_test_set(
        request,
        sampler.model,
        sampler.config,
        device=sampler.device,
        facts={
            "family": FAMILY,
            "run": str(request.run_dir),
            "checkpoints": {"model": sampler.checkpoint},
        },
        work=work,
    )


def _aims(
    request: SampleRequest, sampler: Sampler, number: int, image: np.ndarray, work: Work
) -> list[list[Aim]]:
    """For each video of an image, its pokes."""
    name = request.images[number].name
    target = sampler.placement(image, request.fit)
    size = (image.shape[1], image.shape[0])
    if request.pokes:
        aims = [aimed(poke, image_size=size, target=target) for poke in request.pokes]
        plan = [aims]
    else:
        count = 1 if request.sweep else request.num
        drawn = _drawn(request, sampler, number, image, count)
        plan = [[aim] for aim in drawn]
    _warn_of(plan, name, sampler, work)
    if request.sweep is None:
        return plan
    base = plan[0][0]
    if base.length == 0:
        base = replace(base, dx=sampler.size_px * _DRAWN_LENGTH)
    turns = (2 * math.pi * turn / request.sweep for turn in range(request.sweep))
    return [[base.turned(angle)] for angle in turns]


def _drawn(
    request: SampleRequest, sampler: Sampler, number: int, image: np.ndarray, count: int
) -> list[Aim]:
    """Pokes from the flow file, or of what stands out in the image. Same seed, same pokes."""
    generator = torch_generator(request.seed, "poke", number)
    uniform = torch.rand((count, 2), generator=generator)
    margin_px = sampler.config.poke.patch_px
    if request.flow is not None:
        target = sampler.placement(image, request.fit)
        flow = placed_flow(read_flow(request.flow), target, (image.shape[1], image.shape[0]))
        return drawn_aims(flow, count=count, margin_px=margin_px, uniform=uniform[:, 0])
    return guessed_aims(
        sampler.picture(image, request.fit),
        count=count,
        margin_px=margin_px,
        length_px=sampler.size_px * _DRAWN_LENGTH,
        uniform=uniform,
    )


def _warn_of(plan: Sequence[Sequence[Aim]], name: str, sampler: Sampler, work: Work) -> None:
    margin, last = sampler.config.poke.patch_px, sampler.size_px - 1
    for aim in (each for aims in plan for each in aims):
        if not (margin <= aim.column <= last - margin and margin <= aim.row <= last - margin):
            work.warning(
                f"{name}: a poke lies on the border, where the model was never poked in training"
            )
        if aim.length == 0:
            work.warning(f"{name}: a poke of length 0 asks for nothing")


def _even(rows: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    """Only rows that have been filled; those behind are not shown."""
    return [row for row in rows if len(row) > 1] or rows


def _meta(
    request: SampleRequest, sampler: Sampler, scenes: Sequence[str], num_frames: int
) -> dict[str, Any]:
    images = [
        {"scene": scene, "path": str(path), "sha256": sha256(path)}
        for scene, path in zip(scenes, request.images, strict=True)
    ]
    return {
        "family": FAMILY,
        "run": str(request.run_dir),
        "checkpoints": {"model": sampler.checkpoint},
        "images": images,
        "pokes are in": f"pixels of {sampler.size_px} x {sampler.size_px}",
        "frames": num_frames,
        "size_px": sampler.size_px,
        "seed": request.seed,
        "device": str(sampler.device),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "command": shlex.join(_command(request)),
    }


def _command(request: SampleRequest) -> list[str]:
    """What to type to make the same again."""
    words = ["i2v", "sample", FAMILY, "--run", str(request.run_dir)]
    for path in request.images:
        words += ["--image", str(path)]
    for poke in request.pokes:
        words += ["--poke", _typed(poke)]
    for name in ("flow", "sweep", "frames", "num", "fit", "fps", "seed", "device"):
        value = getattr(request, name)
        words += [f"--{name}", str(value)] if value is not None else []
    return [*words, "--out", str(request.out_dir)]


def _typed(poke: Poke) -> str:
    values = (poke.x, poke.y, poke.dx, poke.dy)
    form = ".6f" if poke.is_fraction else ".0f"
    return ",".join(format(value, form) for value in values)
