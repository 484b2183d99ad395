from __future__ import annotations

import pytest
import torch

from pipelines.poke.build import build_model, build_networks
from pipelines.poke.inference import answer, answer_video, bilinear_bytes
from pipelines.poke.networks import poke_strengths, strength
from tests.pipelines.poke import tiny


def model_of(**sections):
    torch.manual_seed(0)
    return build_model(tiny.config(**sections)).eval()


def poked(dx: float, dy: float, *, row: int = 16, column: int = 16) -> torch.Tensor:
    poke = torch.zeros(1, 2, tiny.SIZE_PX, tiny.SIZE_PX)
    poke[0, 0, row - 1 : row + 2, column - 1 : column + 2] = dx
    poke[0, 1, row - 1 : row + 2, column - 1 : column + 2] = dy
    return poke


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(1, 3, tiny.SIZE_PX, tiny.SIZE_PX) * 2 - 1


def code_of(model, image, *poke: float) -> torch.Tensor:
    with torch.no_grad():
        return model.encode_poke(poked(*poke), image)


def test_the_published_code_hardly_knows_a_pokes_length_and_the_length_aware_one_does(image):
    published, aware = model_of(), model_of(poke={"length_aware": True})
    aware.load_state_dict(published.state_dict())
    short, long = (code_of(published, image, length, 0.0) for length in (4.0, 12.0))
    assert (long - short).abs().max() < 0.05 * short.abs().max()
    short, long = (code_of(aware, image, length, 0.0) for length in (4.0, 12.0))
    expected = 3 * (4**2 + 4**2) ** 0.5 / (12**2 + 4**2) ** 0.5  # strength 1 at 4 px
    assert torch.allclose(long.norm() / short.norm(), torch.tensor(expected), rtol=0.05)


def test_a_poke_of_any_length_has_a_code_that_is_not_much_larger_than_the_published_one():
    lengths = torch.tensor([0.0, 2.0, 4.0, 8.0, 16.0, 1000.0])
    found = strength(lengths, unit_px=8.0)
    assert found[3] == pytest.approx(1) and (found.diff() > 0).all()
    assert found[0] == 0 and found[-1] < 2**0.5


def test_a_poke_of_length_0_has_the_code_0_in_every_sample_by_itself(image):
    model = model_of()
    pokes = torch.cat((torch.zeros(1, 2, tiny.SIZE_PX, tiny.SIZE_PX), poked(3, 1)))
    with torch.no_grad():
        code = model.encode_poke(pokes, image.expand(2, -1, -1, -1))
    assert not code[0].any() and code[1].any()


def test_frames_made_one_by_one_are_those_of_the_whole_video(image):
    model = model_of()
    whole = answer_video(model, image, poked(3, 1), 5, schedule="every-step")
    single = list(answer(model, image, poked(3, 1), 5, schedule="every-step"))
    assert whole.shape == (1, 5, 3, tiny.SIZE_PX, tiny.SIZE_PX)
    assert torch.allclose(whole[0], torch.cat(single), atol=1e-5)


def test_a_video_can_be_longer_than_those_of_the_training(image):
    video = answer_video(model_of(), image, poked(3, 1), 23, schedule="every-step")
    assert video.shape[1] == 23 and video.abs().max() <= 1


def test_every_parameter_takes_a_finite_gradient_and_the_answer_hangs_on_image_and_poke(image):
    model = model_of().train()
    video, _, _ = model(image, poked(3, 1), poke_strengths("every-step", 3))
    video.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    other, _, _ = model(image, poked(-3, 1), poke_strengths("every-step", 3))
    assert (other - video).abs().max() > 1e-4
    elsewhere, _, _ = model(image.flip(-1), poked(3, 1), poke_strengths("every-step", 3))
    assert (elsewhere - video).abs().max() > 1e-2


def test_update_gates_that_begin_closed_leave_the_video_still(image):
    closed = model_of(model={"update_bias": -20.0})
    video = answer_video(closed, image, poked(3, 1), 4, schedule="every-step")
    assert (video - video[:, :1]).abs().max() < 1e-4


@pytest.mark.parametrize("per_frame", [False, True])
def test_discriminators_take_the_clips_they_are_built_for(per_frame):
    config = tiny.config(temporal={"is_per_frame": per_frame, "sees_poke": per_frame})
    networks = build_networks(config)
    clip = torch.rand(2, tiny.NUM_FRAMES, 3, tiny.SIZE_PX, tiny.SIZE_PX)
    shown = (poked(1, 0).expand(2, -1, -1, -1),) if per_frame else ()
    logits, features = networks.temporal(clip, *shown)
    assert logits.shape[0] == 2 and len(features) > 2
    assert networks.patch(clip[:, 0])[0].shape[:2] == (2, 1)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("every-step", [1, 1, 1, 1, 1]),
        ("once", [1, 0, 0, 0, 0]),
        ("jump", [1, 1, 1, 0, 0]),
        ("linear", [1, 2 / 3, 1 / 3, 0, 0]),
        ("there-and-back", [1, 0.5, -1, -2 / 3, -1 / 3]),
    ],
)
def test_a_schedule_says_how_much_of_the_poke_each_step_feels(schedule, expected):
    assert poke_strengths(schedule, 5, num_zero=2) == pytest.approx(expected)


def test_grey_levels_are_resized_in_whole_numbers():
    ramp = (torch.arange(8).view(8, 1, 1) * 16).expand(8, 8, 3).to(torch.uint8).numpy()
    assert bilinear_bytes(ramp, 4)[:, 0, 0].tolist() == [8, 40, 72, 104]
    assert (bilinear_bytes(ramp, 8) == ramp).all()
