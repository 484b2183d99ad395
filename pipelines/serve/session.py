"""One session's folder: pictures, clips and answers, where their owner finds them.

<session>/pictures/   as they came, and the generated ones
<session>/clips/
<session>/answers/<number>-<what>/   mp4, gif, start picture, arrow.png, meta.json
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.files import atomic_writer, safe_name
from pipelines.io.sample_writer import sample_writer
from pipelines.io.video import write_gif
from pipelines.serve import examples, uploads
from pipelines.serve.config import Limits
from pipelines.serve.examples import Example, ExampleClip
from pipelines.serve.uploads import Refused, from_png

KEPT_ANSWERS = 64
"""Answers whose frames wait to be written; of more, the oldest are written at once."""

ARROW_NAME = "arrow.png"


@dataclass(frozen=True)
class StoredPicture:
    """A picture that can be asked about. example: where it is from, when it was generated.

    preview_path: PNG of it, as the page shows it.
    """

    id: str
    name: str
    path: Path
    width: int
    height: int
    preview_path: Path
    example: Example | None = None


@dataclass(frozen=True)
class StoredClip:
    """A clip whose motion can be taken. preview_path: PNG of its first frame."""

    id: str
    name: str
    path: Path
    num_frames: int
    preview_path: Path
    is_generated: bool = False


@dataclass(frozen=True)
class Answer:
    """What a model, or a simulator, answered.

    videos: for each, its frames as PNG.  start, arrow: PNG.  meta: for meta.json.
    """

    id: str
    what: str
    videos: tuple[tuple[bytes, ...], ...]
    start: bytes
    arrow: bytes | None
    fps: float
    meta: Mapping[str, Any]


class Session:
    """Everything that was sent and answered. Its methods may be called from any thread."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self._limits = folder, limits
        self._pictures: dict[str, StoredPicture] = {}
        self._clips: dict[str, StoredClip] = {}
        self._unwritten: dict[str, Answer] = {}
        self._folders: dict[str, Path] = {}
        self._count = 0
        self._lock, self._writing = threading.Lock(), threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        self._incoming = Path(tempfile.mkdtemp(dir=folder, prefix=".incoming-"))
        self._previews = Path(tempfile.mkdtemp(dir=folder, prefix=".previews-"))

    @property
    def num_answers(self) -> int:
        """Answers kept so far, written or not."""
        return self._count

    @property
    def has_unwritten(self) -> bool:
        """Whether answers wait for their files."""
        return bool(self._unwritten)

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """A place for a body that is still to be checked; gone when the block ends."""
        path = self._incoming / secrets.token_hex(8)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def add_picture(self, path: Path, name: str) -> StoredPicture:
        """Take a picture in, once checked. Raises Refused."""
        self._require_room()
        checked = uploads.read_picture(path, self._limits)
        id_, suffix = secrets.token_hex(8), uploads.image_suffix(path)
        kept = self._keep(path, "pictures", f"{_stem(name)}-{id_[:6]}{suffix}")
        preview = self._preview(id_, checked.preview)
        found = StoredPicture(id_, name, kept, checked.width, checked.height, preview)
        self._pictures[id_] = found
        return found

    def add_clip(self, path: Path, name: str) -> StoredClip:
        """Take a clip in, once checked. Raises Refused."""
        self._require_room()
        checked = uploads.read_clip(path, self._limits)
        id_ = secrets.token_hex(8)
        kept = self._keep(path, "clips", f"{_stem(name)}-{id_[:6]}{_film_suffix(path)}")
        preview = self._preview(id_, checked.preview)
        found = StoredClip(id_, name, kept, checked.num_frames, preview)
        self._clips[id_] = found
        return found

    def add_example(self, example: Example) -> StoredPicture:
        """Take a generated picture in; the same one again is the same picture."""
        if example.id not in self._pictures:
            path = self.folder / "pictures" / f"{example.id}.png"
            with atomic_writer(path, "wb") as stream:
                stream.write(uploads.to_png(examples.draw(example)))
            size, name = example.size_px, example.name
            found = StoredPicture(example.id, name, path, size, size, path, example)
            self._pictures[example.id] = found
        return self._pictures[example.id]

    def add_example_clip(self, example: ExampleClip) -> StoredClip:
        """Take a generated clip in; the same one again is the same clip."""
        if example.id not in self._clips:
            frames = examples.film(example)
            path = self.folder / "clips" / f"{example.id}.gif"
            path.parent.mkdir(exist_ok=True)
            write_gif(path, frames, examples.CLIP_FPS)
            preview = self._preview(example.id, uploads.to_png(frames[0]))
            found = StoredClip(example.id, example.name, path, len(frames), preview, True)
            self._clips[example.id] = found
        return self._clips[example.id]

    def picture(self, id_: str) -> StoredPicture:
        """A picture by its id. Raises Refused (404)."""
        return _found(self._pictures, id_, "picture")

    def clip(self, id_: str) -> StoredClip:
        """A clip by its id. Raises Refused (404)."""
        return _found(self._clips, id_, "clip")

    def keep(self, answer: Answer) -> None:
        """Remember an answer; its files are written by write_answers, or when they are asked for.

        Encoding takes time that the next question has a better use for.
        """
        with self._lock:
            self._count += 1
            self._unwritten[answer.id] = answer
            name = f"{self._count:04d}-{answer.what}"
            self._folders[answer.id] = self.folder / "answers" / name
            surplus = list(self._unwritten)[:-KEPT_ANSWERS]
        for id_ in surplus:
            self._write(id_)

    def write_answers(self) -> None:
        """Write the files of all answers that have none yet."""
        for id_ in list(self._unwritten):
            self._write(id_)

    def answer_folder(self, id_: str) -> Path:
        """The folder of an answer, whose files are there. Raises Refused (404)."""
        folder = _found(self._folders, id_, "answer")
        self._write(id_)
        return folder

    def close(self) -> None:
        """Write what is left, and leave no temporary file and no empty folder."""
        self.write_answers()
        for folder in (self._incoming, self._previews):
            shutil.rmtree(folder, ignore_errors=True)
        for name in ("pictures", "clips", "answers", ""):
            with contextlib.suppress(OSError):  # it does not exist, or holds something
                (self.folder / name).rmdir()

    def _write(self, id_: str) -> None:
        with self._writing:  # one encoder at a time
            if answer := self._unwritten.get(id_):
                _write_answer(answer, self._folders[id_])
                with self._lock:
                    del self._unwritten[id_]

    def _keep(self, path: Path, kind: str, name: str) -> Path:
        folder = self.folder / kind
        folder.mkdir(exist_ok=True)
        return path.rename(folder / name)

    def _preview(self, id_: str, png: bytes) -> Path:
        """On disk: of many large pictures they would fill the memory."""
        path = self._previews / f"{id_}.png"
        path.write_bytes(png)
        return path

    def _require_room(self) -> None:
        sent = sum(each.example is None for each in self._pictures.values())
        sent += sum(not each.is_generated for each in self._clips.values())
        if sent >= self._limits.uploads:
            raise Refused(
                507, f"this session holds {sent} files already: start i2v serve anew for more"
            )


