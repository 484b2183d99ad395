"""Google Drive through gdown, against a loopback server that plays Drive."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from pipelines.events import UserError
from pipelines.io.download import Meter, Wanted
from pipelines.io.fetchers.drive import DriveFetcher, DriveFolderFetcher
from pipelines.io.fetchers.web import Policy, Web
from tests.pipelines.io.archive_makers import honest_zip
from tests.pipelines.io.loopback import DriveHost, Fault, Host, serving, without_proxies

noise = random.Random(5).randbytes
SMALL = honest_zip({"a": noise(2000)})
LARGE = honest_zip({"a": noise(300_000)})
FOLDER_ID = "folder-" + "0" * 25


def file_id(name: str) -> str:
    """An id as Drive's pages hold them."""
    return f"file-{name}-".ljust(33, "0")


@pytest.fixture
def host() -> Iterator[Host]:
    with serving() as running:
        yield running


@pytest.fixture
def drive(host: Host) -> DriveHost:
    return DriveHost(host)


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with without_proxies(), Web(Policy(attempts=4, first_delay_s=0.01)) as client:
        yield client


@pytest.fixture
def gdown_asks_loopback(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """gdown has Drive's address built in: send its requests to the server of the test."""
    real = requests.Session.get

    def get(self: requests.Session, url: str, **options: object) -> requests.Response:
        assert url.startswith("https://drive.google.com/")
        return real(self, url.replace("https://drive.google.com", host.url), **options)  # type: ignore[arg-type]

    monkeypatch.setattr(requests.Session, "get", get)


@pytest.mark.parametrize("size", ["small", "large"])
def test_a_file_arrives_whether_or_not_a_warning_stands_before_it(
    host: Host, drive: DriveHost, web: Web, tmp_path: Path, size: str
) -> None:
    drive.small["small"], drive.large["large"] = SMALL, LARGE
    fetcher = DriveFetcher(web, size, Wanted("data.zip", ""), host=host.url)
    wanted = fetcher.measure(*fetcher.list_files())
    data = SMALL if size == "small" else LARGE
    assert wanted.size == len(data)
    fetcher.fetch(wanted, tmp_path / "data.zip", Meter())
    assert (tmp_path / "data.zip").read_bytes() == data


def test_a_cut_connection_is_taken_up_behind_the_warning(
    host: Host, drive: DriveHost, web: Web, tmp_path: Path
) -> None:
    drive.large["large"] = LARGE
    host.faults["/download"] = [
        Fault(cut_after=0),
        Fault(cut_after=100_000),
        Fault(cut_after=90_000),
    ]
    fetcher = DriveFetcher(web, "large", Wanted("data.zip", "", size=len(LARGE)), host=host.url)
    fetcher.fetch(fetcher.list_files()[0], tmp_path / "data.zip", Meter())
    assert (tmp_path / "data.zip").read_bytes() == LARGE
    pages = 1000 * host.paths().count("/uc")
    assert host.body_bytes <= 1.05 * len(LARGE) + pages


@pytest.mark.parametrize("when", ["at once", "behind the warning", "in the middle"])
def test_the_quota_page_gives_its_words_and_the_remedies(
    host: Host, drive: DriveHost, web: Web, tmp_path: Path, when: str
) -> None:
    drive.large["large"] = LARGE
    fetcher = DriveFetcher(web, "large", Wanted("data.zip", "", size=len(LARGE)), host=host.url)
    if when == "at once":
        drive.over_quota.add("large")
    elif when == "behind the warning":
        host.faults["/download"] = [Fault(page=DriveHost.QUOTA)]
    else:
        host.faults["/download"] = [Fault(cut_after=50_000), Fault(page=DriveHost.QUOTA)]
    with pytest.raises(UserError, match="Google Drive does not give the file out") as caught:
        fetcher.fetch(fetcher.list_files()[0], tmp_path / "data.zip", Meter())
    says = caught.value.details["Drive says"]
    assert "Too many users" in says or "Quota exceeded" in says
    assert "24 hours" in caught.value.details["to fix"]
    assert "--from-dir" in caught.value.details["or else"]
    kept = (tmp_path / "data.zip.part").stat().st_size if when == "in the middle" else 0
    assert kept == (50_000 if when == "in the middle" else 0)
    assert not (tmp_path / "data.zip").exists()


def test_a_warning_that_leads_to_an_unencrypted_host_is_not_followed(
    host: Host, drive: DriveHost, web: Web, tmp_path: Path
) -> None:
    page = (
        '<form id="download-form" action="http://example.org/download">'
        '<input type="hidden" name="id" value="1"></form>'
    )
    host.handlers["/uc"] = lambda request: Fault(page=page)
    fetcher = DriveFetcher(web, "large", Wanted("data.zip", "", size=1), host=host.url)
    with pytest.raises(UserError, match="not encrypted"):
        fetcher.fetch(fetcher.list_files()[0], tmp_path / "data.zip", Meter())


@pytest.mark.usefixtures("gdown_asks_loopback")
def test_a_folder_is_listed_with_the_folders_in_it_and_filtered(
    host: Host, drive: DriveHost, web: Web, tmp_path: Path
) -> None:
    inner = "inner-" + "1" * 25
    stage = "stage-" + "2" * 25
    drive.folders[FOLDER_ID] = [
        ("landscape", inner, True),
        ("readme.txt", file_id("readme"), False),
    ]
    drive.folders[inner] = [("stage1", stage, True)]
    drive.folders[stage] = [("weights.pth", file_id("weights"), False)]
    drive.large[file_id("weights")] = LARGE
    fetcher = DriveFolderFetcher(
        web, FOLDER_ID, include=["*landscape/*"], strip="(.*/)?landscape/", host=host.url
    )
    (wanted,) = fetcher.list_files()
    assert wanted.name == "stage1/weights.pth"
    fetcher.fetch(wanted, tmp_path / "weights.pth", Meter())
    assert (tmp_path / "weights.pth").read_bytes() == LARGE


@pytest.mark.usefixtures("gdown_asks_loopback")
def test_a_folder_without_the_wanted_files_says_what_it_holds(
    host: Host, drive: DriveHost, web: Web
) -> None:
    drive.folders[FOLDER_ID] = [("readme.txt", file_id("readme"), False)]
    fetcher = DriveFolderFetcher(web, FOLDER_ID, include=["*.pth"], host=host.url)
    with pytest.raises(UserError, match="none of the wanted files") as caught:
        fetcher.list_files()
    assert caught.value.details["it holds"] == "readme.txt"


@pytest.mark.usefixtures("gdown_asks_loopback")
def test_a_folder_that_is_not_shared_is_said(host: Host, web: Web) -> None:
    fetcher = DriveFolderFetcher(web, FOLDER_ID, host=host.url)
    with pytest.raises(UserError, match="Google Drive does not give"):
        fetcher.list_files()
