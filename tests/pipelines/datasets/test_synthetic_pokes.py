"""Generated clips that answer pokes: plant and arm."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.datasets.generate import arm, plant
from pipelines.datasets.synthetic import generate, simulate
from pipelines.events import EXIT_USAGE, UserError


def _answer(kind: str, index: int, poke: tuple[float, float, float, float]) -> np.ndarray:
    """Motion of the poked pixel's content after 10 frames."""
    clip = simulate(kind, index, poke=poke, num_frames=12)
    return clip.flow[10][0][:, int(poke[1]), int(poke[0])]


def _random_pixel(kind: str, index: int, rng: np.random.Generator) -> tuple[int, int]:
    mask = generate(kind, index, num_frames=2).maps["mask"][0]
    movable = mask >= plant.FIRST_LEAF if kind == "plant" else np.isin(mask, (1, 2, 3, 4))
    rows, columns = np.nonzero(movable)
    chosen = rng.integers(len(rows))
    return int(columns[chosen]), int(rows[chosen])


@pytest.mark.parametrize("kind", ["plant", "arm"])
def test_a_poke_is_answered_in_its_direction(kind: str) -> None:
    rng = np.random.default_rng(0)
    for index in range(12):
        x, y = _random_pixel(kind, index, rng)
        angle = rng.uniform(0, 2 * np.pi)
        wish = 6 * np.array([np.cos(angle), np.sin(angle)])
        answer = _answer(kind, index, (x, y, *wish))
        # As far as it moves at all: what cannot move that way stays where it is.
        assert answer @ wish >= -1e-3
        assert np.linalg.norm(answer - wish) <= np.linalg.norm(wish) + 1e-3


def test_a_plant_asked_for_what_a_poke_did_does_it_again() -> None:
    for index in range(8):
        clip = generate("plant", index, num_frames=12)
        x, y, *wish = 64 * np.array(clip.labels["poke"])
        answer = _answer("plant", index, (x + 0.25, y + 0.25, *wish))
        assert np.linalg.norm(answer - wish) < 0.05
        assert np.allclose(clip.flow[10][0][:, int(y + 0.25), int(x + 0.25)], wish, atol=1e-3)


def test_another_poke_of_the_same_plant_starts_from_the_same_frame() -> None:
    clip = generate("plant", 5, num_frames=8)
    x, y = _random_pixel("plant", 5, np.random.default_rng(1))
    for wish in ((4, 0), (-4, 0), (0, 4)):
        answer = simulate("plant", 5, poke=(x, y, *wish), lag=3, num_frames=8)
        assert np.array_equal(answer.frames[0], clip.frames[0])
    left = simulate("plant", 5, poke=(x, y, -4, 0), lag=3, num_frames=8)
    right = simulate("plant", 5, poke=(x, y, 4, 0), lag=3, num_frames=8)
    assert np.abs(left.frames[3].astype(int) - right.frames[3]).max() > 40


def test_a_plant_is_never_pushed_harder_than_its_limit() -> None:
    x, y = _random_pixel("plant", 2, np.random.default_rng(2))
    clip = simulate("plant", 2, poke=(x, y, 500, 0), num_frames=12)
    assert abs(clip.labels["amplitude"]) == pytest.approx(plant.LARGEST_AMPLITUDE)


@pytest.mark.parametrize("kind", ["plant", "arm"])
def test_a_poke_beside_things_that_move_moves_nothing(kind: str) -> None:
    mask = generate(kind, 1, num_frames=2).maps["mask"][0]
    rows, columns = np.nonzero(mask == 0)
    clip = simulate(kind, 1, poke=(columns[40], rows[40], 5, 5), num_frames=12)
    assert np.all(clip.frames == clip.frames[0])
    assert not clip.flow[10].any()


def test_the_arm_is_pulled_to_where_the_poke_asks() -> None:
    for index in range(6):
        clip = generate("arm", index, num_frames=2)
        x, y = (clip.tracks["endeffector_pos"][0, :2] * 64).astype(int)
        assert clip.maps["mask"][0, y, x] == arm.EFFECTOR
        wish = np.array([32.5, 36.5]) - (x + 0.5, y + 0.5)  # the middle is always within reach
        assert np.linalg.norm(_answer("arm", index, (x, y, *wish)) - wish) < 0.5


def test_kinds_that_answer_no_pokes_say_which_do() -> None:
    with pytest.raises(UserError, match="'fire' answers no pokes") as caught:
        simulate("fire", 0, poke=(1, 1, 1, 1))
    assert caught.value.exit_code == EXIT_USAGE
    assert caught.value.details["to fix"] == "choose from plant, arm"


@pytest.mark.parametrize(
    ("poke", "lag", "message"),
    [((64, 3, 1, 1), 10, "outside the frame"), ((3, 3, 1, 1), 32, "no frame lies 32 frames")],
)
def test_a_poke_that_cannot_be_is_refused(
    poke: tuple[float, float, float, float], lag: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        simulate("plant", 0, poke=poke, lag=lag)
