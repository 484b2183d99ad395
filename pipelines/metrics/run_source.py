"""Videos made on the spot: a run's own model makes them from the clips of a fixed list.

The list, pairs of a held-out video and its start frame, is drawn once per run and set of videos and
kept beside the run (evaluation.json), so that every later evaluation of the run is of the same
clips. Asking for fewer images takes the first of them.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import files
from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.io.packed import PackedVideos
from pipelines.io.sample_folders import SampleFolder, SampleVideo
from pipelines.metrics.config import EvalRequest
from pipelines.metrics.run_data import named_frames, own_frames
from pipelines.metrics.run_makers import MAKERS, Draw
from pipelines.training.checkpoint import WEIGHTS_NAME, checkpoint_meta
from pipelines.training.device import prepare_device
from pipelines.training.run_folder import load_run, require_checkpoint

LIST_NAME = "evaluation.json"
_LONGEST_LIST = 2048
_ORDER_SEED = 0  # of the list; the same for every run, so that runs are compared on the same clips
_ABOUT_POSES = ("behavior", "shape-pose")


class MadeVideos:
    """What a run makes of its list, a video at a time; nothing is kept."""

    def __init__(self, request: EvalRequest, run_dir: Path) -> None:
        """Raises UserError when the run's family makes no videos of clips, or its data is gone."""
        self.run_dir, self._request = run_dir, request
        self._run = load_run(run_dir)
        if self._run.family not in MAKERS:
            raise self._makes_none()
        self._maker = MAKERS[self._run.family]
        module = importlib.import_module(f"pipelines.{self._run.family}.sample")
        device = prepare_device(request.device, threads=request.threads)
        self._sampler: Any = module.load(run_dir, device, warn=lambda _: None)
        config = self._sampler.config
        self._length = self._maker.length(config, request.num_frames)
        self._step = self._maker.step(config)
        self._packed = self._open_data()
        self._list = self._evaluation_list()
        self._num_samples = request.num_samples if self._maker.draws(self._sampler) else 1

    def folders(self) -> tuple[SampleFolder, SampleFolder]:
        """The videos to make, and the real ones that they should look like."""
        made, real = [], []
        each_has = self._num_samples
        for number, (video_id, _) in enumerate(self._list):
            scene = f"{number:04d}-{files.safe_name(video_id)}"
            real.append(SampleVideo(self.run_dir, scene, index=-1 - number))
            made += [
                SampleVideo(self.run_dir, scene, sample, index=number * each_has + sample)
                for sample in range(each_has)
            ]
        return (
            SampleFolder(self.run_dir, "sample", tuple(made), self._meta()),
            SampleFolder(self.run_dir, "real", tuple(real)),
        )

    def frames(self, index: int) -> np.ndarray:
        """uint8 T S S 3: a made video, or, below zero, a real one."""
        if index < 0:
            return self._maker.compared(self._clip(-1 - index))
        draw = self._draw(index)
        return self._maker.make(self._sampler, self._clip(draw.number), draw)

    def start(self, index: int) -> np.ndarray:
        """uint8 S S 3: the image that a video starts from."""
        number = -1 - index if index < 0 else self._draw(index).number
        return np.asarray(self._clip(number)[0])

    def digest(self, index: int) -> str:
        """A hash of a real video, below zero, and of what it starts from."""
        clip = np.ascontiguousarray(self._clip(-1 - index))
        return hashlib.sha256(
            repr((clip.shape, self._maker.about)).encode() + clip.tobytes()
        ).hexdigest()

    def facts(self, index: int) -> Mapping[str, Any]:
        """What meta.json would say of a video, such as its poke."""
        if index < 0:
            return {}
        draw = self._draw(index)
        return self._maker.facts(self._sampler, self._clip(draw.number), draw)

    def _draw(self, index: int) -> Draw:
        return Draw(self._request.seed, *divmod(index, self._num_samples))

    def _meta(self) -> dict[str, Any]:
        """What the protocol tells of how the videos came to be."""
        checkpoint = checkpoint_meta(require_checkpoint(self._run, warn=lambda _: None))
        digest = str(checkpoint["files"][WEIGHTS_NAME]["sha256"])
        row = self._packed.rows[self._packed.ids.index(self._list[0][0])]
        meta: dict[str, Any] = {
            "made": self._maker.about,
            "seed": self._request.seed,
            "checkpoint": f"step {checkpoint['step']} ({digest[:8]})",
        }
        if row.fps:
            meta["fps"] = row.fps / self._step
        return meta

    @lru_cache(maxsize=4)  # noqa: B019 (lives as long as the evaluation)
    def _clip(self, number: int) -> np.ndarray:
        """A clip of the list at the model's size: uint8 T S S 3."""
        video_id, start = self._list[number]
        row = self._packed.ids.index(video_id)
        frames = self._packed.frames(row, start, self._span)[:: self._step]
        if frames.shape[-1] == 1:
            frames = np.repeat(frames, 3, axis=-1)
        return np.stack([self._maker.picture(self._sampler, frame) for frame in frames])

    @property
    def _span(self) -> int:
        """Stored frames that a clip takes."""
        return (self._length - 1) * self._step + 1

    @property
    def _uses_own_data(self) -> bool:
        return named_frames(self._request) is None

    def _open_data(self) -> PackedVideos:
        """Prepared frames that the request names as real, or those that the run was trained on."""
        named = named_frames(self._request)
        if named is not None:
            return PackedVideos(named)
        if self._request.data_root is None:
            raise UserError(
                f"run '{self.run_dir.name}' has no samples, and its data is not known",
                {"to fix": "give --real DATASET, or make samples first: i2v sample"},
                EXIT_NO_DATA,
            )
        return PackedVideos(own_frames(self._sampler.config.data, self._request.data_root))

    def _evaluation_list(self) -> list[tuple[str, int]]:
        """The kept list, or a new one."""
        path = self.run_dir / LIST_NAME
        if not self._uses_own_data:
            variant_dir = self._packed.dir
            names = (variant_dir.parent.parent.name, variant_dir.name, self._request.real_split)
            path = path.with_name(f"{path.stem}-{'-'.join(map(files.safe_name, names))}.json")
        if path.is_file():
            pairs = [(str(each["video"]), int(each["start"])) for each in files.read_json(path)]
            return self._checked(path, pairs[: self._request.num_images])
        pairs = list(self._drawn())[:_LONGEST_LIST]
        if len(pairs) < 2:
            raise UserError(
                f"{len(pairs)} held-out clips (split '{self._request.real_split}') are long "
                "enough, 2 are needed",
                {"looked in": self._packed.dir, "a clip has": self._span},
                EXIT_NO_DATA,
            )
        files.write_json(path, [{"video": video, "start": start} for video, start in pairs])
        return pairs[: self._request.num_images]

    def _drawn(self) -> Iterator[tuple[str, int]]:
        """Held-out videos in an order of chance: their beginnings, then what follows, and so on."""
        include = self._sampler.config.data.include if self._uses_own_data else ("*",)
        rows = self._packed.select(self._request.real_split, include, self._span)
        order = np.random.default_rng(_ORDER_SEED).permutation(len(rows))
        rows = [rows[place] for place in order]
        start = 0
        while rows:
            yield from ((self._packed.ids[row], start) for row in rows)
            start += self._span
            rows = [row for row in rows if self._packed.rows[row].num_frames >= start + self._span]

    def _checked(self, path: Path, pairs: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """The pairs; UserError when the videos are not there, or too short for what is asked."""
        lengths = dict(zip(self._packed.ids, self._packed.num_frames, strict=True))
        for video_id, start in pairs:
            if lengths.get(video_id, 0) < start + self._span:
                raise UserError(
                    f"the run's list of clips does not fit: '{video_id}' from frame {start}",
                    {
                        "list": path,
                        "videos": self._packed.dir,
                        "a clip has": self._span,
                        "to fix": "remove the list, and a new one is drawn",
                    },
                    EXIT_NO_DATA,
                )
        return pairs

    def _makes_none(self) -> UserError:
        family, name = self._run.family, self.run_dir.name
        remedy = {"run first": f"i2v sample {family} --run {name}"}
        if family in _ABOUT_POSES:
            remedy = {"to measure poses": f"i2v eval pose --source {name}"} | remedy
        return UserError(
            f"run '{name}' has no samples, and {family} makes none by itself",
            {"looked in": self.run_dir / "samples", **remedy},
            EXIT_NO_DATA,
        )
