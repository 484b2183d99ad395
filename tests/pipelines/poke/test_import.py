"""Models in the published layout, written by the test with weights of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.events import UserError
from pipelines.io.flow_files import write_flow
from pipelines.io.video import read_video
from pipelines.poke import checkpoint
from pipelines.poke.aim import Aim
from pipelines.poke.build import build_model
from pipelines.poke.checkpoint import import_published
from pipelines.poke.inference import answer_video, bilinear_bytes, from_bytes, to_bytes
from pipelines.poke.sample import load, sample
from pipelines.training.config import ImportRequest
from tests.pipelines.poke import tiny
from tests.pipelines.poke.published_layout import SETTINGS, write_model


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_model(tmp_path / "plants_32x32")


def imported(folder: Path, run_dir: Path) -> dict:
    return import_published(ImportRequest(path=folder, run_dir=run_dir), tiny.Heard())


def test_an_imported_model_answers_as_its_published_weights_do(folder, tmp_path):
    run_dir = tmp_path / "run"
    assert imported(folder, run_dir)["files"][0].endswith("reg_ckpt_checkpoint_11000.pt")
    sampler = load(run_dir, torch.device("cpu"), warn=print)
    assert sampler.config.clips.frame_step == 2 and sampler.config.batch_size == 9

    image = np.random.default_rng(0).integers(0, 255, (130, 200, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "x.png")
    changes = {"run_dir": run_dir, "pokes": ["100,60,20,-20"]}
    sample(tiny.sample_request(tmp_path, tmp_path / "x.png", **changes), tiny.Heard())

    content = torch.load(folder / "ckpt" / "reg_ckpt_checkpoint_11000.pt", weights_only=True)
    model = build_model(sampler.config).eval()
    model.load_state_dict(checkpoint.model_state(content["model"]))
    start = from_bytes(bilinear_bytes(image[:128, :192], 32))[None]
    poke = torch.zeros(1, 2, 32, 32)
    poke[0, 0, 14:17, 15:18], poke[0, 1, 14:17, 15:18] = 20 / 6, -20 / 4
    expected = to_bytes(answer_video(model, start, poke, 4, schedule="every-step")[0])
    picture = sampler.picture(image, "squash")
    aims = [Aim(16, 15, 20 / 6, -20 / 4)]
    found = sampler.answer(picture, aims, 4).astype(int)
    assert np.abs(found - expected).max() <= 1  # where rounding crosses a grey level


@pytest.fixture
def flow_file(tmp_path) -> Path:
    """Something in the middle of a picture of 200 x 130 px that moves to the right."""
    flow = np.zeros((2, 130, 200), np.float32)
    flow[0, 50:80, 80:120] = 10
    write_flow(tmp_path / "x.flo", flow, form="flo")
    return tmp_path / "x.flo"


@pytest.mark.parametrize("origin", ["trained", "imported"])
def test_a_trained_and_an_imported_run_answer_every_kind_of_request(
    request, folder, flow_file, tmp_path, origin
):
    if origin == "trained":
        run_dir = request.getfixturevalue("trained") / "run"
    else:
        run_dir = tmp_path / "run"
        imported(folder, run_dir)
    photo = tmp_path / "photo.png"
    noise = np.random.default_rng(0).integers(0, 255, (130, 200, 3), np.uint8)
    Image.fromarray(noise).save(photo)
    asked = {
        "pixels": ({"pokes": ["100,60,20,-20"]}, 1),
        "fractions": ({"pokes": ["0.5,0.5,0.1,-0.1"]}, 1),
        "several": ({"pokes": ["100,60,20,-20", "40,30,0,9"], "frames": 7}, 1),
        "sweep": ({"pokes": ["100,60,20,0"], "sweep": 8}, 8),
        "from-flow": ({"flow": flow_file, "num": 2}, 2),
        "drawn": ({"num": 3}, 3),
    }
    for name, (changes, count) in asked.items():
        out = tmp_path / name
        fields = {"run_dir": run_dir, "out_dir": out, **changes}
        sample(tiny.sample_request(tmp_path, photo, **fields), tiny.Heard())
        videos = json.loads((out / "meta.json").read_text())["videos"]
        assert len(videos) == count, name
        for video in videos:
            frames = np.stack(list(read_video(out / video["file"])))
            assert frames.shape == (changes.get("frames", 4), 32, 32, 3)
        assert (out / "grid.png").is_file() and (out / "grid.mp4").is_file()


def test_weights_of_the_other_resolution_are_named(folder, tmp_path):
    config = folder / "config" / "config.yaml"
    other = SETTINGS.replace("layers: [8, 8], nf_deep: 8", "nf_deep: 8, min_spatial_size: 8")
    config.write_text(other.replace("[32, 32]", "[64, 64]"))
    with pytest.raises(UserError, match="do not fit the settings") as caught:
        imported(folder, tmp_path / "run")
    assert "missing" in str(caught.value.details["reason"])


def test_settings_that_do_not_fit_the_weights_are_named(folder, tmp_path):
    config = folder / "config" / "config.yaml"
    config.write_text(SETTINGS.replace("layers: [8, 8]", "layers: [8, 16]"))
    with pytest.raises(UserError, match="do not fit the settings"):
        imported(folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_model_or_with_several_says_so(folder, tmp_path):
    with pytest.raises(UserError, match="no published poke model"):
        imported(folder / "config", tmp_path / "run")
    other = tmp_path / "iper_32x32" / "ckpt"
    other.mkdir(parents=True)
    (other / "reg_ckpt_checkpoint_1.pt").write_bytes(b"")
    with pytest.raises(UserError, match="2 published models"):
        imported(tmp_path, tmp_path / "run")
