"""Human3.6M: actors in a motion-capture room, four cameras, with their poses.

Below the raw folder, as `i2v download h36m` and both published code bases leave it:
  extracted/S<k>/Videos/<name>.<camera>.mp4                             50 frames per second
  extracted/S<k>/Poses_D3_Positions_mono_universal/<name>.<camera>.cdf  poses, if at hand
  processed/all/annot_export.h5                                         both, if at hand
  metadata.xml                                                          cameras, if at hand
  processed/all/S<k>/<Action>-<n>/imageSequence/<camera>/img_000001.jpg where there is no video
  videos/S<k>/<name>.<camera>.mp4, processed/S<k>/<Action>-<n>/<camera>/frame_*.png
                                                                        the poking model's own
Poses are taken from the annotation file where it has the recording, else from the cdf file. The
poking model's frame folders get none: its folder names do not tell two recordings apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import JsonValue

from pipelines.datasets.base import (
    DatasetSpec,
    Published,
    RawKind,
    RawVideo,
    Rejected,
    Resize,
    TimeParts,
    TrackSource,
)
from pipelines.datasets.h36m_annotations import FILE_NAME, Annotations
from pipelines.datasets.h36m_metadata import read_cameras
from pipelines.datasets.h36m_poses import AnnotatedPoses, PoseFile
from pipelines.datasets.h36m_takes import (
    ACTION_NAMES,
    FPS,
    SUBJECTS,
    TEST_SUBJECTS,
    Take,
    takes_of,
)
from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.files import natural_key

SPEC = DatasetSpec(
    about="Human3.6M: 15 actions by 7 people, 4 cameras, with poses",
    licence="the signed Human3.6M agreement: academic use only, no redistribution",
    native_size_px=(1000, 1000),
    fps=FPS,
    has_poses=True,
    published={
        "official": Published(
            "subjects 9 and 11 are for testing, as in both papers",
            resize=(Resize("opencv", 256), Resize("opencv")),
        ),
        "gui": Published(
            "the poking model as trained: the last fifth of every video is for testing",
            resize=(Resize("opencv", 256), Resize("opencv")),
        ),
    },
)

POSES = "Poses_D3_Positions_mono_universal"
_SKIPPED_FPS = FPS / 8
"""The poking model keeps every eighth frame."""


def layout(raw: Path) -> Iterable[RawVideo | Rejected]:
    """Every recording of every subject that is here, in the order of the dataset's table.

    Raises UserError (exit code 4) when there is no subject, or when the annotation file or
    metadata.xml is not what it should be.
    """
    subjects = [number for number in SUBJECTS if _folders(raw, number)]
    if not subjects:
        raise _nothing_here(raw)
    poses = _Poses(raw)
    for subject in SUBJECTS:
        if subject not in subjects:
            yield Rejected(f"S{subject}", f"S{subject}", "missing", "nothing of this subject")
            continue
        yield from _subject(raw, subject, poses)


def _folders(raw: Path, subject: int) -> list[Path]:
    name = f"S{subject}"
    places = ("extracted", "videos", "processed/all", "processed")
    return [raw / place / name for place in places if (raw / place / name).is_dir()]


def _subject(raw: Path, subject: int, poses: _Poses) -> Iterator[RawVideo | Rejected]:
    known = set()
    for take in takes_of(subject):
        known.add(f"{take.stem}.mp4")
        tracks = poses.of(take)
        found = _frames_of(raw, take)
        if found is None and tracks is not None:
            found = tracks.files[0], "tracks"
        if found is None:
            yield Rejected(take.id, take.stem, "missing", "no video, no images and no poses")
            continue
        path, kind = found
        yield RawVideo(
            id=take.id,
            path=path,
            kind=kind,
            group=f"S{subject}",
            splits=_splits(subject),
            labels=_labels(take),
            fps=FPS,
            tracks=tracks,
        )
    yield from _unknown(raw, subject, known)
    yield from _poking_frames(raw, subject)


def _frames_of(raw: Path, take: Take) -> tuple[Path, RawKind] | None:
    """The video of a recording, or its folder of images."""
    folder, name = f"S{take.subject}", f"{take.stem}.mp4"
    for path in (raw / "extracted" / folder / "Videos" / name, raw / "videos" / folder / name):
        if path.is_file():
            return path, "video"
    action = raw / "processed" / "all" / Path(take.id).parent
    # The published instructions and the published code write the name differently.
    for sequence in ("imageSequence", "ImageSequence"):
        images = action / sequence / str(take.camera)
        if images.is_dir():
            return images, "frames"
    return None


def _unknown(raw: Path, subject: int, known: set[str]) -> Iterator[Rejected]:
    """Videos that the dataset's table does not name; '_ALL' videos are calibration."""
    folder = f"S{subject}"
    for parent in (raw / "extracted" / folder / "Videos", raw / "videos" / folder):
        names = sorted(path.name for path in parent.glob("*.mp4"))
        for name in names:
            if name not in known and not name.startswith("_ALL"):
                detail = "not a name of this subject's recordings"
                yield Rejected(f"{folder}/{name}", str(parent / name), "unknown name", detail)


