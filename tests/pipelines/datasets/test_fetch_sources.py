"""Sources that need a person, a log-in or luck: sessions, lists of videos, files got by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.datasets.fetch import fetch
from pipelines.events import UserError
from pipelines.schema import Job
from tests.pipelines.datasets.fetch_cases import (
    Said,
    noise,
    request_for,
    run,
    source_set,
)
from tests.pipelines.io.archive_makers import honest_tar, honest_zip
from tests.pipelines.io.loopback import (
    Host,
    SessionHost,
    serving,
    without_proxies,
)

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def no_proxies() -> Iterator[None]:
    with without_proxies():
        yield


@pytest.fixture
def host() -> Iterator[Host]:
    with serving() as running:
        yield running


# Sessions, lists, hands


def h36m_like(server: SessionHost) -> Any:
    files = [
        {
            "name": f"archives/Videos_S{n}.tgz",
            "query": {"download": "1", "filepath": a, "filename": b},
        }
        for n, (a, b) in enumerate(server.files)
    ]
    return source_set(
        {"kind": "cookie-session", "url": server.url, "how": "log in", "files": files},
        unpack=[{"match": r"archives/(\w+)_(S\d+)\.tgz", "into": "extracted/{2}/{1}"}],
    )


def test_a_session_that_ends_leaves_what_is_complete_and_goes_on_later(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives = {
        ("Videos", f"SubjectSpecific_{n}.tgz"): honest_tar({f"S{n}/Videos/a.mp4": noise(5000)})
        for n in range(4)
    }
    secret = "q1w2e3r4t5z6u7i8o9p0"
    server = SessionHost(host, archives, session=secret)
    server.ends_after = 1
    sources, raw = h36m_like(server), tmp_path / "data" / "kth" / "raw"
    monkeypatch.setenv("I2V_H36M_PHPSESSID", secret)
    said = Said()
    with pytest.raises(UserError, match="the session has expired") as caught:
        fetch(request_for(tmp_path, sources, jobs=4), said)
    assert caught.value.details["complete"] == "2 of 4 files"
    assert (raw / "extracted" / "S0" / "Videos" / "a.mp4").is_file()
    num_asked = sum("download" in request.query for request in host.requests)
    assert num_asked == 3, "the last is not tried"

    server.session, server.ends_after = "fresh" + secret, None
    monkeypatch.setenv("I2V_H36M_PHPSESSID", "fresh" + secret)
    assert run(tmp_path, sources)["num_files_here"] == 4
    assert len(list((raw / "extracted").rglob("a.mp4"))) == 4
    kept = "".join(path.read_text("latin-1") for path in raw.rglob("*.json"))
    assert secret not in kept + said.stream.getvalue()


TABLE = "video_id,start,end,partition\naaaaaaaaaaa,1,2,train\nbbbbbbbbbbb,1,2,train\n" + (
    "ccccccccccc,1,2,test\nccccccccccc,3,4,test\nddddddddddd,1,2,test\neeeeeeeeeee,1,2,train\n"
)


def taichi_like(host: Host) -> Any:
    table = {"name": "table.csv", "urls": [host.add("/table.csv", TABLE.encode())]}
    for name in ("aaaaaaaaaaa", "ccccccccccc", "eeeeeeeeeee"):
        host.add(f"/w/{name}.mp4", b"\x00\x00\x00\x10ftypisom" + noise(9000), type="video/mp4")
    return source_set(
        {"kind": "https", "files": [table]},
        {
            "kind": "youtube",
            "table": "table.csv",
            "id_column": "video_id",
            "split_column": "partition",
            "watch_url": host.url + "/w/{id}.mp4",
        },
    )


def test_a_list_of_videos_comes_as_far_as_they_exist_with_a_report(
    host: Host, tmp_path: Path
) -> None:
    sources, said = taichi_like(host), Said()
    result = fetch(request_for(tmp_path, sources), said)
    gone = {"videos/bbbbbbbbbbb.mp4": "removed", "videos/ddddddddddd.mp4": "removed"}
    assert result["missing"] == gone
    assert result["coverage"] == {
        "train": {"videos": 3, "videos_here": 2, "clips": 3, "clips_here": 2},
        "test": {"videos": 2, "videos_here": 1, "clips": 3, "clips_here": 2},
    }
    report = json.loads((tmp_path / "data/kth/raw/missing.json").read_text())
    assert report["videos"] == gone
    assert report["reasons"] == {"removed": 2}
    assert "2 videos cannot be had: 2 removed" in said.lines()
    assert "train: 2 of 3 videos, 2 of 3 clips" in said.lines()

    host.requests.clear()
    assert run(tmp_path, sources)["missing"] == gone
    assert host.requests == [], "what is gone for good is not asked for each time"

    host.add("/w/bbbbbbbbbbb.mp4", b"\x00\x00\x00\x10ftypisom" + noise(900), type="video/mp4")
    result = run(tmp_path, sources, retry_missing=True)
    assert list(result["missing"]) == ["videos/ddddddddddd.mp4"]


def test_cookies_of_a_browser_are_used_and_the_file_is_left_as_it_was(
    host: Host, tmp_path: Path
) -> None:
    cookies = tmp_path / "cookies.txt"
    cookies.write_text(
        "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t4102444800\tsigned\tin\n"
    )
    before = cookies.read_bytes()
    run(tmp_path, taichi_like(host), cookies_path=cookies)
    assert cookies.read_bytes() == before
    videos = [request for request in host.requests if request.path.startswith("/w/")]
    assert all(request.headers.get("cookie") == "signed=in" for request in videos)
    (tmp_path / "no.txt").write_text("nothing")
    with pytest.raises(UserError, match="the cookies file cannot be read"):
        run(tmp_path, taichi_like(host), cookies_path=tmp_path / "no.txt")


def test_a_list_of_which_nothing_is_left_is_an_error(host: Host, tmp_path: Path) -> None:
    sources = taichi_like(host)
    for path in [path for path in host.files if path.startswith("/w/")]:
        del host.files[path]
    with pytest.raises(UserError, match="none of the listed videos can be had"):
        run(tmp_path, sources)


def test_files_to_get_by_hand_are_named_and_then_taken_from_the_folder(
    host: Host, tmp_path: Path
) -> None:
    sources = source_set(
        {
            "kind": "by-hand",
            "url": "https://example.org/share",
            "how": "sign in and download",
            "files": [{"name": "videos.zip"}],
        },
        unpack=[{"match": r"videos\.zip", "into": "videos"}],
    )
    with pytest.raises(UserError, match=r"'videos\.zip' has to be got by hand") as caught:
        run(tmp_path, sources)
    assert caught.value.exit_code == 4
    raw = tmp_path / "data" / "kth" / "raw"
    assert caught.value.details["put them into"] == str(raw)
    (raw / "videos.zip").write_bytes(honest_zip({"a.mp4": noise(100)}))
    run(tmp_path, sources)
    assert (raw / "videos" / "a.mp4").is_file()


def test_a_worker_does_the_job_and_keeps_no_secret(host: Host, tmp_path: Path) -> None:
    archives = {("Videos", "SubjectSpecific_0.tgz"): honest_tar({"S0/Videos/a.mp4": noise(5000)})}
    server = SessionHost(host, archives, session="q1w2e3r4t5z6u7i8o9p0")
    record = tmp_path / "record"
    record.mkdir()
    job = Job(
        verb="download",
        target="pipelines.datasets.fetch:fetch",
        config_class="pipelines.datasets.fetch_config:FetchRequest",
        config=request_for(tmp_path, h36m_like(server)).model_dump(mode="json"),
        record_dir=record,
    )
    (record / "job.json").write_text(job.model_dump_json())
    reader, writer = os.pipe()
    process = subprocess.run(
        [sys.executable, "-I", "pipelines/worker.py", str(record / "job.json"), str(writer)],
        cwd=REPOSITORY,
        pass_fds=[writer],
        env=os.environ | {"I2V_H36M_PHPSESSID": "q1w2e3r4t5z6u7i8o9p0"},
        capture_output=True,
        text=True,
        check=False,
    )
    os.close(writer)
    with os.fdopen(reader) as events:
        said = events.read()
    assert process.returncode == 0, process.stderr
    result = json.loads((record / "result.json").read_text())["result"]
    assert result["num_files_here"] == 1
    said += process.stdout + process.stderr
    kept = "".join(path.read_text() for path in record.iterdir()) + said
    assert "q1w2e3r4t5z6u7i8o9p0" not in kept
