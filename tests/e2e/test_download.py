"""`i2v download` as a user types it, against servers on loopback that play the publishers'.

Where the servers are is said with --config, as for a mirror: the section `sources` of that file
takes the place of what ships with i2v.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from i2v_cli import locations
from tests.e2e.conftest import Answer, Desk
from tests.e2e.terminals import Terminal
from tests.pipelines.io.archive_makers import honest_tar, honest_zip, split_zip
from tests.pipelines.io.loopback import (
    DriveHost,
    Fault,
    Host,
    SeafileHost,
    SessionHost,
    serving,
    without_proxies,
)

noise = random.Random(5).randbytes
SECRET = "q1w2e3r4t5z6u7i8o9p0"
IMPATIENT = {"attempts": 3, "first_delay_s": 0.01, "max_delay_s": 0.02, "read_timeout_s": 20}
VIDEOS = {
    action: {f"person0{n}_{action}_d1_uncomp.avi": noise(9_000 + n) for n in (1, 2)}
    for action in ("walking", "jogging", "boxing")
}


@pytest.fixture(autouse=True)
def no_proxies() -> Iterator[None]:
    with without_proxies():
        yield


@pytest.fixture
def host() -> Iterator[Host]:
    with serving() as running:
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Desk:
    """A working folder with a space in its name."""
    folder = tmp_path / "my desk"
    folder.mkdir()
    return Desk(folder)


def mirror(place: Desk, *sources: dict[str, Any], **more: Any) -> tuple[str, str]:
    """The options that send a download to other servers."""
    path = place.path / "mirror.yaml"
    settings = {"sources": {"sources": list(sources), **more}, "network": IMPATIENT}
    path.write_text(yaml.safe_dump(settings))
    return "--config", str(path)


def kth(host: Host, place: Desk) -> tuple[str, str]:
    """Three of the six zips and the list, at fixed addresses."""
    files = [{"name": "00sequences.txt", "urls": [host.add("/00sequences.txt", b"1-75\n")]}]
    for action, content in VIDEOS.items():
        url = host.add(f"/{action}.zip", honest_zip(content))
        files.append({"name": f"{action}.zip", "urls": [url]})
    content = ["*/person*_d[1-4]_uncomp.avi"]
    return mirror(place, {"kind": "https", "files": files, "content": content})


def large(host: Host, place: Desk, data: bytes) -> tuple[str, str]:
    """One file that takes a while."""
    file = {"name": "bair_robot_pushing_dataset_v0.tar", "urls": [host.add("/bair.tar", data)]}
    return mirror(place, {"kind": "https", "files": [file]})


def sessions(server: SessionHost, place: Desk) -> tuple[str, str]:
    """Two archives behind the log-in."""
    files = [
        {"name": f"archives/Videos_S{number}.tgz", "query": query(number)} for number in (1, 5)
    ]
    how = "log in and copy the cookie"
    return mirror(place, {"kind": "cookie-session", "url": server.url, "how": how, "files": files})


def query(number: int) -> dict[str, str]:
    return {"download": "1", "filepath": "Videos", "filename": f"SubjectSpecific_{number}.tgz"}


def actors(host: Host) -> SessionHost:
    archives = {
        ("Videos", f"SubjectSpecific_{number}.tgz"): honest_tar(
            {f"S{number}/Videos/Directions.54138969.mp4": noise(40_000)}
        )
        for number in (1, 5)
    }
    return SessionHost(host, archives, session=SECRET)


def refused(answer: Answer, code: int, *words: str) -> None:
    """One clear error, in style."""
    assert answer.code == code, answer.err
    assert answer.err.count("error: ") == 1, answer.err
    assert "Traceback" not in answer.err
    for word in words:
        assert word in answer.err, answer.err


def begin(place: Desk, *words: str) -> subprocess.Popen[str]:
    """Type a command and go on, as in a terminal of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "i2v_cli", *words],
        cwd=place.path,
        env=place.variables(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_bytes(host: Host, count: int) -> None:
    end = time.monotonic() + 60
    while host.body_bytes < count:
        assert time.monotonic() < end, "the download never came so far"
        time.sleep(0.005)


def records() -> str:
    """Everything that the jobs of this user have written down."""
    folders = (locations.i2v_home() / "jobs").glob("*-download-*")
    return "".join(
        path.read_text(errors="replace") for folder in folders for path in folder.glob("*")
    )


# Each kind of server


def test_files_at_fixed_addresses_arrive_once_and_name_the_next_command(
    host: Host, place: Desk
) -> None:
    options = kth(host, place)
    first = place.i2v("download", "kth", *options)
    assert first.code == 0, first.err
    assert first.out == "data/kth/raw\n"
    assert "free for non-commercial research" in first.err
    assert "Schuldt, Laptev, Caputo" in first.err
    assert "files: 4/4 files" in first.err
    assert "4 of 4 files are here" in first.err
    assert first.err.endswith("next: i2v extract-frames kth\n")
    raw = place.path / "data" / "kth" / "raw"
    for action, videos in VIDEOS.items():
        assert {path.name: path.read_bytes() for path in (raw / action).iterdir()} == videos
    num_requests = len(host.requests)
    again = place.i2v("download", "kth", *options, "--json")
    assert again.result["bytes_fetched"] == 0
    assert again.json["next"] == "i2v extract-frames kth"
    assert len(host.requests) == num_requests


def test_what_was_downloaded_can_be_looked_at_before_it_is_prepared(
    host: Host, place: Desk
) -> None:
    assert place.i2v("download", "kth", *kth(host, place)).code == 0
    told = place.i2v("data", "info", "kth")
    assert "\ndownloaded   4 files, " in told.out
    assert told.err.endswith("next: i2v extract-frames kth\n")
    assert place.i2v("data", "list").out.splitlines()[1].endswith("raw, not prepared")
    assert "4 downloaded files" in place.i2v("data", "verify", "kth").out
    (place.path / "data" / "kth" / "raw" / "00sequences.txt").write_text("other")
    refused(place.i2v("data", "verify", "kth"), 1, "00sequences.txt changed", "i2v download kth")


def test_a_part_of_the_files_can_be_asked_for(host: Host, place: Desk) -> None:
    options = kth(host, place)
    listed = place.i2v("download", "kth", *options, "--dry-run")
    assert listed.code == 0, listed.err
    assert "# needs" in listed.out
    assert [line.split()[0] for line in listed.out.splitlines()[-4:]] == [
        "00sequences.txt", "boxing.zip", "jogging.zip", "walking.zip",
    ]  # fmt: skip
    assert not (place.path / "data").exists()
    some = place.i2v("download", "kth", *options, "--only", "boxing*", "--only", "*.txt", "--json")
    assert {row["name"] for row in some.result["files"]} == {"00sequences.txt", "boxing.zip"}
    assert not (place.path / "data" / "kth" / "raw" / "walking").exists()


def test_a_shared_folder_of_a_split_zip_is_joined(host: Host, place: Desk, tmp_path: Path) -> None:
    videos = {f"VID_{n}_0.mkv": noise(60_000) for n in range(4)}
    parts = split_zip(videos, tmp_path / "poking_plants.zip", part_bytes=70_000)
    server = SeafileHost(host, {f"/{part.name}": part.read_bytes() for part in parts})
    options = mirror(place, {"kind": "seafile", "url": server.url})
    answer = place.i2v("download", "plants", *options, "--jobs", "2", "--drop-archives", "--json")
    assert answer.result["num_files_here"] == len(parts) >= 3
    raw = place.path / "data" / "plants" / "raw"
    found = {path.name: path.read_bytes() for path in raw.rglob("*.mkv")}
    assert found == videos
    assert not list(raw.rglob("*.z01"))


def test_drive_gives_a_large_file_behind_its_warning_or_says_that_its_quota_is_used_up(
    host: Host, place: Desk
) -> None:
    drive = DriveHost(host)
    drive.large["textures_of_dtdb"] = honest_zip({"fire/train/v/frame0.jpg": noise(50_000)})
    options = mirror(
        place,
        {
            "kind": "drive",
            "id": "textures_of_dtdb",
            "file": {"name": "dtdb.zip"},
            "host": host.url,
        },
    )
    drive.over_quota.add("textures_of_dtdb")
    words = ("wait up to 24 hours", "Too many users", "--cookies", "--from-dir")
    refused(place.i2v("download", "dtdb", *options), 1, *words)
    drive.over_quota.clear()
    answer = place.i2v("download", "dtdb", *options)
    assert answer.code == 0, answer.err
    assert (place.path / "data/dtdb/raw/fire/train/v/frame0.jpg").is_file()


def test_a_list_of_videos_is_fetched_as_far_as_they_still_exist(host: Host, place: Desk) -> None:
    lines = ["video_id,partition", "aaaaaaaaaaa,train", "bbbbbbbbbbb,train", "ccccccccccc,test"]
    table = {"name": "list.csv", "urls": [host.add("/list.csv", "\n".join(lines).encode())]}
    for name in ("aaaaaaaaaaa", "ccccccccccc"):
        host.add(f"/w/{name}.mp4", b"\0\0\0\x10ftypisom" + noise(900), type="video/mp4")
    videos = {"kind": "youtube", "table": "list.csv", "watch_url": host.url + "/w/{id}.mp4"}
    columns = {"id_column": "video_id", "split_column": "partition"}
    options = mirror(place, {"kind": "https", "files": [table]}, videos | columns)
    answer = place.i2v("download", "taichi", *options, "--accept-terms", "--sleep", "0.01")
    assert answer.code == 0, answer.err
    assert "train: 1 of 2 videos" in answer.err
    assert "1 videos cannot be had: 1 removed" in answer.err
    told = place.i2v("data", "info", "taichi").out
    assert "listed for train  1 of 2 videos" in told
    assert "cannot be had     1 removed" in told


def test_the_commands_that_are_named_next_end_in_a_picture(host: Host, place: Desk) -> None:
    frames = {
        f"DTDB/{texture}/{part}/{video}/frame{n}.png": grey_png(32, 10 * n)
        for texture in ("clouds", "fire")
        for part in ("train", "eval")
        for video in ("one", "two")
        for n in range(18)
    }
    drive = DriveHost(host)
    drive.large["textures_of_dtdb"] = honest_zip(frames)
    file = {"name": "dtdb.zip"}
    source = {"kind": "drive", "id": "textures_of_dtdb", "file": file, "host": host.url}
    first = place.i2v("download", "dtdb", *mirror(place, source), "--json")
    assert first.code == 0, first.err
    second = place.i2v(*first.json["next"].split()[1:], "--size", "32", "--json")
    assert second.code == 0, second.err
    assert second.result["num_videos"] == 8
    assert second.result["num_frames"] == len(frames)
    third = place.i2v("data", "preview", "dtdb")
    assert third.code == 0, third.err
    assert (place.path / third.out.strip()).is_file()


def grey_png(size_px: int, level: int) -> bytes:
    """A plain image, written chunk by chunk: this environment has no library for images."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", size_px, size_px, 8, 0, 0, 0, 0)
    pixels = (b"\0" + bytes([level]) * size_px) * size_px
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_weights_go_to_a_folder_of_their_own(host: Host, place: Desk) -> None:
    server = SeafileHost(
        host, {"/config/config.yaml": b"a: 1\n", "/ckpt/reg_ckpt_7.pt": honest_zip({"a": b"1"})}
    )
    source = {"kind": "seafile", "url": server.url, "into": "plants_64x64/"}
    answer = place.i2v("download", "weights/poke-plants-64", *mirror(place, source))
    assert answer.code == 0, answer.err
    assert answer.out == "data/weights/poke-plants-64\n"
    folder = place.path / answer.out.strip() / "plants_64x64"
    assert sorted(path.name for path in folder.rglob("*.*")) == ["config.yaml", "reg_ckpt_7.pt"]


# What only the user can give: a yes, a cookie, files


def test_a_session_cookie_goes_to_the_worker_and_nowhere_else(host: Host, place: Desk) -> None:
    options = (*sessions(actors(host), place), "--no-unpack")
    asked = ("--accept-terms", "before the cookie")
    refused(place.i2v("download", "h36m", *options), 2, asked[0], "academic use only")
    without = place.i2v("download", "h36m", *options, "--accept-terms")
    refused(without, 1, "a log-in is needed first", "I2V_H36M_PHPSESSID", "log in and copy")
    answer = place.i2v("download", "h36m", *options, "--phpsessid", SECRET)
    assert answer.code == 0, answer.err
    raw = place.path / "data" / "h36m" / "raw"
    assert len(list((raw / "archives").glob("*.tgz"))) == 2
    kept = records() + (raw / "download.json").read_text() + answer.err + answer.out
    assert "cookie-session" in kept
    assert SECRET not in kept


def test_a_session_that_ends_in_the_middle_goes_on_with_a_fresh_cookie(
    host: Host, place: Desk
) -> None:
    server = actors(host)
    server.ends_after = 0
    options = (*sessions(server, place), "--accept-terms", "--phpsessid")
    first = place.i2v("download", "h36m", *options, SECRET)
    refused(first, 1, "the session has expired", "1 of 2 files", "fresh cookie")
    size = host.body_bytes
    server.session, server.ends_after = "a9b8c7d6e5f4g3h2", None
    second = place.i2v("download", "h36m", *options, "a9b8c7d6e5f4g3h2")
    assert second.code == 0, second.err
    total = sum(len(data) for data in server.files.values())
    assert host.body_bytes - size < 0.6 * total  # the first archive is not fetched again


def test_on_a_terminal_the_yes_and_the_cookies_are_asked_for(host: Host, place: Desk) -> None:
    server = actors(host)
    server.ends_after = 0
    words = ("download", "h36m", *sessions(server, place))
    with Terminal([sys.executable, "-m", "i2v_cli", *words], place.path, place.variables()) as tty:
        tty.read_until("Do you accept the terms of 'h36m'")
        tty.type("y")
        tty.read_until("session cookie (not shown")
        tty.type(SECRET)
        tty.read_until("the session has expired")
        tty.read_until("session cookie (not shown")
        server.session, server.ends_after = "a9b8c7d6e5f4g3h2", None
        tty.type("a9b8c7d6e5f4g3h2")
        assert tty.wait() == 0, tty.text
    assert "2 of 2 files are here" in tty.text
    assert SECRET not in tty.text
    assert "a9b8c7d6e5f4g3h2" not in tty.text
    said = json.loads((place.path / "data/h36m/raw/download.json").read_text())
    assert said["terms_accepted"]
    again = place.i2v("download", "h36m", *sessions(server, place))  # nothing is asked any more
    assert again.code == 0, again.err


def test_a_terminal_that_says_no_ends_it(host: Host, place: Desk) -> None:
    words = ("download", "h36m", *sessions(actors(host), place))
    with Terminal([sys.executable, "-m", "i2v_cli", *words], place.path, place.variables()) as tty:
        tty.read_until("Do you accept the terms of 'h36m'")
        tty.type("n")
        assert tty.wait() == 2
    assert not (place.path / "data").exists()
    assert not host.requests


def test_files_got_by_hand_are_taken_over(place: Desk) -> None:
    refused(
        place.i2v("download", "iper", "--accept-terms"), 4, "has to be got by hand", "onedrive",
        "iPER_1024_video_release.zip",
    )  # fmt: skip
    hand = place.path / "Downloads" / "iPER (1)"
    hand.mkdir(parents=True)
    archive = honest_zip({"001_10_1.mp4": noise(500), "001_10_2.mp4": noise(500)})
    (hand / "iPER_1024_video_release.zip").write_bytes(archive)
    answer = place.i2v("download", "iper", "--from-dir", "Downloads", "--json")
    assert answer.result["num_files_here"] == 1
    raw = place.path / "data" / "iper" / "raw" / "iPER_1024_video_release"
    assert sorted(path.name for path in raw.iterdir()) == ["001_10_1.mp4", "001_10_2.mp4"]
    nothing = place.path / "nothing"
    nothing.mkdir()
    refused(place.i2v("download", "iper", "--subset", "256", "--from-dir", nothing), 4, "nothing")


# Damage, interruptions, trouble


def test_damage_is_found_and_the_same_command_repairs_it(host: Host, place: Desk) -> None:
    options = kth(host, place)
    assert place.i2v("download", "kth", *options).code == 0
    fine = place.i2v("download", "kth", *options, "--verify")
    assert fine.code == 0
    assert fine.out.startswith("4 files are as they were downloaded")
    archive = place.path / "data" / "kth" / "raw" / "boxing.zip"
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-1] + b"!")
    (archive.parent / "walking.zip").unlink()
    damaged = place.i2v("download", "kth", *options, "--verify")
    refused(damaged, 1, "2 of 4 files", "boxing.zip", "changed", "missing", "i2v download kth")
    assert place.i2v("download", "kth", *options).code == 0
    assert archive.read_bytes() == whole
    assert place.i2v("download", "kth", *options, "--verify").code == 0


def test_ctrl_c_keeps_what_has_come_and_the_same_command_goes_on(host: Host, place: Desk) -> None:
    data = honest_tar({"softmotion30_44k/a": noise(3_000_000)}, mode="w")
    words = ("download", "bair", *large(host, place, data))
    host.piece_delay_s = 0.01
    running = begin(place, *words)
    wait_for_bytes(host, len(data) // 3)
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=120)
    assert running.returncode == 130, said
    assert "the same command goes on from there" in said
    raw = place.path / "data" / "bair" / "raw"
    assert 0 < (raw / "bair_robot_pushing_dataset_v0.tar.part").stat().st_size < len(data)
    host.piece_delay_s = 0
    answer = place.i2v(*words)
    assert answer.code == 0, answer.err
    assert (raw / "bair_robot_pushing_dataset_v0.tar").read_bytes() == data
    assert host.body_bytes <= 1.05 * len(data)


def test_a_disk_that_fills_up_is_said_and_the_next_run_goes_on(host: Host, place: Desk) -> None:
    data = honest_tar({"softmotion30_44k/a": noise(3_000_000)}, mode="w")
    words = ("download", "bair", *large(host, place, data))
    limit = 1_000_000
    ended = subprocess.run(
        [sys.executable, "-m", "i2v_cli", *words],
        cwd=place.path,
        env=place.variables(),
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    answer = Answer(ended.returncode, ended.stdout, ended.stderr)
    refused(answer, 1, "no space left on the disk", "run the same command again")
    part = place.path / "data/bair/raw/bair_robot_pushing_dataset_v0.tar.part"
    assert part.stat().st_size == limit
    before = host.body_bytes
    assert place.i2v(*words).code == 0
    assert part.with_suffix("").read_bytes() == data
    assert host.body_bytes - before <= len(data) - limit + 0.05 * len(data)


def test_a_download_that_cannot_fit_is_not_begun(host: Host, place: Desk) -> None:
    file = {"name": "a.tar", "size": 10**16, "urls": [host.add("/a.tar", b"x")]}
    options = mirror(place, {"kind": "https", "files": [file]})
    refused(place.i2v("download", "bair", *options), 1, "not enough space", "--only")
    assert host.paths() == []


def test_one_dead_file_does_not_keep_the_others_from_coming(host: Host, place: Desk) -> None:
    options = kth(host, place)
    host.always["/jogging.zip"] = Fault(page="<html><title>Quota exceeded</title></html>")
    host.faults["/boxing.zip"] = [Fault(status=503, headers={"Retry-After": "0"})]
    answer = place.i2v("download", "kth", *options)
    refused(answer, 1, "a web page instead of 'jogging.zip'", "Quota exceeded", "3 of 4 files")
    raw = place.path / "data" / "kth" / "raw"
    assert sorted(path.name for path in raw.glob("*.zip")) == ["boxing.zip", "walking.zip"]
    assert not (raw / "jogging.zip.part").exists()


def test_addresses_that_are_not_encrypted_are_refused(place: Desk) -> None:
    file = {"name": "a.txt", "urls": ["http://example.org/a.txt"]}
    options = mirror(place, {"kind": "https", "files": [file]})
    refused(place.i2v("download", "kth", *options), 1, "not encrypted", "https")
    secret = {"kind": "cookie-session", "url": "http://example.org/", "how": "x"}
    options = mirror(place, {**secret, "files": [{"name": "a.tgz", "query": {}}]})
    answer = place.i2v("download", "kth", *options, "--phpsessid", SECRET)
    refused(answer, 1, "not encrypted")
