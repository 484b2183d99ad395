"""The stage: prepared frames in, packed flow out."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from pipelines.events import Interrupted, UserError, Work, read_events
from pipelines.flow import estimate
from pipelines.flow.config import EstimateRequest
from pipelines.flow.dis import DisEstimator
from pipelines.io.flow_pack import FlowPack, find_flow
from pipelines.io.packed import PackedVideos
from tests.pipelines.io.flow_makers import drifting, make_variant
from tests.pipelines.jobs import PATIENCE_S, running, wait_until


def _request(data_root: Path, **options: Any) -> EstimateRequest:
    usual = {"name": "toy", "lags": (1, 3), "workers_per_device": 1, "cores": 1}
    return EstimateRequest(data_root=data_root, **{**usual, **options})


def _estimate(data_root: Path, **options: Any) -> dict[str, Any]:
    return estimate.estimate_flow(_request(data_root, **options), Work())


def _pack(data_root: Path, lag: int, **options: Any) -> FlowPack:
    result = _estimate(data_root, **options)
    return FlowPack(Path(result["flow_dir"]) / f"lag-{lag}")


def _bytes(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _says(data_root: Path, **options: Any) -> list[str]:
    """What a run tells the user: log lines and warnings."""
    record = data_root / f"events{time.monotonic_ns()}.jsonl"
    estimate.estimate_flow(_request(data_root, **options), Work(record=record))
    return [each.get("text") or each.get("message") or "" for each in read_events(record)]


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """Three drifting textures of 8, 6 and 3 frames, and one that stands still."""
    videos = {
        f"kind{number}/clip": drifting(count, step=(2, number), seed=number)
        for number, count in enumerate((8, 6, 3))
    }
    videos["still"] = np.repeat(drifting(1, seed=9), 5, axis=0)
    make_variant(tmp_path, videos)
    return tmp_path


# What is written


def test_packed_flow_is_what_the_estimator_says_in_steps_of_a_64th_pixel(data_root: Path) -> None:
    pack = _pack(data_root, 1)
    packed = PackedVideos(pack.dir.parents[2])
    assert pack.counts.tolist() == [7, 5, 2, 4]
    for row in range(4):
        frames = packed.frames(row, 0, int(packed.num_frames[row]))
        expected = DisEstimator().flow(frames[:-1], frames[1:])
        stored = pack.flow(row, 0, int(pack.counts[row]))
        assert np.abs(stored - expected).max() <= 0.5 / 64 + 1e-6


def test_flow_of_a_drifting_texture_is_its_drift(data_root: Path) -> None:
    pack = _pack(data_root, 1)
    inside = pack.flow(1, 2)[0][:, 8:-8, 8:-8]
    assert np.median(inside, axis=(1, 2)) == pytest.approx([2, 1], abs=0.15)
    assert np.abs(pack.flow(3, 0, 4)).max() < 0.05


def test_prepared_videos_find_the_flow_by_the_estimators_name(data_root: Path) -> None:
    pack = _pack(data_root, 3)
    packed = PackedVideos(pack.dir.parents[2])
    assert packed.flow_names == ["dis"] and packed.estimated_lags("dis") == [1, 3]
    again = pickle.loads(pickle.dumps(packed))
    for each in (packed, again):
        flow = each.flow(3, 0, 1, 2, estimator="dis")
        assert flow.shape == (2, 2, 32, 32) and flow.dtype == np.float32
        assert np.array_equal(flow, pack.flow(0, 1, 2))
    with pytest.raises(IndexError, match=r"1 pairs from frame 5 on, of 5"):
        packed.flow(3, 0, 5, estimator="dis")
    with pytest.raises(KeyError):
        packed.flow(3, 0, 0)  # the true motion, which is not known here


def test_flow_that_is_not_there_comes_with_the_command_that_makes_it(data_root: Path) -> None:
    folder = data_root / "toy" / "prepared" / "32px"
    with pytest.raises(UserError, match="no estimated flow for dataset 'toy'") as caught:
        find_flow(folder, "toy")
    assert caught.value.details["run first"] == "i2v estimate-flow toy --variant 32px"
    _estimate(data_root, flow_name="mine")
    assert find_flow(folder, "toy").lag == 1
    with pytest.raises(UserError, match="to 2 frames later for dataset 'toy' by 'mine'") as caught:
        PackedVideos(folder).flow(2, 0, 0, estimator="mine")
    assert caught.value.details["run first"].endswith("--estimator dis --name mine --lags 2")


def test_flow_at_another_size_is_in_pixels_of_that_size(data_root: Path) -> None:
    small = _pack(data_root, 1, input_size_px=64, flow_size_px=16)
    assert small.flow(0, 0).shape == (1, 2, 16, 16)
    inside = small.flow(0, 0, 3)[..., 4:-4, 4:-4]
    assert np.median(inside, axis=(0, 2, 3)) == pytest.approx([1, 0], abs=0.1)


def test_grey_frames_and_frames_of_another_variant_are_looked_at(data_root: Path) -> None:
    packed = PackedVideos(data_root / "toy" / "prepared" / "32px")
    grey = {
        name: packed.frames(row, 0, int(packed.num_frames[row]))[..., :1].repeat(2, 1).repeat(2, 2)
        for row, name in enumerate(packed.ids)
    }
    make_variant(data_root, grey, variant="64px-grey")
    pack = _pack(data_root, 1, variant="32px", frames_of="64px-grey")
    assert pack.size_px == 32 and pack.index["settings"]["input_size_px"] == 64
    assert np.median(pack.flow(0, 0)[0, 0, 8:-8, 8:-8]) == pytest.approx(2, abs=0.15)


def test_another_variant_with_a_frame_less_is_refused(data_root: Path) -> None:
    packed = PackedVideos(data_root / "toy" / "prepared" / "32px")
    videos = {name: packed.frames(row, 0, 3) for row, name in enumerate(packed.ids)}
    make_variant(data_root, videos, variant="short")
    with pytest.raises(UserError, match="'kind0/clip' is not the same in both") as caught:
        _estimate(data_root, variant="32px", frames_of="short")
    assert (caught.value.details["32px"], caught.value.details["short"]) == ("8 frames", "3 frames")


def test_the_check_marks_what_does_not_come_back(tmp_path: Path) -> None:
    frames = drifting(4, size_px=48, step=(3, 0))
    frames[2:] = drifting(2, size_px=48, seed=5)  # another scene from here on
    make_variant(tmp_path, {"x": frames})
    plain = _pack(tmp_path, 1, lags=(1,))
    checked = _pack(tmp_path, 1, lags=(1,), check=True, flow_name="checked")
    assert np.array_equal(plain.flow(0, 0, 3), checked.flow(0, 0, 3))
    assert plain.reliable(0, 0, 3).all()
    reliable = checked.reliable(0, 0, 3)
    assert reliable[0, 8:-8, 8:-8].mean() > 0.95
    assert reliable[1, 8:-8, 8:-8].mean() < 0.6
    assert not reliable[0, :, -1].any()  # leaves the picture on the right
    parts = checked.pairs(0)["reliable_part"]
    assert parts == pytest.approx(reliable.mean(axis=(1, 2)), abs=1e-6)


def test_pairs_that_hardly_agree_are_not_valid(tmp_path: Path) -> None:
    frames = drifting(6, step=(1, 0))
    for number in (3, 4, 5):  # a new scene in every frame
        frames[number] = drifting(1, seed=number)[0]
    make_variant(tmp_path, {"x": frames})
    pack = _pack(tmp_path, 1, lags=(1,), check=True, min_reliable=0.75)
    assert pack.pairs(0)["is_valid"].tolist() == [True, True, False, False, False]
    assert pack.index["num_valid"] == 2
    longest = pack.pairs(0)["max_norm"][:2].max()
    assert pack.statistics["max_norm"] == pytest.approx(longest, abs=1e-6)


def test_statistics_are_those_of_the_published_norms(data_root: Path) -> None:
    pack = _pack(data_root, 3)
    norms = [
        np.linalg.norm(pack.flow(row, start)[0], axis=0)
        for row in range(len(pack.counts))
        for start in range(int(pack.counts[row]))
    ]
    largest = [each.max() for each in norms]
    found = pack.statistics
    assert found["max_norm"] == pytest.approx(max(largest), abs=0.02)
    assert found["min_norm"] == pytest.approx(min(each.min() for each in norms), abs=0.02)
    expected = np.percentile(largest, range(10, 100, 10))
    assert list(found["percentiles"]) == [str(part) for part in range(10, 100, 10)]
    assert list(found["percentiles"].values()) == pytest.approx(list(expected), abs=0.02)


def test_one_and_three_processes_give_the_same_bytes(data_root: Path) -> None:
    one = Path(_estimate(data_root, check=True)["flow_dir"])
    three = Path(_estimate(data_root, check=True, workers_per_device=3, flow_name="b")["flow_dir"])
    assert _bytes(one) == _bytes(three)


# Lags


@pytest.mark.parametrize(
    ("kind", "num_frames", "lags"),
    [
        ("plants", 35, [10, 20, 30]),
        ("iper", 35, [5, 10]),
        ("h36m", 35, [5, 10]),
        ("taichi", 35, [10, 20]),
        ("custom", 35, [10]),
        ("plants", 25, [10, 20]),
    ],
)
def test_each_dataset_asks_for_its_published_lags(
    tmp_path: Path, kind: str, num_frames: int, lags: list[int]
) -> None:
    make_variant(tmp_path, {"x": drifting(num_frames, size_px=16)}, kind=kind)
    assert _estimate(tmp_path, lags=None)["new_lags"] == lags


def test_generated_data_asks_for_the_lags_of_its_true_motion(tmp_path: Path) -> None:
    flow = {2: np.zeros((4, 2, 16, 16), np.float32)}
    make_variant(tmp_path, {"x": drifting(6, size_px=16)}, truth={"x": flow})
    assert _estimate(tmp_path, lags=None)["new_lags"] == [2]


def test_a_lag_longer_than_some_videos_is_warned_about(data_root: Path) -> None:
    said = _says(data_root, lags=(5,))
    assert any("2 of 4 videos have no more than 5 frames" in line for line in said)
    pack = _pack(data_root, 5, lags=(5,))
    assert pack.counts.tolist() == [3, 1, 0, 0]
    with pytest.raises(IndexError):
        pack.flow(2, 0)


def test_a_lag_longer_than_every_video_names_the_longest(data_root: Path) -> None:
    with pytest.raises(UserError, match="'toy' has two frames that are 8 apart") as caught:
        _estimate(data_root, lags=(1, 8))
    assert caught.value.exit_code == 2
    assert caught.value.details["longest video"] == "kind0/clip, 8 frames"
    assert "at most 7" in caught.value.details["to fix"]


# The true motion


def test_errors_against_the_true_motion_are_told_for_each_kind(tmp_path: Path) -> None:
    videos = {f"{kind}/0": drifting(4, step=step) for kind, step in (("a", (3, 0)), ("b", (0, 4)))}
    truth = {
        name: {1: np.tile(np.float32(step)[None, :, None, None], (3, 1, 32, 32))}
        for name, step in (("a/0", (3, 0)), ("b/0", (0, 5)))  # b: wrong by one pixel
    }
    make_variant(tmp_path, videos, truth=truth)
    result = _estimate(tmp_path, lags=(1,))
    errors = result["lags"]["1"]["errors"]
    assert (errors["a"]["zero_flow_px"], errors["b"]["zero_flow_px"]) == (3, 5)
    pack = find_flow(tmp_path / "toy" / "prepared" / "32px", "toy")
    expected = np.linalg.norm(pack.flow(1, 0, 3) - truth["b/0"][1], axis=1).mean()
    assert errors["b"]["endpoint_px"] == pytest.approx(expected, abs=0.02)
    said = _says(tmp_path, lags=(1,), rebuild=True)
    assert any("end-point error on moving pixels" in line and "(5.00)" in line for line in said)


# Bad input


def test_a_frame_that_is_missing_is_named_before_the_work(data_root: Path) -> None:
    path = data_root / "toy" / "prepared" / "32px" / "frames-000.u8"
    os.truncate(path, path.stat().st_size - 6 * 32 * 32 * 3)  # the last six of 22 frames
    with pytest.raises(UserError, match="frames of 'toy' are missing") as caught:
        _estimate(data_root)
    assert caught.value.exit_code == 4
    assert caught.value.details["video"] == "kind2/clip, from frame 2 of 3"
    assert "--rebuild" in caught.value.details["to fix"]


@pytest.mark.parametrize(
    ("estimator", "size_px", "expected"),
    [
        ("flownet2", 100, "multiple of 64, not 100; give 64 or 128"),
        ("flownet2-c", 32, "multiple of 64 and at least 64, not 32; give 64"),
        ("raft-small", 100, "a multiple of 8 and at least 128, not 100; give 128"),
    ],
)
def test_a_size_that_a_network_cannot_take_is_refused_with_the_next_ones(
    tmp_path: Path, estimator: str, size_px: int, expected: str
) -> None:
    with pytest.raises(ValidationError, match=expected):
        _request(tmp_path, estimator=estimator, input_size_px=size_px)


@pytest.mark.parametrize("estimator", ["raft-large", "flownet2", "flownet2-css"])
def test_missing_weights_name_the_command_that_gets_them(data_root: Path, estimator: str) -> None:
    with pytest.raises(UserError, match=f"no weights for '{estimator}'") as caught:
        _estimate(data_root, estimator=estimator, weights_root=data_root / "weights")
    assert caught.value.exit_code == 4
    assert caught.value.details["run first"] == f"i2v download weights/{estimator}"
    assert not (data_root / "toy" / "prepared" / "32px" / "flow").exists()


def test_weights_of_another_network_are_refused(data_root: Path) -> None:
    import torch
    from torchvision.models.optical_flow import raft_small

    path = data_root / "small.pth"
    torch.save(raft_small(weights=None).state_dict(), path)
    for estimator, said in (("raft-large", "raft-small"), ("flownet2", "FlowNet2")):
        with pytest.raises(UserError) as caught:
            _estimate(data_root, estimator=estimator, weights_path=path)
        assert said in caught.value.message + str(caught.value.details)
        assert "to fix" in caught.value.details


def test_raft_goes_through_the_stage_and_changed_weights_are_noticed(data_root: Path) -> None:
    import torch
    from torchvision.models.optical_flow import raft_small

    path = data_root / "weights.pth"
    torch.manual_seed(0)
    torch.save(raft_small(weights=None).state_dict(), path)
    options = {"estimator": "raft-small", "weights_path": path, "lags": (3,), "check": True}
    pack = _pack(data_root, 3, **options)
    assert pack.index["settings"]["input_size_px"] == 128
    assert np.isfinite(pack.flow(0, 0, 5)).all()
    torch.save(raft_small(weights=None).state_dict(), path)
    with pytest.raises(UserError, match="made with other settings") as caught:
        _estimate(data_root, **options)
    assert caught.value.details["changed 1"].startswith("weights_sha256: ")


def test_a_disk_that_is_too_small_is_noticed_before_the_work(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(data_root)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match="not enough disk space") as caught:
        _estimate(data_root)
    assert caught.value.exit_code == 1


# Changes


def test_a_second_run_does_nothing_and_says_so(data_root: Path) -> None:
    folder = Path(_estimate(data_root)["flow_dir"])
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    said = _says(data_root)
    assert sum("nothing to do" in line for line in said) == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_another_lag_is_added_to_those_that_are_done(data_root: Path) -> None:
    folder = Path(_estimate(data_root, lags=(1,))["flow_dir"])
    before = _bytes(folder / "lag-1")
    assert _estimate(data_root, lags=(1, 2))["new_lags"] == [2]
    assert _bytes(folder / "lag-1") == before


def test_other_settings_are_refused_unless_it_is_to_be_rebuilt_or_named(data_root: Path) -> None:
    _estimate(data_root)
    for lags in ((1, 3), (2,)):  # also for a lag that is not there yet
        with pytest.raises(UserError, match="made with other settings") as caught:
            _estimate(data_root, lags=lags, input_size_px=48)
        assert caught.value.exit_code == 2
        assert caught.value.details["changed 1"] == "input_size_px: 32 before, 48 now"
    assert _estimate(data_root, input_size_px=48, flow_name="large")["new_lags"] == [1, 3]
    assert _estimate(data_root, input_size_px=48, rebuild=True)["new_lags"] == [1, 3]


def test_changed_frames_of_another_variant_are_noticed(data_root: Path) -> None:
    videos = {"x": drifting(5, size_px=64)}
    make_variant(data_root, {"x": drifting(5)}, variant="mine")
    larger = make_variant(data_root, videos, variant="large")
    options = {"variant": "mine", "frames_of": "large"}
    _estimate(data_root, **options)
    shutil.rmtree(larger)
    make_variant(data_root, {"x": drifting(5, size_px=64, seed=3)}, variant="large")
    said = _says(data_root, **options)
    assert sum("has changed" in line for line in said) == 2


# Interruption


def _num_done(folder: Path) -> int:
    return len(list(folder.glob("lag-*.tmp/videos/*.npz"))) + 6 * len(
        list(folder.glob("lag-*/done.json"))
    )


@pytest.fixture(scope="module")
def long_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos that take a while: there is time to kill."""
    root = tmp_path_factory.mktemp("long")
    videos = {f"v{n}": drifting(14, size_px=96, step=(n, 2), seed=n) for n in range(6)}
    make_variant(root, videos)
    return root


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, long_root: Path) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("whole")
    shutil.copytree(long_root / "toy", root / "toy")
    return _bytes(Path(_estimate(root, lags=(2, 5), check=True)["flow_dir"]))


