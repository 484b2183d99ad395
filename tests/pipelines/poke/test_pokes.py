from __future__ import annotations

import pytest
import torch

from pipelines.poke import pokes
from pipelines.poke.batches import draw_pokes, training_batch
from pipelines.training.generators import torch_generator
from tests.pipelines.poke import tiny

SIZE = 32


def square_flow(dx: float = 4.0, dy: float = -2.0) -> torch.Tensor:
    """A square that moves, on a still ground: 1 2 S S."""
    flow = torch.zeros(1, 2, SIZE, SIZE)
    flow[:, 0, 10:16, 12:18] = dx
    flow[:, 1, 10:16, 12:18] = dy
    return flow


def test_pokes_sit_on_what_moves_and_say_how_it_moves():
    settings = tiny.config().poke
    for number in range(20):
        poke = draw_pokes(square_flow(), settings, torch.tensor([[number / 20, 0.5]]))
        rows, columns = torch.nonzero(poke[0].abs().sum(0), as_tuple=True)
        assert len(rows) == 9
        assert 10 <= rows.float().mean() < 16 and 12 <= columns.float().mean() < 18
        assert poke[0, :, rows[0], columns[0]].tolist() == [4, -2]


def test_every_candidate_is_picked_equally_often():
    places = torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
    places[0, 3, 4] = places[0, 9, 1] = places[0, 30, 31] = True
    uniform = torch.arange(300).view(1, 300) / 300
    picked = pokes.pick(places, uniform)[0].tolist()
    for row, column in ((3, 4), (9, 1), (30, 31)):
        assert picked.count([row, column]) == 100


def test_a_flow_that_is_the_same_everywhere_gives_no_poke():
    for flow in (torch.zeros(1, 2, SIZE, SIZE), torch.ones(1, 2, SIZE, SIZE)):
        poke = draw_pokes(flow, tiny.config().poke, torch.rand(1, 2))
        assert not poke.any() and poke.isfinite().all()


def test_a_patch_on_the_border_is_cut_and_not_lost():
    places, values = torch.tensor([[[0, SIZE - 1]]]), torch.tensor([[[2.0, 3.0]]])
    poke = pokes.poke_map(places, values, size_px=SIZE, patch_px=5)
    assert (poke[0, 0] != 0).sum() == 9
    assert poke[0, :, 0, SIZE - 1].tolist() == [2, 3]


def test_up_to_so_many_pokes_share_one_map():
    settings = tiny.config(poke={"max_pokes": 3, "patch_px": 1}).poke
    counts = set()
    for number in range(9):
        uniform = torch.tensor([[0.1, 0.5, 0.9, number / 9]])
        poke = draw_pokes(square_flow(), settings, uniform)
        counts.add(int((poke[0, 0] != 0).sum()))
    assert counts == {1, 2, 3}


def test_a_poke_of_the_background_has_the_value_of_what_moves_and_a_still_video():
    torch.manual_seed(0)
    arrays = {
        "frames": torch.randint(0, 255, (1, 5, SIZE, SIZE, 3), dtype=torch.uint8)[:, :1].expand(
            -1, 5, -1, -1, -1
        ),
        "flow": square_flow() + 0.01 * torch.rand(1, 2, SIZE, SIZE),
        "is_still": torch.tensor([True]),
    }
    config = tiny.config()
    for seed in range(5):
        drawing = torch_generator(seed, "t")
        batch = training_batch(arrays, config, augmentation=None, drawing=drawing)
        rows, columns = torch.nonzero(batch.poke[0, 0], as_tuple=True)
        middle = rows.float().mean().round().long(), columns.float().mean().round().long()
        assert not (10 <= middle[0] < 16 and 12 <= middle[1] < 18)
        assert batch.poke[0, 0, rows[0], columns[0]] == pytest.approx(4, abs=0.02)
        assert (batch.frames == batch.frames[:, :1]).all()


def test_flow_of_another_size_is_measured_in_the_networks_pixels():
    flow = torch.full((1, 2, 256, 256), 8.0)
    assert torch.allclose(pokes.resize_flow(flow, 64), torch.tensor(2.0))


def test_unknown_flow_is_never_poked():
    arrays = {
        "frames": torch.zeros(1, 5, SIZE, SIZE, 3, dtype=torch.uint8),
        "flow": torch.full((1, 2, SIZE, SIZE), torch.nan),
        "is_still": torch.tensor([False]),
    }
    arrays["flow"][:, :, 10:16, 10:16] = 3.0
    drawing = torch_generator(0, "t")
    batch = training_batch(arrays, tiny.config(), augmentation=None, drawing=drawing)
    assert batch.poke.isfinite().all() and batch.poke.max() == 3


def test_losses_look_at_the_box_of_high_weights_only():
    videos = torch.zeros(1, 2, 3, SIZE, SIZE)
    videos[..., 8:16, 8:16] = 1
    weights = torch.ones(1, SIZE, SIZE)
    weights[:, 8:17, 8:17] = 10
    assert (pokes.crop_to_weights(videos, weights) == 1).all()
    assert (pokes.crop_to_weights(videos, torch.ones(1, SIZE, SIZE)) == videos).all()
