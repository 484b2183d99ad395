"""Published folders end in run folders that animate images just as the published weights do."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.cinn import sample as sample_module
from pipelines.cinn.checkpoint import import_published
from pipelines.cinn.config import FamilyConfig, SampleRequest, TransferRequest
from pipelines.cinn.inference import Model, sample_video, transfer_motion
from pipelines.cinn.networks import build_embedder, build_flow, build_stage1
from pipelines.cinn.preview import to_bytes as pixels
from pipelines.cinn.sample import Sampler, load, sample, transfer
from pipelines.events import UserError
from pipelines.io.images import write_png
from pipelines.io.video import write_mp4
from pipelines.training.config import ImportRequest
from pipelines.training.run_folder import load_run
from tests.parity.harness import Case
from tests.pipelines.cinn import published_folder, tiny

CPU = torch.device("cpu")
CASES = Path(__file__).parents[2] / "parity" / "cases" / "cinn"

SETTINGS: dict[str, Any] = {
    "stage1": {
        "Encoder": {
            "channels": [8, 8, 8, 8, 16],
            "stride_s": (1, 2, 2, 2),
            "stride_t": [1, 2, 2, 2],
        },
        "Decoder": {"channel_factor": 1, "z_dim": 8, "upsample_s": [1, 1], "upsample_t": [1, 1]},
        "Training": {"w_kl": "1e-5", "bs": 3, "n_epochs": 7, "subsample_length": 6},
        "Data": {"img_size": 32, "dataset": "DTDB", "texture": "fire", "iter_train": 80},
    },
    "ae": {"AE": {"z_dim": 8, "norm": "in", "in_size": 32}, "Training": {"w_kl": "1e-5"}},
    "stage2": {
        "Flow": {"n_flows": 2, "flow_hidden_depth": 1, "flow_mid_channels_factor": 2},
        "Training": {"control": False, "lr": "1e-5", "amsgrad": True, "step_size": 6},
        "Data": {"dataset": "DTDB", "texture": "fire"},
    },
}


def tiny_model(seed: int = 0) -> tuple[Model, dict[str, Any]]:
    """A small model and its state dicts in the published names."""
    fields = {
        "stage1": {
            **tiny.CONFIG["stage1"],
            "temporal_window": 6,
            "spade_channels": 4,
        },
        "ae": {"embedding_size": 8, "encoder_width": 4},
        "stage2": {"num_flows": 2, "hidden_depth": 1, "hidden_width": 16},
    }
    config = FamilyConfig.model_validate(fields)
    torch.manual_seed(seed)
    networks = build_stage1(config.stage1)
    flow, embedder = build_flow(config.stage2, 8, 8), build_embedder(config.ae, 32)
    with torch.no_grad():
        flow(torch.randn(16, 8), torch.randn(16, 8))  # initialises the norms of its blocks
    model = Model(networks.decoder.eval(), flow.eval(), embedder.eval(), networks.encoder.eval())
    states = {
        "decoder": published_folder.decoder_state(networks.decoder),
        "encoder": published_folder.encoder_state(networks.encoder),
        "embedder": published_folder.image_encoder_state(embedder),
        "flow": published_folder.flow_state(flow),
    }
    return model, states


@pytest.fixture(scope="module")
def model_and_states() -> tuple[Model, dict[str, Any]]:
    return tiny_model()


def imported(path: Path, run_dir: Path, **changes: Any) -> dict[str, Any]:
    request = {"path": path, "run_dir": run_dir, **changes}
    return import_published(ImportRequest.model_validate(request), tiny.Heard())


@pytest.fixture
def folder(tmp_path, model_and_states) -> Path:
    states = model_and_states[1]
    return published_folder.write_model(tmp_path / "fire", settings=SETTINGS, states=states)


@pytest.mark.parametrize("start", [".", "stage2", "stage2/cINN.pth"])
def test_an_imported_model_makes_the_videos_of_the_published_weights(
    folder, tmp_path, model_and_states, start
):
    result = imported(folder / start, tmp_path / "runs" / "fire")
    assert (result["stage"], len(result["files"])) == ("2", 4)
    sampler = load(tmp_path / "runs" / "fire", CPU, warn=pytest.fail)
    image, residual = torch.rand(2, 3, 32, 32) * 2 - 1, torch.randn(2, 8)
    expected = sample_video(model_and_states[0], image, residual, 12)
    assert torch.allclose(sample_video(sampler.model, image, residual, 12), expected, atol=1e-5)


def test_an_imported_run_says_what_the_published_settings_say(folder, tmp_path):
    imported(folder, tmp_path / "runs" / "fire")
    run = load_run(tmp_path / "runs" / "fire", family="cinn", stage="2")
    config = FamilyConfig.model_validate(run.request["config"])
    assert run.status == "done"
    assert (config.data.dataset, config.data.include) == ("dtdb", ("fire/*",))
    assert (config.stage1.weight_kl, config.stage1.batch_size, config.stage1.epochs) == (1e-5, 3, 7)
    assert config.stage1.clips_per_video == 80
    assert config.stage1.augment.crop_margin_px == 16
    assert (config.stage2.optimizer.amsgrad, config.stage2.decay_every_epochs) == (True, 6)


def test_an_imported_run_samples_and_transfers(folder, tmp_path, model_and_states):
    run_dir = tmp_path / "runs" / "fire"
    imported(folder, run_dir)
    image, source = tiny.moving_square(1, 1)[0], tiny.moving_square(2, 9)
    write_png(tmp_path / "one.png", image)
    write_mp4(tmp_path / "source.mp4", source, 8)
    common = {"run_dir": run_dir, "images": (tmp_path / "one.png",), "device": "cpu", "frames": 8}
    sample(
        SampleRequest.model_validate(common | {"out_dir": tmp_path / "s", "num": 1}), tiny.Heard()
    )
    request = common | {"out_dir": tmp_path / "t", "source": tmp_path / "source.mp4"}
    transfer(TransferRequest.model_validate(request), tiny.Heard())
    residual = json.loads((tmp_path / "t" / "meta.json").read_text())["residual"]
    assert np.isfinite(residual).all()
    meta = json.loads((tmp_path / "s" / "meta.json").read_text())
    assert meta["checkpoints"]["stage1"]["step"] == 0


@pytest.mark.parametrize(
    "changes",
    [{"suffix": ".pth.tar"}, {"encoder_name": "encoder_stage2"}, {"flow_folder": "stage2_control"}],
)
def test_every_published_spelling_of_a_file_is_found(
    tmp_path, model_and_states, changes: dict[str, str]
):
    states = model_and_states[1]
    folder = published_folder.write_model(
        tmp_path / "m", settings=SETTINGS, states=states, **changes
    )
    assert len(imported(folder, tmp_path / "run")["files"]) == 4


def test_without_a_video_encoder_it_samples_but_does_not_transfer(tmp_path, model_and_states):
    states = {k: v for k, v in model_and_states[1].items() if k != "encoder"}
    folder = published_folder.write_model(tmp_path / "m", settings=SETTINGS, states=states)
    imported(folder, tmp_path / "run")
    write_png(tmp_path / "one.png", tiny.moving_square(1, 1)[0])
    common = {"run_dir": tmp_path / "run", "images": (tmp_path / "one.png",), "device": "cpu"}
    request = common | {"out_dir": tmp_path / "s", "num": 1, "frames": 1}
    sample(SampleRequest.model_validate(request), tiny.Heard())
    request = common | {"out_dir": tmp_path / "t", "source": tmp_path / "one.png"}
    with pytest.raises(UserError, match="no video encoder"):
        transfer(TransferRequest.model_validate(request), tiny.Heard())


@pytest.mark.parametrize(("part", "stage"), [("stage1", "1"), ("stage2/AE", "ae")])
def test_one_part_alone_becomes_a_run_of_its_stage(folder, tmp_path, part, stage):
    assert imported(folder / part, tmp_path / "run")["stage"] == stage
    assert load_run(tmp_path / "run", family="cinn", stage=stage).status == "done"


def test_a_file_with_more_than_weights_is_read_only_when_trusted(folder, tmp_path):
    path = folder / "stage2" / "cINN.pth"
    content = torch.load(path, weights_only=True)
    torch.save(content | {"args": Path("x")}, path)
    with pytest.raises(UserError, match="more than weights") as caught:
        imported(folder, tmp_path / "run")
    assert "--trust-checkpoint" in caught.value.details["to fix"]
    assert not (tmp_path / "run").exists()
    imported(folder, tmp_path / "run", trust_checkpoint=True)


def test_settings_that_would_run_code_are_refused(folder, tmp_path):
    path = folder / "stage2" / "config_stage2.yaml"
    marker = tmp_path / "ran"
    path.write_text(f"x: !!python/object/apply:os.mkdir ['{marker}']\n" + path.read_text())
    with pytest.raises(UserError, match="cannot be read"):
        imported(folder, tmp_path / "run")
    assert not marker.exists()


def test_a_truncated_file_is_named(folder, tmp_path):
    path = folder / "stage1" / "run7" / "best_PFVD_GEN.pth"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"best_PFVD_GEN\.pth.*cannot be read"):
        imported(folder, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights_of_another_size_are_refused_with_the_entry_that_differs(folder, tmp_path):
    path = folder / "stage1" / "run7" / "config_stage1.yaml"
    path.write_text(path.read_text().replace("channel_factor: 1", "channel_factor: 2"))
    with pytest.raises(UserError, match="do not fit") as caught:
        imported(folder, tmp_path / "run")
    assert "from_code" in caught.value.details["reason"]


def test_what_is_missing_or_several_is_said(folder, tmp_path):
    shutil.copytree(folder / "stage2", folder / "stage2_control")
    with pytest.raises(UserError, match="2 published models") as caught:
        imported(folder, tmp_path / "run")
    assert "stage2_control" in caught.value.details["found"]
    shutil.rmtree(folder / "stage2_control")
    shutil.rmtree(folder / "stage1")
    with pytest.raises(UserError, match="stage 1"):
        imported(folder, tmp_path / "run")
    with pytest.raises(UserError, match="no published cinn model"):
        imported(tmp_path / "nothing", tmp_path / "run")


def test_a_run_of_that_name_is_never_overwritten(folder, tmp_path):
    imported(folder, tmp_path / "run")
    with pytest.raises(UserError, match="there already"):
        imported(folder, tmp_path / "run")


@pytest.mark.slow
def test_a_folder_of_the_published_size_gives_the_parity_cases_videos(tmp_path):
    case = Case(CASES / "transfer_landscape.json")
    states = {role: case.state(f"{role}.") for role in ("decoder", "encoder", "embedder", "flow")}
    settings = {
        "stage1": {
            **{name: case.config[name] for name in ("Encoder", "Decoder")},
            "Discriminator_Temporal": {"stride_s": [1, 2, 2, 2]},
            "Data": {"img_size": 128, "dataset": "landscape"},
        },
        "ae": {"AE": case.config["AE"]},
        "stage2": {"Flow": case.config["Flow"], "Training": {"control": False}},
    }
    folder = published_folder.write_model(
        tmp_path / "landscape", settings=settings, states=states, suffix=".pth.tar"
    )
    del states
    imported(folder, tmp_path / "run")
    shutil.rmtree(folder)
    model = load(tmp_path / "run", CPU, warn=pytest.fail).model
    clip, starts = case.inputs["query_clip"], case.inputs["start_frames"]
    found = transfer_motion(model, clip, starts, case.config["length"])
    compared = [each for each in case.compare(_only_video(case, found)) if each.output == "video"]
    assert compared and all(each.agrees for each in compared), str(compared[0])


@pytest.mark.slow
def test_sampling_an_imported_folder_gives_the_parity_cases_video(tmp_path, monkeypatch):
    """Through what `i2v sample` calls, in the form for sampling; only the draws are the case's."""
    case = Case(CASES / "sample_bair.json")
    states = {role: case.state(f"{role}.") for role in ("decoder", "embedder", "flow")}
    settings = {
        "stage1": {
            # of the encoder, which sampling does not need, the published numbers
            "Encoder": {
                "channels": [64, 128, 256, 512, 512],
                "stride_s": [1, 2, 2, 2],
                "stride_t": [1, 2, 2, 2],
            },
            "Decoder": case.config["Decoder"],
            "Data": {"img_size": 64, "dataset": "bair"},
        },
        "ae": {"AE": case.config["AE"]},
        "stage2": {"Flow": case.config["Flow"], "Training": {"control": False}},
    }
    folder = published_folder.write_model(tmp_path / "bair", settings=settings, states=states)
    del states
    imported(folder, tmp_path / "run")
    shutil.rmtree(folder)
    images = [tmp_path / "0.png", tmp_path / "1.png"]
    for path in images:
        write_png(path, tiny.moving_square(1, 1)[0])
    starts, drawn = iter(case.inputs["start_frame"]), case.inputs["residual"]
    monkeypatch.setattr(Sampler, "start", lambda *_: next(starts)[None])
    monkeypatch.setattr(Sampler, "residual", lambda _, seed, image, number: drawn[image, None])
    written = []

    def seen(video: torch.Tensor) -> np.ndarray:
        written.append(video)
        return pixels(video)

    monkeypatch.setattr(sample_module, "to_bytes", seen)
    length = case.config["length"]
    request = {"run_dir": tmp_path / "run", "images": images, "out_dir": tmp_path / "s", "num": 1}
    sample(
        SampleRequest.model_validate(request | {"frames": length, "device": "cpu"}), tiny.Heard()
    )
    video = torch.stack([each for each in written if len(each) == length])
    found = [each for each in case.compare(_only_video(case, video)) if each.output == "video"]
    assert found and all(each.agrees for each in found), str(found[0])
    made = [pixels(each) for each in video]
    entries = json.loads((tmp_path / "s" / "meta.json").read_text())["videos"]
    hashes = [hashlib.sha256(np.ascontiguousarray(each).tobytes()).hexdigest() for each in made]
    assert [each["frames_sha256"] for each in entries] == hashes


def _only_video(case: Case, video: torch.Tensor) -> dict[str, Any]:
    """The outputs of a case, of which only the video is looked at."""
    return {name: torch.zeros(case._stored[name].shape) for name in case.wanted} | {"video": video}
