from __future__ import annotations

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipelines.cinn.config import TrainRequest
from pipelines.cinn.train import train
from pipelines.events import UserError, Work
from pipelines.io.sample_folders import read_sample_folder, sample_folders
from pipelines.training.checkpoint import WEIGHTS_NAME, find_best_checkpoint, list_checkpoints
from pipelines.training.run_folder import load_run
from tests.pipelines.cinn import tiny


def weights(run_dir) -> dict[str, torch.Tensor]:
    return load_file(list_checkpoints(run_dir)[0] / WEIGHTS_NAME)


@pytest.fixture
def squares(tmp_path):
    tiny.prepare_squares(tmp_path / "data")
    return tmp_path


@pytest.mark.parametrize(
    ("stage", "term", "validation"),
    [
        ("1", "reconstruction", {"val_l1", "val_psnr", "val_ssim", "val_psnr_static"}),
        ("ae", "reconstruction", {"val_l1", "val_psnr"}),
        ("2", "nll", {"val_nll"}),
    ],
)
def test_each_stage_logs_trains_and_validates(squares, trained, stage, term, validation):
    for earlier in ("1", "ae"):
        if stage == "2":
            shutil.copytree(trained / "runs" / earlier, squares / "runs" / earlier)
    heard = tiny.Heard()
    result = train(tiny.request(squares, stage, max_steps=4), heard)
    metrics = heard.of("metric")
    assert [each["step"] for each in metrics if term in each["values"]] == [2, 3, 4]
    validated = [each for each in metrics if validation <= each["values"].keys()]
    assert [each["step"] for each in validated] == [3, 4]
    assert result["validation"] == validated[-1]["values"]
    assert load_run(squares / "runs" / stage).status == "done"
    assert list_checkpoints(squares / "runs" / stage)[0].name == "step-00000004"


def test_every_trained_network_moves_and_the_adversarial_ones_only_after_the_warm_up(squares):
    train(tiny.request(squares, "1", max_steps=1), tiny.Heard())
    first = weights(squares / "runs" / "1")
    train(tiny.request(squares, "1", max_steps=2), tiny.Heard())
    warm = weights(squares / "runs" / "1")
    train(tiny.request(squares, "1", max_steps=3), tiny.Heard())
    after = weights(squares / "runs" / "1")

    def moved(before, later, network):
        names = [n for n in before if n.startswith(f"{network}.") and n.endswith("weight")]
        return any(not torch.equal(before[name], later[name]) for name in names)

    assert moved(first, warm, "encoder")
    assert moved(first, warm, "decoder")
    for network in ("temporal_discriminator", "patch_discriminator"):
        assert not moved(first, warm, network)
        assert moved(warm, after, network)


def test_the_seed_decides_the_first_weights(squares):
    for seed, name in ((1, "a"), (1, "b"), (2, "c")):
        config = tiny.changed(train={"seed": seed})
        run_dir = squares / "runs" / name
        train(
            tiny.request(squares, "ae", config=config, run_dir=run_dir, max_steps=1), tiny.Heard()
        )
    a, b, c = (weights(squares / "runs" / name) for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["encoder.conv.weight"], c["encoder.conv.weight"])


def test_the_config_of_a_run_is_enough_to_run_it_again(trained):
    for stage in ("1", "ae", "2"):
        text = (trained / "runs" / stage / "config.yaml").read_text()
        again = TrainRequest.model_validate(yaml.safe_load(text))
        assert again == tiny.request(trained, stage, max_steps=6)


def test_a_finished_training_is_not_done_twice(trained):
    before = list_checkpoints(trained / "runs" / "ae")[0].stat().st_mtime_ns
    heard = tiny.Heard()
    train(tiny.request(trained, "ae", max_steps=6), heard)
    assert "already trained for 6 steps: nothing to do" in [e["text"] for e in heard.of("log")]
    assert list_checkpoints(trained / "runs" / "ae")[0].stat().st_mtime_ns == before


def test_a_finished_training_leaves_videos_to_look_at(trained):
    for stage, kind, num_videos in (("1", "reconstruction", 2), ("2", "sample", 4)):
        run_dir = trained / "runs" / stage
        folders = {folder.kind: folder for folder in sample_folders(run_dir)}
        assert set(folders) == {"real", kind}
        assert len(folders["real"].videos) == 2
        assert len(folders[kind].videos) == num_videos
        assert {v.scene for v in folders[kind].videos} == {v.scene for v in folders["real"].videos}
        assert (folders[kind].path / "grid.mp4").stat().st_size > 0
    assert (trained / "runs" / "ae" / "samples" / "images" / "grid.png").is_file()


