from __future__ import annotations

import importlib.util
import math

import pytest
import torch

from pipelines.events import EXIT_ENVIRONMENT, UserError
from pipelines.features import efficientnet

# Mean, standard deviation and two entries ([3, 2, 5] and [-1, -1, -2]) of each stage's map for the
# picture below at 224 px, computed in float64 by the network of the published package
# efficientnet-lite-pytorch 0.1.0 with the same weights file.
PUBLISHED = (
    ((16, 112, 112), (0.05072, 6.3029, -7.20612, -4.4906)),
    ((24, 56, 56), (0.46238, 7.49578, 1.87486, -4.59875)),
    ((40, 28, 28), (-0.01242, 6.91288, -8.4748, 0.81091)),
    ((80, 14, 14), (0.52927, 6.74393, -7.55599, -1.14737)),
    ((112, 14, 14), (-0.26546, 5.20702, 6.10492, 2.21335)),
    ((192, 7, 7), (0.20601, 4.60619, -2.17082, 1.98574)),
    ((320, 7, 7), (-0.04097, 2.03232, -2.44549, -2.22282)),
)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def picture(size_px: int) -> torch.Tensor:
    y = torch.linspace(-1, 1, size_px, dtype=torch.float64)[:, None]
    x = torch.linspace(-1, 1, size_px, dtype=torch.float64)[None]
    return torch.stack([torch.sin(3 * x + 2 * y), x * y, torch.cos(5 * x - y)])[None].float()


def test_every_stage_gives_the_numbers_of_the_published_network():
    with torch.inference_mode():
        maps = efficientnet.load()(picture(224))
    for found, (shape, numbers) in zip(maps, PUBLISHED, strict=True):
        x = found[0]
        assert tuple(x.shape) == shape
        ours = (x.mean(), x.std(), x[3, 2, 5], x[-1, -1, -2])
        assert [float(each) for each in ours] == pytest.approx(numbers, abs=2e-4)


@pytest.mark.parametrize("size_px", [32, 33, 64, 97, 128])
def test_maps_shrink_by_the_stated_strides_at_any_size(size_px):
    with torch.inference_mode():
        maps = efficientnet.load()(picture(size_px))
    strides = (2, 4, 8, 16, 16, 32, 32)
    assert [each.shape[-1] for each in maps] == [math.ceil(size_px / each) for each in strides]


def test_the_first_stages_alone_give_the_same_maps_as_the_whole_network():
    with torch.inference_mode():
        few, all_maps = efficientnet.load(3)(picture(64)), efficientnet.load()(picture(64))
    assert len(few) == 3
    for first, second in zip(few, all_maps, strict=False):
        assert torch.equal(first, second)


def test_an_image_in_a_batch_gives_what_it_gives_alone():
    network = efficientnet.load(4)
    batch = torch.cat([picture(64), -picture(64), picture(64).flip(-1)])
    with torch.inference_mode():
        together, alone = network(batch)[-1][1:2], network(batch[1:2])[-1]
    assert torch.allclose(together, alone, atol=1e-4)


def test_the_network_is_frozen():
    network = efficientnet.load(2)
    assert not network.training
    assert not any(each.requires_grad for each in network.parameters())


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        (64, 3, 2, (0, 1)),
        (63, 3, 2, (1, 1)),
        (64, 5, 2, (1, 2)),
        (63, 5, 2, (2, 2)),
        (9, 3, 1, (1, 1)),
    ],
)
def test_padding_is_uneven_where_tensorflow_has_it_so(size, kernel, stride, padding):
    assert efficientnet.same_padding(size, kernel, stride) == padding


def test_an_environment_without_the_weights_says_so(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        efficientnet.weights_path()
    assert caught.value.exit_code == EXIT_ENVIRONMENT
    assert "to fix" in caught.value.details


def test_a_damaged_weights_file_is_not_loaded(tmp_path, monkeypatch):
    damaged = tmp_path / "weights.pth"
    damaged.write_bytes(efficientnet.weights_path().read_bytes()[:-1])
    monkeypatch.setattr(efficientnet, "weights_path", lambda: damaged)
    efficientnet._published_state.cache_clear()
    with pytest.raises(UserError, match="damaged"):
        efficientnet.load(1)
