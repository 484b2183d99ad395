"""Transfers from good and from misbehaving hosts: the right bytes or one clear error."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from pathlib import Path

import pytest

from pipelines.events import UserError
from pipelines.io.download import Fetched, Meter, Stopped, Wanted
from pipelines.io.fetchers.http import HttpFetcher, HttpItem
from pipelines.io.fetchers.transfer import transfer
from pipelines.io.fetchers.web import Address, Policy, Web, check_address
from tests.pipelines.io.archive_makers import honest_tar, honest_zip
from tests.pipelines.io.loopback import (
    Fault,
    Host,
    Request,
    Served,
    file_names,
    serving,
    steady_date,
)

noise = random.Random(11).randbytes
BIG = honest_zip({"noise": noise(400_000)})
EXTRA = 1.05
"""Bytes sent over bytes of the file: so little may be fetched twice."""


def get(
    web: Web, url: str, folder: Path, name: str = "data.zip", **facts: object
) -> tuple[Fetched, bytes]:
    """Fetch one address into a folder."""
    wanted = Wanted(name, url, **facts)  # type: ignore[arg-type]
    fetched = transfer(web, wanted, folder / name, Meter(), address=lambda: Address(url))
    return fetched, (folder / name).read_bytes()


def test_a_file_arrives_with_its_checksum_and_nothing_beside_it(
    host: Host, web: Web, tmp_path: Path
) -> None:
    sha256 = hashlib.sha256(BIG).hexdigest()
    url = host.add("/data.zip", BIG)
    fetched, data = get(web, url, tmp_path, size=len(BIG), checksums=(f"sha256:{sha256}",))
    assert data == BIG
    assert (fetched.sha256, fetched.size) == (sha256, len(BIG))
    assert fetched.checked == f"sha256:{sha256}"
    assert fetched.etag == host.files["/data.zip"].etag
    assert file_names(tmp_path) == ["data.zip"]


@pytest.mark.parametrize(
    ("twentieth", "validator"),
    [(n, "etag") for n in range(20)]
    + [(n, validator) for n in (0, 9, 19) for validator in ("last_modified", "length only")],
)
def test_a_connection_cut_after_k_bytes_is_taken_up_again(
    host: Host, web: Web, tmp_path: Path, twentieth: int, validator: str
) -> None:
    cut = 1 + twentieth * (len(BIG) - 2) // 19
    steady = steady_date() if validator == "last_modified" else None
    url = host.add("/data.zip", BIG, last_modified=steady)
    if validator != "etag":
        host.files["/data.zip"].etag = None
    host.faults["/data.zip"] = [Fault(cut_after=cut)]
    _, data = get(web, url, tmp_path)
    assert data == BIG
    assert host.body_bytes <= EXTRA * len(BIG)
    assert len(host.requests) == 2


def test_a_connection_that_is_cut_all_the_time_still_gets_there(
    host: Host, web: Web, tmp_path: Path
) -> None:
    url = host.add("/data.zip", BIG)
    host.always["/data.zip"] = Fault(cut_after=len(BIG) // 19)
    _, data = get(web, url, tmp_path)
    assert data == BIG
    assert len(host.requests) == 20
    assert host.body_bytes <= EXTRA * len(BIG)


def test_a_server_that_ignores_ranges_sends_the_whole_file_again(
    host: Host, web: Web, tmp_path: Path
) -> None:
    url = host.add("/data.zip", BIG)
    host.faults["/data.zip"] = [Fault(cut_after=250_000), Fault(ignores_range=True)]
    _, data = get(web, url, tmp_path)
    assert data == BIG


def test_a_file_that_changed_meanwhile_is_fetched_anew_and_never_mixed(
    host: Host, web: Web, tmp_path: Path
) -> None:
    url = host.add("/data.zip", BIG)
    newer = honest_zip({"noise": noise(400_000)})

    def change(request: Request) -> tuple[Served, Fault]:
        served, fault = host.files["/data.zip"], Fault(cut_after=300_000)
        if len(host.requests) > 1:
            served, fault = Served(newer, etag='"newer"'), Fault()
        return served, fault

    host.handlers["/data.zip"] = change
    fetched, data = get(web, url, tmp_path)
    assert data == newer
    assert fetched.etag == '"newer"'


def test_an_earlier_part_of_another_version_is_not_continued(
    host: Host, web: Web, tmp_path: Path
) -> None:
    url = host.add("/data.zip", BIG)
    host.always["/data.zip"] = Fault(cut_after=200_000)
    impatient = Web(Policy(attempts=1))
    with pytest.raises(UserError):
        get(impatient, url, tmp_path)
    assert (tmp_path / "data.zip.part").stat().st_size == 200_000
    host.always.clear()
    host.add("/data.zip", newer := honest_zip({"noise": noise(400_000)}))
    assert get(web, url, tmp_path)[1] == newer


def test_a_part_that_is_already_full_is_not_fetched_again(
    host: Host, web: Web, tmp_path: Path
) -> None:
    url = host.add("/data.zip", BIG)
    host.always["/data.zip"] = Fault(cut_after=len(BIG) - 1)
    with pytest.raises(UserError):
        get(Web(Policy(attempts=1)), url, tmp_path)
    with (tmp_path / "data.zip.part").open("ab") as stream:  # as if killed before the renaming
        stream.write(BIG[-1:])
    num_requests = len(host.requests)
    assert get(web, url, tmp_path)[1] == BIG
    assert len(host.requests) == num_requests


def test_a_part_of_unknown_full_size_is_completed_by_the_answer_416(
    host: Host, web: Web, tmp_path: Path
) -> None:
    url = host.add("/data.zip", BIG)
    (tmp_path / "data.zip.part").write_bytes(BIG)
    (tmp_path / "data.zip.part.json").write_text(
        json.dumps({"url": url, "etag": host.files["/data.zip"].etag})
    )
    assert get(web, url, tmp_path)[1] == BIG
    assert host.body_bytes == 0


def test_a_server_that_continues_at_the_wrong_place_is_not_believed(
    host: Host, web: Web, tmp_path: Path
) -> None:
    url = host.add("/data.zip", BIG)
    host.faults["/data.zip"] = [Fault(cut_after=100_000), Fault(wrong_range=True)]
    assert get(web, url, tmp_path)[1] == BIG


@pytest.mark.parametrize("announced", [len(BIG) - 1000, len(BIG) + 1000])
def test_a_wrong_length_is_an_error_when_the_size_is_known(
    host: Host, web: Web, tmp_path: Path, announced: int
) -> None:
    url = host.add("/data.zip", BIG)
    host.always["/data.zip"] = Fault(announced=announced)
    with pytest.raises(UserError, match="another size than the published file") as caught:
        get(web, url, tmp_path, size=len(BIG))
    assert caught.value.details["expected"] == f"{len(BIG)} bytes"
    assert file_names(tmp_path) == []


def test_a_server_that_announces_too_much_is_asked_how_long_the_file_is(
    host: Host, web: Web, tmp_path: Path
) -> None:
    url = host.add("/data.zip", BIG)
    host.always["/data.zip"] = Fault(announced=len(BIG) + 1000)
    assert get(web, url, tmp_path)[1] == BIG


def test_a_server_that_never_sends_anything_is_given_up(
    host: Host, web: Web, tmp_path: Path
) -> None:
    url = host.add("/data.zip", BIG)
    host.always["/data.zip"] = Fault(cut_after=0)
    with pytest.raises(UserError, match="gave up after 4 tries") as caught:
        get(web, url, tmp_path)
    assert "same command" in caught.value.details["to fix"]


def test_a_wrong_checksum_is_an_error_and_the_file_is_kept_for_a_look(
    host: Host, web: Web, tmp_path: Path
) -> None:
    url = host.add("/data.zip", BIG)
    with pytest.raises(UserError, match=r"'data\.zip' is not the published file") as caught:
        get(web, url, tmp_path, checksums=("md5:" + "0" * 32, "md5:" + "1" * 32))
    assert caught.value.details["got"] == "md5:" + hashlib.md5(BIG).hexdigest()
    assert file_names(tmp_path) == ["data.zip.rejected"]


def test_any_of_several_known_checksums_is_enough(host: Host, web: Web, tmp_path: Path) -> None:
    url = host.add("/data.zip", BIG)
    true = "md5:" + hashlib.md5(BIG).hexdigest()
    assert get(web, url, tmp_path, checksums=("md5:" + "0" * 32, true))[0].checked == true


@pytest.mark.parametrize("status", [200, 403, 404])
@pytest.mark.parametrize("kind", ["text/html", "application/zip"])
def test_a_page_is_never_kept_as_the_archive(
    host: Host, web: Web, tmp_path: Path, status: int, kind: str
) -> None:
    page = b"\n <!DOCTYPE html><html><head><title>Quota &amp; more</title></head></html>"
    url = host.add("/data.zip", page, type=kind)
    host.always["/data.zip"] = Fault(status=status if status != 200 else None)
    with pytest.raises(UserError) as caught:
        get(web, url, tmp_path)
    assert file_names(tmp_path) == []
    assert caught.value.details["to fix"]
    if status == 200:
        assert caught.value.message == "the server sent a web page instead of 'data.zip'"
        assert caught.value.details["page says"] == "Quota & more"


def test_a_page_in_the_middle_leaves_the_part_as_it_was(
    host: Host, web: Web, tmp_path: Path
) -> None:
    url = host.add("/data.zip", BIG)
    host.faults["/data.zip"] = [Fault(cut_after=150_000), Fault(page="<html>log in</html>")]
    with pytest.raises(UserError, match="web page"):
        get(web, url, tmp_path)
    assert (tmp_path / "data.zip.part").read_bytes() == BIG[:150_000]
    assert get(web, url, tmp_path)[1] == BIG
    assert host.body_bytes <= EXTRA * len(BIG)


def test_another_kind_of_file_is_not_kept_as_the_archive(
    host: Host, web: Web, tmp_path: Path
) -> None:
    url = host.add("/data.zip", honest_tar({"a": b"1" * 2000}))
    with pytest.raises(UserError, match=r"the server sent gzip instead of 'data\.zip'"):
        get(web, url, tmp_path)
    assert file_names(tmp_path) == []


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(host: Host, web: Web, tmp_path: Path, status: int) -> None:
    url = host.add("/data.zip", BIG)
    host.faults["/data.zip"] = [Fault(status=status), Fault(status=status)]
    assert get(web, url, tmp_path)[1] == BIG
    assert len(host.requests) == 3


def test_retry_after_is_waited_for(host: Host, web: Web, tmp_path: Path) -> None:
    url = host.add("/data.zip", BIG)
    host.faults["/data.zip"] = [Fault(status=503, headers={"Retry-After": "1"})]
    began = time.monotonic()
    assert get(web, url, tmp_path)[1] == BIG
    assert time.monotonic() - began >= 1


def test_a_retry_after_of_an_hour_ends_the_run_with_the_time(
    host: Host, web: Web, tmp_path: Path
) -> None:
    url = host.add("/data.zip", BIG)
    host.faults["/data.zip"] = [Fault(status=503, headers={"Retry-After": "3600"})]
    with pytest.raises(UserError, match="asks to come back in 60 minutes"):
        get(web, url, tmp_path)


def test_a_server_that_stays_broken_is_given_up(host: Host, web: Web, tmp_path: Path) -> None:
    url = host.add("/data.zip", BIG)
    host.always["/data.zip"] = Fault(status=500)
    with pytest.raises(UserError, match="gave up after 4 tries: the server answers 500"):
        get(web, url, tmp_path)
    assert len(host.requests) == 4


def test_redirects_in_circles_end(host: Host, web: Web, tmp_path: Path) -> None:
    host.always["/a"] = Fault(location="/b")
    host.always["/b"] = Fault(location="/a")
    with pytest.raises(UserError, match="redirects more than 10 times"):
        get(web, host.url + "/a", tmp_path)
    assert len(host.requests) == 11


def test_a_redirect_is_followed(host: Host, web: Web, tmp_path: Path) -> None:
    host.add("/data.zip", BIG)
    host.always["/old"] = Fault(location="/data.zip", status=301)
    assert get(web, host.url + "/old", tmp_path)[1] == BIG


def test_a_server_that_drips_is_given_up(host: Host, web: Web, tmp_path: Path) -> None:
    url = host.add("/data.zip", BIG)
    host.always["/data.zip"] = Fault(drip_s=0.005)
    with pytest.raises(UserError, match=r"the server sends only \d+ bytes per second"):
        get(web, url, tmp_path)


def test_a_slow_but_steady_server_is_waited_for(host: Host, web: Web, tmp_path: Path) -> None:
    url = host.add("/data.zip", BIG[:0] + honest_zip({"noise": noise(100_000)}))
    host.piece_delay_s = 0.15
    fetched, _ = get(web, url, tmp_path)
    assert fetched.size == len(host.files["/data.zip"].data)


def test_a_server_that_falls_silent_is_asked_again(host: Host, tmp_path: Path) -> None:
    url = host.add("/data.zip", BIG)
    host.faults["/data.zip"] = [Fault(drip_s=3)]
    with Web(Policy(read_timeout_s=0.5, attempts=3, first_delay_s=0.01)) as web:
        assert get(web, url, tmp_path)[1] == BIG


def test_nobody_listening_is_said_with_the_host(web: Web, tmp_path: Path) -> None:
    with serving() as gone:
        url = gone.url
    with pytest.raises(UserError, match=r"no connection to 127\.0\.0\.1") as caught:
        get(web, url + "/data.zip", tmp_path)
    assert caught.value.details["to fix"].startswith("check the network")


def test_a_stop_ends_a_transfer_and_keeps_its_part(host: Host, web: Web, tmp_path: Path) -> None:
    url = host.add("/data.zip", BIG)
    host.piece_delay_s = 0.02
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(Stopped):
        transfer(
            web,
            Wanted("data.zip", url),
            tmp_path / "data.zip",
            Meter(stop),
            address=lambda: Address(url),
        )
    kept = (tmp_path / "data.zip.part").read_bytes()
    assert 0 < len(kept) < len(BIG)
    assert kept == BIG[: len(kept)]


def test_the_next_address_is_tried_when_one_is_dead(host: Host, web: Web, tmp_path: Path) -> None:
    url = host.add("/mirror/data.zip", BIG)
    wanted = Wanted("data.zip", host.url + "/data.zip")
    fetcher = HttpFetcher(web, [HttpItem(wanted, (host.url + "/data.zip", url))])
    listed = fetcher.measure(*fetcher.list_files())
    assert listed.size == len(BIG)
    fetcher.fetch(listed, tmp_path / "data.zip", Meter())
    assert (tmp_path / "data.zip").read_bytes() == BIG


# Encryption


@pytest.mark.parametrize(
    ("url", "came_from", "plain_http", "is_allowed"),
    [
        ("https://example.org/a", None, False, True),
        ("http://example.org/a", None, False, False),
        ("http://example.org/a", None, True, True),
        ("http://example.org/a", "https://example.org/b", False, False),
        ("http://127.0.0.1:8000/a", None, False, True),
        ("http://[::1]:8000/a", None, False, True),
        ("http://127.0.0.1/a", "http://127.0.0.1/b", False, True),
        ("http://127.0.0.1/a", "https://example.org/b", False, False),
        ("http://127.0.0.1/a", "http://example.org/b", True, False),
        ("http://localhost/a", None, False, False),
        ("http://127.0.0.1.example.org/a", None, False, False),
        ("http://10.0.0.1/a", None, False, False),
        ("ftp://example.org/a", None, True, False),
        ("file:///etc/passwd", None, True, False),
        ("https:///a", None, False, False),
    ],
)
def test_only_https_is_used_but_for_loopback_and_known_files(
    url: str, came_from: str | None, plain_http: bool, is_allowed: bool
) -> None:
    if is_allowed:
        check_address(url, came_from=came_from, plain_http=plain_http)
    else:
        with pytest.raises(UserError, match="not encrypted"):
            check_address(url, came_from=came_from, plain_http=plain_http)


def test_a_redirect_to_an_unencrypted_host_is_not_followed(
    host: Host, web: Web, tmp_path: Path
) -> None:
    host.always["/a"] = Fault(location="http://example.org/data.zip")
    with pytest.raises(UserError, match="not encrypted") as caught:
        get(web, host.url + "/a", tmp_path)
    assert caught.value.details["redirected from"] == host.url + "/a"
