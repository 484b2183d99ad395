"""Real workers, killed at 50 random moments, or out of disk: the next run ends with equal bytes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines.datasets.config import ExtractRequest
from pipelines.files import sha256
from pipelines.io.packed import PackedVideos
from tests.pipelines.datasets.fetch_cases import manifest, noise, request_for, source_set, tree
from tests.pipelines.datasets.workers import duration_s, kill_at_random, worker
from tests.pipelines.io.archive_makers import honest_tar, honest_zip
from tests.pipelines.io.loopback import SeafileHost, serving, without_proxies

FETCH = "pipelines.datasets.fetch:fetch"
EXTRACT = "pipelines.datasets.prepare:extract_frames"
NUM_KILLED = 50
AT_MOST_IN_A_ROW = 20
"""Then one run is left alone, so that also the way from there to the end is gone."""


@pytest.fixture(autouse=True)
def no_proxies() -> Iterator[None]:
    with without_proxies():
        yield


@pytest.mark.slow
def test_a_download_killed_at_fifty_random_moments_ends_with_the_same_bytes(
    tmp_path: Path,
) -> None:
    with serving() as host:
        host.piece_delay_s = 0.01
        share = SeafileHost(
            host, {f"/{n}.zip": honest_zip({f"{n}": noise(60_000)}) for n in range(3)}
        )
        many = honest_tar({f"folder/{n}": noise(300) for n in range(200)})
        sources = source_set(
            {"kind": "seafile", "url": share.url},
            {"kind": "https", "files": [{"name": "many.tgz", "urls": [host.add("/m", many)]}]},
            unpack=[
                {"match": r"(\d)\.zip", "into": "out/{1}"},
                {"match": r"many\.tgz", "into": "."},
            ],
        )
        whole = tmp_path / "undisturbed"
        longest_s = duration_s(whole, FETCH, request_for(whole, sources))
        expected = tree(whole / "data" / "kth" / "raw")
        assert len(expected) == 3 + 1 + 3 + 200
        draw, num_killed = random.Random(99), 0
        while num_killed < NUM_KILLED:
            root = tmp_path / f"killed-{num_killed}"
            request = request_for(root, sources)
            for _ in range(AT_MOST_IN_A_ROW):
                is_killed = kill_at_random(root, FETCH, request, draw=draw, longest_s=longest_s)
                if not is_killed:
                    break
                num_killed += 1
            duration_s(root, FETCH, request)
            raw = root / "data" / "kth" / "raw"
            assert tree(raw) == expected
            for name, row in manifest(raw)["files"].items():
                assert row["sha256"] == sha256(raw / name)


# Extraction


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Arrays with truth of their own: a video costs more to start reading than all of them."""
    folder = tmp_path_factory.mktemp("raw")
    draw = np.random.default_rng(4)
    for number in range(12):
        np.savez(
            folder / f"clip{number:02d}.npz",
            frames=draw.integers(0, 256, (20, 48, 48, 3), np.uint8),
            joints=draw.random((20, 5, 2), np.float32),
            flow_10=draw.normal(size=(10, 2, 48, 48)).astype(np.float32),
        )
    return folder


def extraction(root: Path, raw: Path, *, jobs: int = 1) -> ExtractRequest:
    """What is asked for; the number of processes makes no difference to the bytes."""
    return ExtractRequest(data_root=root / "data", name="toy", source=raw, size_px=32, jobs=jobs)


def prepared(root: Path) -> dict[str, bytes]:
    """Every file that is left when an extraction is complete."""
    folder = root / "data" / "toy" / "prepared"
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def undisturbed(
    raw: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[float, dict[str, bytes]]:
    """How long an extraction works that nobody disturbs, and what it leaves."""
    root = tmp_path_factory.mktemp("undisturbed")
    longest_s = duration_s(root, EXTRACT, extraction(root, raw))
    return longest_s, prepared(root)


@pytest.mark.slow
def test_an_extraction_killed_at_fifty_random_moments_ends_with_the_same_bytes(
    raw: Path, undisturbed: tuple[float, dict[str, bytes]], tmp_path: Path
) -> None:
    longest_s, expected = undisturbed
    assert {"32px/index.json", "32px/frames-000.u8", "32px/extra/joints.npy"} <= expected.keys()
    draw, num_killed = random.Random(7), 0
    while num_killed < NUM_KILLED:
        root = tmp_path / f"killed-{num_killed}"
        for _ in range(AT_MOST_IN_A_ROW):
            request = extraction(root, raw, jobs=2 if draw.random() < 0.1 else 1)
            is_killed = kill_at_random(root, EXTRACT, request, draw=draw, longest_s=longest_s)
            if not is_killed:
                break
            num_killed += 1
        duration_s(root, EXTRACT, extraction(root, raw))
        assert prepared(root) == expected


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_disk_that_fills_up_costs_no_finished_video_and_the_next_run_goes_on(
    raw: Path, undisturbed: tuple[float, dict[str, bytes]], tmp_path: Path, jobs: int
) -> None:
    _, expected = undisturbed
    frame_bytes = 32 * 32 * 3
    limit = 9 * 20 * frame_bytes + 1000  # nine clips fit, the tenth does not
    request = extraction(tmp_path, raw, jobs=jobs)
    with worker(tmp_path, EXTRACT, request, file_limit=limit) as running:
        assert running.wait()
        assert running.process.returncode == 1
        error = running.report["error"]
    assert error["message"] == "no space left on the disk"
    assert "run the same command again" in error["details"]["to fix"]
    building = tmp_path / "data" / "toy" / "prepared" / "32px.tmp"
    assert (building / "journal.jsonl").read_text().count("\n") == 9
    frames = np.fromfile(building / "frames-000.u8", np.uint8)[: 9 * 20 * frame_bytes]
    whole = expected["32px/frames-000.u8"][: 9 * 20 * frame_bytes]
    assert frames.tobytes() == whole
    with worker(tmp_path, EXTRACT, request) as running:
        assert running.wait()
        said = (running.record_dir / "events.jsonl").read_text()
    assert "going on after 9 of 12 videos" in said
    assert prepared(tmp_path) == expected
    assert len(PackedVideos(building.with_suffix(""))) == 12


@pytest.mark.parametrize("limit", [700, 20_000])
def test_a_disk_without_room_for_one_video_is_said_the_same_way(
    raw: Path, undisturbed: tuple[float, dict[str, bytes]], tmp_path: Path, limit: int
) -> None:
    request = extraction(tmp_path, raw)
    with worker(tmp_path, EXTRACT, request, file_limit=limit) as running:
        assert running.wait()
        assert running.process.returncode == 1
    duration_s(tmp_path, EXTRACT, request)
    assert prepared(tmp_path) == undisturbed[1]
