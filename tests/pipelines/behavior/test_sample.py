from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pipelines.behavior.config import SampleRequest, TransferRequest
from pipelines.behavior.inference import between
from pipelines.behavior.pose_files import Wanted, read_poses
from pipelines.behavior.sample import RENDERED_SUFFIX, sample, transfer
from pipelines.events import UserError
from pipelines.io.images import write_png
from pipelines.io.sample_folders import read_sample_folder
from pipelines.io.video import read_video
from pipelines.report.config import ReportRequest
from pipelines.report.page import report
from pipelines.shape_pose.train import train as train_renderer
from tests.learning.behavior_world import POSES
from tests.pipelines.behavior import tiny
from tests.pipelines.engines.sharing import check_shards
from tests.pipelines.shape_pose import tiny as tiny_renderer

WORLD = Wanted(17, 3, "joints_world_m")


def fields(trained: Path, out_dir: Path, stage: str = "2") -> dict:
    return {
        "run_dir": trained / "runs" / stage,
        "data_root": trained / "data",
        "out_dir": out_dir,
        "frames": 5,
        "size_px": 48,
        "device": "cpu",
    }


def takes(trained: Path, split: str, number: int) -> str:
    index = trained / "data" / POSES / "prepared" / "poses" / "videos.jsonl"
    ids = [json.loads(line)["id"] for line in index.read_text().splitlines()]
    return f"{POSES}:{[each for each in ids if each.startswith(split)][number]}"


def test_samples_start_at_the_posture_and_differ_and_come_again(trained, tmp_path):
    target = takes(trained, "test", 0)
    for name in ("first", "again"):
        request = SampleRequest(**fields(trained, tmp_path / name), target=(target,), num=3)
        assert sample(request, tiny.Heard())["videos"] == 3
    folder = read_sample_folder(tmp_path / "first")
    assert [each.sample for each in folder.videos] == [0, 1, 2]
    assert (tmp_path / "first" / "grid.png").is_file()
    with np.load(tmp_path / "first" / folder.videos[0].facts["poses"]) as arrays:
        joints = [arrays["joints_world_m"]]
    scene = folder.videos[0].scene
    for number in range(3):
        path = tmp_path / "first" / "poses" / f"{scene}-s{number}.npz"
        with np.load(path) as one, np.load(tmp_path / "again" / "poses" / path.name) as other:
            assert np.array_equal(one["joints_world_m"], other["joints_world_m"])
            joints.append(one["joints_world_m"])
    posture = read_poses(target, WORLD, trained / "data").joints[0]
    assert joints[1].shape == (6, 17, 3) and np.array_equal(joints[1][0], posture)
    assert not np.allclose(joints[1], joints[2])
    assert read_video(folder.videos[0].path).shape == (5, 48, 48, 3)


def test_a_stage_1_samples_from_the_plain_prior_only(trained, tmp_path):
    request = fields(trained, tmp_path / "out", "1") | {"target": (takes(trained, "test", 0),)}
    with pytest.raises(UserError, match="no flow to sample from"):
        sample(SampleRequest(**request), tiny.Heard())
    assert sample(SampleRequest(**request, prior="normal", num=1), tiny.Heard())["videos"] == 1


def test_a_transfer_goes_from_the_targets_posture_and_depends_on_the_source(trained, tmp_path):
    found = {}
    for number in (0, 1):
        request = TransferRequest(
            **fields(trained, tmp_path / str(number)),
            source=(takes(trained, "test", number),),
            target=(takes(trained, "train", 0),),
        )
        transfer(request, tiny.Heard())
        (path,) = (tmp_path / str(number) / "poses").iterdir()
        with np.load(path) as arrays:
            found[number] = arrays["joints_world_m"]
    posture = read_poses(takes(trained, "train", 0), WORLD, trained / "data").joints[0]
    assert np.array_equal(found[0][0], posture) and np.array_equal(found[1][0], posture)
    assert not np.allclose(found[0], found[1])
    meta = json.loads((tmp_path / "0" / "meta.json").read_text())
    assert meta["kind"] == "transfer" and len(meta["codes"][0]) == 8


