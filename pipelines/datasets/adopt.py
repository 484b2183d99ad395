"""Taking over files that the user got by hand (--from-dir), whatever shape they are in.

Accepted are: the published files themselves, the content of the archives already unpacked, and an
archive of either, as a browser saves it when a whole folder is downloaded. Extra folders around
them do not matter. Nothing in the user's folder is changed; files are linked where that is
possible and copied where it is not.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path

from pipelines.datasets.fetch_config import (
    DriveFolderSource,
    DriveSource,
    HttpSource,
    HubSource,
    SeafileSource,
    Source,
    YoutubeSource,
)
from pipelines.datasets.fetch_plan import (
    is_selected,
    label_of,
    wanted_of,
    without_split_signatures,
)
from pipelines.datasets.unpack import place
from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError
from pipelines.io.archives import ArchiveError, extract, is_archive, names_in
from pipelines.io.download import PartFile, Wanted, WrongContent, check_file
from pipelines.io.fetchers.video_list import read_table
from pipelines.io.manifest import ContentRow, Manifest

MAX_DEPTH = 6
MAX_ENTRIES = 500_000
_STAGING = ".adopted"
_COPYING = ".adopting"
_ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".gz")


@dataclass
class Adopted:
    """What was taken over: files by name, content by source; and why the rest was refused."""

    names: list[str] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    refused: list[UserError] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.names or self.contents)


def adopt(
    from_dir: Path, sources: Sequence[Source], manifest: Manifest, *, only: Sequence[str] = ()
) -> Adopted:
    """Take over what fits any of the sources. Raises UserError (exit code 4) when nothing does."""
    if not from_dir.is_dir():
        raise UserError(
            f"no folder '{from_dir.name}'",
            {"looked for": from_dir, "to fix": "give the folder that holds the files"},
            EXIT_NO_DATA,
        )
    if manifest.folder.resolve() in (from_dir.resolve(), *from_dir.resolve().parents):
        raise UserError(
            "these files lie in the dataset's own folder already",
            {"folder": from_dir, "to fix": "run the same command without --from-dir"},
            EXIT_USAGE,
        )
    staging = manifest.folder / _STAGING
    shutil.rmtree(staging, ignore_errors=True)
    adopted = Adopted()
    others = [
        path
        for path in _archives(from_dir, manifest.folder)
        if not _is_published(path.name, sources, manifest.folder)
    ]
    for source in sources:
        if _from_folder(from_dir, from_dir, source, manifest, adopted, only):
            continue
        for path in others:
            if _unpacks(path, staging, source, adopted) and _from_folder(
                staging, from_dir, source, manifest, adopted, only
            ):
                break
    shutil.rmtree(staging, ignore_errors=True)
    if not adopted:
        raise _nothing(from_dir, sources, adopted)
    return adopted


def _from_folder(
    folder: Path,
    from_dir: Path,
    source: Source,
    manifest: Manifest,
    adopted: Adopted,
    only: Sequence[str],
) -> bool:
    """Take over a source's files or content from a folder; returns whether anything was found."""
    entries = list(_walk(folder, manifest.folder))
    found = False
    for wanted, path in _candidates(source, entries, manifest.folder):
        if is_selected(wanted.name, only):
            found |= _take_file(wanted, path, from_dir, manifest, adopted)
    if not found and source.content and not only:
        root = _content_root(folder, entries, source.content)
        if root is not None:
            _take_content(root, from_dir, source, manifest)
            adopted.contents.append(label_of(source))
            found = True
    return found


def _unpacks(path: Path, staging: Path, source: Source, adopted: Adopted) -> bool:
    """Unpack an archive if its names promise something of a source; returns whether it did."""
    shutil.rmtree(staging, ignore_errors=True)
    try:
        if not _promises(names_in(path), source, staging.parent):
            return False
        extract(path, staging)
    except ArchiveError as problem:
        if problem not in adopted.refused:
            adopted.refused.append(problem)
        return False
    return True


def _promises(names: list[str], source: Source, folder: Path) -> bool:
    """Whether an archive with these names may hold a source's files or all of its content."""
    known = {each.name.rpartition("/")[2] for each in known_files(source, folder)}
    if any(name.rpartition("/")[2] in known for name in names):
        return True
    patterns = getattr(source, "include", ())
    if any(fnmatch(name, f"*{pattern}") for name in names for pattern in patterns):
        return True
    return bool(source.content) and all(
        any(fnmatch("/" + name, f"*/{pattern}{end}") for name in names for end in ("", "/*"))
        for pattern in source.content
    )


def _archives(folder: Path, own: Path) -> Iterator[Path]:
    for path in _walk(folder, own):
        if path.name.lower().endswith(_ARCHIVE_SUFFIXES) and path.is_file() and is_archive(path):
            yield path


def _is_published(name: str, sources: Sequence[Source], folder: Path) -> bool:
    """Whether an archive is one of those that the sources offer, not one made around them."""
    wanted = [each.name for source in sources for each in known_files(source, folder)]
    known = {each.rpartition("/")[2] for each in wanted}
    patterns = [pattern for source in sources for pattern in getattr(source, "include", ())]
    return name in known or any(fnmatch(name, pattern) for pattern in patterns)


def _candidates(source: Source, entries: list[Path], folder: Path) -> Iterator[tuple[Wanted, Path]]:
    """Files that may be those of a source: by name where names are known, else by pattern."""
    if isinstance(source, SeafileSource) and source.file is None:
        yield from _listed_later(source, entries)
        return
    for wanted in without_split_signatures(known_files(source, folder)):
        paths = [path for path in entries if path.name == wanted.name.rpartition("/")[2]]
        best = sorted(paths, key=lambda path: (not path.as_posix().endswith("/" + wanted.name),))
        for path in best[:1]:
            if path.is_file():
                yield wanted, path


