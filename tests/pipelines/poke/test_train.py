from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, Interrupted, UserError
from pipelines.poke.train import decoder_rate, learning_rate, train
from pipelines.training.checkpoint import WEIGHTS_NAME, list_checkpoints
from pipelines.training.run_folder import load_run
from tests.pipelines.poke import tiny
from tests.pipelines.training.toy import assert_equal_trees


def newest(root: Path) -> Path:
    return list_checkpoints(root / "run")[0]


def test_a_training_that_was_stopped_goes_on_to_the_same_weights_bit_by_bit(trained, tmp_path):
    shutil.copytree(trained / "data", tmp_path / "data")

    class Stopped(tiny.Heard):
        def progress(self, task, done, total=None, unit=""):
            if done == 4:
                self.ask_to_stop()

    with pytest.raises(Interrupted):
        train(tiny.request(tmp_path, max_steps=6), Stopped())
    assert newest(tmp_path).name == "step-00000004"
    assert load_run(tmp_path / "run").status == "stopped"

    heard = tiny.Heard()
    assert train(tiny.request(tmp_path, max_steps=6), heard)["step"] == 6
    assert "going on from step 4" in [each["text"] for each in heard.of("log")]
    expected, found = newest(trained), newest(tmp_path)
    assert (found / WEIGHTS_NAME).read_bytes() == (expected / WEIGHTS_NAME).read_bytes()
    states = [torch.load(each / "state.pt", weights_only=True) for each in (expected, found)]
    assert_equal_trees(*states)
    meta, other = (json.loads((each / "meta.json").read_text()) for each in (expected, found))
    assert meta["validation"] == other["validation"]


def test_the_discriminators_join_at_their_step_and_every_network_is_trained(tmp_path):
    tiny.prepare_squares(tmp_path / "data")
    config = tiny.changed(train={"log_every": 1})
    heard = tiny.Heard()
    train(tiny.request(tmp_path, config=config, max_steps=3), heard)
    steps = [set(each["values"]) for each in heard.of("metric")][:3]
    assert {"static", "perceptual", "latent"} <= steps[0]
    assert "generator_temporal" not in steps[0] and "generator_temporal" in steps[1]
    assert "generator_patch" not in steps[1] and "generator_patch" in steps[2]
    state = torch.load(newest(tmp_path) / "state.pt", weights_only=True)
    assert all(each["state"] for each in state["optimizers"].values())


def test_a_finished_training_leaves_real_clips_beside_answers_with_an_arrow(trained):
    samples = trained / "run" / "samples"
    meta = json.loads((samples / "answer" / "meta.json").read_text())
    assert len(meta["videos"]) == 2
    assert (samples / "answer" / "grid.png").is_file()
    assert (samples / "real" / "meta.json").is_file()


def test_held_out_clips_are_compared_with_a_still_video(trained):
    validation = json.loads((newest(trained) / "meta.json").read_text())["validation"]
    assert {"val_psnr", "val_psnr_static", "val_psnr_moving", "val_ssim"} <= set(validation)


@pytest.mark.parametrize(
    "settings",
    [
        {"model": {"kind": "single-scale", "smallest_px": 8, "widths": [], "deep": 16}},
        {"poke": {"max_pokes": 3, "background_share": 0.5, "keeps_flow_patch": True}},
        {"poke": {"length_aware": True}, "losses": {"single_stage": True}},
        {"poke": {"foreground": "flow", "crops_to_foreground": True}},
        {"clips": {"start": "every-frame"}},
        {"losses": {"moves_decoder": False, "static_epochs": 0}},
        {
            "experiment": "sequence",
            "sequence": {"min_frames": 2, "longest_weight": 1},
            "temporal": {"is_per_frame": True, "sees_poke": True},
            "losses": {"latent": 5},
        },
    ],
    ids=lambda settings: "-".join(settings),
)
def test_every_kind_of_training_takes_its_steps(tmp_path, settings):
    tiny.prepare_squares(tmp_path / "data")
    request = tiny.request(tmp_path, config=tiny.changed(**settings), max_steps=3)
    assert train(request, tiny.Heard())["step"] == 3


