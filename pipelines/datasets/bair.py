"""BAIR robot pushing: 43,520 episodes of 30 frames of an arm that pushes things about.

Read from the download (TFRecord files below softmotion30_44k), or from the folders of images that
published code makes of it: {train,eval,test}/<file>/<k>/<t>.png with endeffector_positions.csv, or
{train,test}/<file>/<kkk>/<ttt>.png; both also below processed_data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.datasets.base import (
    DatasetSpec,
    Published,
    RawVideo,
    Rejected,
    Resize,
    Track,
)
from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.files import natural_key
from pipelines.io.images import IMAGE_SUFFIXES
from pipelines.io.tfrecords import (
    DamagedRecord,
    Feature,
    RecordPlace,
    frames_of,
    numbers_of,
    parse_example,
    read_record,
    record_places,
)

POSITIONS_FILE = "endeffector_positions.csv"

SPEC = DatasetSpec(
    about="BAIR robot pushing: an arm pushes things about, 30 frames per episode",
    licence="CC BY 4.0",
    native_size_px=(64, 64),
    published={
        "cinn": Published(
            "the cINN code: one training file is for validation",
            resize=(Resize("float"),),
            image_name="{n}.png",
            tables={POSITIONS_FILE: "endeffector_pos_m"},
        ),
        "svg": Published(
            "SVG and SRVP: all training files are for training",
            image_name="{n:03d}.png",
        ),
    },
)

SIZE_PX = 64
NUM_FILES, RECORDS_PER_FILE = 170, 256
POSITION_LOW = np.array([0.42638585, -0.3080245, 0.19146784], np.float32)
POSITION_RANGE = np.array([0.42850533, 0.54029283, 0.12564658], np.float32)
"""Positions of the gripper in metres, minus the first, by the second, are between 0 and 1."""

_FILE = re.compile(r"traj_(\d+)_to_(\d+)")
_VALIDATION, _TEST = "traj_256_to_511", "traj_0_to_255"
_FRAMES, _POSITION, _ACTION = "{t}/image_aux1/encoded", "{t}/endeffector_pos", "{t}/action"
_FOLDERS = {"train": "train", "eval": "val", "val": "val", "test": "test"}


@dataclass(frozen=True)
class Episode:
    """A record of a TFRecord file, as pipelines.datasets.base.ClipSource."""

    path: Path
    place: RecordPlace

    @property
    def first_byte(self) -> int:
        """Of the record in its file."""
        return self.place.first_byte

    @property
    def num_bytes(self) -> int:
        """Of the record."""
        return self.place.num_bytes

    def open(self) -> EpisodeClip:
        """The episode with all its arrays.

        Raises DamagedRecord where the checksum is wrong, UserError where it is not an episode.
        """
        data = read_record(self.path, self.place)
        try:
            return EpisodeClip(parse_example(data))
        except (ValueError, UnicodeDecodeError) as problem:
            raise UserError(
                f"record {self.place.number} of '{self.path.name}' is not a BAIR episode",
                {"path": self.path, "reason": problem},
                EXIT_NO_DATA,
            ) from problem


class EpisodeClip:
    """An episode with the members of pipelines.io.arrays.ArrayClip.

    endeffector_pos: gripper position in its range, 0 to 1, T 3.  endeffector_pos_m: the same in
    metres as recorded.  action: as recorded, T 4.
    """

    names = ("action", "endeffector_pos", "endeffector_pos_m")

    def __init__(self, features: dict[str, Feature]) -> None:
        """Raises ValueError where something is missing or of another size."""
        self._frames = frames_of(features, _FRAMES, (SIZE_PX, SIZE_PX, 3))
        self.shape = self._frames.shape
        numbers = partial(numbers_of, features, count=len(self._frames))
        positions = numbers(_POSITION, size=3)
        self._arrays = _positions(positions) | {"action": numbers(_ACTION, size=4)}

    def frames(self) -> Iterator[np.ndarray]:
        """uint8 64 64 3 each."""
        return iter(self._frames)

    def array(self, name: str) -> np.ndarray:
        """One of `names`, float32 T ..."""
        return self._arrays[name]

    def fps(self) -> None:
        """Nobody says."""

    def labels(self) -> dict[str, Any]:
        """None beside those of the layout."""
        return {}


@dataclass(frozen=True)
class PositionsTable:
    """Positions beside a folder of images, as pipelines.datasets.base.TrackSource."""

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The table."""
        return (self.path,)

    def read(self) -> Track:
        """A line per frame. Raises UserError where it is not three numbers a line."""
        try:
            positions = np.loadtxt(self.path, np.float32, delimiter=",", ndmin=2)
        except ValueError as problem:
            raise UserError(
                f"cannot read '{self.path.name}'",
                {"path": self.path, "reason": problem},
                EXIT_NO_DATA,
            ) from problem
        if positions.shape[1] != 3:
            raise UserError(
                f"'{self.path.name}' has {positions.shape[1]} numbers a line, not 3",
                {"path": self.path},
                EXIT_NO_DATA,
            )
        return Track(len(positions), _positions(positions))


