from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from pipelines.events import EXIT_USAGE, UserError
from pipelines.io.flow_files import write_flow
from pipelines.io.video import read_video
from pipelines.metrics.config import EvalRequest
from pipelines.metrics.evaluate import evaluate
from pipelines.poke.aim import Aim
from pipelines.poke.config import read_poke
from pipelines.poke.sample import load, sample
from tests.pipelines.engines.sharing import check_shards
from tests.pipelines.poke import tiny


@pytest.fixture
def photo(tmp_path) -> Path:
    """A picture that is no square: 80 x 60 px."""
    frame = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(frame).save(path)
    return path


def sampled(trained: Path, out: Path, image: Path, **changes: object) -> dict:
    """meta.json of a sampling into `out`."""
    request = tiny.sample_request(trained, image, **{"out_dir": out, **changes})
    sample(request, tiny.Heard())
    return json.loads((out / "meta.json").read_text())


def frames_of(out: Path, meta: dict, number: int) -> np.ndarray:
    return np.stack(list(read_video(out / meta["videos"][number]["file"])))


def test_a_poke_in_image_pixels_is_the_same_as_in_fractions(trained, tmp_path, photo):
    pixels = sampled(trained, tmp_path / "a", photo, pokes=["40,30,8,-6"])
    parts = sampled(trained, tmp_path / "b", photo, pokes=["0.5,0.5,0.1,-0.1"])
    assert pixels["videos"][0]["pokes"] == parts["videos"][0]["pokes"]
    poke = pixels["videos"][0]["pokes"][0]
    assert (poke["column"], poke["row"]) == (16, 16)
    assert (poke["dx"], poke["dy"]) == pytest.approx((3.2, -3.2))
    assert pixels["videos"][0]["frames_sha256"] == parts["videos"][0]["frames_sha256"]
    assert "--poke 40,30,8,-6" in pixels["command"]


def test_several_pokes_act_in_one_video_of_the_length_asked_for(trained, tmp_path, photo):
    both = ["20,30,8,0", "60,30,0,8"]
    meta = sampled(trained, tmp_path / "a", photo, pokes=both, frames=7)
    assert len(meta["videos"]) == 1
    assert len(meta["videos"][0]["pokes"]) == 2
    assert len(frames_of(tmp_path / "a", meta, 0)) == 7
    assert np.asarray(Image.open(tmp_path / "a" / "grid.png")).ndim == 3


def test_a_sweep_turns_one_poke_and_the_grid_shows_an_arrow_for_each(trained, tmp_path, photo):
    meta = sampled(trained, tmp_path / "a", photo, pokes=["40,30,10,0"], sweep=4)
    vectors = [(p["dx"], p["dy"]) for p in (v["pokes"][0] for v in meta["videos"])]
    assert np.allclose(vectors, [(4, 0), (0, 4), (-4, 0), (0, -4)], atol=1e-6)
    red = np.asarray(Image.open(tmp_path / "a" / "grid.png")).astype(int)
    assert ((red[..., 0] > 180) & (red[..., 1:] < 90).all(-1)).any()


def test_without_a_poke_some_are_drawn_and_the_same_seed_draws_the_same(trained, tmp_path, photo):
    first = sampled(trained, tmp_path / "a", photo, num=2, seed=3)
    again = sampled(trained, tmp_path / "b", photo, num=2, seed=3)
    other = sampled(trained, tmp_path / "c", photo, num=2, seed=4)
    pokes = [[video["pokes"] for video in meta["videos"]] for meta in (first, again, other)]
    assert pokes[0] == pokes[1] != pokes[2]
    assert len(pokes[0]) == 2


def test_pokes_are_drawn_where_a_flow_file_says_that_something_moves(trained, tmp_path, photo):
    flow = np.zeros((2, 60, 80), np.float32)
    flow[0, 25:35, 40:50] = 5
    path = tmp_path / "x.flo"
    write_flow(path, flow, form="flo")
    meta = sampled(trained, tmp_path / "a", photo, flow=path, num=3)
    for video in meta["videos"]:
        (poke,) = video["pokes"]
        assert 16 <= poke["column"] < 20 and 13 <= poke["row"] < 19
        assert (poke["dx"], poke["dy"]) == pytest.approx((2, 0))


@pytest.mark.parametrize(
    ("poke", "message"),
    [
        ("90,30,1,1", "lies outside the image"),
        ("-1,30,1,1", "lies outside the image"),
        ("40,30,300,0", "longer than the image"),
        ("1.5,0.5,0.1,0.1", "lies outside the image"),
    ],
)
def test_a_poke_that_cannot_be_is_refused_in_pixels_of_the_image(
    trained, tmp_path, photo, poke, message
):
    with pytest.raises(UserError, match=message) as caught:
        sampled(trained, tmp_path / "a", photo, pokes=[poke])
    assert caught.value.exit_code == EXIT_USAGE
    assert caught.value.details["image"] == "80 x 60 px"


