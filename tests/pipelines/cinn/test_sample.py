from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.cinn.config import SampleRequest, TransferRequest
from pipelines.cinn.inference import encode_motion
from pipelines.cinn.preview import to_bytes
from pipelines.cinn.sample import load, read_clip, sample, transfer
from pipelines.events import UserError
from pipelines.files import sha256
from pipelines.io.images import read_image, write_png
from pipelines.io.sample_folders import read_sample_folder
from pipelines.io.video import read_video, write_mp4
from pipelines.training.checkpoint import list_checkpoints
from tests.pipelines.cinn import tiny
from tests.pipelines.engines.sharing import check_shards

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> list[Path]:
    """Two images: one of the model's size, one that must be resized."""
    folder = tmp_path_factory.mktemp("images")
    write_png(folder / "one.png", tiny.moving_square(1, 1)[0])
    write_png(folder / "two.png", tiny.moving_square(2, 1, size_px=64)[0][:40])
    return [folder / "one.png", folder / "two.png"]


@pytest.fixture(scope="module")
def sampler(trained):
    return load(trained / "runs" / "2", CPU, warn=pytest.fail)


def sampled(trained: Path, images: list[Path], out_dir: Path, **changes: Any) -> dict:
    fields = {
        "run_dir": trained / "runs" / "2",
        "images": images,
        "out_dir": out_dir,
        "num": 2,
        "frames": tiny.NUM_FRAMES,
        "device": "cpu",
    }
    sample(SampleRequest.model_validate(fields | changes), tiny.Heard())
    return json.loads((out_dir / "meta.json").read_text())


def hashes(meta: dict) -> dict[tuple[str, int], str]:
    return {(v["scene"], v["sample"]): v["frames_sha256"] for v in meta["videos"]}


