"""`i2v download` of published data, from request to files, against loopback servers."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.datasets import fetch as fetch_module
from pipelines.datasets.fetch import fetch
from pipelines.events import Interrupted, UserError
from pipelines.files import folder_lock
from pipelines.schema import Job
from tests.pipelines.datasets.fetch_cases import (
    ACTIONS,
    SEQUENCES,
    Said,
    kth_like,
    manifest,
    noise,
    request_for,
    run,
    source_set,
    tree,
)
from tests.pipelines.io.archive_makers import honest_tar, honest_zip, split_zip
from tests.pipelines.io.loopback import (
    Fault,
    Host,
    SeafileHost,
    Served,
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


def unpacked_actions() -> dict[str, bytes]:
    return {
        f"{action}/{name}": data
        for action, files in ACTIONS.items()
        for name, data in files.items()
    }


def test_files_arrive_are_unpacked_and_written_down(host: Host, tmp_path: Path) -> None:
    sources, said = kth_like(host), Said()
    result = fetch(request_for(tmp_path, sources, tool_version="1.2.3"), said)
    raw = tmp_path / "data" / "kth" / "raw"
    archives = {f"{action}.zip": honest_zip(files) for action, files in ACTIONS.items()}
    assert tree(raw).keys() == {*archives, *unpacked_actions(), "00sequences.txt"}
    assert {k: v for k, v in tree(raw).items() if k in unpacked_actions()} == unpacked_actions()
    assert (result["num_files"], result["num_files_here"]) == (4, 4)
    assert result["next"] == "i2v extract-frames kth"
    assert result["bytes_fetched"] == sum((raw / name).stat().st_size for name in archives) + len(
        SEQUENCES
    )
    written = manifest(raw)
    assert (written["dataset"], written["tool"]) == ("kth", "1.2.3")
    row = written["files"]["00sequences.txt"]
    assert row["sha256"] == hashlib.sha256(SEQUENCES).hexdigest()
    assert row["url"] == host.url + "/kth/00sequences.txt"
    assert row["etag"] == host.files["/kth/00sequences.txt"].etag
    assert row["checked"] is None
    assert written["unpacked"]["walking.zip"]["names"] == ["walking"]


def test_progress_is_reported_in_bytes_and_in_files(host: Host, tmp_path: Path) -> None:
    said = Said()
    fetch(request_for(tmp_path, kth_like(host)), said)
    last = {event["task"]: event for event in said.events("progress")}
    assert last["download"]["done"] == last["download"]["total"] > 0
    assert last["download"]["unit"] == "B"
    assert (last["files"]["done"], last["files"]["total"]) == (4, 4)
    assert any(line.startswith("4 of 4: ") for line in said.lines())
    assert "unpack walking.zip" in last


def test_a_second_run_asks_no_server_and_changes_nothing(host: Host, tmp_path: Path) -> None:
    sources = kth_like(host)
    run(tmp_path, sources)
    raw = tmp_path / "data" / "kth" / "raw"
    before, written, num_requests = tree(raw), manifest(raw), len(host.requests)
    result = run(tmp_path, sources)
    assert len(host.requests) == num_requests
    assert (tree(raw), manifest(raw)) == (before, written)
    assert (result["bytes_fetched"], result["unpacked"]) == (0, [])
    assert result["num_files_here"] == 4


def test_only_takes_the_files_that_fit(host: Host, tmp_path: Path) -> None:
    result = run(tmp_path, kth_like(host), only=("walking.zip", "*.txt"))
    assert [row["name"] for row in result["files"]] == ["00sequences.txt", "walking.zip"]
    assert host.paths() == ["/kth/00sequences.txt", "/kth/walking.zip"]


def test_archives_can_be_removed_once_they_are_unpacked(host: Host, tmp_path: Path) -> None:
    sources = kth_like(host)
    run(tmp_path, sources, keep_archives=False)
    raw = tmp_path / "data" / "kth" / "raw"
    assert tree(raw) == unpacked_actions() | {"00sequences.txt": SEQUENCES}
    num_requests = len(host.requests)
    assert run(tmp_path, sources)["num_files_here"] == 4
    assert len(host.requests) == num_requests
    for path in (raw / "walking").iterdir():
        path.unlink()
    (raw / "walking").rmdir()
    run(tmp_path, sources, keep_archives=False)
    assert tree(raw) == unpacked_actions() | {"00sequences.txt": SEQUENCES}


def test_a_dry_run_lists_the_files_and_writes_nothing(host: Host, tmp_path: Path) -> None:
    sources = kth_like(host)
    result = run(tmp_path, sources, dry_run=True)
    assert not (tmp_path / "data").exists()
    assert {row["name"]: row["state"] for row in result["files"]} == {
        "00sequences.txt": "missing",
        "walking.zip": "missing",
        "jogging.zip": "missing",
        "boxing.zip": "missing",
    }
    sizes = {row["name"]: row["bytes"] for row in result["files"]}
    assert sizes["walking.zip"] == len(honest_zip(ACTIONS["walking"]))
    assert result["bytes_needed"] > sum(sizes.values())
    assert result["bytes_free"] > 0
    assert host.paths("GET") == []


def test_a_dry_run_names_a_source_that_does_not_answer(host: Host, tmp_path: Path) -> None:
    sources = source_set({"kind": "seafile", "url": f"{host.url}/d/nothere/"})
    result = run(tmp_path, sources, dry_run=True)
    (words,) = result["unreachable"].values()
    assert "does not have the file (404" in words


def test_verify_reads_every_file_again(host: Host, tmp_path: Path) -> None:
    sources = kth_like(host)
    run(tmp_path, sources)
    assert run(tmp_path, sources, verify=True)["num_learned_checksums"] == 4
    raw = tmp_path / "data" / "kth" / "raw"
    path = raw / "walking.zip"
    data, times = bytearray(path.read_bytes()), path.stat()
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a failing disk would do it
    (raw / "boxing.zip").unlink()
    with pytest.raises(UserError, match="2 of 4 files of 'kth' are not what") as caught:
        run(tmp_path, sources, verify=True)
    assert caught.value.details["walking.zip"] == "changed"
    assert caught.value.details["boxing.zip"] == "missing"


def test_verify_before_any_download_says_what_to_run(host: Host, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing of 'kth' has been downloaded") as caught:
        run(tmp_path, kth_like(host), verify=True)
    assert (caught.value.exit_code, caught.value.details["run first"]) == (4, "i2v download kth")


def test_a_file_that_was_changed_or_lost_is_fetched_again(host: Host, tmp_path: Path) -> None:
    sources = kth_like(host)
    run(tmp_path, sources)
    raw = tmp_path / "data" / "kth" / "raw"
    before = tree(raw)
    (raw / "walking.zip").write_bytes(b"PK damaged")
    (raw / "boxing.zip").unlink()
    host.requests.clear()
    run(tmp_path, sources)
    assert tree(raw) == before
    assert sorted(host.paths()) == ["/kth/boxing.zip", "/kth/walking.zip"]


def test_a_file_that_lies_there_already_is_checked_and_taken_over(
    host: Host, tmp_path: Path
) -> None:
    sources, raw = kth_like(host), tmp_path / "data" / "kth" / "raw"
    raw.mkdir(parents=True)
    (raw / "walking.zip").write_bytes(honest_zip(ACTIONS["walking"]))
    run(tmp_path, sources)
    assert "/kth/walking.zip" not in host.paths()
    assert manifest(raw)["files"]["walking.zip"]["adopted_from"] == str(raw)


def test_another_file_of_that_name_is_neither_taken_nor_overwritten(
    host: Host, tmp_path: Path
) -> None:
    sources, raw = kth_like(host), tmp_path / "data" / "kth" / "raw"
    raw.mkdir(parents=True)
    (raw / "walking.zip").write_bytes(b"something of mine")
    with pytest.raises(UserError, match=r"'walking\.zip' is not the published file") as caught:
        run(tmp_path, sources)
    assert (raw / "walking.zip").read_bytes() == b"something of mine"
    assert caught.value.details["to fix"].startswith("move it away")
    assert caught.value.details["complete"] == "3 of 4 files"


def test_one_dead_file_does_not_keep_the_others_from_coming(host: Host, tmp_path: Path) -> None:
    sources = kth_like(host)
    del host.files["/kth/jogging.zip"]
    said = Said()
    with pytest.raises(UserError, match="does not have the file") as caught:
        fetch(request_for(tmp_path, sources), said)
    assert caught.value.details["complete"] == "3 of 4 files"
    raw = tmp_path / "data" / "kth" / "raw"
    assert {name.split("/")[0] for name in tree(raw)} >= {"walking", "boxing", "00sequences.txt"}
    assert any("jogging.zip" in line for line in said.lines())


def test_several_failures_are_one_error_that_names_them(host: Host, tmp_path: Path) -> None:
    sources = kth_like(host)
    del host.files["/kth/jogging.zip"]
    host.always["/kth/boxing.zip"] = Fault(status=500)
    with pytest.raises(UserError, match="2 downloads of 'kth' failed") as caught:
        run(tmp_path, sources)
    details = caught.value.details
    assert "404" in details["jogging.zip"]
    assert "500" in details["boxing.zip"]
    assert details["complete"] == "2 of 4 files"


def test_terms_have_to_be_accepted_before_anything_is_asked(host: Host, tmp_path: Path) -> None:
    sources = kth_like(host).model_copy(
        update={"needs_acceptance": True, "terms": "research only", "citation": "A, B: C"}
    )
    with pytest.raises(UserError, match="terms of 'kth' have to be accepted") as caught:
        run(tmp_path, sources)
    assert caught.value.exit_code == 2
    assert caught.value.details["terms"] == "research only"
    assert caught.value.details["please cite"] == "A, B: C"
    assert host.requests == []
    assert not (tmp_path / "data").exists()
    assert run(tmp_path, sources, accept_terms=True)["num_files_here"] == 4


def test_a_part_of_a_dataset_can_be_chosen(host: Host, tmp_path: Path) -> None:
    whole = {"name": "all.tar", "urls": [host.add("/all.tar", honest_tar({"s/a": b"1"}, mode="w"))]}
    part = {"name": "s/test.bin", "urls": [host.add("/test.bin", noise(900))]}
    sources = source_set(
        {"kind": "https", "subsets": ["all"], "files": [whole]},
        {"kind": "https", "subsets": ["test"], "files": [part]},
        unpack=[{"match": r"all\.tar", "into": ".", "keep": ["s"]}],
    )
    run(tmp_path, sources, subset="test")
    raw = tmp_path / "data" / "kth" / "raw"
    assert tree(raw).keys() == {"s/test.bin"}
    run(tmp_path, sources)
    assert tree(raw).keys() == {"s/test.bin", "s/a", "all.tar"}
    with pytest.raises(UserError, match="has no part 'val'") as caught:
        run(tmp_path, sources, subset="val")
    assert caught.value.details["known"] == "all, test"


def test_a_full_disk_is_noticed_before_the_download(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "free_bytes", lambda folder: 1000)
    with pytest.raises(UserError, match="not enough space on the disk for 'kth'") as caught:
        run(tmp_path, kth_like(host))
    assert caught.value.details["free"] == "1.0 kB"
    assert host.paths("GET") == []


def test_only_one_download_runs_in_a_folder(host: Host, tmp_path: Path) -> None:
    raw = tmp_path / "data" / "kth" / "raw"
    raw.mkdir(parents=True)
    with folder_lock(raw) as is_ours:
        assert is_ours
        with pytest.raises(UserError, match="a download of 'kth' is already running"):
            run(tmp_path, kth_like(host))


def test_an_unreadable_manifest_is_said_and_left_alone(host: Host, tmp_path: Path) -> None:
    raw = tmp_path / "data" / "kth" / "raw"
    raw.mkdir(parents=True)
    (raw / "download.json").write_text('{"version": 99}')
    with pytest.raises(UserError, match=r"'download\.json' cannot be read"):
        run(tmp_path, kth_like(host))
    assert (raw / "download.json").read_text() == '{"version": 99}'


# Archives


def test_a_split_zip_of_a_share_link_is_joined_and_unpacked(host: Host, tmp_path: Path) -> None:
    videos = {f"Poking_Plants/VID_{n}_1.mkv": b"\x1a\x45\xdf\xa3" + noise(30_000) for n in range(4)}
    parts = split_zip(videos, tmp_path / "poking_plants.zip", part_bytes=40_000, method=0)
    share = SeafileHost(host, {f"/{part.name}": part.read_bytes() for part in parts} | {"/x": b"1"})
    host.faults["/poking_plants.z02"] = [Fault(cut_after=10_000)]
    sources = source_set(
        {"kind": "seafile", "url": share.url, "include": ["poking_plants.z*"]},
        unpack=[{"match": r"poking_plants\.zip", "into": "videos"}],
    )
    result = run(tmp_path, sources, keep_archives=False)
    raw = tmp_path / "data" / "kth" / "raw"
    assert tree(raw) == {name.replace("Poking_Plants", "videos"): d for name, d in videos.items()}
    assert result["num_files_here"] == len(parts)
    num_requests = len(host.requests)
    run(tmp_path, sources, keep_archives=False)
    assert len(host.requests) == num_requests, "what is complete is not listed again"


def test_a_hostile_archive_fails_and_the_others_are_unpacked(host: Host, tmp_path: Path) -> None:
    sources = kth_like(host)
    host.add("/kth/boxing.zip", honest_zip({"../../evil": b"1"}))
    with pytest.raises(UserError, match=r"'boxing\.zip' is refused") as caught:
        run(tmp_path, sources)
    assert caught.value.details["complete"] == "4 of 4 files"
    assert not list(tmp_path.rglob("evil"))


def test_what_the_user_has_is_not_overwritten_by_an_archive(host: Host, tmp_path: Path) -> None:
    mine = tmp_path / "data" / "kth" / "raw" / "walking" / "person01_walking_d1_uncomp.avi"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(UserError, match="is there already with other content"):
        run(tmp_path, kth_like(host))
    assert mine.read_bytes() == b"mine"


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
    server.ends_after = 2
    sources, raw = h36m_like(server), tmp_path / "data" / "kth" / "raw"
    monkeypatch.setenv("I2V_H36M_PHPSESSID", secret)
    said = Said()
    with pytest.raises(UserError, match="the session has expired") as caught:
        fetch(request_for(tmp_path, sources, jobs=4), said)
    assert caught.value.details["complete"] == "2 of 4 files"
    assert (raw / "extracted" / "S0" / "Videos" / "a.mp4").is_file()

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


# Interruptions


def test_a_stop_leaves_the_parts_and_the_next_run_finishes(host: Host, tmp_path: Path) -> None:
    data = honest_zip({"a": noise(600_000)})
    sources = source_set(
        {"kind": "https", "files": [{"name": "a.zip", "urls": [host.add("/a.zip", data)]}]}
    )
    host.piece_delay_s = 0.02

    class StopsSoon(Said):
        def progress(self, *arguments: Any, **more: Any) -> None:
            if host.body_bytes > 150_000:
                raise Interrupted

    began = time.monotonic()
    with pytest.raises(Interrupted):
        fetch(request_for(tmp_path, sources), StopsSoon())
    assert time.monotonic() - began < 5
    raw = tmp_path / "data" / "kth" / "raw"
    assert 0 < (raw / "a.zip.part").stat().st_size < len(data)
    host.piece_delay_s = 0
    run(tmp_path, sources)
    assert tree(raw) == {"a.zip": data}
    assert host.body_bytes <= 1.1 * len(data)  # the last pieces before the stop may get lost


KILLED = """
import sys
from pathlib import Path
from pipelines.datasets.fetch import fetch
from pipelines.datasets.fetch_config import FetchRequest
from pipelines.events import Work
fetch(FetchRequest.model_validate_json(Path(sys.argv[1]).read_text()), Work())
"""


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_bytes_of_an_undisturbed_run(
    host: Host, tmp_path: Path
) -> None:
    share = SeafileHost(
        host, {f"/part{n}.zip": honest_zip({f"{n}": noise(900_000)}) for n in range(2)}
    )
    big = honest_tar({f"folder/{n}": noise(150_000) for n in range(20)})
    sources = source_set(
        {"kind": "seafile", "url": share.url},
        {"kind": "https", "files": [{"name": "big.tgz", "urls": [host.add("/big.tgz", big)]}]},
        unpack=[
            {"match": r"part(\d)\.zip", "into": "out/{1}"},
            {"match": r"big\.tgz", "into": "."},
        ],
    )
    run(tmp_path / "undisturbed", sources)
    expected = tree(tmp_path / "undisturbed" / "data" / "kth" / "raw")
    total, host.body_bytes = host.body_bytes, 0

    request = request_for(tmp_path / "killed", sources)
    (tmp_path / "request.json").write_text(request.model_dump_json())
    command = [sys.executable, "-c", KILLED, str(tmp_path / "request.json")]
    draw, num_killed = random.Random(99), 0
    host.piece_delay_s = 0.01
    for _ in range(40):
        process = subprocess.Popen(command, cwd=REPOSITORY)
        before, limit = host.body_bytes, draw.randrange(0, total // 6)
        while process.poll() is None and host.body_bytes - before <= limit:
            time.sleep(0.002)
        time.sleep(draw.random() * 0.02)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            num_killed += 1
        if process.wait() == 0:
            break
    assert process.returncode == 0
    assert num_killed >= 5
    assert tree(request.folder) == expected
    assert host.body_bytes <= 1.05 * total + num_killed * 3 * (64 << 10)


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
    threading.Thread(target=lambda: os.fdopen(reader).read(), daemon=True).start()
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
    assert process.returncode == 0, process.stderr
    result = json.loads((record / "result.json").read_text())["result"]
    assert result["num_files_here"] == 1
    kept = "".join(path.read_text() for path in record.iterdir()) + process.stdout + process.stderr
    assert "q1w2e3r4t5z6u7i8o9p0" not in kept


def test_requests_carry_on_with_what_servers_redirect_to(host: Host, tmp_path: Path) -> None:
    host.handlers["/moved"] = lambda request: Fault(location=host.url + "/real.txt", status=307)
    host.files["/real.txt"] = Served(b"hello\n")
    sources = source_set(
        {"kind": "https", "files": [{"name": "a.txt", "urls": [host.url + "/moved.txt"]}]}
    )
    run(tmp_path, sources)
    assert (tmp_path / "data" / "kth" / "raw" / "a.txt").read_bytes() == b"hello\n"
