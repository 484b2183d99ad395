from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from pipelines.behavior.checkpoint import flow_state, import_published, net_state
from pipelines.behavior.config import BehaviorFlowConfig, BehaviorNetConfig, SampleRequest
from pipelines.behavior.flow import BehaviorFlow
from pipelines.behavior.inference import load
from pipelines.behavior.networks import BehaviorNet
from pipelines.behavior.sample import sample
from pipelines.behavior.train import train
from pipelines.events import UserError
from pipelines.training.checkpoint import WEIGHTS_NAME, list_checkpoints
from pipelines.training.config import ImportRequest
from pipelines.training.run_folder import load_run
from tests.learning.behavior_world import POSES
from tests.pipelines.behavior import tiny

CODE = 8
CPU = torch.device("cpu")


def published_net() -> dict[str, torch.Tensor]:
    """A behavior net under the published names, with random weights."""
    draw = torch.Generator().manual_seed(0)
    wanted = BehaviorNet(BehaviorNetConfig(code_size=CODE)).state_dict()
    found = {}
    for name in wanted:
        shape = wanted[name].shape
        theirs = name.replace("encoder.rnn", "b_enc.rnn").replace("encoder.mean", "b_enc.mu_fn")
        theirs = theirs.replace("encoder.log_std", "b_enc.std_fn")
        theirs = theirs.replace("decoder.output", "decoder.n_out")
        stem, _, leaf = theirs.rpartition(".")
        if stem.endswith("_fn"):
            leaf = {
                "gain": "gamma",
                "shift": "beta",
                "direction": "conv.weight_v",
                "magnitude": "conv.weight_g",
                "bias": "conv.bias",
            }[leaf]
            shape = {"gamma": (1, CODE, 1, 1), "beta": (1, CODE, 1, 1)}.get(leaf, shape)
            shape = (CODE, 1, 1, 1) if leaf == "conv.weight_g" else shape
        found[f"{stem}.{leaf}"] = 0.1 * torch.randn(shape, generator=draw)
    return found


def published_flow(num_flows: int = 2) -> dict[str, torch.Tensor]:
    """A flow under the published names."""
    draw = torch.Generator().manual_seed(1)
    config = BehaviorFlowConfig(num_flows=num_flows, hidden_width=6, hidden_depth=1)
    found = {}
    for name, value in BehaviorFlow(config, code_size=CODE).state_dict().items():
        theirs = "flow.sub_layers." + name.removeprefix("blocks.")
        theirs = theirs.replace(".norm.", ".norm_layer.").replace(
            ".order", ".shuffle.forward_shuffle_idx"
        )
        for ours, his in (("log_scale", "s"), ("shift", "t")):
            for net in (0, 1):
                theirs = theirs.replace(f".{ours}.{net}.", f".coupling.{his}.{net}.main.")
        if theirs.endswith("forward_shuffle_idx"):
            value = torch.randperm(CODE, generator=draw)
        elif value.is_floating_point():
            shape = (1, CODE, 1, 1) if ".norm_layer." in theirs else value.shape
            value = torch.rand(shape, generator=draw) + 0.1
        elif "initialized" in theirs:
            value = torch.ones_like(value)
        found[theirs] = value
        if "forward_shuffle" in theirs:
            found[theirs.replace("forward", "backward")] = value.argsort()
    return found