def test_a_poke_in_what_a_crop_leaves_out_is_refused_and_pad_takes_it(trained, tmp_path, photo):
    with pytest.raises(UserError, match="cut off"):
        sampled(trained, tmp_path / "a", photo, pokes=["2,30,1,1"], fit="center-crop")
    meta = sampled(trained, tmp_path / "b", photo, pokes=["2,30,1,1"], fit="pad")
    assert meta["videos"][0]["pokes"][0]["row"] == 16


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,x", "1,2,0.5,0.5", "12.5,3.5,1.0,1.0", ""])
def test_what_is_no_poke_is_explained(text):
    with pytest.raises(ValueError, match="whole numbers for pixels"):
        read_poke(text)


def test_too_many_pokes_and_pokes_from_two_sources_are_refused(trained, photo):
    with pytest.raises(ValidationError, match="at most 16"):
        tiny.sample_request(trained, photo, pokes=["1,2,3,4"] * 17)
    with pytest.raises(ValidationError, match="not both"):
        tiny.sample_request(trained, photo, pokes=["1,2,3,4"], flow=photo)


def test_a_poke_on_the_border_or_of_length_0_is_answered_with_a_warning(trained, tmp_path, photo):
    heard = tiny.Heard()
    changes = {"out_dir": tmp_path / "a", "pokes": ["0,0,0,0"]}
    sample(tiny.sample_request(trained, photo, **changes), heard)
    warnings = " ".join(each["message"] for each in heard.of("warning"))
    assert "on the border" in warnings and "length 0" in warnings


def test_weights_of_another_resolution_are_refused(trained, tmp_path, photo):
    import shutil

    root = tmp_path / "copy"
    shutil.copytree(trained / "run", root / "run")
    config = root / "run" / "config.yaml"
    config.write_text(config.read_text().replace("- 8\n    - 8\n", "- 8\n    - 8\n    - 8\n"))
    with pytest.raises(UserError, match="does not fit") as caught:
        sampled(root, tmp_path / "a", photo, pokes=["40,30,8,-6"])
    assert caught.value.details
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("size", "fit"),
    [((64, 64), "squash"), ((300, 20), "pad"), ((17, 90), "center-crop")],
)
def test_an_image_of_any_size_and_aspect_is_answered_at_the_models_size(
    trained, tmp_path, size, fit
):
    width, height = size
    path = tmp_path / "x.png"
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(noise).save(path)
    poke = f"{width // 2},{height // 2},{width // 3},0"
    meta = sampled(trained, tmp_path / "a", path, pokes=[poke], fit=fit)
    assert frames_of(tmp_path / "a", meta, 0).shape[1:] == (tiny.SIZE_PX, tiny.SIZE_PX, 3)
    (found,) = meta["videos"][0]["pokes"]
    assert abs(found["column"] - tiny.SIZE_PX / 2) <= 2 and abs(found["row"] - 16) <= 2


@pytest.mark.parametrize("poke", ["0,0,5,5", "79,59,-5,-5", "0,59,5,-5"])
def test_a_poke_at_the_border_is_cut_there_and_answered_with_a_warning(
    trained, tmp_path, photo, poke
):
    heard = tiny.Heard()
    changes = {"out_dir": tmp_path / "a", "pokes": [poke]}
    sample(tiny.sample_request(trained, photo, **changes), heard)
    assert "on the border" in heard.of("warning")[0]["message"]


def test_frames_one_by_one_are_those_of_the_whole_video(trained):
    sampler = load(trained / "run", torch.device("cpu"), warn=print)
    picture = np.random.default_rng(0).integers(0, 255, (tiny.SIZE_PX, tiny.SIZE_PX, 3), np.uint8)
    aims = [Aim(16, 16, 4.0, -2.0)]
    one_by_one = np.stack(list(sampler.frames(picture, aims, 5)))
    at_once = sampler.answer(picture, aims, 5)
    assert np.abs(one_by_one.astype(int) - at_once).max() <= 1


def test_what_was_sampled_is_measured_with_the_pokes_it_was_made_for(trained, tmp_path, photo):
    sampled(trained, tmp_path / "a", photo, pokes=["40,30,20,0"], sweep=4)
    out = tmp_path / "metrics.json"
    request = EvalRequest(metrics=("poke",), source=tmp_path / "a", device="cpu", out_path=out)
    evaluate(request, tiny.Heard())
    (entry,) = json.loads(out.read_text())["evaluations"]
    names = [each["metric"] for each in entry["results"]]
    assert names == ["poke-error", "poke-direction", "poke-control"]


def test_shards_in_any_order_and_a_last_call_give_the_files_of_one_call(trained, tmp_path, photo):
    request = tiny.sample_request(trained, photo, out_dir=tmp_path / "out", num=3)
    check_shards(sample, request, total=3)
