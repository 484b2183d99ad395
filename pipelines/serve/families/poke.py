"""Asks a model of the poke family."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.poke import sample
from pipelines.poke.aim import Aim, aimed, aims_map
from pipelines.poke.arrows import with_arrows
from pipelines.poke.config import Poke
from pipelines.poke.inference import answer, from_bytes, to_bytes
from pipelines.serve.families.pictures import command_line, picture_at
from pipelines.serve.model_process import Answering
from pipelines.training.device import prepare_device

FPS = 5.0
_FIT = "squash"
_ARROW_PX = 512


def open_model(run_dir: Path, device_name: str, warn: Callable[[str], None]) -> PokedModel:
    """The model of a run. Raises UserError when it has no checkpoint that can be used."""
    return PokedModel(sample.load(run_dir, prepare_device(device_name), warn=warn))


class PokedModel:
    """A model that answers arrows."""

    def __init__(self, sampler: sample.Sampler) -> None:
        self._sampler = sampler

    def warm_up(self) -> None:
        """Answer one arrow on grey."""
        size = self._sampler.size_px
        grey = np.full((size, size, 3), 128, np.uint8)
        middle = Aim(size // 2, size // 2, size / 8, 0.0)
        for _ in self._frames(grey, [middle], 2):
            pass

    def answer(self, question: dict[str, Any]) -> Answering:
        """The answer to arrows that act at once, or to one arrow in several directions."""
        sampler = self._sampler
        image = picture_at(Path(question["image"]))
        height, width = image.shape[:2]
        target = sampler.placement(image, _FIT)
        pokes = [Poke(**_typed(arrow), is_fraction=True) for arrow in question["arrows"]]
        aims = [aimed(poke, image_size=(width, height), target=target) for poke in pokes]
        picture = sampler.picture(image, _FIT)
        num_frames = question["frames"] or sampler.config.clips.num_frames
        plan = [aims]
        if turns := question["directions"]:
            base = aims[0]
            plan = [[base.turned(2 * math.pi * turn / turns)] for turn in range(turns)]
        left, top, part_width, part_height = target.crop
        meta = {
            "family": "poke",
            "run": question["run"],
            "checkpoints": {"model": sampler.checkpoint},
            "pokes": [poke.model_dump() for poke in pokes],
            "frames": num_frames,
            "command": _command(question, pokes),
        }
        return Answering(
            start=picture,
            arrow=_pointed(picture, [aim for each in plan for aim in each]),
            num_videos=len(plan),
            num_frames=num_frames,
            fps=FPS,
            meta=meta,
            frames=self._videos(picture, plan, num_frames),
            box=(left / width, top / height, part_width / width, part_height / height),
        )

    def _videos(
        self, picture: np.ndarray, plan: Sequence[Sequence[Aim]], num_frames: int
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        for video, aims in enumerate(plan):
            for index, frame in enumerate(self._frames(picture, aims, num_frames)):
                yield video, index, frame

    def _frames(
        self, picture: np.ndarray, aims: Sequence[Aim], num_frames: int
    ) -> Iterator[np.ndarray]:
        sampler = self._sampler
        poke = aims_map(aims, size_px=sampler.size_px, patch_px=sampler.config.poke.patch_px)
        frames = answer(
            sampler.model,
            from_bytes(picture)[None].to(sampler.device),
            poke.to(sampler.device),
            num_frames,
            schedule=sampler.config.model.schedule,
        )
        for frame in frames:
            yield to_bytes(frame[0])


def _typed(arrow: dict[str, float]) -> dict[str, float]:
    """An arrow as the command line is told of it, so that both see the very same one."""
    return {name: float(f"{value:.6f}") for name, value in arrow.items()}


def _pointed(picture: np.ndarray, aims: Sequence[Aim]) -> np.ndarray:
    """The picture, enlarged, with its arrows."""
    factor = max(1, _ARROW_PX // len(picture))
    size = len(picture) * factor
    large = np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC))
    enlarged = [
        replace(
            aim,
            column=aim.column * factor + factor // 2,
            row=aim.row * factor + factor // 2,
            dx=aim.dx * factor,
            dy=aim.dy * factor,
        )
        for aim in aims
    ]
    return with_arrows(large, enlarged)


def _command(question: dict[str, Any], pokes: Sequence[Poke]) -> str:
    places = [
        ",".join(f"{value:.6f}" for value in (poke.x, poke.y, poke.dx, poke.dy)) for poke in pokes
    ]
    return command_line(
        "sample",
        "poke",
        [
            ("run", question["run"]),
            ("image", question["image"]),
            *(("poke", place) for place in places),
            ("sweep", question["directions"]),
            ("frames", question["frames"]),
        ],
    )