@pytest.mark.parametrize(
    ("workers", "num_done"),
    [(1, 0), (2, 1), (1, 4), (2, 7), (1, 10)],
    ids=["at the start", "early", "in the middle", "in the second lag", "late"],
)
def test_killed_at_any_moment_and_run_again_gives_the_same_bytes(
    tmp_path: Path,
    long_root: Path,
    uninterrupted: dict[str, bytes],
    workers: int,
    num_done: int,
) -> None:
    shutil.copytree(long_root / "toy", tmp_path / "toy")
    options = {"lags": (2, 5), "check": True, "workers_per_device": workers}
    folder = tmp_path / "toy" / "prepared" / "96px" / "flow" / "dis"
    with running(estimate.estimate_flow, _request(tmp_path, **options)) as process:
        wait_until(lambda: folder.exists() and _num_done(folder) >= num_done, process)
        time.sleep(0.02 * (num_done % 3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL  # it was still at work
    _estimate(tmp_path, **options)
    assert _bytes(folder) == uninterrupted
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "lag-2", "lag-5"]


def test_killed_between_the_last_steps_gives_the_same_bytes(
    tmp_path: Path,
    long_root: Path,
    uninterrupted: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before the index, after it, and between it and the new name of the folder."""

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    shutil.copytree(long_root / "toy", tmp_path / "toy")
    for name in ("finish", "_publish"):
        with monkeypatch.context() as patch:
            patch.setattr(estimate, name, killed)
            with pytest.raises(Killed):
                _estimate(tmp_path, lags=(2,), check=True)
    building = tmp_path / "toy" / "prepared" / "96px" / "flow" / "dis" / "lag-2.tmp"
    (building / ".index.json.x.part").touch()  # what a kill within a write leaves
    with monkeypatch.context() as patch:
        patch.setattr(estimate, "spread", killed)
        _estimate(tmp_path, lags=(2,), check=True)
    _estimate(tmp_path, lags=(2, 5), check=True)
    assert _bytes(building.parent) == uninterrupted


def test_a_video_that_the_disk_lost_is_done_again(
    tmp_path: Path,
    long_root: Path,
    uninterrupted: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(long_root / "toy", tmp_path / "toy")

    def interrupted(*_: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(estimate, "_finish", interrupted)
        with pytest.raises(Interrupted):
            _estimate(tmp_path, lags=(2,), check=True)
    folder = tmp_path / "toy" / "prepared" / "96px" / "flow" / "dis"
    with (folder / "lag-2.tmp" / "flow-000.i16").open("r+b") as file:
        file.seek(4 * 96 * 96 * 30)
        file.write(b"lost")
    with pytest.raises(UserError, match="does not give back"):
        _estimate(tmp_path, lags=(2,), check=True)
    _estimate(tmp_path, lags=(2, 5), check=True)
    assert _bytes(folder) == uninterrupted


def test_ctrl_c_stops_at_once_and_leaves_no_process(tmp_path: Path, long_root: Path) -> None:
    shutil.copytree(long_root / "toy", tmp_path / "toy")
    folder = tmp_path / "toy" / "prepared" / "96px" / "flow" / "dis"
    request = _request(tmp_path, lags=(2, 5), workers_per_device=2, check=True)
    with running(estimate.estimate_flow, request) as process:
        wait_until(lambda: folder.exists() and _num_done(folder) >= 1, process)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode != 0 and Interrupted.__name__ in errors
        assert not _is_left(process.pid)


def _is_left(group: int) -> bool:
    """Whether any process of a group stays."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


def test_two_estimations_of_one_name_do_not_meet(data_root: Path) -> None:
    from pipelines.files import folder_lock

    folder = data_root / "toy" / "prepared" / "32px" / "flow" / "dis"
    folder.mkdir(parents=True)
    with folder_lock(folder), pytest.raises(UserError, match="by another process"):
        _estimate(data_root)


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_rises_to_the_number_of_pairs(data_root: Path, workers: int) -> None:
    shown: list[tuple[float, float]] = []

    class Watched(Work):
        def progress(
            self, task: str, done: float, total: float | None = None, unit: str = ""
        ) -> None:
            assert total is not None and unit == "pairs"
            shown.append((done, total))

    request = _request(data_root, workers_per_device=workers, batch_size=2)
    estimate.estimate_flow(request, Watched())
    done = [each for each, _ in shown]
    assert done == sorted(done) and shown[-1] == (18 + 10, 28)
