"""The metric `poke`, on videos whose motion the test makes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipelines.events import UserError
from pipelines.metrics.evaluate import measure
from pipelines.metrics.scenes import Clip, Scene

POKES = ((4.0, 0.0), (-4.0, 0.0), (0.0, 4.0))


def moved(picture: np.ndarray, vector: tuple[float, float]) -> np.ndarray:
    """Three frames in which all moves by whole pixels, in the end by the vector."""
    steps = [np.rint(np.array(vector) * (t + 1) / 3).astype(int) for t in range(3)]
    return np.stack([np.roll(picture, (y, x), (0, 1)) for x, y in steps])


def scene(answer: float) -> Scene:
    """One pixel poked three ways and answered by so much of each poke."""
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    samples = []
    for number, (dx, dy) in enumerate(POKES):
        facts = {"pokes": [{"column": 32, "row": 30, "dx": dx, "dy": dy}], "arrives": 3}
        video = moved(picture, (answer * dx, answer * dy))
        samples.append(Clip(f"s{number}", video, start=picture, facts=facts))
    return Scene("a", None, tuple(samples))


@pytest.mark.parametrize(("answer", "error"), [(1.0, 0.0), (0.0, 4.0), (-1.0, 8.0)])
def test_error_direction_and_control_tell_how_a_poke_is_answered(answer, error):
    found = {each.metric: each for each in measure(["poke"], [scene(answer)])}
    assert found["poke-error"].value == pytest.approx(error, abs=0.2)
    assert found["poke-error"].references["video that does not move"] == pytest.approx(4)
    assert found["poke-direction"].value == pytest.approx(np.sign(answer), abs=0.02)
    assert found["poke-control"].value == pytest.approx(abs(answer), abs=0.1)


def test_videos_without_pokes_are_refused():
    picture = np.zeros((32, 32, 3), np.uint8)
    clip = Clip("x", picture[None].repeat(3, 0), start=picture)
    with pytest.raises(UserError, match="how they were poked"):
        measure(["poke"], [Scene("x", None, (clip,))])


def test_what_shards_kept_joins_to_the_same_numbers():
    from pipelines.metrics.poke import build

    one, other = build(), build()
    one.add(scene(1.0))
    other.restore([json.loads(json.dumps(one.state()))])
    assert other.scenes == one.scenes
