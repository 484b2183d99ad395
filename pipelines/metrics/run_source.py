"""Videos made on the spot: a run's own model continues the start frames of a fixed list.

The list, pairs of a held-out video and its start frame, is drawn once per run and kept beside it
(evaluation.json), so that every later evaluation of the run is of the same videos.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import files
from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.io.packed import PackedVideos, find_variant
from pipelines.io.sample_folders import SampleFolder, SampleVideo
from pipelines.metrics.config import EvalRequest
from pipelines.training.device import prepare_device
from pipelines.training.generators import torch_generator
from pipelines.training.run_folder import load_run

LIST_NAME = "evaluation.json"

Continue = Callable[[Any, np.ndarray, int, int, int, int], np.ndarray]
"""(sampler, start frame, number of the image, number of the sample, frames, seed) to a video."""


class MadeVideos:
    """What a run makes of its list, a video at a time; nothing is kept."""

    def __init__(self, request: EvalRequest, run_dir: Path) -> None:
        """Raises UserError when the run's family cannot continue images, or its data is gone."""
        self.run_dir, self._request = run_dir, request
        self._run = load_run(run_dir)
        if self._run.family not in _CONTINUE:
            raise UserError(
                f"run '{run_dir.name}' has no samples, and {self._run.family} makes none by itself",
                {
                    "looked in": run_dir / "samples",
                    "run first": f"i2v sample {self._run.family} --run {run_dir.name}",
                },
                EXIT_NO_DATA,
            )
        module = importlib.import_module(f"pipelines.{self._run.family}.sample")
        device = prepare_device(request.device, threads=request.threads)
        self._sampler: Any = module.load(run_dir, device, warn=lambda _: None)
        self._num_frames = request.num_frames or _length(self._sampler.config)
        self._packed = self._open_data()
        self._list = self._evaluation_list()

    def folders(self) -> tuple[SampleFolder, SampleFolder]:
        """The videos to make, and the real ones that they should look like."""
        made, real = [], []
        each_has = self._request.num_samples
        for number, (video_id, _) in enumerate(self._list):
            scene = f"{number:04d}-{files.safe_name(video_id)}"
            real.append(SampleVideo(self.run_dir, scene, index=-1 - number))
            made += [
                SampleVideo(self.run_dir, scene, sample, index=number * each_has + sample)
                for sample in range(each_has)
            ]
        meta = {"seed": self._request.seed}
        return (
            SampleFolder(self.run_dir, "sample", tuple(made), meta),
            SampleFolder(self.run_dir, "real", tuple(real)),
        )

    def frames(self, index: int) -> np.ndarray:
        """uint8 T S S 3: a made video, or, below zero, a real one."""
        if index < 0:
            return self._real(-1 - index)[1:]
        number, sample = divmod(index, self._request.num_samples)
        return _CONTINUE[self._run.family](
            self._sampler, self.start(index), number, sample, self._num_frames, self._request.seed
        )

    def start(self, index: int) -> np.ndarray:
        """uint8 S S 3: the image that a video starts from."""
        number = -1 - index if index < 0 else index // self._request.num_samples
        return np.asarray(self._real(number)[0])

    @lru_cache(maxsize=4)  # noqa: B019 (lives as long as the evaluation)
    def _real(self, number: int) -> np.ndarray:
        """The start frame and what follows it, at the model's size."""
        video_id, start = self._list[number]
        frames = self._packed.frames(self._packed.ids.index(video_id), start, self._num_frames + 1)
        if frames.shape[-1] == 1:
            frames = np.repeat(frames, 3, axis=-1)
        picture = _PICTURE[self._run.family]
        return np.stack([picture(self._sampler, frame) for frame in frames])

    def _open_data(self) -> PackedVideos:
        if self._request.data_root is None:
            raise UserError(
                f"run '{self.run_dir.name}' has no samples, and its data is not known",
                {"to fix": "give data_root=FOLDER, or make samples first: i2v sample"},
                EXIT_NO_DATA,
            )
        data = self._sampler.config.data
        return PackedVideos(find_variant(self._request.data_root, data.dataset, data.variant))

    def _evaluation_list(self) -> list[tuple[str, int]]:
        """The kept list, or a new one: first frames of held-out videos, spread evenly."""
        path = self.run_dir / LIST_NAME
        if path.is_file():
            pairs = [(str(each["video"]), int(each["start"])) for each in files.read_json(path)]
            return pairs[: self._request.num_images]
        data = self._sampler.config.data
        rows = self._packed.select("test", data.include, self._num_frames + 1)
        if len(rows) < 2:
            raise UserError(
                f"{len(rows)} held-out videos (split 'test') are long enough, 2 are needed",
                {"looked in": self._packed.dir, "a clip has": self._num_frames + 1},
                EXIT_NO_DATA,
            )
        places = np.linspace(0, len(rows) - 1, min(self._request.num_images, len(rows)))
        chosen = [rows[i] for i in np.unique(places.round().astype(int))]
        pairs = [(self._packed.ids[row], 0) for row in chosen]
        files.write_json(path, [{"video": video, "start": start} for video, start in pairs])
        return pairs


def _length(config: Any) -> int:
    section = config.stage1 if hasattr(config, "stage1") else config.clips
    return int(section.num_frames)


def _cinn(
    sampler: Any, start: np.ndarray, number: int, sample: int, num_frames: int, seed: int
) -> np.ndarray:
    residual = sampler.residual(seed, number, sample)
    return np.asarray(sampler.animate(sampler.start(start), residual, num_frames))


def _cinn_picture(sampler: Any, frame: np.ndarray) -> np.ndarray:
    from pipelines.cinn.preview import to_bytes

    return np.asarray(to_bytes(sampler.start(frame)[0]))


def _poke(
    sampler: Any, start: np.ndarray, number: int, sample: int, num_frames: int, seed: int
) -> np.ndarray:
    """Poked where something stands out; the direction is drawn."""
    import torch

    from pipelines.poke.aim import guessed_aims

    generator = torch_generator(seed, "poke", number, sample)
    aims = guessed_aims(
        start,
        count=1,
        margin_px=sampler.config.poke.patch_px,
        length_px=sampler.size_px / 8,
        uniform=torch.rand((1, 2), generator=generator),
    )
    return np.asarray(sampler.answer(start, aims, num_frames))


def _poke_picture(sampler: Any, frame: np.ndarray) -> np.ndarray:
    return np.asarray(sampler.picture(frame, "squash"))


_CONTINUE: Mapping[str, Continue] = {"cinn": _cinn, "poke": _poke}
_PICTURE: Mapping[str, Callable[[Any, np.ndarray], np.ndarray]] = {
    "cinn": _cinn_picture,
    "poke": _poke_picture,
}
