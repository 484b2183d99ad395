"""`i2v data` on a dataset that was downloaded and is not prepared yet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.datasets import inspect
from pipelines.datasets.config import InspectRequest
from pipelines.events import UserError, Work
from pipelines.io.images import read_image
from tests.pipelines.datasets.fetch_cases import kth_like, run, source_set
from tests.pipelines.io.archive_makers import honest_zip
from tests.pipelines.io.loopback import serving, without_proxies
from tests.pipelines.io.video_makers import encode, moving_square


@pytest.fixture(autouse=True)
def no_proxies() -> Iterator[None]:
    with without_proxies():
        yield


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """The folder of datasets, with KTH in it as it was downloaded."""
    with serving() as host:
        run(tmp_path, kth_like(host))
    return tmp_path / "data"


def ask(function: Any, data_root: Path, name: str = "kth", **more: Any) -> dict[str, Any]:
    return function(InspectRequest(data_root=data_root, name=name, **more), Work())


def test_info_tells_what_was_downloaded_and_how_sure_it_is(data_root: Path) -> None:
    result = ask(inspect.info, data_root)
    facts = dict(result["rows"])
    assert facts["downloaded"].startswith("4 files, ")
    assert facts["checksums"] == "0 as published, 4 learned from the first download"
    assert facts["unpacked"].startswith("3 archives: 6 files, ")
    assert facts["last change"].endswith("Z")
    assert "unfinished" not in facts
    assert result["next"] == "i2v extract-frames kth"


def test_info_tells_which_videos_cannot_be_had(data_root: Path) -> None:
    report = {
        "videos": {"a": "private"},
        "reasons": {"private": 1, "removed": 2},
        "coverage": {
            "train": {"videos": 9, "videos_here": 6, "clips": 30, "clips_here": 20},
        },
    }
    (data_root / "kth" / "raw" / "missing.json").write_text(json.dumps(report))
    (data_root / "kth" / "raw" / "b.mp4.part").touch()
    facts = dict(ask(inspect.info, data_root)["rows"])
    assert facts["listed for train"] == "6 of 9 videos, 20 of 30 clips"
    assert facts["cannot be had"] == "2 removed, 1 private"
    assert facts["unfinished"].startswith("yes")
    rows = ask(inspect.list_data, data_root)["rows"]
    assert rows[0][-1] == "raw, unfinished"


def test_verify_reads_downloaded_files_again(data_root: Path) -> None:
    result = ask(inspect.verify, data_root)
    assert "4 downloaded files" in result["lines"][0]
    raw = data_root / "kth" / "raw"
    (raw / "boxing.zip").write_bytes(b"PK")
    (raw / "00sequences.txt").unlink()
    for path in (raw / "walking").iterdir():
        path.unlink()
    (raw / "walking").rmdir()
    with pytest.raises(UserError, match="the download of 'kth' is damaged") as caught:
        ask(inspect.verify, data_root)
    problems = [text for label, text in caught.value.details.items() if "problem" in label]
    assert problems == [
        "00sequences.txt is missing",
        "boxing.zip changed",
        "walking is missing (it was unpacked or taken over)",
    ]
    assert caught.value.details["to fix"] == "i2v download kth"


def test_a_preview_shows_videos_before_they_are_prepared(tmp_path: Path) -> None:
    videos = {}
    for number in (1, 2):
        frames = moving_square(30, width=64, height=48, seed=number)
        path = encode(tmp_path / "made" / f"VID_{number}_0.mkv", frames)
        videos[path.name] = path.read_bytes()
    with serving() as host:
        url = host.add("/plants.zip", honest_zip(videos))
        files = [{"name": "poking_plants.zip", "urls": [url]}]
        rules = [{"match": r"poking_plants\.zip", "into": "videos"}]
        sources = source_set({"kind": "https", "files": files}, unpack=rules)
        run(tmp_path, sources, dataset="plants")
    result = ask(inspect.preview, tmp_path / "data", "plants", num_frames=4)
    sheet = read_image(Path(result["path"]))
    assert Path(result["path"]).name == "preview-raw.png"
    assert sheet.shape[0] > 2 * 96 and sheet.shape[1] > 4 * 96
    assert sheet.std() > 10
    assert result["next"] == "i2v extract-frames plants"


def test_a_dataset_of_which_nothing_is_here_is_answered_as_before(
    data_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "data" / "bair" / "raw").mkdir(parents=True)
    for function in (inspect.info, inspect.verify, inspect.preview):
        with pytest.raises(UserError) as caught:
            ask(function, data_root, "bair")
        assert caught.value.exit_code == 4
        assert "i2v extract-frames bair" in " ".join(caught.value.details.values())
