"""Sky time-lapse: clips of moving clouds cut from YouTube videos, as 640 x 360 frames.

Read from the download, sky_{train,test}/<id>/<id>_<n>/*.jpg, with or without a folder around it.
Names of frames end in numbers with gaps; only their order counts. The lists beside this module
(lists/landscape_*.txt) say which clips the published code uses, in its order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipelines.datasets.base import DatasetSpec, Published, RawVideo, Rejected, Resize
from pipelines.datasets.raw_frames import image_paths
from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.files import natural_key

_LISTS = Path(__file__).parent / "lists"
_SPLITS = {"train": "train", "eval": "val", "test": "test"}
_FOLDERS = ("sky_train", "sky_test")

SPEC = DatasetSpec(
    about="clips of moving clouds cut from time-lapse videos",
    licence="none is stated; the frames come from YouTube; use them for research only",
    native_size_px=(640, 360),
    published={
        "cinn": Published(
            "the cINN code's lists",
            resize=(Resize("float"),),
            image_name="frame{n}",
            keeps_images=True,
        ),
        "all": Published(
            "every clip, by the publishers' two folders",
            resize=(Resize("float"),),
            image_name="frame{n}",
            keeps_images=True,
        ),
    },
)


def published_list(name: str) -> list[str]:
    """The lines of the cINN code's list train, eval or test, such as 'ID/ID_1'.

    eval holds some lines twice: they are drawn twice as often there.
    """
    words = (_LISTS / f"landscape_{name}.txt").read_text(encoding="utf-8").split()
    end = "/" if name == "test" else ""
    return [f"{source_of(word)}/{word}{end}" for word in words]


def source_of(clip: str) -> str:
    """The YouTube video of a clip: its name without the last number."""
    return clip.rpartition("_")[0]


def layout(raw: Path) -> Iterable[RawVideo | Rejected]:
    """The listed clips in the order of the lists, then all others in natural order.

    Label list_places: the places of a clip in its list, from 0; some have two.
    Raises UserError (exit code 4) when there is no clip.
    """
    found = dict(_found(raw))
    if not found:
        raise UserError(
            "no sky time-lapse clips",
            {
                "looked in": raw,
                "looked for": "sky_train/<id>/<id>_<n>/*.jpg",
                "run first": "i2v download landscape",
            },
            EXIT_NO_DATA,
        )
    result: list[RawVideo | Rejected] = []
    for name, split in _SPLITS.items():
        places: dict[str, list[int]] = {}
        for number, line in enumerate(published_list(name)):
            places.setdefault(line.rstrip("/").rpartition("/")[2], []).append(number)
        for clip, numbers in places.items():
            folder = _FOLDERS[name == "test"]
            path = found.pop((folder, clip), None)
            if path is None:
                where = f"{folder}/{source_of(clip)}/{clip}"
                detail = f"listed for {split} but not there"
                result.append(Rejected(where, where, "missing", detail))
            else:
                result.append(_video(path, folder, clip, (split, numbers)))
    others = sorted(found, key=lambda key: (key[0] == "sky_test", natural_key(key[1]), key))
    return [*result, *(_video(found[key], *key, None) for key in others)]


def _found(raw: Path) -> Iterator[tuple[tuple[str, str], Path]]:
    """(sky_train or sky_test, clip) -> its folder."""
    for root in (*sorted(path for path in raw.glob("*") if path.is_dir()), raw):
        for name in _FOLDERS:
            for path in sorted((root / name).glob("*/*")):
                is_clip = path.is_dir() and source_of(path.name) == path.parent.name
                if is_clip and image_paths(path):
                    yield (name, path.name), path


def _video(path: Path, folder: str, clip: str, listed: tuple[str, list[int]] | None) -> RawVideo:
    splits: Mapping[str, str] = {"all": "test" if folder == "sky_test" else "train"}
    labels: dict[str, list[int]] = {}
    if listed:
        splits = {**splits, "cinn": listed[0]}
        labels = {"list_places": listed[1]}
    return RawVideo(
        id=f"{folder}/{source_of(clip)}/{clip}",
        path=path,
        kind="frames",
        group=source_of(clip),
        labels=labels,  # type: ignore[arg-type]
        splits=splits,
    )
