from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.engines.config import Engine, Parts, Shard
from pipelines.engines.items import Items
from pipelines.events import Work
from pipelines.schema import AbsolutePath, Config

TOTAL = 5


class Request(Config):
    """Of a job that makes arrays."""

    out_dir: AbsolutePath
    image: AbsolutePath
    seed: int = 0
    fps: float = 8.0
    engine: Engine = "local"
    parts: Parts = 8
    shard: Shard | None = None


class Maker:
    """Makes arrays, and remembers which."""

    def __init__(self, folder: Path) -> None:
        self.made: list[int] = []
        self.image = folder / "image.png"
        self.image.write_bytes(b"one")

    def items(self, **changes: object) -> Items:
        fields = {"out_dir": self.image.with_name("out"), "image": self.image}
        return Items(Request.model_validate(fields | changes), TOTAL, self._make, "abc", Work())

    def _make(self, number: int) -> np.ndarray:
        self.made.append(number)
        return np.full((2, 2), number)


@pytest.fixture
def maker(tmp_path) -> Maker:
    return Maker(tmp_path)


def test_one_call_makes_every_item_once_and_leaves_no_files(maker, tmp_path):
    items = maker.items()
    assert [int(each[0, 0]) for each in items.in_order()] == maker.made == list(range(TOTAL))
    items.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["image.png"]


def test_the_last_call_makes_only_what_no_shard_has_made(maker):
    assert maker.items(shard="1/3").make_shard()["made"] == 2
    assert maker.made == [1, 4]
    found = [int(each[0, 0]) for each in maker.items().in_order()]
    assert found == list(range(TOTAL))
    assert maker.made == [1, 4, 0, 2, 3]


def test_a_shard_that_was_killed_goes_on_where_it_was(maker):
    items = maker.items(shard="0/2")
    items.make_shard()
    (items.folder / "000002.npy").unlink()
    items.make_shard()
    assert maker.made == [0, 2, 4, 2]


@pytest.mark.parametrize("change", [{"seed": 1}, {"out_dir": "/elsewhere"}])
def test_items_of_another_request_are_not_taken(maker, change):
    maker.items(shard="0/1").make_shard()
    maker.made.clear()
    list(maker.items(**change).in_order())
    assert maker.made == list(range(TOTAL))


def test_items_of_another_image_under_the_same_name_are_not_taken(maker):
    maker.items(shard="0/1").make_shard()
    maker.image.write_bytes(b"two")
    maker.made.clear()
    list(maker.items().in_order())
    assert maker.made == list(range(TOTAL))


def test_clearing_leaves_what_another_request_has_kept(maker):
    maker.items(shard="0/2", seed=1).make_shard()
    mine = maker.items(shard="0/2")
    mine.make_shard()
    mine.clear()
    assert maker.items(seed=1).folder.exists()
    assert not mine.folder.exists()