def test_two_sources_make_the_way_between_them(trained, tmp_path):
    sources = takes(trained, "test", 0), takes(trained, "test", 1)
    request = TransferRequest(
        **fields(trained, tmp_path / "out"),
        source=sources,
        target=(takes(trained, "train", 0),),
        num_steps=3,
    )
    assert transfer(request, tiny.Heard())["videos"] == 3
    with pytest.raises(ValidationError, match="must differ"):
        TransferRequest(**fields(trained, tmp_path), source=("a", "a"), target=("b",))


def test_between_two_behaviours_arc_and_line_have_the_same_ends():
    draw = torch.Generator().manual_seed(0)
    first, last = torch.randn(2, 16, generator=draw)
    for path in ("arc", "line"):
        assert torch.allclose(between(first, last, 0.0, path=path), first, atol=1e-6)
        assert torch.allclose(between(first, last, 1.0, path=path), last, atol=1e-6)
    middle = [between(first, last, 0.5, path=path).norm() for path in ("arc", "line")]
    assert middle[0] > middle[1]


def test_a_source_that_is_too_short_is_counted(trained, tmp_path):
    request = TransferRequest(
        **fields(trained, tmp_path / "out"),
        source=(f"{takes(trained, 'test', 0)}@4",),
        target=(takes(trained, "train", 0),),
    )
    with pytest.raises(UserError, match="has 4 poses, the model needs 6"):
        transfer(request, tiny.Heard())
    assert not (tmp_path / "out").exists()


def test_poses_are_rendered_as_the_person_that_is_given(trained, tmp_path):
    renderer = tmp_path / "renderer"
    tiny_renderer.prepare(renderer / "data")
    train_renderer(tiny_renderer.request(renderer, max_steps=2), tiny.Heard())
    request = fields(trained, tmp_path / "out") | {
        "source": (takes(trained, "test", 0),),
        "target": (takes(trained, "train", 0),),
        "render_run": renderer / "runs" / "1",
    }
    with pytest.raises(ValidationError, match="both an appearance and a render_run"):
        TransferRequest(**request)
    person = tmp_path / "person.png"
    frames = renderer / "data" / "people" / "prepared" / "32px" / "frames-000.u8"
    write_png(person, np.fromfile(frames, np.uint8)[: 32 * 32 * 3].reshape(32, 32, 3))
    found = transfer(TransferRequest(**request, appearance=str(person)), tiny.Heard())
    folder = read_sample_folder(tmp_path / f"out{RENDERED_SUFFIX}")
    assert found["rendered"] == str(folder.path)
    assert read_video(folder.videos[0].path).shape == (5, 32, 32, 3)


def test_shards_in_any_order_and_a_last_call_give_the_files_of_one_call(trained, tmp_path):
    targets = tuple(takes(trained, "test", number) for number in range(2))
    request = SampleRequest(**fields(trained, tmp_path / "out"), target=targets, num=2)
    check_shards(sample, request, total=4)


def test_a_runs_report_shows_what_was_transferred_beside_what_people_did(trained, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(trained / "runs" / "1", run_dir)
    request = fields(trained, run_dir / "samples" / "waving") | {
        "source": (takes(trained, "test", 0),),
        "target": (takes(trained, "train", 0),),
    }
    transfer(TransferRequest(**request), tiny.Heard())
    found = report(ReportRequest(run_dir=run_dir), tiny.Heard())
    page = Path(found["report"]).read_text()
    shown = re.findall(r'class="tile (\w+)"', page)
    assert shown.count("real") == 5  # the held-out takes of the preview
    assert shown.count("transfer") >= 5 + 1
    videos = re.findall(r'<video[^>]* src="([^"]+)"', page)
    assert videos and all((run_dir / "report" / each).is_file() for each in videos)
    assert any("transfer-train-00000" in each for each in videos)
