"""`i2v eval`: shards, kept features, arrays, comparisons; networks with made-up weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.events import UserError, Work
from pipelines.io.packed import PackedVideos
from pipelines.metrics import sources, video_features
from pipelines.metrics.config import (
    DiversityProtocol,
    EvalRequest,
    PairedProtocol,
    VideoProtocol,
)
from pipelines.metrics.evaluate import evaluate, load_metric, measure
from pipelines.metrics.scenes import Clip, Resources, Scene
from pipelines.metrics.video_features import Clipping
from tests.pipelines.metrics.test_evaluate import details_of, make_videos, value
from tests.pipelines.metrics.test_measure import noisy, video

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    real = make_videos(tmp_path / "real", {f"clip{i}": video(i) for i in range(6)})
    fake = make_videos(
        tmp_path / "fake",
        {f"clip{i}-s{k}": noisy(video(i), 0.1, seed=k) for i in range(6) for k in range(2)},
    )
    return fake, real


def ask(*metrics: str, source: Path, **settings: Any) -> dict[str, Any]:
    request = EvalRequest(metrics=metrics, source=source, device="cpu", **settings)
    return evaluate(request, Work())


METRICS = ("psnr", "ssim", "diversity", "motion-energy", "frechet-embedded")


def test_shards_join_to_the_numbers_of_the_whole(tmp_path, folders) -> None:
    fake, real = folders
    whole = ask(*METRICS, source=fake, real=real)
    files = []
    for number in range(3):
        found = ask(
            *METRICS, source=fake, real=real, shard=f"{number}/3", out_path=tmp_path / "m.json"
        )
        files.append(Path(found["shard"]))
        assert found["merge"][number] == found["shard"]
    joined = evaluate(EvalRequest(merge=tuple(files), device="cpu"), Work())
    for a, b in zip(joined["results"], whole["results"], strict=True):
        assert a["value"] == pytest.approx(b["value"], rel=1e-6)
        assert a["protocol"] == b["protocol"] or a["metric"].startswith("diversity")


def test_a_missing_shard_is_noticed(tmp_path, folders) -> None:
    fake, real = folders
    found = ask("psnr", source=fake, real=real, shard="0/2", out_path=tmp_path / "m.json")
    with pytest.raises(UserError, match="not the 2 shards"):
        evaluate(EvalRequest(merge=(Path(found["shard"]),), device="cpu"), Work())


def test_features_of_real_videos_are_computed_once(tmp_path, folders, monkeypatch) -> None:
    fake, real = folders
    first = ask("frechet-embedded", source=fake, real=real, cache_dir=tmp_path / "c")
    read = []
    decode = sources.Decoder.decode

    def watched(self, video, folder):
        read.append(folder.path)
        return decode(self, video, folder)

    monkeypatch.setattr(sources.Decoder, "decode", watched)
    again = ask("frechet-embedded", source=fake, real=real, cache_dir=tmp_path / "c")
    assert set(read) == {fake}
    assert again["results"][0]["value"] == first["results"][0]["value"]
    assert again["results"][0]["references"] == first["results"][0]["references"]


def test_a_changed_real_video_is_noticed_under_its_old_name(tmp_path, folders) -> None:
    fake, real = folders
    before = ask("frechet-embedded", source=fake, real=real, cache_dir=tmp_path / "c")
    make_videos(real, {"clip0": 255 - video(0)})
    after = ask("frechet-embedded", source=fake, real=real, cache_dir=tmp_path / "c")
    assert after["results"][0]["value"] != before["results"][0]["value"]


def test_known_real_videos_of_another_size_are_refused_too(tmp_path, folders) -> None:
    fake, real = folders
    ask("frechet-embedded", source=fake, real=real, cache_dir=tmp_path / "c")
    larger = make_videos(tmp_path / "l", {f"clip{i}": video(i, size_px=48) for i in range(2)})
    with pytest.raises(UserError, match="differ in size"):
        ask("frechet-embedded", source=larger, real=real, cache_dir=tmp_path / "c")


def test_two_sources_are_compared_scene_by_scene(tmp_path, folders) -> None:
    fake, real = folders
    worse = make_videos(tmp_path / "worse", {f"clip{i}": noisy(video(i), 0.2) for i in range(6)})
    found = ask("psnr", "frechet-embedded", source=fake, compare=worse, real=real)
    psnr = found["differences"][0]
    assert psnr["difference"] == pytest.approx(psnr["second"] - psnr["first"])
    assert psnr["verdict"] == "the first is better"
    assert found["columns"][1:3] == ["fake", "worse"]
    same = ask("psnr", source=fake, compare=fake, real=real)["differences"][0]
    assert same["verdict"] == "no difference beyond chance"


def test_published_arrays_are_paired_by_their_place(tmp_path) -> None:
    real = np.stack([video(i) for i in range(4)])
    fake = np.stack([noisy(each, 0.1) for each in real])
    np.save(tmp_path / "real_samples.npy", real.reshape(2, 2, *real.shape[1:]))
    np.save(tmp_path / "fake_samples.npy", fake.reshape(2, 2, *fake.shape[1:]))
    found = ask("psnr", source=tmp_path)
    assert 19 < value(found, "psnr") < 24
    assert found["results"][0]["protocol"]["num_videos"] == 4


def test_floats_that_no_picture_has_are_refused(tmp_path) -> None:
    np.save(tmp_path / "fake_samples.npy", np.full((2, 6, 32, 32, 3), 3.0, np.float32))
    with pytest.raises(UserError, match="values that no picture has") as error:
        ask("motion-energy", source=tmp_path)
    assert "fake_samples.npy" in details_of(error)


def test_values_that_are_not_numbers_are_refused(tmp_path) -> None:
    videos = np.zeros((2, 6, 32, 32, 3), np.float32)
    videos[1, 3, 5] = np.nan
    np.save(tmp_path / "fake_samples.npy", videos)
    with pytest.raises(UserError, match=r"video 1 of 'fake_samples\.npy'"):
        ask("motion-energy", source=tmp_path)


def test_an_array_of_another_shape_is_named(tmp_path) -> None:
    np.save(tmp_path / "fake_samples.npy", np.zeros((4, 4), np.uint8))
    with pytest.raises(UserError, match="holds no videos"):
        ask("motion-energy", source=tmp_path)


def test_prepared_frames_are_real_videos(tmp_path, monkeypatch) -> None:
    class Rows(PackedVideos):
        def __init__(self, folder: Path) -> None:
            self.dir = folder

        @property
        def rows(self) -> list[Any]:
            return [SimpleNamespace(id=f"clip{i}", num_frames=6) for i in range(3)]

        def select(self, *_: object) -> list[int]:
            return [0, 1, 2]

        def frames(self, row: int, start: int, count: int) -> np.ndarray:
            return video(row)[start : start + count]

    (tmp_path / "64px").mkdir()
    (tmp_path / "64px" / "index.json").write_text("{}")
    monkeypatch.setattr(sources, "PackedVideos", Rows)
    fake = make_videos(tmp_path / "fake", {f"clip{i}": video(i) for i in range(3)})
    found = ask("psnr", source=fake, real=tmp_path / "64px")
    assert value(found, "psnr") == 100.0


def scenes(num: int, *, size_px: int = 32, num_frames: int = 10) -> list[Scene]:
    made = []
    for i in range(num):
        real = video(i, size_px=size_px, num_frames=num_frames)
        made.append(Scene(f"clip{i}", Clip("r", real), (Clip("f", noisy(real, 0.1)),)))
    return made


def test_weights_that_are_not_there_name_the_download(tmp_path) -> None:
    for name, download in (("fvd", "i3d-tf"), ("fid", "fid-inception"), ("lpips", "vgg16")):
        with pytest.raises(UserError, match="no weights") as error:
            measure([name], scenes(2))
        assert f"i2v download weights/{download}" in details_of(error)


def test_weights_of_another_network_are_named(tmp_path) -> None:
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "x.pth")
    resources = Resources(CPU, weights={"fid-inception": tmp_path / "x.pth"})
    (make,) = load_metric("fid").extractors.values()
    with pytest.raises(UserError, match="do not match") as error:
        make(resources)
    assert "x.pth" in details_of(error)
    (make,) = load_metric("fvd").extractors.values()
    with pytest.raises(UserError, match="not of an I3D") as error:
        make(Resources(CPU, weights={"i3d": tmp_path / "x.pth"}))
    assert "x.pth" in details_of(error)


def test_a_protocol_with_the_start_frame_needs_to_know_it() -> None:
    first = Clipping(VideoProtocol(start_frame="put first", num_frames=4), min_frames=2)
    frames = video(0)
    with pytest.raises(UserError, match="start frame"):
        first(Clip("x", frames))
    found = first(Clip("x", frames, start=frames[3]))
    assert np.array_equal(found, np.concatenate([frames[3:4], frames[:3]]))


def test_too_few_frames_for_a_protocol_name_the_video() -> None:
    with pytest.raises(UserError, match="'x' has too few frames"):
        Clipping(VideoProtocol(num_frames=16), min_frames=9)(Clip("x", video(0)))


def test_features_do_not_depend_on_the_batch(monkeypatch) -> None:
    (make,) = load_metric("dtfvd").extractors.values()
    extract = make(Resources(CPU, is_generated=True))
    clips = [Clip(str(i), video(i, num_frames=6)) for i in range(2)]
    together = extract(clips)
    monkeypatch.setattr(video_features, "clips_at_once", lambda *_: 1)
    for a, b in zip(extract(clips), together, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert "made-up" in extract.name


def test_diversity_takes_the_images_of_whole_batches(folders) -> None:
    fake, _ = folders
    protocol = DiversityProtocol(batch_size=4)
    found = ask("diversity", source=fake, protocols={"diversity": protocol})["results"][0]
    assert found["protocol"]["num_videos"] == 8
    assert found["protocol"]["settings"]["images"] == 4


def test_psnr_of_batches_is_that_of_the_published_code() -> None:
    protocol = PairedProtocol(data_range="measured", mean_over="batches", batch_size=2)
    metric = load_metric("psnr", protocol)
    for each in scenes(3):
        metric.add(each)
    with pytest.raises(UserError, match="cannot be measured in shards"):
        metric.state()


def test_lpips_is_zero_for_equal_videos_and_grows_with_noise() -> None:
    from pipelines.metrics.one_pass import OnePass, load_extractors
    from pipelines.metrics.scenes import Conditions

    values = []
    for amount in (0.0, 0.05, 0.3):
        metric = load_metric("lpips")
        extractors = load_extractors([metric], Resources(CPU, is_generated=True))
        one_pass = OnePass([metric], extractors, CPU)
        for i in range(2):
            real = video(i, num_frames=2)
            one_pass.add(Scene(str(i), Clip("r", real), (Clip("f", noisy(real, amount)),)))
        values.append(one_pass.results(Conditions(2, (32, 32)))[0].value)
    assert values[0] == pytest.approx(0, abs=1e-9)
    assert values[1] < values[2]
