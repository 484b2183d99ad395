"""Where published data and weights come from, and the request to fetch them. Light: pydantic, YAML.

One file per dataset, conf/datasets/NAME.yaml, holds one SourceSet; conf/weights.yaml holds one per
set of weights. `read_sources` reads both; weights are named 'weights/NAME'.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator

from pipelines.events import EXIT_USAGE, UserError
from pipelines.schema import AbsolutePath, Config

WEIGHTS_PREFIX = "weights/"

Checksum = Annotated[
    str, Field(pattern=r"^(md5:[0-9a-f]{32}|sha1:[0-9a-f]{40}|sha256:[0-9a-f]{8,64})$")
]
"""Kind and hexadecimal digits; of a sha256 the first eight or more are enough."""


def _relative(name: str) -> str:
    if name.startswith("/") or "\\" in name or ".." in name.split("/"):
        raise ValueError("must be a relative path that stays in the folder")
    return name


RelativePath = Annotated[str, AfterValidator(_relative)]


class SourceFile(Config):
    """A file of which the name is known. size: bytes. checksums: one of them must fit."""

    name: RelativePath
    size: int | None = Field(None, ge=0)
    checksums: tuple[Checksum, ...] = ()
    signatures: tuple[str, ...] | None = Field(
        None, description="kinds its first bytes may show, instead of what the name says"
    )


class _Source(Config):
    """What all sources share.

    subsets: names of selections this source belongs to; it is part of every one when empty.
    content: patterns of the files and folders that this source's archives hold (or, without
    archives, of its files), as seen from the folder that they lie in. Someone who has them already
    can hand them over (--from-dir); they are put into content_into.
    """

    subsets: tuple[str, ...] = ()
    content: tuple[RelativePath, ...] = ()
    content_into: RelativePath = "."


class HttpFile(SourceFile):
    """A file at fixed addresses, tried in order."""

    urls: tuple[str, ...] = Field(min_length=1)
    plain_http: bool = Field(
        False, description="accept http; only for files whose whole SHA-256 is known"
    )

    @model_validator(mode="after")
    def _http_needs_a_checksum(self) -> HttpFile:
        is_known = any(each.startswith("sha256:") and len(each) == 71 for each in self.checksums)
        if self.plain_http and not (is_known and len(self.checksums) == 1):
            raise ValueError("plain_http needs the file's SHA-256 and no other checksum")
        return self


class HttpSource(_Source):
    """Files at fixed addresses."""

    kind: Literal["https"]
    files: tuple[HttpFile, ...] = Field(min_length=1)


class SeafileSource(_Source):
    """A Seafile share link: https://HOST/d/TOKEN/ (a folder) or /f/TOKEN/ (one file)."""

    kind: Literal["seafile"]
    url: str
    include: tuple[str, ...] = Field((), description="patterns of names; all when empty")
    into: RelativePath = Field("", description="folder put before the names, ends in '/'")
    file: SourceFile | None = Field(None, description="the one file of an /f/ link")


class DriveSource(_Source):
    """One file on Google Drive."""

    kind: Literal["drive"]
    id: str = Field(pattern=r"^[\w-]{10,}$")
    file: SourceFile
    host: str = Field("https://drive.google.com", description="another one that answers as Drive")


class DriveFolderSource(_Source):
    """A shared folder on Google Drive."""

    kind: Literal["drive-folder"]
    id: str = Field(pattern=r"^[\w-]{10,}$")
    include: tuple[str, ...] = ()
    strip: str = Field("", description="regular expression for what is taken off the names")


class ByHandSource(_Source):
    """Files that a person has to get, such as from a personal OneDrive."""

    kind: Literal["by-hand"]
    url: str
    how: str = Field(description="one line: what to do on that page")
    files: tuple[SourceFile, ...] = Field(min_length=1)


class SessionFile(SourceFile):
    """A file that a query to the server names."""

    query: dict[str, str]


class SessionSource(_Source):
    """A server that wants the session cookie of a logged-in browser."""

    kind: Literal["cookie-session"]
    url: str
    cookie_name: str = "PHPSESSID"
    how: str = Field(description="one line: how to get the cookie")
    files: tuple[SessionFile, ...] = Field(min_length=1)


class YoutubeSource(_Source):
    """Videos of a list of YouTube ids; the list is a file of another source."""

    kind: Literal["youtube"]
    table: RelativePath
    id_column: str
    split_column: str
    watch_url: str = "https://www.youtube.com/watch?v={id}"
    into: RelativePath = "videos/"
    max_height_px: int = Field(1080, ge=144)


class HubSource(_Source):
    """A model of the TensorFlow hub."""

    kind: Literal["hub"]
    url: str
    file: SourceFile


Source = Annotated[
    HttpSource
    | SeafileSource
    | DriveSource
    | DriveFolderSource
    | ByHandSource
    | SessionSource
    | YoutubeSource
    | HubSource,
    Field(discriminator="kind"),
]


class UnpackRule(Config):
    """What to do with archives: those whose name fits `match` are unpacked into `into`.

    match: a regular expression for the whole name.  into: the folder, with {1} for the first group
    of match; '.' for the dataset's folder itself.  Folders that all members share are taken off,
    but none named in keep.  growth: unpacked over packed size, to see beforehand whether it fits.
    """

    match: str
    into: RelativePath
    keep: tuple[str, ...] = ()
    growth: float = Field(1.1, gt=0)


