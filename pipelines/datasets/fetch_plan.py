"""What a request to fetch comes to: which fetcher for which source, which files, what is here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from http.cookiejar import LoadError, MozillaCookieJar
from pathlib import Path
from typing import Literal

from pipelines.datasets.fetch_config import (
    ByHandSource,
    DriveFolderSource,
    DriveSource,
    FetchRequest,
    HttpSource,
    HubSource,
    SeafileSource,
    SessionSource,
    Source,
    SourceFile,
    YoutubeSource,
)
from pipelines.events import EXIT_USAGE, UserError
from pipelines.io.download import Fetcher, Wanted, WrongContent, check_file
from pipelines.io.fetchers.cookie_session import CookieSessionFetcher
from pipelines.io.fetchers.http import HttpFetcher, HttpItem
from pipelines.io.fetchers.hub import HubFetcher
from pipelines.io.fetchers.onedrive import ByHandFetcher
from pipelines.io.fetchers.seafile import SeafileFetcher
from pipelines.io.fetchers.video_list import PERMANENT
from pipelines.io.fetchers.web import Policy, Web
from pipelines.io.manifest import Manifest
from pipelines.io.names import NameRefused, NameRegistry

State = Literal["here", "found", "part", "missing", "gone"]
"""here: whole and known.  found: there, but not put there by us.  part: begun.  gone: known to be
out of reach for good."""


@dataclass(frozen=True)
class PlanRow:
    """One file of the plan. have: bytes of it that need not be fetched."""

    wanted: Wanted
    fetcher: Fetcher
    state: State
    have: int


def open_web(request: FetchRequest) -> Web:
    """The client for all of a request's fetchers, with the user's cookies if any were given."""
    jar = None
    if request.cookies_path is not None:
        jar = MozillaCookieJar(str(request.cookies_path))
        try:
            jar.load(ignore_discard=True, ignore_expires=True)
        except (LoadError, OSError) as problem:
            raise UserError(
                "the cookies file cannot be read",
                {
                    "file": request.cookies_path,
                    "reason": problem,
                    "to fix": "export the cookies of your browser in the format of cookies.txt",
                },
                EXIT_USAGE,
            ) from problem
    return Web(Policy(**request.network.model_dump()), cookies=jar)


def make_fetcher(source: Source, request: FetchRequest, web: Web) -> Fetcher:
    """The fetcher that knows a source's kind of server."""
    if isinstance(source, HttpSource):
        return HttpFetcher(
            web, [HttpItem(wanted_of(f, f.urls[0]), f.urls, f.plain_http) for f in source.files]
        )
    if isinstance(source, SeafileSource):
        file = source.file or SourceFile(name="")
        return SeafileFetcher(
            web,
            source.url,
            include=source.include,
            into=source.into,
            name=file.name,
            checksums=file.checksums,
            kinds=file.signatures,
        )
    if isinstance(source, HubSource):
        return HubFetcher(web, wanted_of(source.file, source.url))
    if isinstance(source, DriveSource | DriveFolderSource):
        return _drive_fetcher(source, request, web)
    return _personal_fetcher(source, request, web)


def _drive_fetcher(
    source: DriveSource | DriveFolderSource, request: FetchRequest, web: Web
) -> Fetcher:
    # Imported here: gdown takes a while to load, and few sources need it.
    from pipelines.io.fetchers.drive import DriveFetcher, DriveFolderFetcher

    if isinstance(source, DriveSource):
        return DriveFetcher(web, source.id, wanted_of(source.file, ""), host=source.host)
    return DriveFolderFetcher(
        web,
        source.id,
        include=source.include,
        strip=source.strip,
        cookies_path=request.cookies_path,
    )


def _personal_fetcher(
    source: ByHandSource | SessionSource | YoutubeSource, request: FetchRequest, web: Web
) -> Fetcher:
    """The fetchers that need something of the user: a log-in, cookies, a hand."""
    if isinstance(source, ByHandSource):
        return ByHandFetcher(
            source.url,
            [wanted_of(file, source.url) for file in source.files],
            how=source.how,
            folder=request.folder,
            command=command_of(request),
        )
    if isinstance(source, SessionSource):
        return CookieSessionFetcher(
            web,
            source.url,
            {wanted_of(file, source.url): file.query for file in source.files},
            cookie_name=source.cookie_name,
            session_id=os.environ.get(request.cookie_variable),
            how=source.how,
            variable=request.cookie_variable,
        )
    # Imported here: yt-dlp takes a second to load.
    from pipelines.io.fetchers.youtube import YoutubeFetcher

    return YoutubeFetcher(
        request.folder / source.table,
        id_column=source.id_column,
        split_column=source.split_column,
        watch_url=source.watch_url,
        into=source.into,
        max_height_px=source.max_height_px,
        cookies_path=request.cookies_path,
        cookies_from_browser=request.cookies_from_browser,
        pause_s=request.pause_s,
        read_timeout_s=request.network.read_timeout_s,
    )


