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
from typing import Literal, Protocol

from pydantic import JsonValue

RawKind = Literal["video", "frames", "strip", "array"]
"""video: a file for ffmpeg; frames: a folder of images in natural order; strip: one image with
square frames side by side; array: .npy or .npz as described above."""

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class RawVideo:
    """One video of a raw folder, not opened yet.

    id: unique and printable, with the folders below the raw folder, such as 'clouds/train/00003'.
    group: what the clip was cut from or who is in it; one group never straddles two splits.
    split: fixed by the publisher (train, val, test), or None to let the split rule decide.
    first_frame, num_frames: the part of the file that is meant; num_frames None means to the end.
    fps: frames per second where the file does not say (folders of images, .npy).
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


@dataclass(frozen=True)
class Rejected:
    """A video that is left out: `reason` is one of few phrases, `detail` says more."""

    id: str
    source: str
    reason: str
    detail: str


@dataclass(frozen=True)
class DatasetSpec:
    """Facts about a dataset that hold before anything is downloaded.

    native_size_px: width, height of the published videos, None when mixed.
    fps: frames per second of the published videos, None when mixed or unknown.
    """

    about: str
    licence: str
    native_size_px: tuple[int, int] | None = None
    fps: float | None = None
    has_poses: bool = False


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
