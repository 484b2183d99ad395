"""`i2v import`: where it looks, what it calls the run, and what it refuses before a job starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from i2v_cli.commands import import_
from pipelines.events import UserError


@pytest.fixture
def weights(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("I2V_DATA", str(here / "data"))
    monkeypatch.setenv("I2V_RUNS", str(here / "runs"))
    folder = here / "data" / "weights" / "cinn-bair" / "stage2_control"
    folder.mkdir(parents=True)
    return folder.parent


@pytest.mark.parametrize("typed", ["cinn-bair", "weights/cinn-bair"])
def test_downloaded_weights_are_found_by_their_name(weights: Path, typed: str) -> None:
    planned = import_.plan("cinn", typed)
    request = planned.request.model_dump()
    assert request["path"] == weights
    assert planned.outputs["run folder"].name == "cinn-bair"
    assert planned.target.function == "pipelines.cinn.checkpoint:import_published"


def test_a_path_that_is_there_wins_over_a_name(weights: Path, here: Path) -> None:
    (here / "cinn-bair").mkdir()
    found = import_.plan("cinn", str(here / "cinn-bair")).request.model_dump()["path"]
    assert found == here / "cinn-bair"


def test_a_folder_that_names_a_part_lends_the_run_its_parents_name(weights: Path) -> None:
    planned = import_.plan("cinn", str(weights / "stage2_control"))
    assert planned.outputs["run folder"].name == "cinn-bair-stage2_control"


def test_a_run_of_that_name_is_refused_with_both_ways_out(weights: Path, here: Path) -> None:
    (here / "runs" / "mine").mkdir(parents=True)
    with pytest.raises(UserError, match="there already") as caught:
        import_.plan("cinn", "cinn-bair", name="mine")
    assert "--name" in caught.value.details["to keep it"]
    assert "i2v runs rm mine" in caught.value.details["to replace it"]


def test_a_name_that_is_no_name_and_a_family_that_cannot_are_refused(weights: Path) -> None:
    with pytest.raises(UserError, match="cannot be the name of a run"):
        import_.plan("cinn", "cinn-bair", name="a/b")
    with pytest.raises(UserError):
        import_.plan("no-such-family", "cinn-bair")
