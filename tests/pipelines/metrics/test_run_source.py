"""`i2v eval --source RUN`: the run's own model makes the videos of a fixed list."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.events import UserError, Work
from pipelines.files import read_json, write_json
from pipelines.fomm.blocks import antialias_kernel
from pipelines.fomm.checkpoint import import_published
from pipelines.fomm.networks import build as build_fomm
from pipelines.fomm.train import train as train_fomm
from pipelines.inbetween.train import train as train_inbetween
from pipelines.metrics.config import EvalRequest
from pipelines.metrics.evaluate import evaluate
from pipelines.metrics.run_makers import MAKERS, Draw
from pipelines.metrics.run_source import LIST_NAME, MadeVideos
from pipelines.motion.train import train as train_motion
from pipelines.poke.train import train as train_poke
from pipelines.training.config import ImportRequest
from tests.pipelines.fomm import test_import as published
from tests.pipelines.fomm import tiny as fomm
from tests.pipelines.inbetween import tiny as inbetween
from tests.pipelines.metrics.test_evaluate import details_of, value
from tests.pipelines.motion import tiny as motion
from tests.pipelines.poke import tiny as poke


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


def as_test_videos(data_root: Path) -> None:
    """Also name the training videos as held-out ones: the tiny sets hold out a single video."""
    (folder,) = (data_root / "squares" / "prepared").iterdir()
    with np.load(folder / "rows.npz", allow_pickle=False) as stored:
        columns = {name: stored[name] for name in stored.files}
    columns["split"] = np.full_like(columns["split"], 2)
    np.savez(folder / "rows.npz", **columns)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """A run of each family, two steps long; its data is beside it."""
    made: dict[str, Path] = {}
    families: tuple[tuple[str, ModuleType, Any], ...] = (
        ("fomm", fomm, train_fomm),
        ("inbetween", inbetween, train_inbetween),
        ("poke", poke, train_poke),
    )
    for name, tiny, train in families:
        root = tmp_path_factory.mktemp(name)
        tiny.prepare_squares(root / "data")
        train(tiny.request(root, max_steps=2), Work())
        made[name] = root / "run"
    root = tmp_path_factory.mktemp("motion")
    motion.prepare(root)
    train_motion(motion.request(root, "wgan", max_steps=2), Work())
    made["motion"] = root / "wgan"
    for run_dir in made.values():
        as_test_videos(run_dir.parent / "data")
    return made


def ask(run_dir: Path, *metrics: str, **settings: Any) -> dict[str, Any]:
    fields = {"data_root": run_dir.parent / "data", "num_images": 3, "makes_anew": True}
    request = EvalRequest(metrics=metrics, source=run_dir, device="cpu", **(fields | settings))
    return evaluate(request, Work())


def test_every_family_that_makes_videos_can_be_measured_without_samples(runs) -> None:
    assert set(runs) | {"cinn"} == set(MAKERS)  # cinn: in the end-to-end tests
    for name, run_dir in runs.items():
        found = ask(run_dir, "psnr")
        protocol = found["results"][0]["protocol"]
        assert (name, protocol["num_videos"], protocol["num_reference"]) == (name, 3, 3)
        assert protocol["settings"]["each is"] == MAKERS[name].about
        assert "step 2" in protocol["settings"]["generated with checkpoint"]
        assert protocol["settings"]["frames per second"] == 10.0


def test_fomm_is_measured_on_what_it_makes_again(runs) -> None:
    found = ask(runs["fomm"], "l1")
    made = MadeVideos(
        EvalRequest(
            metrics=("l1",), source=runs["fomm"], data_root=runs["fomm"].parent / "data",
            num_images=3, device="cpu",
        ),
        runs["fomm"],
    )  # fmt: skip
    errors = [
        np.abs(made.frames(i).astype(float) - made.frames(-1 - i)).mean() / 255 for i in range(3)
    ]
    assert value(found, "l1") == pytest.approx(np.mean(errors), rel=1e-6)
    assert found["results"][0]["better"] == "lower"
    assert found["results"][0]["references"]["static first frame"] > 0


def test_what_is_given_at_both_ends_is_not_measured(runs) -> None:
    assert ask(runs["inbetween"], "psnr")["results"][0]["protocol"]["num_frames"] == 14
    assert ask(runs["motion"], "psnr")["results"][0]["protocol"]["num_frames"] == 4


def test_the_list_is_kept_and_fewer_images_are_its_first(runs) -> None:
    run_dir = runs["inbetween"]
    first = ask(run_dir, "psnr", "l1")
    kept = read_json(run_dir / LIST_NAME)
    assert len(kept) > 3
    again = ask(run_dir, "psnr", "l1")
    assert [e["value"] for e in again["results"]] == [e["value"] for e in first["results"]]
    assert read_json(run_dir / LIST_NAME) == kept
    assert ask(run_dir, "psnr", num_images=2)["results"][0]["protocol"]["num_videos"] == 2


def test_long_videos_give_several_clips_that_do_not_overlap(runs) -> None:
    ask(runs["motion"], "psnr")
    places = [(each["video"], each["start"]) for each in read_json(runs["motion"] / LIST_NAME)]
    assert len(set(places)) == len(places)
    assert {start % 6 for _, start in places} == {0}


def test_a_list_that_does_not_fit_the_videos_is_named(runs, tmp_path) -> None:
    path = runs["fomm"] / LIST_NAME
    ask(runs["fomm"], "l1")
    kept = read_json(path)
    try:
        write_json(path, [{"video": "squares/test/99999", "start": 0}, *kept])
        with pytest.raises(UserError, match="does not fit: 'squares/test/99999'") as error:
            ask(runs["fomm"], "l1")
        assert str(path) in details_of(error)
    finally:
        write_json(path, kept)


def test_samples_differ_where_the_model_draws_noise(runs) -> None:
    assert value(ask(runs["inbetween"], "diversity", num_samples=2), "diversity (pixels)") > 0
    with pytest.raises(UserError, match="each image has only one"):
        ask(runs["fomm"], "diversity", num_samples=2)


def test_draws_have_numbers_of_their_own() -> None:
    places = {Draw(0, number, sample).place for number in range(3) for sample in range(100)}
    assert len(places) == 300


def test_pokes_that_are_made_on_the_spot_are_measured(runs) -> None:
    found = {each["metric"]: each for each in ask(runs["poke"], "poke", num_samples=2)["results"]}
    assert {"poke-error", "poke-direction"} <= set(found)
    assert found["poke-error"]["protocol"]["num_videos"] == 6
    assert found["poke-error"]["references"]["video that does not move"] > 0


def test_other_prepared_videos_have_a_list_of_their_own(runs) -> None:
    run_dir = runs["inbetween"]
    (prepared,) = (runs["fomm"].parent / "data" / "squares" / "prepared").iterdir()
    with pytest.raises(UserError, match="0 held-out clips") as error:
        ask(run_dir, "psnr", real=prepared)  # its videos have 8 frames, 16 are needed
    assert str(prepared) in details_of(error)
    (own,) = (run_dir.parent / "data" / "squares" / "prepared").iterdir()
    found = ask(run_dir, "psnr", real=own, data_root=None)
    assert found["results"][0]["protocol"]["num_videos"] == 3
    assert (run_dir / f"evaluation-squares-{own.name}-test.json").is_file()


def test_features_of_a_lists_real_clips_are_kept(runs, tmp_path) -> None:
    first = ask(runs["fomm"], "frechet-embedded", cache_dir=tmp_path)
    assert list((tmp_path / "features").glob("*.npz"))
    again = ask(runs["fomm"], "frechet-embedded", cache_dir=tmp_path)
    assert again["results"][0]["value"] == first["results"][0]["value"]


def test_an_imported_model_is_measured_on_the_videos_it_is_given(runs, tmp_path) -> None:
    config = fomm.config(model=published.MODEL, losses={"scales": [1, 0.5]})
    networks = build_fomm(config.model)
    parts = {"generator": networks.generator, "kp_detector": networks.keypoint_detector}
    content = {name: published.published_names(name, part) for name, part in parts.items()}
    kernel = antialias_kernel(0.5).expand(1, 1, -1, -1)
    content["generator"]["dense_motion_network.down.weight"] = kernel
    content["kp_detector"]["down.weight"] = kernel
    torch.save(content, tmp_path / "kth-cpk.pth.tar")
    run_dir = tmp_path / "run"
    import_published(ImportRequest(path=tmp_path / "kth-cpk.pth.tar", run_dir=run_dir), Work())
    (prepared,) = (runs["fomm"].parent / "data" / "squares" / "prepared").iterdir()
    found = ask(run_dir, "l1", real=prepared, data_root=None, num_frames=7)["results"][0]
    assert found["protocol"]["size_px"] == (128, 128)
    assert (found["protocol"]["num_videos"], found["protocol"]["num_frames"]) == (3, 7)


def test_runs_of_poses_name_the_metric_that_measures_them(tmp_path) -> None:
    record = {"family": "behavior", "stage": "1", "status": "done", "version": 1}
    write_json(tmp_path / "run.json", record)
    (tmp_path / "config.yaml").write_text("config: {}\n")
    with pytest.raises(UserError, match="makes none by itself") as error:
        ask(tmp_path, "psnr")
    assert "i2v eval pose" in details_of(error)
