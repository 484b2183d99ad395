"""Flow as files of other programs: out of a pack, and into one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipelines.events import UserError, Work
from pipelines.flow.config import EstimateRequest
from pipelines.flow.estimate import estimate_flow
from pipelines.flow.exchange import pair_name
from pipelines.io.flow_files import read_flow, read_kitti, write_kitti
from pipelines.io.flow_pack import FlowPack
from tests.pipelines.io.flow_makers import drifting, make_variant


def _run(data_root: Path, **options: Any) -> FlowPack:
    usual = {"name": "toy", "lags": (2,), "workers_per_device": 1}
    request = EstimateRequest(data_root=data_root, **{**usual, **options})
    return FlowPack(Path(estimate_flow(request, Work())["flow_dir"]) / "lag-2")


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    videos = {"deep/one": drifting(6), "two": drifting(4, seed=1)}
    make_variant(tmp_path, videos, stride=8)
    return tmp_path


@pytest.mark.parametrize("form", ["npy", "flo", "kitti"])
def test_exported_and_imported_again_is_the_same_flow(data_root: Path, form: Any) -> None:
    out_dir = data_root / "out"
    pack = _run(data_root, export_dir=out_dir, export_format=form)
    assert sorted(path.name for path in (out_dir / "deep" / "one").iterdir()) == sorted(
        pair_name(start * 8, (start + 2) * 8, form) for start in range(4)
    )
    flow = read_flow(out_dir / "two" / pair_name(8, 24, form))
    assert np.array_equal(flow, pack.flow(1, 1)[0])
    back = _run(data_root, estimator="files", files_dir=out_dir)
    for row, count in enumerate((4, 2)):
        assert np.array_equal(back.flow(row, 0, count), pack.flow(row, 0, count))
        assert back.pairs(row)["is_valid"].all()


def test_published_maps_of_256_pixels_are_brought_to_the_size_of_the_frames(
    data_root: Path,
) -> None:
    folder = data_root / "published" / "one"  # the last part of the id is enough
    folder.mkdir(parents=True)
    flow = np.full((2, 256, 256), 24, np.float32)
    for start in (0, 8):
        np.save(folder / f"prediction_{start}_{start + 16}.flow.npy", flow)
    pack = _run(data_root, estimator="files", files_dir=folder.parent)
    assert (pack.flow(0, 0, 2) == 3).all()


def test_pairs_without_a_file_are_not_valid_and_have_no_flow(data_root: Path) -> None:
    out_dir = data_root / "out"
    _run(data_root, export_dir=out_dir)
    (out_dir / "deep" / "one" / pair_name(8, 24)).unlink()
    pack = _run(data_root, estimator="files", files_dir=out_dir)
    assert pack.pairs(0)["is_valid"].tolist() == [True, False, True, True]
    assert np.isnan(pack.flow(0, 1)).all()
    assert (pack.index["num_valid"], pack.index["num_missing"]) == (5, 1)
    assert pack.statistics["max_norm"] is not None


def test_files_that_change_are_noticed(data_root: Path) -> None:
    out_dir = data_root / "out"
    _run(data_root, export_dir=out_dir)
    first = _run(data_root, estimator="files", files_dir=out_dir).flow(1, 0)
    np.save(out_dir / "two" / pair_name(0, 16), np.zeros((2, 32, 32), np.float32))
    assert first.any()
    assert not _run(data_root, estimator="files", files_dir=out_dir).flow(1, 0).any()


def test_a_folder_without_flow_says_what_was_looked_for(data_root: Path) -> None:
    (data_root / "empty").mkdir()
    with pytest.raises(UserError, match="no flow in 'empty' for any video") as caught:
        _run(data_root, estimator="files", files_dir=data_root / "empty")
    assert caught.value.exit_code == 4
    assert "deep/one/prediction_0_10.flow.npy" in caught.value.details["looked for"]


def test_a_damaged_file_is_named(data_root: Path) -> None:
    out_dir = data_root / "out"
    _run(data_root, export_dir=out_dir)
    (out_dir / "two" / pair_name(0, 16)).write_bytes(b"\x93NUMPY torn")
    with pytest.raises(UserError, match=r"cannot read flow from 'prediction_0_16\.flow\.npy'"):
        _run(data_root, estimator="files", files_dir=out_dir)


def test_opencv_reads_our_kitti_maps_and_we_read_its_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    flow = (rng.integers(-20000, 20000, (2, 37, 53)) / 64).astype(np.float32)
    flow[:, 5:9, 3:30] = np.nan
    write_kitti(tmp_path / "ours.png", flow)
    bgr = cv2.imread(str(tmp_path / "ours.png"), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    assert bgr.dtype == np.uint16
    assert np.array_equal(bgr[..., 0] == 1, ~np.isnan(flow[0]))
    expected = np.where(np.isnan(flow[0]), 0, flow[0] * 64 + 2**15)
    assert np.array_equal(bgr[..., 2], expected.astype(np.uint16))
    for strategy in range(5):  # other filters of the lines
        path = tmp_path / f"{strategy}.png"
        cv2.imwrite(str(path), bgr, [cv2.IMWRITE_PNG_STRATEGY, strategy])
        assert np.array_equal(read_kitti(path), flow, equal_nan=True)