def test_the_folder_holds_every_video_and_says_what_made_it(trained, images, tmp_path):
    meta = sampled(trained, images, tmp_path / "out", seed=5, temperature=0.5)
    folder = read_sample_folder(tmp_path / "out")
    assert folder.kind == "sample"
    assert [(v.scene, v.sample) for v in folder.videos] == [
        ("one", 0),
        ("one", 1),
        ("two", 0),
        ("two", 1),
    ]
    for video in folder.videos:
        assert read_video(video.path).shape == (tiny.NUM_FRAMES, tiny.SIZE_PX, tiny.SIZE_PX, 3)
        assert video.gif.is_file()
        assert read_image(video.start).shape == (tiny.SIZE_PX, tiny.SIZE_PX, 3)
    for name in ("grid.mp4", "grid.png"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    assert [each["sha256"] for each in meta["images"]] == [sha256(path) for path in images]
    newest = list_checkpoints(trained / "runs" / "2")[0]
    assert meta["checkpoints"]["stage2"]["sha256"] == sha256(newest / "weights.safetensors")
    assert (meta["seed"], meta["temperature"], meta["frames"]) == (5, 0.5, tiny.NUM_FRAMES)
    assert "--seed 5" in meta["command"]
    assert meta["versions"]["torch"] == torch.__version__


def test_the_hash_in_meta_is_that_of_the_frames(trained, sampler, images, tmp_path):
    meta = sampled(trained, images[:1], tmp_path / "out", seed=3)
    start = sampler.start(read_image(images[0]))
    video = sampler.animate(start, sampler.residual(3, 0, 1), tiny.NUM_FRAMES)
    assert hashes(meta)["one", 1] == hashlib.sha256(video.tobytes()).hexdigest()


def test_the_same_seed_gives_the_same_frames_however_many_are_made(trained, images, tmp_path):
    three = hashes(sampled(trained, images, tmp_path / "three", num=3, seed=7))
    one = hashes(sampled(trained, images[:1], tmp_path / "one", num=1, seed=7))
    other = hashes(sampled(trained, images[:1], tmp_path / "other", num=1, seed=8))
    assert len(set(three.values())) == 6
    assert one["one", 0] == three["one", 0]
    assert other["one", 0] != one["one", 0]


def test_a_video_depends_on_the_residual_and_on_the_image(sampler, images):
    one, two = (sampler.start(read_image(path)) for path in images)
    first, second = sampler.residual(0, 0, 0), sampler.residual(0, 0, 1)
    base = sampler.animate(one, first, 8)
    assert base.dtype == np.uint8
    assert base.shape == (8, tiny.SIZE_PX, tiny.SIZE_PX, 3)
    assert not np.array_equal(base, sampler.animate(one, second, 8))
    assert not np.array_equal(base, sampler.animate(two, first, 8))
    assert np.array_equal(base, sampler.animate(one, first, 8))


def test_temperature_0_takes_the_chance_out(trained, images, tmp_path):
    found = hashes(sampled(trained, images, tmp_path / "out", temperature=0))
    assert found["one", 0] == found["one", 1]
    assert found["one", 0] != found["two", 0]


def test_longer_videos_go_on_from_the_last_frame(sampler, images):
    start, residual = sampler.start(read_image(images[0])), sampler.residual(0, 0, 0)
    long = sampler.animate(start, residual, 2 * tiny.NUM_FRAMES + 3)
    assert len(long) == 2 * tiny.NUM_FRAMES + 3
    assert np.array_equal(long[:5], sampler.animate(start, residual, 5))


def test_resizing_is_said(trained, images, tmp_path):
    request = SampleRequest(
        run_dir=trained / "runs" / "2",
        images=tuple(images),
        out_dir=tmp_path / "x",
        num=1,
        frames=1,
    )
    heard = tiny.Heard()
    sample(request, heard)
    assert [each["text"] for each in heard.of("log")] == [
        "two.png: 64 x 40 px, resized to 32 x 32, aspect ratio not kept"
    ]
    assert heard.of("progress")[-1]["done"] == 2


def test_images_of_one_name_do_not_overwrite_each_other(trained, images, tmp_path):
    (tmp_path / "more").mkdir()
    shutil.copy(images[1], tmp_path / "more" / "one.png")
    meta = sampled(trained, [images[0], tmp_path / "more" / "one.png"], tmp_path / "out", num=1)
    assert [each["file"] for each in meta["videos"]] == ["one-s0.mp4", "one-2-s0.mp4"]


def test_what_else_is_in_the_output_folder_stays(trained, images, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    sampled(trained, images[:1], tmp_path / "out", num=1)
    sampled(trained, images[:1], tmp_path / "out", num=2)
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
    assert len(read_sample_folder(tmp_path / "out").videos) == 2


def test_a_failure_leaves_nothing_behind(trained, images, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(UserError, match=r"broken\.png"):
        sampled(trained, [images[0], tmp_path / "broken.png"], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["broken.png"]


def test_transfer_moves_each_image_like_the_source(trained, images, tmp_path):
    write_mp4(tmp_path / "source.mp4", tiny.moving_square(3, 20), 8)
    request = TransferRequest(
        run_dir=trained / "runs" / "2",
        source=tmp_path / "source.mp4",
        images=tuple(images),
        out_dir=tmp_path / "out",
        frames=12,
        device="cpu",
    )
    transfer(request, tiny.Heard())
    folder = read_sample_folder(tmp_path / "out")
    assert folder.kind == "transfer"
    assert [video.scene for video in folder.videos] == ["one", "two"]
    assert len(read_video(folder.videos[0].path)) == 12
    assert folder.meta["source"]["sha256"] == sha256(tmp_path / "source.mp4")
    assert len(folder.meta["residual"]) == tiny.CONFIG["stage1"]["code_size"]


def test_transferring_a_clip_to_its_own_start_frame_gives_its_reconstruction(sampler):
    clip = torch.from_numpy(tiny.moving_square(4, tiny.NUM_FRAMES + 1))
    start = sampler.start(clip[0].numpy())
    frames = torch.cat([sampler.start(frame.numpy()) for frame in clip])[None]
    video = sampler.animate(start, encode_motion(sampler.model, frames), tiny.NUM_FRAMES)
    with torch.no_grad():
        code, _ = sampler.model.encoder(frames[:, 1:])
        expected = to_bytes(sampler.model.decoder(start, code)[0])
    difference = np.abs(video.astype(int) - expected.astype(int))
    assert difference.max() <= 2


def test_a_folder_of_frames_is_a_source_too(tmp_path):
    video = tiny.moving_square(3, 12)
    for number, frame in enumerate(video):
        write_png(tmp_path / "frames" / f"frame{number}.png", frame)
    assert np.array_equal(np.stack(read_clip(tmp_path / "frames", 11)), video[:11])


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_source_that_is_too_short_says_how_long_it_must_be(tmp_path, is_folder):
    video = tiny.moving_square(3, 5)
    if is_folder:
        for number, frame in enumerate(video):
            write_png(tmp_path / "source" / f"{number}.png", frame)
    else:
        write_mp4(tmp_path / "source", video, 8)
    with pytest.raises(UserError, match="has 5 frames, 9 are needed") as caught:
        read_clip(tmp_path / "source", 9)
    assert caught.value.exit_code == 4


def test_only_the_last_stage_can_sample(trained, images, tmp_path):
    with pytest.raises(UserError, match="is stage 1 of cinn, not stage 2"):
        sampled(trained, images, tmp_path / "out", run_dir=trained / "runs" / "1")
    with pytest.raises(UserError, match="no run folder 'gone'"):
        sampled(trained, images, tmp_path / "out", run_dir=tmp_path / "gone")


def test_a_truncated_checkpoint_is_passed_over_and_refused_when_it_is_the_only_one(
    trained, images, tmp_path
):
    run_dir = tmp_path / "run"
    shutil.copytree(trained / "runs" / "2", run_dir)
    newest, older = list_checkpoints(run_dir)
    damaged = newest / "weights.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:100])
    warnings: list[str] = []
    found = load(run_dir, CPU, warn=warnings.append)
    assert found.checkpoints["stage2"]["path"] == str(older)
    assert "is damaged" in warnings[0]
    shutil.rmtree(older)
    with pytest.raises(UserError, match=r"weights\.safetensors has 100 bytes instead of"):
        sampled(trained, images, tmp_path / "out", run_dir=run_dir)
    assert not (tmp_path / "out").exists()


def test_shards_in_any_order_and_a_last_call_give_the_files_of_one_call(trained, tmp_path):
    write_png(tmp_path / "one.png", tiny.moving_square(1, 1)[0])
    request = SampleRequest(
        run_dir=trained / "runs" / "2",
        images=(tmp_path / "one.png",),
        out_dir=tmp_path / "out",
        num=3,
        frames=tiny.NUM_FRAMES,
        device="cpu",
    )
    check_shards(sample, request, total=3)