def layout(raw: Path) -> Iterable[RawVideo | Rejected]:
    """The episodes: test, validation and training file by file, in the order of their numbers.

    Raises UserError (exit code 4) when there is neither a TFRecord file nor a folder of images.
    """
    files = [*raw.glob("softmotion30_44k/*/traj_*.tfrecords"), *raw.glob("*/traj_*.tfrecords")]
    files = [*files, *raw.glob("traj_*.tfrecords")]
    known = sorted((path for path in files if _FILE.fullmatch(path.stem)), key=_order)
    found: list[RawVideo | Rejected] = []
    for path in known:
        found += _episodes(path)
    if known:
        return [*found, *_missing_files(known)]
    found = [video for root in (raw, raw / "processed_data") for video in _folders(root)]
    if not found:
        raise UserError(
            "no BAIR episodes",
            {
                "looked in": raw,
                "looked for": "softmotion30_44k/{train,test}/traj_*.tfrecords",
                "run first": "i2v download bair   (--subset test: 190 MB, the test part alone)",
            },
            EXIT_NO_DATA,
        )
    return found


def _episodes(path: Path) -> Iterator[RawVideo | Rejected]:
    split = _split_of(path.stem, path.parent.name)
    places = record_places(path)
    number = 0
    while True:
        video_id = _video_id(split, path.stem, number + 1)
        try:
            place = next(places, None)
        except DamagedRecord as problem:
            detail = f"{problem.message}: {problem.details['reason']}"
            yield Rejected(video_id, str(path), "damaged", detail)
            return
        if place is None:
            return
        yield RawVideo(
            id=video_id,
            path=path,
            kind="array",
            group=video_id,
            labels={"episode": number + 1},
            splits=_splits(split),
            clip=Episode(path, place),
        )
        number += 1


def _split_of(file: str, folder: str) -> str:
    """train, val or test of a file, by its name; files with odd numbers by their folder."""
    known = {_VALIDATION: "val", _TEST: "test"}
    return known.get(file) or ("test" if folder == "test" else "train")


def _splits(split: str) -> dict[str, str]:
    return {"cinn": split, "svg": "train" if split == "val" else split}


def _video_id(split: str, file: str, number: int) -> str:
    return f"{'eval' if split == 'val' else split}/{file}/{number}"


def _missing_files(known: list[Path]) -> Iterator[Rejected]:
    """Training files that were published and are not here; none are expected without any."""
    here = {path.stem for path in known}
    if here <= {_TEST}:
        return
    for number in range(NUM_FILES):
        first = number * RECORDS_PER_FILE
        name = f"traj_{first}_to_{first + RECORDS_PER_FILE - 1}"
        if name not in here:
            folder = "test" if name == _TEST else "train"
            where = f"softmotion30_44k/{folder}/{name}.tfrecords"
            yield Rejected(name, where, "missing", "published but not there")


def _folders(root: Path) -> Iterator[RawVideo]:
    """Episodes as folders of images."""
    for folder, split in _FOLDERS.items():
        for episode in sorted(root.glob(f"{folder}/traj_*/*"), key=_order):
            if not _FILE.fullmatch(episode.parent.name) or not episode.name.isdecimal():
                continue
            if not any(path.suffix.lower() in IMAGE_SUFFIXES for path in episode.iterdir()):
                continue
            table = episode / POSITIONS_FILE
            video_id = _video_id(split, episode.parent.name, int(episode.name))
            video = RawVideo(
                id=video_id,
                path=episode,
                kind="frames",
                group=video_id,
                labels={"episode": int(episode.name)},
                splits=_splits(split),
            )
            yield replace(video, tracks=PositionsTable(table)) if table.is_file() else video


def _positions(metres: np.ndarray) -> dict[str, np.ndarray]:
    fractions = ((metres - POSITION_LOW) / POSITION_RANGE).astype(np.float32)
    return {"endeffector_pos": fractions, "endeffector_pos_m": metres}


def _order(path: Path) -> tuple[object, ...]:
    return tuple(natural_key(part) for part in path.parts[-3:])