def test_stage_2_keeps_what_it_was_built_on(trained, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(trained, root)
    shutil.rmtree(root / "runs" / "2" / "samples")
    for stage in ("1", "ae"):
        shutil.rmtree(root / "runs" / stage)
    train(tiny.request(root, "2", max_steps=7), tiny.Heard())
    assert read_sample_folder(root / "runs" / "2" / "samples" / "sample").kind == "sample"


def test_stage_2_takes_the_settings_of_the_earlier_stages(trained, tmp_path):
    other = tiny.changed(stage1={"code_size": 6}, ae={"embedding_size": 12})
    request = tiny.request(trained, "2", config=other, run_dir=tmp_path / "run", max_steps=1)
    train(request, tiny.Heard())
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["config"]
    assert saved["stage1"]["code_size"] == tiny.CONFIG["stage1"]["code_size"]
    assert saved["ae"]["embedding_size"] == tiny.CONFIG["ae"]["embedding_size"]


def test_a_training_can_start_from_the_weights_of_another_run(trained, squares):
    source = trained / "runs" / "ae"
    config = tiny.changed(ae={"optimizer": {"learning_rate": 1e-12}}, train={"seed": 9})
    train(tiny.request(squares, "ae", config=config, init_run=source, max_steps=1), tiny.Heard())
    found = weights(squares / "runs" / "ae")["encoder.conv.weight"]
    assert torch.allclose(found, weights(source)["encoder.conv.weight"], atol=1e-6)


def test_settings_that_make_another_model_are_refused_in_a_run_that_has_begun(squares):
    train(tiny.request(squares, "ae", max_steps=1), tiny.Heard())
    other = tiny.changed(ae={"embedding_size": 12})
    with pytest.raises(UserError, match="other settings") as caught:
        train(tiny.request(squares, "ae", config=other), tiny.Heard())
    assert caught.value.details["config.ae.embedding_size"] == "was 8, now 12"


def test_a_learning_rate_may_change_in_a_run_that_has_begun(squares):
    train(tiny.request(squares, "ae", max_steps=1), tiny.Heard())
    other = tiny.changed(ae={"optimizer": {"learning_rate": 1e-5}})
    heard = tiny.Heard()
    train(tiny.request(squares, "ae", config=other, max_steps=2), heard)
    logged = [each["text"] for each in heard.of("log")]
    assert any("config.ae.optimizer.learning_rate: was 0.0002, now 1e-05" in e for e in logged)


def test_settings_may_change_as_long_as_there_is_no_checkpoint(squares):
    wrong = tiny.changed(stage1={"size_px": 64, "decoder_upsample_space": [2, 1]})
    with pytest.raises(UserError, match="frames of 32 px, the model takes 64 px"):
        train(tiny.request(squares, "1", config=wrong), tiny.Heard())
    assert load_run(squares / "runs" / "1").status == "failed"
    train(tiny.request(squares, "1", max_steps=1), tiny.Heard())


def test_without_data_the_next_command_is_named(tmp_path):
    with pytest.raises(UserError, match="no frames for dataset 'squares'") as caught:
        train(tiny.request(tmp_path, "1"), tiny.Heard())
    assert caught.value.exit_code == 4
    assert caught.value.details["run first"] == "i2v extract-frames squares"


def test_videos_that_are_too_short_are_named(tmp_path):
    tiny.prepare_squares(tmp_path / "data", num_frames=8)
    with pytest.raises(UserError, match="all 4 videos are shorter than a clip of 9 frames"):
        train(tiny.request(tmp_path, "1"), tiny.Heard())


def test_patterns_that_match_nothing_are_named(squares):
    config = tiny.changed(data={"include": ["clouds/*"]})
    with pytest.raises(UserError, match="no video of split 'train' matches"):
        train(tiny.request(squares, "1", config=config), tiny.Heard())


def test_without_held_out_videos_training_works_and_says_so(tmp_path):
    tiny.prepare_squares(tmp_path / "data", counts=(2, 0, 0))
    heard = tiny.Heard()
    result = train(tiny.request(tmp_path, "ae", max_steps=2), heard)
    assert "no held-out videos" in heard.of("warning")[0]["message"]
    assert result["validation"] == {}


def test_stage_2_without_the_earlier_stages_names_them(squares, trained):
    request = tiny.request(squares, "2", stage1_run=None)
    with pytest.raises(UserError, match="stage 2 needs a trained stage 1") as caught:
        train(request, tiny.Heard())
    assert caught.value.details["run first"] == "i2v train cinn --stage 1"
    with pytest.raises(UserError, match="no run folder '1'"):
        train(tiny.request(squares, "2"), tiny.Heard())
    ae = trained / "runs" / "ae"
    with pytest.raises(UserError, match="is stage ae of cinn, not stage 1"):
        train(tiny.request(squares, "2", stage1_run=ae, ae_run=ae), tiny.Heard())


def test_earlier_stages_of_different_sizes_are_refused(squares, trained):
    tiny.prepare_squares(squares / "data", size_px=16, name="small")
    config = tiny.changed(stage1={"size_px": 16}, data={"dataset": "small"})
    train(tiny.request(squares, "ae", config=config, max_steps=1), tiny.Heard())
    request = tiny.request(squares, "2", stage1_run=trained / "runs" / "1")
    with pytest.raises(UserError, match="frames of different sizes"):
        train(request, tiny.Heard())


@pytest.mark.parametrize(
    "data", [{"dataset": "others"}, {"dataset": "squares", "include": ["squares/train/*"]}]
)
def test_stages_of_other_data_are_refused_unless_it_is_meant(squares, trained, data):
    tiny.prepare_squares(squares / "data", name="others")
    fields = {"stage1_run": trained / "runs" / "1", "ae_run": trained / "runs" / "ae"}
    config = tiny.changed(data=data)
    with pytest.raises(UserError, match="trained on other data") as caught:
        train(tiny.request(squares, "2", config=config, **fields), tiny.Heard())
    assert "squares" in caught.value.details["stage 1"]
    meant = config | {"stage2": config["stage2"] | {"allow_other_data": True}}
    request = tiny.request(squares, "2", config=meant, max_steps=1, **fields)
    assert train(request, tiny.Heard())["step"] == 1


@pytest.mark.parametrize("stage", ["1", "2"])
def test_the_best_checkpoint_by_the_score_is_what_later_stages_take(squares, trained, stage):
    prefix = "stage1" if stage == "1" else "stage2"
    for earlier in ("1", "ae"):
        if stage == "2":
            shutil.copytree(trained / "runs" / earlier, squares / "runs" / earlier)
    config = tiny.changed(**{prefix: {"score": "frechet-embedded"}})
    heard = tiny.Heard()
    result = train(tiny.request(squares, stage, config=config, max_steps=6), heard)
    name = "val_frechet-embedded"
    scores = {e["step"]: e["values"][name] for e in heard.of("metric") if name in e["values"]}
    assert set(scores) == {3, 6}
    best = find_best_checkpoint(squares / "runs" / stage, warn=pytest.fail)
    assert best.name == f"step-{min(scores, key=scores.get):08d}"
    assert result["step"] == 6


def test_a_score_that_cannot_be_computed_is_said_before_the_first_step(squares):
    config = tiny.changed(stage1={"score": "dtfvd"})
    heard = tiny.Heard()
    with pytest.raises(UserError) as caught:
        train(tiny.request(squares, "1", config=config, max_steps=1), heard)
    assert "score=none" in caught.value.details["or set"]
    assert not heard.of("metric")


def test_a_training_is_shown_on_tensorboard_from_its_record(squares):
    run_dir = squares / "runs" / "1"
    run_dir.mkdir(parents=True)
    train(tiny.request(squares, "1", max_steps=4), Work(record=run_dir / "events.jsonl"))
    board = EventAccumulator(str(run_dir / "tracking")).Reload()
    tags = board.Tags()
    assert {"training/loss", "training/kl", "validation/l1"} <= set(tags["scalars"])
    assert {"reconstruction", "reconstruction video"} <= set(tags["images"])


@pytest.mark.parametrize(("stage", "section"), [("1", "stage1"), ("ae", "ae"), ("2", "stage2")])
def test_a_diverging_training_names_term_and_step_and_keeps_the_last_good_checkpoint(
    squares, trained, stage, section
):
    runs = trained / "runs"
    inputs = {"stage1_run": runs / "1", "ae_run": runs / "ae"} if stage == "2" else {}
    train(tiny.request(squares, stage, max_steps=3, **inputs), tiny.Heard())
    config = tiny.changed(**{section: {"optimizer": {"learning_rate": 1e30}}})
    with pytest.raises(UserError, match=r"training diverged at step \d+: \w+ is (nan|-?inf)"):
        train(tiny.request(squares, stage, config=config, **inputs), tiny.Heard())
    assert list_checkpoints(squares / "runs" / stage)[0].name == "step-00000003"
    assert json.loads((squares / "runs" / stage / "run.json").read_text())["status"] == "failed"
    train(tiny.request(squares, stage, max_steps=4, **inputs), tiny.Heard())


def test_a_grey_variant_can_be_trained_on(tmp_path):
    tiny.prepare_squares(tmp_path / "data", channels=1)
    assert train(tiny.request(tmp_path, "ae", max_steps=1), tiny.Heard())["step"] == 1
