"""How much space prepared frames may take, and what is done when raw frames would take more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.datasets import inspect, prepare
from pipelines.datasets.config import ExtractRequest, InspectRequest
from pipelines.datasets.storage import JPEG_SHARE
from pipelines.events import UserError, Work, read_events
from pipelines.io.packed import PackedVideos
from tests.pipelines.io.video_makers import encode, moving_square

RAW_BYTES = 3 * 20 * 32 * 32 * 3


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of 20 frames, as arrays: what is tested here does not depend on decoding."""
    raw = tmp_path_factory.mktemp("clips")
    for number in range(3):
        np.save(raw / f"clip{number}.npy", moving_square(20, width=64, height=48, seed=number))
    return raw


def _request(data_root: Path, source: Path, **options: Any) -> ExtractRequest:
    usual = {"name": "toy", "size_px": 32, "jobs": 1, "source": source}
    return ExtractRequest(data_root=data_root, **{**usual, **options})


def _extract(data_root: Path, source: Path, **options: Any) -> PackedVideos:
    result = prepare.extract_frames(_request(data_root, source, **options), Work())
    return PackedVideos(Path(result["variant_dir"]))


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_raw_frames_are_the_rule(tmp_path: Path, clips: Path) -> None:
    assert _extract(tmp_path, clips).storage == "raw"


def test_frames_too_many_for_raw_are_kept_as_jpeg_and_the_user_hears_of_it(
    tmp_path: Path, clips: Path
) -> None:
    raw = _extract(tmp_path / "raw", clips)
    (tmp_path / "jpeg").mkdir()
    record = tmp_path / "jpeg" / "events.jsonl"
    request = _request(tmp_path / "jpeg", clips, max_gb=RAW_BYTES * 0.5 / 1e9)
    result = prepare.extract_frames(request, Work(record=record))
    packed = PackedVideos(Path(result["variant_dir"]))
    assert packed.storage == "jpeg" and packed.dir.name == "32px" and packed.ids == raw.ids
    said = [event.get("text", "") for event in read_events(record)]
    assert any("kept as JPEG" in text and "kB" in text for text in said)
    for row in range(3):
        frames = [each.frames(row, 0, 20).astype(int) for each in (raw, packed)]
        assert np.abs(frames[0] - frames[1]).mean() < 3
    with pytest.raises(UserError, match="would take more than"):
        _extract(tmp_path / "none", clips, max_gb=RAW_BYTES * JPEG_SHARE * 0.5 / 1e9)


@pytest.mark.parametrize("storage", ["auto", "raw", "jpeg"])
def test_more_than_the_limit_is_refused_before_anything_is_written(
    tmp_path: Path, clips: Path, storage: str
) -> None:
    with pytest.raises(UserError, match="would take more than") as caught:
        _extract(tmp_path / "data", clips, storage=storage, max_gb=1e-6)
    assert caught.value.exit_code == 2
    assert caught.value.details["needs"] == "about 184.3 kB raw, 36.9 kB as JPEG"
    assert "raise --max-gb" in caught.value.details["to fix"]
    assert not (tmp_path / "data").exists()


def test_a_storage_that_was_asked_for_has_a_variant_of_its_own(tmp_path: Path, clips: Path) -> None:
    names = {_extract(tmp_path, clips, storage=name).dir.name for name in ("auto", "raw", "jpeg")}
    assert names == {"32px", "32px-raw", "32px-jpeg"}


def test_another_limit_does_not_prepare_finished_frames_again(tmp_path: Path, clips: Path) -> None:
    first = prepare.extract_frames(_request(tmp_path, clips), Work())
    second = prepare.extract_frames(_request(tmp_path, clips, max_gb=RAW_BYTES * 0.5 / 1e9), Work())
    assert first["is_new"] and not second["is_new"]


def test_one_and_two_processes_give_the_same_jpegs(tmp_path: Path, clips: Path) -> None:
    one, two = (
        _bytes(_extract(tmp_path / f"{jobs}", clips, storage="jpeg", jobs=jobs).dir)
        for jobs in (1, 2)
    )
    assert one.keys() == two.keys() and "frames-000.jpegs" in one
    assert all(one[name] == two[name] for name in one if name != "done.json")


def test_damage_in_jpeg_frames_is_found_and_named(tmp_path: Path, clips: Path) -> None:
    packed = _extract(tmp_path, clips, storage="jpeg")
    path = packed.dir / "frames-000.jpegs"
    data = bytearray(path.read_bytes())
    data[-100] ^= 255
    request = InspectRequest(data_root=tmp_path, name="toy")
    assert "all as they were written" in inspect.verify(request, Work())["lines"][0]
    path.write_bytes(data)
    with pytest.raises(UserError, match="is damaged") as caught:
        inspect.verify(request, Work())
    assert caught.value.details["problem 1"] == "frames-000.jpegs has changed: clip2"


def test_frames_that_are_not_kept_cannot_be_looked_at(tmp_path: Path, clips: Path) -> None:
    with pytest.raises(ValueError, match="storage 'none' has no frames"):
        _request(tmp_path, clips, storage="none", scene_cut=20)


def test_without_frames_a_video_with_nothing_else_is_of_no_use(tmp_path: Path) -> None:
    encode(tmp_path / "raw" / "clip.mp4", moving_square(20, width=64, height=48))
    with pytest.raises(UserError, match="no usable video") as caught:
        _extract(tmp_path, tmp_path / "raw", storage="none")
    assert "nothing but frames is known of it" in caught.value.details["clip"]
