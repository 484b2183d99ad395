"""A run is measured on its own data, or on prepared data that the request names."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.events import UserError
from pipelines.metrics.config import EvalRequest
from pipelines.metrics.run_data import measured_data
from pipelines.schema import DataConfig

TRAINED_ON = DataConfig(dataset="toy", include=("walker/*",))


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    for dataset, variant in (("toy", "32px"), ("toy", "64px"), ("other", "32px")):
        folder = tmp_path / dataset / "prepared" / variant
        folder.mkdir(parents=True)
        (folder / "index.json").write_text("{}", encoding="utf-8")
    return tmp_path


def request(real: Path | None = None) -> EvalRequest:
    return EvalRequest(metrics=("pose",), source=Path("run").absolute(), real=real)


def test_of_several_variants_the_one_that_was_trained_on(data_root: Path) -> None:
    trained_on = TRAINED_ON.model_copy(update={"variant": "64px"})
    assert measured_data(request(), trained_on, data_root) == (data_root, trained_on)


def test_where_that_is_not_known_the_error_says_how_to_name_one(data_root: Path) -> None:
    with pytest.raises(UserError, match="several variants") as caught:
        measured_data(request(), TRAINED_ON, data_root)
    option, path = str(caught.value.details["to fix"]).split()[-2:]
    assert option == "--real"
    root, found = measured_data(request(Path(path)), TRAINED_ON, Path("elsewhere"))
    assert (root, found.dataset, found.variant) == (data_root, "toy", "32px")


def test_of_other_data_all_videos_are_used(data_root: Path) -> None:
    real = data_root / "other" / "prepared" / "32px"
    root, found = measured_data(request(real), TRAINED_ON, data_root)
    assert (root, found.dataset, found.include) == (data_root, "other", ("*",))


def test_a_folder_of_real_videos_is_not_data(data_root: Path, tmp_path: Path) -> None:
    trained_on = TRAINED_ON.model_copy(update={"variant": "32px"})
    assert measured_data(request(tmp_path), trained_on, data_root) == (data_root, trained_on)