def write_folder(folder: Path, *, has_flow: bool = True, has_settings: bool = True) -> Path:
    folder.mkdir(parents=True)
    net = {f"module.{key}": value for key, value in published_net().items()}
    torch.save({"model": net, "optimizer": {"step": 1}}, folder / "reg_ckpt_checkpoint_200.pth")
    torch.save({"model": {}}, folder / "reg_ckpt_checkpoint_90.pth")
    if has_flow:
        torch.save({"model": published_flow()}, folder / "flow_ckpt_checkpoint_5.pth")
    if has_settings:
        settings = {
            "data": {
                "seq_length": [6, 7],
                "sequential_frame_lag": 1,
                "keypoint_type": "keypoints_3d_world",
            },
            "training": {"batch_size": 16, "tau": [0.5], "information_max": 50},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def imported(folder: Path, root: Path, name: str = "imported") -> Path:
    run_dir = root / name
    import_published(ImportRequest(path=folder, run_dir=run_dir), tiny.Heard())
    return run_dir


def test_a_published_folder_becomes_a_run_with_the_same_weights(trained, tmp_path):
    run_dir = imported(write_folder(tmp_path / "published"), tmp_path)
    run = load_run(run_dir)
    assert (run.family, run.stage) == ("behavior", "2")
    config = run.request["config"]
    assert config["poses"]["num_frames"] == 6 and config["stage1"]["batch_size"] == 16
    assert config["stage1"]["kl"]["largest_information"] == 50
    assert config["stage2"]["flow"] == {"num_flows": 2, "hidden_width": 6, "hidden_depth": 1}
    make_scale_known(run_dir, trained)
    model = load(run_dir, CPU, data_root=trained / "data", warn=print)
    for name, value in net_state(published_net()).items():
        assert torch.equal(model.net.state_dict()[name], value)
    assert model.flow is not None
    for name, value in flow_state(published_flow()).items():
        assert torch.equal(model.flow.state_dict()[name], value)


def make_scale_known(run_dir: Path, trained: Path) -> None:
    """Let the run's data be the prepared takes, as Human3.6M would be for a user."""
    for path in (run_dir / "config.yaml", run_dir / "frozen" / "stage1" / "config.yaml"):
        if path.is_file():
            settings = yaml.safe_load(path.read_text())
            settings["config"]["data"] |= {"dataset": POSES, "variant": "poses"}
            path.write_text(yaml.safe_dump(settings))


def test_an_imported_model_samples_in_the_scale_of_its_data_and_asks_for_it(trained, tmp_path):
    run_dir = imported(write_folder(tmp_path / "published"), tmp_path)
    fields = {"data_root": trained / "data", "frames": 3, "num": 1, "device": "cpu", "size_px": 32}
    request = SampleRequest(
        run_dir=run_dir, out_dir=tmp_path / "out", target=("takes:train/00000",), **fields
    )
    with pytest.raises(UserError, match="without the scale of its poses") as error:
        sample(request, tiny.Heard())
    assert error.value.details["run first"] == "i2v extract-frames h36m --preset h36m_poses"
    make_scale_known(run_dir, trained)
    sample(request, tiny.Heard())
    (path,) = (tmp_path / "out" / "poses").iterdir()
    with np.load(path) as arrays:
        assert arrays["joints_world_m"].shape == (4, 17, 3)


def test_a_training_goes_on_from_imported_weights(trained, tmp_path):
    """What was not published, such as the posture regressor, begins anew."""
    folder = write_folder(tmp_path / "published", has_flow=False)
    source = imported(folder, tmp_path)
    heard = tiny.Heard()
    request = tiny.request(trained, "1", run_dir=tmp_path / "run", init_run=source, max_steps=1)
    train(request, heard)
    texts = [each["text"] for each in heard.of("log")]
    assert f"starting from the weights of {source}" in texts
    anew = "not in them, so they begin anew: regressor, scale"
    assert anew in texts
    weights = load_file(list_checkpoints(request.run_dir)[0] / WEIGHTS_NAME)
    for name, value in net_state(published_net()).items():
        assert (weights[f"net.{name}"] - value).abs().max() < 2e-4  # one step of the optimizer


def test_a_training_that_begins_with_a_runs_weights_keeps_its_scale(trained, tmp_path):
    source = trained / "runs" / "1"
    config = tiny.changed(poses={"scale_from": "train"})
    for steps in (1, 2):  # and so does one that goes on
        request = tiny.request(
            trained, "1", config=config, run_dir=tmp_path / "run", init_run=source, max_steps=steps
        )
        train(request, tiny.Heard())
        found, kept = (
            load(each, CPU, data_root=tmp_path, warn=print).scale
            for each in (
                request.run_dir,
                source,
            )
        )
        assert np.array_equal(found.mean, kept.mean) and np.array_equal(found.std, kept.std)


def test_a_net_without_flow_or_settings_is_a_stage_1(tmp_path):
    folder = write_folder(tmp_path / "published", has_flow=False, has_settings=False)
    run = load_run(imported(folder, tmp_path))
    assert run.stage == "1"
    assert run.request["config"]["stage1"]["net"]["code_size"] == CODE
    assert run.request["config"]["poses"]["num_frames"] == 50


def test_what_is_missing_or_wrong_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no published weights of behavior"):
        imported(tmp_path / "empty", tmp_path)
    (tmp_path / "lone").mkdir()
    torch.save(published_flow(), tmp_path / "lone" / "flow_ckpt_checkpoint_1.pth")
    with pytest.raises(UserError, match="a flow without its behavior net"):
        imported(tmp_path / "lone", tmp_path)
    cut = write_folder(tmp_path / "cut")
    state = published_flow()
    state.pop("flow.sub_layers.1.coupling.t.1.main.0.bias")
    torch.save({"model": state}, cut / "flow_ckpt_checkpoint_5.pth")
    with pytest.raises(UserError, match="do not fit"):
        imported(cut, tmp_path)
    damaged = write_folder(tmp_path / "damaged")
    (damaged / "reg_ckpt_checkpoint_200.pth").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        imported(damaged, tmp_path)
    assert not (tmp_path / "imported").exists()