def wanted_of(file: SourceFile, url: str) -> Wanted:
    """A file of the sources as the fetchers want it."""
    return Wanted(file.name, url, size=file.size, checksums=file.checksums, kinds=file.signatures)


def command_of(request: FetchRequest) -> str:
    """What to type to go on with a request."""
    part = f" --subset {request.subset}" if request.subset else ""
    return f"i2v download {request.dataset}{part}"


def label_of(source: Source) -> str:
    """A name for a source that stays the same from run to run."""
    if isinstance(source, (HttpSource, ByHandSource, SessionSource)):
        return f"{source.kind}: {source.files[0].name}"
    if isinstance(source, (DriveSource, DriveFolderSource)):
        return f"{source.kind}: {source.id}"
    return f"{source.kind}: {source.table if isinstance(source, YoutubeSource) else source.url}"


def plan_source(
    source: Source,
    request: FetchRequest,
    web: Web,
    *,
    manifest: Manifest,
    gone: Mapping[str, str],
) -> list[PlanRow]:
    """The files of a source and what is here of each.

    gone: names of videos that an earlier run could not get, with the reason.
    Raises UserError when the server cannot be asked for its list.
    """
    if label_of(source) in manifest.contents:
        return []
    fetcher = make_fetcher(source, request, web)
    rows = []
    for wanted in without_split_signatures(_files_of(source, fetcher, manifest)):
        if is_selected(wanted.name, request.only):
            state, have = _state(wanted, manifest)
            if state == "missing" and gone.get(wanted.name) in PERMANENT:
                state = "missing" if request.retry_missing else "gone"
            if state in ("missing", "part"):
                wanted = fetcher.measure(wanted)
            rows.append(PlanRow(wanted, fetcher, state, have))
    return rows


def _files_of(source: Source, fetcher: Fetcher, manifest: Manifest) -> list[Wanted]:
    """What a source has. A shared folder of which all is here is not asked for its list again."""
    is_shared_folder = isinstance(source, SeafileSource | DriveFolderSource)
    label = label_of(source)
    before = manifest.listed.get(label, []) if is_shared_folder else []
    if before and all(manifest.is_whole(name) for name in before):
        rows = [(name, manifest.files[name]) for name in before]
        return [Wanted(name, row.url, size=row.size, stamp=row.stamp) for name, row in rows]
    files = fetcher.list_files()
    if is_shared_folder:
        _check_names(files)
        manifest.listed[label] = [wanted.name for wanted in files]
    return files


def _check_names(files: Sequence[Wanted]) -> None:
    names = NameRegistry()
    for wanted in files:
        try:
            names.add_file(tuple(wanted.name.split("/")))
        except NameRefused as problem:
            raise UserError(
                f"the shared folder lists a file whose name {problem}",
                {"name": wanted.name, "url": wanted.url, "to fix": "get the files by hand"},
            ) from problem


def is_selected(name: str, only: Sequence[str]) -> bool:
    """Whether a file is among those asked for: its path or its last part fits a pattern."""
    return not only or any(
        fnmatch(name, pattern) or fnmatch(name.rpartition("/")[2], pattern) for pattern in only
    )


def without_split_signatures(files: list[Wanted]) -> list[Wanted]:
    """The parts of a split zip but the first begin anywhere in the data: expect nothing of them."""
    stems = {wanted.name[:-4] for wanted in files if wanted.name.lower().endswith(".z01")}
    return [
        replace(wanted, kinds=())
        if wanted.name[:-4] in stems and not wanted.name.lower().endswith(".z01")
        else wanted
        for wanted in files
    ]


def _state(wanted: Wanted, manifest: Manifest) -> tuple[State, int]:
    path = manifest.folder / wanted.name
    if manifest.is_whole(wanted.name):
        return "here", manifest.files[wanted.name].size
    if path.is_file() and wanted.name not in manifest.files:
        return "found", path.stat().st_size
    part = path.with_name(path.name + ".part")
    return ("part", part.stat().st_size) if part.is_file() else ("missing", 0)


def take_over(row: PlanRow, manifest: Manifest) -> None:
    """Accept a file that lies where it belongs but was not put there by us. Raises UserError."""
    path = manifest.folder / row.wanted.name
    try:
        fetched = check_file(path, row.wanted)
    except WrongContent as problem:
        problem.details["file"] = str(path)
        problem.details["to fix"] = "move it away, then run the same command again"
        raise
    manifest.record(row.wanted, fetched, adopted_from=str(path.parent))


def bytes_needed(rows: Sequence[PlanRow], growth: Mapping[str, float]) -> int:
    """Disk space that fetching and unpacking will take. growth: unpacked over packed, by name."""
    total = 0.0
    for row in rows:
        size = row.wanted.size or 0
        if row.state in ("missing", "part"):
            total += max(0, size - row.have) + size * growth.get(row.wanted.name, 0.0)
    return int(total)


def free_bytes(folder: Path) -> int:
    """Free space where a folder is, or will be."""
    while not folder.exists():
        folder = folder.parent
    usage = os.statvfs(folder)
    return usage.f_bavail * usage.f_frsize
