"""What a dataset must offer: facts about it (`SPEC`) and what its raw folder holds (`layout`).

Decoding, resizing, splitting and packing are shared by all of them: `pipelines.datasets.prepare`.

Raw clips with ground truth are `.npz` files with these arrays (T frames of H x W pixels):
  frames       uint8   T H W 3 (or T H W 1, T H W)
  flow_<lag>   float   T-lag 2 H W; entry t is the motion from frame t to frame t+lag in pixels of
               the raw frame, x (right) then y (down); nan where it is not known
  fps          number  frames per second (optional)
  labels       text    a JSON object kept with the video, such as {"direction": 0.3} (optional)
  any other    T ...   one entry per frame: joints, endpoint, masks.  Coordinates are fractions of
               width and height (they survive a resize).  An array T H W ... of the size of the
               frames is a map (ids, visibility) and is resized without mixing values.
  other shapes are kept in the raw file only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import JsonValue

RawKind = Literal["video", "frames", "strip", "array", "image", "tracks"]
"""video: a file for ffmpeg; frames: a folder of images in natural order; strip: one image with
square frames side by side; array: .npy or .npz as described above, or what `clip` opens; image: a
single image, complete in itself; tracks: no frames at all, only arrays beside them."""

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Track:
    """What is known beside the frames of a raw video.

    arrays: name -> [N ...], one entry per raw frame from frame 0 on, the same N for all. Frames
    after the N-th are left out.  labels: kept with the video.
    """

    num_frames: int
    arrays: Mapping[str, Any]
    labels: Mapping[str, JsonValue] = field(default_factory=dict)


class TrackSource(Protocol):
    """Where the arrays beside a raw video's frames come from; handed from process to process."""

    @property
    def files(self) -> tuple[Path, ...]:
        """What they are read from, so that a change is noticed."""
        ...

    def read(self) -> Track:
        """Read them. Raises UserError where they cannot be read or do not fit together."""
        ...


class ClipSource(Protocol):
    """A clip in a file that holds several; handed from process to process."""

    @property
    def first_byte(self) -> int:
        """Where it begins in the file."""
        ...

    @property
    def num_bytes(self) -> int:
        """What it takes there."""
        ...

    def open(self) -> Any:
        """The clip with the members of pipelines.io.arrays.ArrayClip. Raises UserError."""
        ...


@dataclass(frozen=True)
class Crop:
    """A box in frames of the size width x height, scaled to the size that the file has."""

    left: int
    top: int
    right: int
    bottom: int
    width: int
    height: int


TimeParts = tuple[float, float, float]
"""The parts train, val, test of a video's own frames, in the order of time."""


@dataclass(frozen=True)
class RawVideo:
    """One video of a raw folder, not opened yet.

    id: unique and printable, with the folders below the raw folder, such as 'clouds/train/00003'.
    group: what the clip was cut from or who is in it; one group never straddles two splits.
    split: fixed by the publisher (train, val, test), or None to let the split rule decide.
    splits: published rule (a key of DatasetSpec.published) -> the split of this video by it: a
    name, parts in time, or None for the split rule. A rule that is not there leaves the video out.
    A video with `splits` has no split of its own.
    time_parts: cut the video in time instead of giving it one split.
    first_frame, num_frames: the part of the file that is meant; num_frames None means to the end.
    clock_fps: frames per second that these two are counted in; the file's own when None.
    crop: the part of each frame that is meant.  clip: opens a video of kind 'array'.
    fps: frames per second where the file does not say (folders of images, .npy).
    tracks: arrays that lie in other files than the frames.
    """

    id: str
    path: Path
    kind: RawKind
    group: str
    split: str | None = None
    labels: Mapping[str, JsonValue] = field(default_factory=dict)
    first_frame: int = 0
    num_frames: int | None = None
    fps: float | None = None
    tracks: TrackSource | None = None
    splits: Mapping[str, str | TimeParts | None] = field(default_factory=dict)
    time_parts: TimeParts | None = None
    clock_fps: float | None = None
    crop: Crop | None = None
    clip: ClipSource | None = None


@dataclass(frozen=True)
class Rejected:
    """A video that is left out: `reason` is one of few phrases, `detail` says more."""

    id: str
    source: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Resize:
    """A step of a published resizing; pipelines.io.published_resize says what the filters do.

    size_px: of the frame after it; the size of the prepared frames when None.
    """

    filter: Literal["opencv", "float", "swscale"]
    size_px: int | None = None


@dataclass(frozen=True)
class Published:
    """How a published code base splits, resizes and stores a dataset.

    about: whose rule it is, in a few words.
    resize: its steps from the decoded frame to the network's size; empty where it is not known.
    grey: how it makes frames grey.
    image_name: what it calls the image of frame {n} (counted from 0) or {n1} (from 1) of a video.
    keeps_images: its images are the raw ones under other names; then without a suffix.
    tables: file beside the images -> the per-frame array it holds, a line per frame.
    """

    about: str
    resize: tuple[Resize, ...] = ()
    grey: Literal["opencv", "first channel"] = "opencv"
    image_name: str = "frame_{n}.png"
    keeps_images: bool = False
    tables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetSpec:
    """Facts about a dataset that hold before anything is downloaded.

    native_size_px: width, height of the published videos, None when mixed.
    fps: frames per second of the published videos, None when mixed or unknown.
    published: name -> a published rule; the first one is followed where none is chosen.
    """

    about: str
    licence: str
    native_size_px: tuple[int, int] | None = None
    fps: float | None = None
    has_poses: bool = False
    published: Mapping[str, Published] = field(default_factory=dict)


class Dataset(Protocol):
    """What a module `pipelines.datasets.<name>` offers."""

    SPEC: DatasetSpec

    @staticmethod
    def layout(raw: Path) -> Iterable[RawVideo | Rejected]:
        """What the raw folder holds, in an order that does not depend on the disk.

        Opens no video. An entry that is known to be missing or unusable is given as Rejected.
        Raises UserError (exit code 4) when the folder is missing or holds nothing.
        """
        ...
