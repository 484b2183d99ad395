"""Seafile, sessions, hubs and hands: what each kind of server asks for and how it fails."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from pipelines.events import UserError
from pipelines.io.download import Meter, SourceClosed, Wanted
from pipelines.io.fetchers.cookie_session import CookieSessionFetcher
from pipelines.io.fetchers.hub import HubFetcher
from pipelines.io.fetchers.onedrive import ByHandFetcher
from pipelines.io.fetchers.seafile import SeafileFetcher
from pipelines.io.fetchers.web import Address, Policy, Web
from tests.pipelines.io.archive_makers import honest_tar, honest_zip
from tests.pipelines.io.loopback import (
    Fault,
    Host,
    Request,
    SeafileHost,
    Served,
    SessionHost,
    file_names,
    serving,
)

noise = random.Random(11).randbytes
BIG = honest_zip({"noise": noise(400_000)})
EXTRA = 1.05
"""Bytes sent over bytes of the file: so little may be fetched twice."""


# Seafile

SHARE = {
    "/plants_64x64/config/config.yaml": b"general: 1\n",
    "/plants_64x64/ckpt/reg_ckpt_10.pt": honest_zip({"data": noise(90_000)}),
    "/plants_64x64/ckpt/a name & more?.pt": honest_zip({"data": b"2"}),
}


@pytest.mark.parametrize("old", [False, True], ids=["new server", "old server"])
def test_a_share_link_is_listed_and_fetched_file_by_file(
    host: Host, web: Web, tmp_path: Path, old: bool
) -> None:
    share = SeafileHost(host, SHARE, old=old)
    fetcher = SeafileFetcher(web, share.url + "?p=/plants_64x64", into="plants/")
    files = {wanted.name: wanted for wanted in fetcher.list_files()}
    expected = {name.replace("/plants_64x64", "plants"): data for name, data in SHARE.items()}
    assert {name: wanted.size for name, wanted in files.items()} == {
        name: len(data) for name, data in expected.items()
    }
    for name, wanted in files.items():
        fetcher.fetch(wanted, tmp_path / name, Meter())
        assert (tmp_path / name).read_bytes() == expected[name]


def test_an_expired_one_time_address_is_asked_for_anew(
    host: Host, web: Web, tmp_path: Path
) -> None:
    path = "/plants_64x64/ckpt/reg_ckpt_10.pt"
    share = SeafileHost(host, SHARE)
    host.faults[path] = [Fault(cut_after=30_000), Fault(cut_after=20_000)]
    fetcher = SeafileFetcher(web, share.url, include=["*reg_ckpt*"])
    (wanted,) = fetcher.list_files()
    fetcher.fetch(wanted, tmp_path / "a.pt", Meter())
    assert (tmp_path / "a.pt").read_bytes() == SHARE[path]
    assert len([each for each in host.paths() if each.startswith("/seafhttp")]) == 3
    sent = sum(len(request.headers.get("range", "")) > 0 for request in host.requests)
    assert sent > 0
    assert host.body_bytes <= EXTRA * len(SHARE[path]) + 5000  # the lists count too


def test_a_file_that_the_list_shows_as_changed_is_not_continued(
    host: Host, web: Web, tmp_path: Path
) -> None:
    path = "/plants_64x64/ckpt/reg_ckpt_10.pt"
    share = SeafileHost(host, dict(SHARE))
    host.faults[path] = [Fault(cut_after=30_000)]
    with Web(Policy(attempts=1)) as impatient:
        fetcher = SeafileFetcher(impatient, share.url, include=["*reg_ckpt*"])
        with pytest.raises(UserError):
            fetcher.fetch(fetcher.list_files()[0], tmp_path / "a.pt", Meter())
    newer = bytearray(SHARE[path])
    newer[-80_000:-40_000] = noise(40_000)  # of the same length
    share.files[path], share.stamps[path] = bytes(newer), "2022-01-01T10:00:00+02:00"
    fetcher = SeafileFetcher(web, share.url, include=["*reg_ckpt*"])
    fetcher.fetch(fetcher.list_files()[0], tmp_path / "a.pt", Meter())
    assert (tmp_path / "a.pt").read_bytes() == newer


def test_a_link_to_one_file_is_fetched(host: Host, web: Web, tmp_path: Path) -> None:
    SeafileHost(host, {"/annotations.tar.gz": honest_tar({"a": b"1"})}, token="one")
    fetcher = SeafileFetcher(web, f"{host.url}/f/one/", name="annotations.zip", kinds=("gzip",))
    (wanted,) = fetcher.list_files()
    fetcher.fetch(wanted, tmp_path / "a", Meter())
    assert (tmp_path / "a").stat().st_size > 0


@pytest.mark.parametrize("name", ["/../evil", "/a/../../evil", "/C:/evil", "/a\\evil", "/a\nb"])
def test_names_that_a_server_lists_are_checked(host: Host, web: Web, name: str) -> None:
    rows = [{"is_dir": False, "file_path": name, "size": 3, "last_modified": "x"}]
    host.add("/api/v2.1/share-links/abc/dirents/", json.dumps({"dirent_list": rows}).encode())
    with pytest.raises(UserError, match="the server lists a file whose name"):
        SeafileFetcher(web, f"{host.url}/d/abc/").list_files()


@pytest.mark.parametrize(
    "answer", [b"<html>password</html>", b"[]", b'{"error_msg": "x"}', b'{"dirent_list": [1]}']
)
def test_a_share_link_that_lists_nothing_readable_is_said(
    host: Host, web: Web, answer: bytes
) -> None:
    host.add("/api/v2.1/share-links/abc/dirents/", answer)
    with pytest.raises(UserError, match="the share link cannot be listed"):
        SeafileFetcher(web, f"{host.url}/d/abc/").list_files()


def test_a_share_link_without_the_wanted_files_says_what_it_holds(host: Host, web: Web) -> None:
    share = SeafileHost(host, SHARE)
    with pytest.raises(UserError, match="none of the wanted files") as caught:
        SeafileFetcher(web, share.url, include=["*.mkv"]).list_files()
    assert "reg_ckpt_10" in caught.value.details["it holds"]


# A session cookie

SUBJECTS = {
    ("Videos", "SubjectSpecific_1.tgz"): honest_tar({"S1/Videos/a.mp4": noise(120_000)}),
    ("Videos", "SubjectSpecific_6.tgz"): honest_tar({"S5/Videos/a.mp4": noise(80_000)}),
}
SESSION = "6k3jvq0c1l2m3n4o5p6q7r8s9t"


def session_fetcher(web: Web, url: str, session_id: str | None) -> CookieSessionFetcher:
    files = {
        Wanted(f"Videos_{number}.tgz", url): {"download": "1", "filepath": path, "filename": name}
        for number, (path, name) in enumerate(SUBJECTS)
    }
    return CookieSessionFetcher(
        web,
        url,
        files,
        cookie_name="PHPSESSID",
        session_id=session_id,
        how="log in",
        variable="THE_COOKIE",
    )


@pytest.mark.parametrize("given", [SESSION, f"PHPSESSID={SESSION}", f" {SESSION}; "])
def test_a_good_session_gets_the_files(host: Host, web: Web, tmp_path: Path, given: str) -> None:
    server = SessionHost(host, SUBJECTS, session=SESSION)
    fetcher = session_fetcher(web, server.url, given)
    for wanted, data in zip(fetcher.list_files(), SUBJECTS.values(), strict=True):
        fetcher.fetch(wanted, tmp_path / wanted.name, Meter())
        assert (tmp_path / wanted.name).read_bytes() == data


@pytest.mark.parametrize("circles", [False, True])
@pytest.mark.parametrize("given", [None, "", "anna@example.org", "a secret", "0" * 26])
def test_a_bad_session_is_found_out_before_the_download(
    host: Host, web: Web, tmp_path: Path, given: str | None, circles: bool
) -> None:
    server = SessionHost(host, SUBJECTS, session=SESSION)
    server.circles = circles
    fetcher = session_fetcher(web, server.url, given)
    with pytest.raises(SourceClosed) as caught:
        fetcher.fetch(fetcher.list_files()[0], tmp_path / "a.tgz", Meter())
    assert not any("download" in request.query for request in host.requests)
    assert file_names(tmp_path) == []
    text = caught.value.message + str(caught.value.details)
    assert not given or given not in text


def test_a_session_that_ends_in_the_middle_goes_on_with_a_fresh_one(
    host: Host, web: Web, tmp_path: Path
) -> None:
    server = SessionHost(host, SUBJECTS, session=SESSION)
    server.ends_after = 0
    data = next(iter(SUBJECTS.values()))
    browse = host.handlers[server.PATH]

    def cut_while_it_lasts(request: Request) -> object:
        answer = browse(request)
        is_file = isinstance(answer, Served) and "download" in request.query
        return (answer, Fault(cut_after=50_000)) if is_file and server.ends_after == -1 else answer

    host.handlers[server.PATH] = cut_while_it_lasts  # type: ignore[assignment]
    fetcher = session_fetcher(web, server.url, SESSION)
    wanted = fetcher.list_files()[0]
    with pytest.raises(SourceClosed, match="the session has expired") as caught:
        fetcher.fetch(wanted, tmp_path / "a.tgz", Meter())
    assert "fresh cookie" in caught.value.details["to fix"]
    assert (tmp_path / "a.tgz.part").read_bytes() == data[:50_000]

    server.session, server.ends_after = "fresh" + SESSION, None
    fetcher = session_fetcher(web, server.url, "fresh" + SESSION)
    fetcher.fetch(wanted, tmp_path / "a.tgz", Meter())
    assert (tmp_path / "a.tgz").read_bytes() == data
    assert host.body_bytes <= EXTRA * len(data) + 1000


def test_a_cookie_is_not_sent_to_another_server(host: Host, web: Web, tmp_path: Path) -> None:
    with serving() as other:
        other.add("/data.zip", BIG)
        host.always["/a"] = Fault(location=other.url + "/data.zip")
        address = Address(host.url + "/a", headers={"Cookie": "PHPSESSID=secret"})
        with web.open(address) as response:
            assert response.read() == BIG
        assert host.requests[0].headers["cookie"] == "PHPSESSID=secret"
        assert "cookie" not in other.requests[0].headers


# Hub and hand


def test_a_hub_model_is_asked_for_as_an_archive(host: Host, web: Web, tmp_path: Path) -> None:
    data = honest_tar({"saved_model.pb": noise(5000)})
    host.add("/google/model/1", data)
    fetcher = HubFetcher(web, Wanted("model.tar.gz", host.url + "/google/model/1"))
    fetcher.fetch(fetcher.list_files()[0], tmp_path / "model.tar.gz", Meter())
    assert (tmp_path / "model.tar.gz").read_bytes() == data
    assert host.requests[0].query == {"tf-hub-format": "compressed"}


def test_a_hub_that_has_moved_to_a_page_is_said(host: Host, web: Web, tmp_path: Path) -> None:
    host.always["/google/model/1"] = Fault(location="/models")
    host.add("/models", b"<html><title>Kaggle Models</title></html>", type="text/html")
    fetcher = HubFetcher(web, Wanted("model.tar.gz", host.url + "/google/model/1"))
    with pytest.raises(UserError, match="web page instead of the model") as caught:
        fetcher.fetch(fetcher.list_files()[0], tmp_path / "model.tar.gz", Meter())
    assert caught.value.details["page says"] == "Kaggle Models"


def test_files_to_be_got_by_hand_are_named_with_their_place(tmp_path: Path) -> None:
    fetcher = ByHandFetcher(
        "https://example.org/share",
        [Wanted("videos.zip", "https://example.org/share")],
        how="sign in",
        folder=tmp_path,
        command="i2v download iper",
    )
    with pytest.raises(SourceClosed, match=r"'videos\.zip' has to be got by hand") as caught:
        fetcher.fetch(fetcher.list_files()[0], tmp_path / "videos.zip", Meter())
    assert caught.value.exit_code == 4
    assert caught.value.details["put them into"] == str(tmp_path)
    assert caught.value.details["then run"] == "i2v download iper"