def test_pokes_sit_on_stored_masks_where_the_data_has_them(tmp_path):
    tiny.prepare_squares(tmp_path / "data", has_masks=True)
    config = tiny.changed(poke={"foreground": "stored", "crops_to_foreground": True})
    assert train(tiny.request(tmp_path, config=config, max_steps=2), tiny.Heard())["step"] == 2


@pytest.mark.parametrize(
    ("settings", "message", "exit_code"),
    [
        ({"clips": {"num_frames": 3}}, "no flow over 3 frames", EXIT_NO_DATA),
        ({"clips": {"flow_name": "dis"}}, "no flow over 4 frames", EXIT_NO_DATA),
        ({"poke": {"foreground": "stored"}}, "no foreground masks", EXIT_USAGE),
        ({"model": {"size_px": 64}}, "the data has frames of 32 px", EXIT_USAGE),
        ({"perceptual": {"backbone": "vgg19"}}, "no weights for the perceptual", EXIT_NO_DATA),
    ],
)
def test_what_is_missing_is_named_before_anything_is_trained(
    trained, tmp_path, settings, message, exit_code
):
    changes = {"config": tiny.changed(**settings), "run_dir": tmp_path / "run"}
    with pytest.raises(UserError, match=message) as caught:
        train(tiny.request(trained, **changes), tiny.Heard())
    assert caught.value.exit_code == exit_code
    assert list(caught.value.details)[-1] in ("run first", "or", "to fix", "or set")


def test_data_without_any_flow_says_how_to_estimate_it(tmp_path):
    tiny.prepare_squares(tmp_path / "data", has_flow=False)
    with pytest.raises(UserError, match="no flow") as caught:
        train(tiny.request(tmp_path), tiny.Heard())
    assert caught.value.details["run first"].startswith("i2v estimate-flow squares")


def test_a_video_without_flow_among_others_is_named(tmp_path):
    tiny.prepare_squares(tmp_path / "data", without_flow=2)
    with pytest.raises(UserError, match=r"video 'squares/train/00002' has no flow") as caught:
        train(tiny.request(tmp_path), tiny.Heard())
    assert caught.value.exit_code == EXIT_NO_DATA
    assert "leave such videos out" in caught.value.details["or"]


def test_a_run_is_not_continued_with_another_network(trained, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(trained, root)
    config = tiny.changed(model={"deep": 16})
    with pytest.raises(UserError, match="other settings"):
        train(tiny.request(root, config=config, max_steps=8), tiny.Heard())


def test_the_learning_rate_falls_at_the_milestones_and_the_decoder_has_its_own_line():
    config = tiny.config(epochs=100, milestones=[0.1, 0.5], decoder_rate_end=5e-5)
    rate = config.optimizer.learning_rate
    rates = [learning_rate(config, epoch) for epoch in (0, 9, 10, 50)]
    assert rates == pytest.approx([rate, rate, 0.3 * rate, 0.09 * rate])
    assert decoder_rate(config, 0) == rate
    assert decoder_rate(config, 17_500) == pytest.approx(7.5e-5)
    assert decoder_rate(config, 100_000) == pytest.approx(5e-5)


def test_a_short_training_makes_what_it_is_trained_on_much_smaller(tmp_path):
    tiny.prepare_squares(tmp_path / "data")
    never = {"start_step": None}
    config = tiny.changed(
        train={"log_every": 5, "save_every": 60},
        patch=never,
        temporal=never,
        optimizer={"learning_rate": 3e-3},
        decoder_rate_end=3e-3,
        milestones=[],
        epochs=30,
    )
    heard = tiny.Heard()
    train(tiny.request(tmp_path, config=config), heard)
    losses = [each["values"] for each in heard.of("metric") if "loss" in each["values"]]
    assert losses[-1]["perceptual"] < 0.6 * losses[0]["perceptual"]
    assert losses[-1]["static"] < 0.6 * losses[0]["static"]