def _write_answer(answer: Answer, folder: Path) -> None:
    start = from_png(answer.start)
    with sample_writer(folder, kind="sample", fps=answer.fps) as writer:
        rows: list[np.ndarray] = []
        for number, pngs in enumerate(answer.videos):
            frames = np.stack([from_png(each) for each in pngs])
            sample = number if len(answer.videos) > 1 else None
            writer.add("answer", frames, sample=sample, start=start)
            rows.append(np.concatenate([start[None], frames]))
        writer.add_grid([rows], [(str(number), row) for number, row in enumerate(rows)])
        if answer.arrow:
            (writer.folder / ARROW_NAME).write_bytes(answer.arrow)
        writer.finish(answer.meta)


def _film_suffix(path: Path) -> str:
    with path.open("rb") as stream:
        head = stream.read(12)
    if head.startswith(b"GIF8"):
        return ".gif"
    if head.startswith(b"\x1aE\xdf\xa3"):
        return ".mkv"
    return ".avi" if head.startswith(b"RIFF") else ".mp4"


def _stem(name: str) -> str:
    return safe_name(Path(name).stem)[:60]


def _found(table: Mapping[str, Any], id_: str, what: str) -> Any:
    if id_ not in table:
        raise Refused(404, f"there is no such {what} in this session")
    return table[id_]
