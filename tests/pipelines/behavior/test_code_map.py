"""The picture of behaviour codes."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from pipelines.behavior.code_map import embedded, write_code_map
from pipelines.behavior.data import NO_ACTION


def _groups(*sizes: int) -> torch.Tensor:
    """Codes in groups that lie far apart."""
    draw = torch.Generator().manual_seed(0)
    parts = [torch.randn(n, 16, generator=draw) for n in sizes]
    return torch.cat([part + 20 * number for number, part in enumerate(parts)])


def test_groups_of_codes_stay_groups_in_the_plane() -> None:
    places = embedded(_groups(40, 40, 40))
    distances = torch.cdist(places, places).fill_diagonal_(torch.inf)
    group = torch.arange(120) // 40
    nearest = distances.topk(10, largest=False).indices
    assert (group[nearest] == group[:, None]).all()
    assert torch.isfinite(places).all()


def test_the_map_of_the_same_codes_is_the_same() -> None:
    codes = _groups(20, 30)
    assert torch.equal(embedded(codes), embedded(codes))


def test_few_and_equal_codes_have_a_map_too() -> None:
    assert torch.isfinite(embedded(torch.zeros(6, 4))).all()
    assert torch.isfinite(embedded(torch.randn(3, 4))).all()


def test_the_picture_shows_each_action_in_a_colour_and_random_codes_in_grey(tmp_path) -> None:
    actions = [0] * 30 + [1] * 30 + [NO_ACTION] * 10
    path = tmp_path / "samples" / "codes" / "grid.png"
    write_code_map(path, _groups(30, 40), actions, ["walk", "box"], drawn=_groups(10, 10))
    pixels = np.asarray(Image.open(path)).reshape(-1, 3)
    found = {tuple(int(value) for value in each) for each in np.unique(pixels, axis=0)}
    assert {(208, 74, 48), (34, 108, 168), (70, 70, 74), (196, 196, 200)} <= found
