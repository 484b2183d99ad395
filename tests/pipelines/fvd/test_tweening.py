"""A module with the signature of the published in-betweening modules, run as they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError, Work
from pipelines.inbetween.config import HubRequest
from pipelines.inbetween.tfhub import load, sample
from pipelines.io.images import write_png
from pipelines.io.sample_folders import read_sample_folder
from pipelines.io.video import read_video
from tests.pipelines.fvd.tweening_modules import CrossFade, Noisy, saved


@pytest.fixture(scope="module")
def module_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("tfhub") / "module", CrossFade())


@pytest.fixture
def request_fields(tmp_path: Path, module_dir: Path) -> dict[str, object]:
    for name, level in (("a", 0), ("b", 150)):
        write_png(tmp_path / f"{name}.png", np.full((64, 64, 3), level, np.uint8))
    return {
        "module": str(module_dir),
        "data_root": tmp_path / "data",
        "start": tmp_path / "a.png",
        "end": tmp_path / "b.png",
        "out_dir": tmp_path / "out",
    }


def test_any_number_of_pairs_is_filled_in_batches_of_sixteen(module_dir: Path) -> None:
    pairs = np.random.default_rng(0).uniform(0, 255, (19, 2, 64, 64, 3)).astype(np.float32)
    filled = load(module_dir)(pairs)
    assert filled.shape == (19, 14, 64, 64, 3)
    third = pairs[:, 0] * (12 / 15) + pairs[:, 1] * (3 / 15)
    np.testing.assert_allclose(filled[:, 2], third, rtol=1e-4, atol=1e-2)


def test_the_video_goes_from_the_start_to_the_end_image(request_fields: dict[str, object]) -> None:
    request = HubRequest.model_validate(request_fields)
    assert sample(request, Work())["videos"] == 1
    folder = read_sample_folder(request.out_dir)
    levels = read_video(folder.videos[0].path).mean((1, 2, 3))
    np.testing.assert_allclose(levels, np.arange(16) * 10, atol=3)
    meta = json.loads((request.out_dir / "meta.json").read_text())
    assert meta["backend"] == "tfhub" and "--module" in meta["command"]


def test_several_videos_differ_where_the_module_draws_noise(
    tmp_path: Path, request_fields: dict[str, object]
) -> None:
    module = saved(tmp_path / "noisy", Noisy())
    fields = request_fields | {"module": str(module), "num": 2}
    sample(HubRequest.model_validate(fields), Work())
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert len({video["frames_sha256"] for video in meta["videos"]}) == 2


@pytest.mark.parametrize(
    ("function", "name", "message"),
    [("fill", "serving", "no signature 'default'"), ("too_few", "default", "another output")],
)
def test_a_module_without_the_signature_is_refused(
    tmp_path: Path, function: str, name: str, message: str
) -> None:
    folder = saved(tmp_path / "other", CrossFade(), function, name)
    with pytest.raises(UserError, match=message) as caught:
        load(folder)
    assert caught.value.exit_code == EXIT_USAGE
    assert "to fix" in caught.value.details


def test_a_published_module_that_was_not_downloaded_names_the_download(
    request_fields: dict[str, object],
) -> None:
    with pytest.raises(UserError, match="no TensorFlow module 'kth'") as caught:
        sample(HubRequest.model_validate(request_fields | {"module": "kth"}), Work())
    assert caught.value.exit_code == EXIT_NO_DATA
    assert caught.value.details["run first"] == "i2v download weights/inbetween-kth"
