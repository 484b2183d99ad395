"""Asks a model of the cinn family."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.cinn import sample
from pipelines.cinn.inference import encode_motion
from pipelines.cinn.preview import to_bytes
from pipelines.serve.families.pictures import command_line, picture_at
from pipelines.serve.model_process import Answering
from pipelines.training.device import prepare_device

FPS = 8.0


def open_model(run_dir: Path, device_name: str, warn: Callable[[str], None]) -> SampledModel:
    """The model of a run. Raises UserError when it has no checkpoint that can be used."""
    return SampledModel(sample.load(run_dir, prepare_device(device_name), warn=warn))


class SampledModel:
    """A model that draws what may happen, or does what a clip does."""

    def __init__(self, sampler: sample.Sampler) -> None:
        self._sampler = sampler

    def warm_up(self) -> None:
        """Animate grey."""
        size, control = self._sampler.size_px, self._sampler.config.stage2.is_controlled
        start = self._sampler.start(np.full((size, size, 3), 128, np.uint8))
        endpoint = torch.zeros(1, 3) if control else None
        self._sampler.animate(start, self._sampler.residual(0, 0, 0), 1, endpoint=endpoint)

    def answer(self, question: dict[str, Any]) -> Answering:
        """Different futures of a picture, or the motion of a clip given to it."""
        start = self._sampler.start(picture_at(Path(question["image"])))
        is_draw = question["kind"] == "sample"
        frames = self._drawn(start, question) if is_draw else self._moved(start, question)
        return Answering(
            start=to_bytes(start[0]),
            arrow=None,
            num_videos=question["num"] if is_draw else 1,
            num_frames=question["frames"],
            fps=FPS,
            meta=self._meta(question),
            frames=frames,
        )

    def _drawn(
        self, start: Tensor, question: dict[str, Any]
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        place = question["endpoint"]
        endpoint = None if place is None else torch.tensor([[*_typed(place), 0.0]])
        for number in range(question["num"]):
            residual = question["temperature"] * self._sampler.residual(question["seed"], 0, number)
            video = self._sampler.animate(start, residual, question["frames"], endpoint=endpoint)
            for index, frame in enumerate(video):
                yield number, index, frame

    def _moved(
        self, start: Tensor, question: dict[str, Any]
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        sampler = self._sampler
        sample.require_encoder(sampler)
        frames = sample.read_clip(Path(question["clip"]), sampler.config.stage1.num_frames + 1)
        clip = torch.cat([sampler.start(frame) for frame in frames])[None]
        video = sampler.animate(start, encode_motion(sampler.model, clip), question["frames"])
        for index, frame in enumerate(video):
            yield 0, index, frame

    def _meta(self, question: dict[str, Any]) -> dict[str, Any]:
        is_draw = question["kind"] == "sample"
        if is_draw:
            place = question["endpoint"]
            options: list[tuple[str, object]] = [
                ("image", question["image"]),
                ("endpoint", None if place is None else ",".join(f"{v:.6f}" for v in place)),
                ("num", question["num"]),
                ("seed", question["seed"]),
                ("temperature", question["temperature"]),
            ]
        else:
            options = [("source", question["clip"]), ("image", question["image"])]
        verb = "sample" if is_draw else "transfer"
        run, length = ("run", question["run"]), ("frames", question["frames"])
        return {
            "family": "cinn",
            "run": question["run"],
            "checkpoints": self._sampler.checkpoints,
            "frames": question["frames"],
            "command": command_line(verb, "cinn", [run, *options, length]),
        }


def _typed(place: tuple[float, ...]) -> list[float]:
    """A place as the command line is told of it."""
    return [float(f"{value:.6f}") for value in place]
