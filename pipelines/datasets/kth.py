"""KTH actions: six actions by 25 persons in four settings, grey, 160 x 120, 25 fps.

Read from the download (an .avi file per person, action and setting, with or without a folder per
action, and 00sequences.txt) or from SVG's folders of images, <action>/<file>/image-001_64x64.png.

00sequences.txt lists the stretches in which the person is seen; each is a video of its own here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pipelines.datasets.base import DatasetSpec, Published, RawKind, RawVideo, Rejected, Resize
from pipelines.events import EXIT_NO_DATA, UserError

FPS = 25.0
ACTIONS = ("walking", "jogging", "running", "boxing", "handwaving", "handclapping")
NUM_PERSONS, SETTINGS = 25, (1, 2, 3, 4)
SEQUENCES = "00sequences.txt"

_SVG_IMAGE = "image-{n1:03d}_{size}x{size}.png"
SPEC = DatasetSpec(
    about="KTH actions: 25 persons walk, jog, run, box, wave and clap, grey",
    licence="free for non-commercial research",
    native_size_px=(160, 120),
    fps=FPS,
    published={
        "official": Published("the publishers' split by persons", image_name=_SVG_IMAGE),
        "svg": Published(
            "SVG and SRVP: persons 1 to 20 train, 21 to 25 test",
            resize=(Resize("swscale"),),
            grey="first channel",
            image_name=_SVG_IMAGE,
        ),
        "mcnet": Published(
            "MCNet and video inbetweening: persons 1 to 16 train, 17 to 25 test",
            resize=(Resize("opencv"),),
            image_name=_SVG_IMAGE,
        ),
        "whole": Published(
            "whole videos, also where nobody is seen, split by the publishers' persons",
            resize=(Resize("opencv"),),
            image_name=_SVG_IMAGE,
        ),
    },
)

_OFFICIAL = {
    **dict.fromkeys((11, 12, 13, 14, 15, 16, 17, 18), "train"),
    **dict.fromkeys((19, 20, 21, 23, 24, 25, 1, 4), "val"),
    **dict.fromkeys((22, 2, 3, 5, 6, 7, 8, 9, 10), "test"),
}
_STEM = re.compile(rf"person(\d\d)_({'|'.join(ACTIONS)})_d([1-4])")
_LISTED = re.compile(rf"\s*({_STEM.pattern})\s+(?:frames\s+)?(.*)")
_RANGE = re.compile(r"(\d+)\s*-\s*(\d+)")

# MCNet's list of training sequences with the walker inside the picture, where somebody has it.
_TRIMMED, _MCNET_TEST = "train_data_list_trimmed.txt", "test_data_list.txt"

Ranges = Mapping[str, list[tuple[int, int]]]
"""Name of a file without _uncomp.avi -> first and last frame of its sequences, from 1."""


def layout(raw: Path) -> Iterable[RawVideo | Rejected]:
    """The sequences and the whole videos, ordered by action, person and setting.

    Raises UserError (exit code 4) when there is no video, or videos without 00sequences.txt.
    """
    found = dict(_found(raw))
    if not found:
        raise UserError(
            "no KTH videos",
            {
                "looked in": raw,
                "looked for": "person01_walking_d1_uncomp.avi and the like",
                "run first": "i2v download kth",
            },
            EXIT_NO_DATA,
        )
    ranges = read_sequences(_list_path(raw))
    trimmed = {
        name: read_ranges(raw / name) for name in (_TRIMMED, _MCNET_TEST) if (raw / name).is_file()
    }
    actions = {stem.split("_")[1] for stem in found}
    stems = [stem for stem in _all_stems() if stem.split("_")[1] in actions]
    result: list[RawVideo | Rejected] = []
    for stem in stems:
        if stem in found:
            path, kind = found[stem]
            result += _videos(stem, path, kind, ranges.get(stem, []), trimmed)
        else:
            listed = "listed but not there" if ranges.get(stem) else "it was never published"
            result.append(Rejected(_video_id(stem), f"{stem}_uncomp.avi", "missing", listed))
    return result


def read_sequences(path: Path) -> Ranges:
    """00sequences.txt. Lines that name no video are prose; one may say that it is missing.

    Raises UserError (exit code 4) where it lists nothing.
    """
    ranges = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if match := _LISTED.match(line):
            pairs = _RANGE.findall(match[5])
            ranges[match[1]] = [(int(first), int(last)) for first, last in pairs]
    if not ranges:
        raise UserError(
            f"no sequences in '{path.name}'",
            {"path": path, "to fix": "delete it, then i2v download kth"},
            EXIT_NO_DATA,
        )
    return ranges


def read_ranges(path: Path) -> Ranges:
    """A list with a line '<file> <first> <last>' per sequence; without numbers the whole file."""
    ranges: dict[str, list[tuple[int, int]]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        stem = words[0].removesuffix(".avi").removesuffix("_uncomp") if words else ""
        if _STEM.fullmatch(stem):
            own = ranges.setdefault(stem, [])
            if len(words) >= 3 and words[1].isdecimal() and words[2].isdecimal():
                own.append((int(words[1]), int(words[2])))
    return ranges


def _found(raw: Path) -> Iterator[tuple[str, tuple[Path, RawKind]]]:
    """Name without _uncomp.avi -> where it is, and as what."""
    for root in (raw / "processed", raw):
        for action in ACTIONS:
            for folder in sorted(root.glob(f"{action}/person*_d[1-4]*")):
                stem = folder.name.removesuffix("_uncomp")
                if _STEM.fullmatch(stem) and folder.is_dir():
                    yield stem, (folder, "frames")
    for pattern in ("person*_uncomp.avi", "*/person*_uncomp.avi"):
        for path in sorted(raw.glob(pattern)):
            stem = path.stem.removesuffix("_uncomp")
            if _STEM.fullmatch(stem) and path.is_file():
                yield stem, (path, "video")


def _list_path(raw: Path) -> Path:
    path = raw / SEQUENCES
    if not path.is_file():
        raise UserError(
            f"the list '{SEQUENCES}' is missing",
            {
                "looked for": path,
                "what for": "it says in which frames the person is seen",
                "run first": f"i2v download kth --only {SEQUENCES}",
            },
            EXIT_NO_DATA,
        )
    return path


def _all_stems() -> Iterator[str]:
    for action in ACTIONS:
        for person in range(1, NUM_PERSONS + 1):
            for setting in SETTINGS:
                yield f"person{person:02d}_{action}_d{setting}"


def _videos(
    stem: str,
    path: Path,
    kind: RawKind,
    ranges: list[tuple[int, int]],
    trimmed: Mapping[str, Ranges],
) -> Iterator[RawVideo]:
    """The whole video, its sequences, and MCNet's own sequences where they differ."""
    match = _STEM.fullmatch(stem)
    assert match, stem
    person, action, setting = int(match[1]), match[2], int(match[3])
    labels = {"action": action, "person": person, "setting": setting}
    official, is_mcnet_train = _OFFICIAL[person], person <= 16
    mcnet_list = trimmed.get(_TRIMMED if is_mcnet_train else _MCNET_TEST)
    mcnet = ranges if mcnet_list is None else mcnet_list.get(stem, [])
    common = {"path": path, "kind": kind, "group": f"person{person:02d}", "fps": FPS}
    whole = {"whole": official}
    yield RawVideo(id=_video_id(stem), labels=labels, splits=whole, **common)  # type: ignore[arg-type]
    for number, (first, last) in enumerate(dict.fromkeys([*ranges, *mcnet]), 1):
        splits = {}
        if (first, last) in ranges:
            splits = {"official": official, "svg": "train" if person <= 20 else "test"}
        if (first, last) in mcnet:
            splits["mcnet"] = "train" if is_mcnet_train else "test"
        yield RawVideo(
            id=f"{_video_id(stem)}~{number}",
            labels=labels,
            splits=splits,
            first_frame=first - 1,
            num_frames=max(0, last - first + 1),
            **common,  # type: ignore[arg-type]
        )


def _video_id(stem: str) -> str:
    return f"{stem.split('_')[1]}/{stem}"