class SourceSet(Config):
    """All there is to know about getting one dataset or one set of weights."""

    about: str
    terms: str = Field(description="one line on the licence")
    needs_acceptance: bool = Field(False, description="the terms have to be accepted first")
    citation: str
    homepage: str | None = None
    notes: tuple[str, ...] = Field((), description="shown with the terms: sizes, waits, mirrors")
    default_subset: str = "all"
    sources: tuple[Source, ...] = Field(min_length=1)
    unpack: tuple[UnpackRule, ...] = ()

    @property
    def subsets(self) -> tuple[str, ...]:
        """The names that a request may give as `subset`, the default first."""
        named = {name: None for source in self.sources for name in source.subsets}
        return tuple({self.default_subset: None} | named)

    def selected(self, subset: str | None) -> tuple[Source, ...]:
        """The sources of a subset."""
        name = subset or self.default_subset
        return tuple(
            source for source in self.sources if not source.subsets or name in source.subsets
        )


class NetworkConfig(Config):
    """How patient to be with servers."""

    connect_timeout_s: float = Field(20.0, gt=0)
    read_timeout_s: float = Field(60.0, gt=0, description="longest silence of a server")
    attempts: int = Field(6, ge=1, description="failures in a row without progress")
    first_delay_s: float = Field(1.0, ge=0, description="wait after the first failure, doubling")
    max_delay_s: float = Field(60.0, ge=0)
    max_wait_s: float = Field(600.0, ge=0, description="longest Retry-After that is waited for")
    max_redirects: int = Field(10, ge=0)
    min_bytes_per_s: float = Field(100.0, ge=0, description="slower is as good as silent")
    stall_window_s: float = Field(60.0, gt=0, description="time over which speed is measured")


class FetchRequest(Config):
    """What `i2v download` is asked for when the data is published, not generated.

    The session cookie is not part of the request, which is kept on disk: it is passed in the
    environment variable that cookie_variable names.
    """

    dataset: str = Field(
        pattern=r"^(weights/)?[a-z0-9][a-z0-9-]*$",
        description="name in the registry, or weights/NAME",
    )
    sources: SourceSet
    data_root: AbsolutePath = Field(description="folder that holds one folder per dataset")
    weights_root: AbsolutePath = Field(
        description="folder that holds one folder per set of weights"
    )
    subset: str | None = None
    only: tuple[str, ...] = Field((), description="patterns of file names; all when empty")
    jobs: int = Field(2, ge=1, le=8, description="files at a time; never several parts of one file")
    dry_run: bool = Field(False, description="say what would be done")
    verify: bool = Field(False, description="read all files again and compare their checksums")
    accept_terms: bool = False
    from_dir: AbsolutePath | None = Field(None, description="folder of files got by hand")
    unpack: bool = True
    keep_archives: bool = Field(True, description="False: remove archives once they are unpacked")
    retry_missing: bool = Field(False, description="try videos again that were gone for good")
    cookie_variable: str = Field(
        "I2V_H36M_PHPSESSID", description="environment variable that holds the session cookie"
    )
    cookies_path: AbsolutePath | None = Field(None, description="cookies.txt of a browser")
    cookies_from_browser: str | None = Field(None, pattern=r"^[a-z]+$")
    pause_s: float = Field(0.0, ge=0, description="wait between two videos")
    network: NetworkConfig = NetworkConfig()
    tool_version: str = ""

    @property
    def folder(self) -> Path:
        """Where the files go."""
        if self.dataset.startswith(WEIGHTS_PREFIX):
            return self.weights_root / self.dataset.removeprefix(WEIGHTS_PREFIX)
        return self.data_root / self.dataset / "raw"


def read_sources(conf_dir: Path, name: str) -> SourceSet:
    """The sources of a dataset, or of 'weights/NAME'. Raises UserError (exit code 2)."""
    if not name.startswith(WEIGHTS_PREFIX):
        path = conf_dir / "datasets" / f"{name}.yaml"
        known = [each.stem for each in sorted((conf_dir / "datasets").glob("*.yaml"))]
        if name not in known:
            raise _unknown("dataset", name, known)
        return _parsed(path, _load(path), "")
    path = conf_dir / "weights.yaml"
    rows, short = _load(path), name.removeprefix(WEIGHTS_PREFIX)
    if short not in rows:
        raise _unknown("weights", name, [WEIGHTS_PREFIX + each for each in rows])
    return _parsed(path, rows[short], f"{short}.")


def list_weights(conf_dir: Path) -> dict[str, str]:
    """The names that `read_sources` knows as weights, with what each is."""
    rows = _load(conf_dir / "weights.yaml")
    return {WEIGHTS_PREFIX + name: str(row["about"]) for name, row in rows.items()}


def _load(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as problem:
        raise UserError(f"cannot read {path}", {"reason": problem}, EXIT_USAGE) from problem
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no table", exit_code=EXIT_USAGE)
    return value


def _parsed(path: Path, value: Any, where: str) -> SourceSet:
    try:
        return SourceSet.model_validate(value)
    except ValidationError as invalid:
        first = invalid.errors()[0]
        place = where + ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {place}", {"reason": first["msg"]}, EXIT_USAGE) from invalid


def _unknown(what: str, name: str, known: list[str]) -> UserError:
    near = difflib.get_close_matches(name, known, n=1)
    details = {"did you mean": near[0]} if near else {}
    return UserError(
        f"no sources are known for {what} '{name}'",
        details | {"known": ", ".join(known)},
        EXIT_USAGE,
    )
