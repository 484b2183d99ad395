"""Asks a model of the inbetween family."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.events import Work
from pipelines.inbetween import sample
from pipelines.inbetween.config import NUM_FRAMES
from pipelines.io.two_images import Ends, read_ends
from pipelines.serve.families.pictures import command_line
from pipelines.serve.model_process import Answering
from pipelines.training.device import prepare_device

FPS = 8.0


def open_model(run_dir: Path, device_name: str, warn: Callable[[str], None]) -> FilledModel:
    """The model of a run. Raises UserError when it has no checkpoint that can be used."""
    return FilledModel(sample.load(run_dir, prepare_device(device_name), warn=warn))


class FilledModel:
    """A model that makes up what lies between two pictures."""

    def __init__(self, sampler: sample.Sampler) -> None:
        self._sampler = sampler

    def warm_up(self) -> None:
        """Go from grey to grey."""
        size = self._sampler.config.size_px
        grey = np.full((size, size, 3), 128, np.uint8)
        self._sampler.between(grey, grey, self._sampler.noise(0, 0))

    def answer(self, question: dict[str, Any]) -> Answering:
        """Several ways from the first picture to the last. Raises UserError for unequal sizes."""
        sampler = self._sampler
        ends = read_ends(
            Path(question["start"]),
            Path(question["end"]),
            size_px=sampler.config.size_px,
            is_grey=sampler.is_grey,
            work=Work(),  # the page shows both pictures: there is nothing to tell
        )
        return Answering(
            start=ends.start,
            arrow=None,
            num_videos=question["num"],
            num_frames=NUM_FRAMES,
            fps=FPS,
            meta=self._meta(question),
            frames=self._videos(ends, question),
        )

    def _videos(
        self, ends: Ends, question: dict[str, Any]
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        for number in range(question["num"]):
            noise = self._sampler.noise(question["seed"], number)
            for index, frame in enumerate(self._sampler.between(ends.start, ends.end, noise)):
                yield number, index, frame

    def _meta(self, question: dict[str, Any]) -> dict[str, Any]:
        names = ("run", "start", "end", "num", "seed")
        return {
            "family": "inbetween",
            "run": question["run"],
            "checkpoints": {"model": self._sampler.checkpoint},
            "frames": NUM_FRAMES,
            "seed": question["seed"],
            "includes_start_frame": True,
            "command": command_line("sample", "inbetween", [(n, question[n]) for n in names]),
        }
