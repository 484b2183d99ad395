"""`i2v download` of published data, from request to files, against loopback servers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.datasets import fetch as fetch_module
from pipelines.datasets.fetch import fetch
from pipelines.events import UserError
from pipelines.files import folder_lock
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
    assert sorted(host.paths()) == ["/kth/00sequences.txt", "/kth/walking.zip"]


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


def test_a_dry_run_of_a_hand_over_asks_no_server(host: Host, tmp_path: Path) -> None:
    result = run(tmp_path, kth_like(host), dry_run=True, verify=True, from_dir=tmp_path)
    assert [row["state"] for row in result["files"]] == ["missing"] * 4
    assert result["bytes_needed"] == 0
    assert not host.requests


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


def test_requests_carry_on_with_what_servers_redirect_to(host: Host, tmp_path: Path) -> None:
    host.handlers["/moved"] = lambda request: Fault(location=host.url + "/real.txt", status=307)
    host.files["/real.txt"] = Served(b"hello\n")
    sources = source_set(
        {"kind": "https", "files": [{"name": "a.txt", "urls": [host.url + "/moved.txt"]}]}
    )
    run(tmp_path, sources)
    assert (tmp_path / "data" / "kth" / "raw" / "a.txt").read_bytes() == b"hello\n"