def _listed_later(source: SeafileSource, entries: list[Path]) -> Iterator[tuple[Wanted, Path]]:
    """The files of a share link as far as its patterns tell; the server is not asked."""
    paths = [
        path
        for path in entries
        if path.is_file() and any(fnmatch(path.name, pattern) for pattern in source.include)
    ]
    files = [Wanted(source.into + path.name, source.url) for path in paths]
    yield from zip(without_split_signatures(files), paths, strict=True)


def known_files(source: Source, folder: Path) -> list[Wanted]:
    """The files of a source of which the names are known without asking a server.

    folder: where the list of a YouTube source is, if it is here already.
    """
    if isinstance(source, HttpSource):
        return [wanted_of(file, file.urls[0]) for file in source.files]
    if isinstance(source, SeafileSource):
        file = source.file
        return [replace(wanted_of(file, source.url), name=source.into + file.name)] if file else []
    if isinstance(source, DriveFolderSource):
        return []
    if isinstance(source, YoutubeSource):
        return _listed_videos(source, folder / source.table)
    if isinstance(source, DriveSource):
        return [wanted_of(source.file, f"drive: {source.id}")]
    files = (source.file,) if isinstance(source, HubSource) else source.files
    return [wanted_of(file, source.url) for file in files]


def _listed_videos(source: YoutubeSource, table: Path) -> list[Wanted]:
    if not table.is_file():
        return []
    videos = read_table(table, id_column=source.id_column, split_column=source.split_column)
    return [
        Wanted(f"{source.into}{video.id}.mp4", source.watch_url.format(id=video.id))
        for video in videos
    ]


def _take_file(
    wanted: Wanted, path: Path, from_dir: Path, manifest: Manifest, adopted: Adopted
) -> bool:
    if manifest.is_whole(wanted.name):
        adopted.names.append(wanted.name)
        return True
    try:
        fetched = check_file(path, wanted)
    except WrongContent as problem:
        problem.details["file"] = str(path)
        adopted.refused.append(problem)
        return False
    _link_or_copy(path, manifest.folder / wanted.name)
    PartFile(manifest.folder / wanted.name, wanted).discard()
    manifest.record(wanted, fetched, adopted_from=str(from_dir))
    adopted.names.append(wanted.name)
    return True


def _content_root(folder: Path, entries: list[Path], patterns: Sequence[str]) -> Path | None:
    """The folder nearest to the top in which every pattern finds something."""
    folders = [folder, *(path for path in entries if path.is_dir())]
    for each in sorted(folders, key=lambda path: (len(path.parts), path.as_posix())):
        if all(next(each.glob(pattern), None) is not None for pattern in patterns):
            return each
    return None


def _take_content(root: Path, from_dir: Path, source: Source, manifest: Manifest) -> None:
    target = manifest.folder / source.content_into
    building = manifest.folder / _COPYING
    shutil.rmtree(building, ignore_errors=True)
    for pattern in source.content:
        for path in sorted(root.glob(pattern)):
            if not (building / path.relative_to(root)).exists():
                _copy_tree(path, building / path.relative_to(root))
    names = [
        (target / path.name).relative_to(manifest.folder).as_posix() for path in building.iterdir()
    ]
    num_files, num_bytes = 0, 0
    for path in _files_below(building):
        num_files, num_bytes = num_files + 1, num_bytes + path.stat().st_size
    place(building, target)
    shutil.rmtree(building, ignore_errors=True)
    row = ContentRow(sorted(names), str(from_dir), num_files, num_bytes)
    manifest.contents[label_of(source)] = row
    manifest.save()


def _copy_tree(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(
            source,
            target,
            ignore=_linked_folders,  # they may go in circles
            copy_function=lambda a, b: _link_or_copy(Path(a), Path(b)),
        )
    else:
        _link_or_copy(source, target)


def _linked_folders(folder: str, names: list[str]) -> list[str]:
    paths = [Path(folder) / name for name in names]
    return [path.name for path in paths if path.is_symlink() and path.is_dir()]


def _link_or_copy(source: Path, target: Path) -> None:
    """Put a file in place whole: as a second name of the same file, else as a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}{_COPYING}")
    beside.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), beside)
    except OSError:
        shutil.copyfile(source, beside)
    os.replace(beside, target)


def _walk(folder: Path, own: Path) -> Iterator[Path]:
    """Files and folders below a folder, nearest first, within bounds.

    Not entered: links to folders, and the dataset's own folder.
    """
    level, count = [folder], 0
    for _ in range(MAX_DEPTH):
        deeper: list[Path] = []
        for each in level:
            for path in _entries(each):
                count += 1
                if count > MAX_ENTRIES:
                    return
                yield path
                if path.is_dir() and not path.is_symlink() and path != own:
                    deeper.append(path)
        level = deeper


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except PermissionError:
        return []


def _files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _nothing(from_dir: Path, sources: Sequence[Source], adopted: Adopted) -> UserError:
    if adopted.refused:
        return adopted.refused[0]
    names = [each.name for source in sources for each in known_files(source, from_dir)]
    names += [pattern for source in sources for pattern in getattr(source, "include", ())]
    content = [pattern for source in sources for pattern in source.content]
    details: dict[str, object] = {"looked in": from_dir}
    if names:
        details["files wanted"] = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    if content:
        details["or their content"] = ", ".join(content)
    return UserError(
        f"nothing in '{from_dir.name}' fits",
        details | {"to fix": "give the folder that the files were saved in"},
        EXIT_NO_DATA,
    )