def _poking_frames(raw: Path, subject: int) -> Iterator[RawVideo]:
    """The poking model's folders of every eighth frame."""
    base = raw / "processed" / f"S{subject}"
    folders = [path for path in base.glob("*/*") if path.is_dir()]
    for folder in sorted(folders, key=lambda path: natural_key(path.as_posix())):
        action, camera = folder.parent.name, folder.name
        ids = {name: number for number, name in ACTION_NAMES.items()}
        name = re.sub(r"-\d+$", "", action)
        labels: dict[str, JsonValue] = {"subject": subject, "action": name}
        if name in ids:
            labels["action_id"] = ids[name]
        if camera.isdecimal():
            labels["camera"] = int(camera)
        yield RawVideo(
            id=f"S{subject}/{action}/{camera}",
            path=folder,
            kind="frames",
            group=f"S{subject}",
            splits=_splits(subject),
            labels=labels,
            fps=_SKIPPED_FPS,
        )


def _splits(subject: int) -> dict[str, str | TimeParts | None]:
    by_person = "test" if subject in TEST_SUBJECTS else "train"
    return {"official": by_person, "gui": (0.8, 0.0, 0.2)}


def _labels(take: Take) -> dict[str, JsonValue]:
    return {
        "subject": take.subject,
        "action": ACTION_NAMES[take.action],
        "action_id": take.action,
        "subaction": take.subaction,
        "camera": take.camera,
    }


class _Poses:
    """Where the poses of each recording are."""

    def __init__(self, raw: Path) -> None:
        """Raises UserError when a file is there but is not what it should be."""
        self._extracted = raw / "extracted"
        places = (raw, raw / "extracted", raw / "archives", raw / "processed" / "all")
        self._metadata = next((p for p in (d / "metadata.xml" for d in places) if p.exists()), None)
        if self._metadata is not None:
            read_cameras(self._metadata)
        self._annotations = raw / "processed" / "all" / FILE_NAME
        self._annotated = {}
        if self._annotations.exists():
            with Annotations(self._annotations) as annotations:
                self._annotated = {rows.take: rows for rows in annotations.takes()}

    def of(self, take: Take) -> TrackSource | None:
        if take in self._annotated:
            return AnnotatedPoses(self._annotations, self._annotated[take])
        path = self._extracted / f"S{take.subject}" / POSES / f"{take.stem}.cdf"
        return PoseFile(path, take, self._metadata) if path.is_file() else None


def _nothing_here(raw: Path) -> UserError:
    archives = sorted(path.name for path in raw.glob("archives/*.tgz"))
    if archives:
        return UserError(
            "the archives of Human3.6M are not unpacked",
            {
                "found": f"{raw / 'archives'}: {', '.join(archives[:3])}",
                "run first": f"i2v download h36m --accept-terms --from-dir {raw / 'archives'}",
            },
            EXIT_NO_DATA,
        )
    return UserError(
        "no recordings of Human3.6M",
        {
            "looked in": raw,
            "looked for": "extracted/S1 ... S11, videos/S1 ..., processed/all/S1 ...",
            "run first": "i2v download h36m",
        },
        EXIT_NO_DATA,
    )
