"""DeepFashion and Market-1501, from their archives to images with joints."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pipelines.datasets import deepfashion, market, prepare
from pipelines.datasets.config import ExtractRequest
from pipelines.datasets.fetch import fetch
from pipelines.datasets.fetch_config import SourceSet
from pipelines.events import UserError, Work
from pipelines.io.images import read_image
from pipelines.io.packed import PackedVideos
from tests.pipelines.datasets.fetch_cases import Said, request_for
from tests.pipelines.datasets.person_files import write_archive, write_collection, write_index

COLLECTIONS = pytest.mark.parametrize(
    "module", [deepfashion, market], ids=lambda each: each.__name__
)


def _extract(data_root: Path, raw: Path, module: ModuleType, **options: Any) -> PackedVideos:
    name = module.COLLECTION.name
    usual = {"name": name, "kind": name, "size_px": 32, "jobs": 1, "source": raw}
    request = ExtractRequest(data_root=data_root, **{**usual, **options})
    return PackedVideos(Path(prepare.extract_frames(request, Work())["variant_dir"]))


def _rejected(packed: PackedVideos) -> dict[str, str]:
    lines = (packed.dir / "rejected.jsonl").read_text().splitlines()
    return {row["id"]: row["reason"] for row in map(json.loads, lines)}


def _collection(folder: Path, module: ModuleType, **options: Any) -> dict[str, Any]:
    return write_collection(folder, body=module.COLLECTION.body, **options)


@COLLECTIONS
def test_an_archive_becomes_images_with_joints(tmp_path: Path, module: ModuleType) -> None:
    name = module.COLLECTION.name
    index = _collection(tmp_path / "made", module)
    (tmp_path / "hand").mkdir()
    write_archive(tmp_path / "hand" / f"{name}.tar.gz", tmp_path / "made")
    archive = rf"{name}\.tar\.gz"
    sources = SourceSet.model_validate(
        {
            **{"about": "a test", "terms": "none", "citation": "nobody"},
            "sources": [
                {
                    "kind": "https",
                    "files": [{"name": f"{name}.tar.gz", "urls": [f"https://example.org/{name}"]}],
                }
            ],
            "unpack": [{"match": archive, "into": name}],
        }
    )
    request = request_for(tmp_path, sources, dataset=name, from_dir=tmp_path / "hand")
    fetch(request, Said())
    raw = tmp_path / "data" / name / "raw"
    packed = _extract(tmp_path / "data", raw, module, source=None)

    kept = [number for number in range(12) if number % 5 != 4]
    assert packed.ids == [index["imgs"][number].removesuffix(".jpg") for number in kept]
    assert set(_rejected(packed).values()) == {"no whole body"}
    assert (packed.num_frames == 1).all()
    joints = packed.extra(f"joints_{name}")
    for row, number in enumerate(kept):
        assert np.allclose(joints(row, 0, 1)[0], index["joints"][number], atol=1e-6)
        image = read_image(tmp_path / "made" / index["imgs"][number], size_px=32)
        assert np.array_equal(packed.frames(row, 0, 1)[0], image)
        assert packed.rows[row].split == ("train" if index["train"][number] else "test")
    batch = np.concatenate([packed.frames(row, 0, 1) for row in packed.select("train")])
    assert batch.shape == (len(packed.select("train")), 32, 32, 3) and len(batch) > 4


def test_the_index_may_lie_in_the_raw_folder_itself(tmp_path: Path) -> None:
    _collection(tmp_path / "raw", market, count=5)
    packed = _extract(tmp_path, tmp_path / "raw", market)
    assert len(packed) == 4 and packed.rows[0].original_size == (64, 64)


def test_one_and_two_processes_give_the_same_bytes(tmp_path: Path) -> None:
    _collection(tmp_path / "raw", market)
    folders = [
        _extract(tmp_path / f"{jobs}", tmp_path / "raw", market, jobs=jobs).dir for jobs in (1, 2)
    ]
    for name in ("frames-000.u8", "videos.jsonl", "extra/joints_market.npy", "rows.npz"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_images_that_cannot_be_used_are_named_and_the_rest_is_prepared(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    index = _collection(raw, deepfashion)
    index["imgs"][1] = "../outside.jpg"
    index["imgs"][2] = "/etc/passwd"
    index["imgs"][3] = index["imgs"][0]
    (raw / index["imgs"][5]).unlink()
    (raw / index["imgs"][6]).write_bytes(b"no image")
    write_index(raw, index)
    packed = _extract(tmp_path, raw, deepfashion)
    assert len(packed) == 5
    reasons = _rejected(packed)
    assert reasons["../outside.jpg"] == reasons["/etc/passwd"] == "refused"
    assert reasons[index["imgs"][0]] == "listed twice"
    assert reasons[index["imgs"][5]] == "missing"
    assert reasons[index["imgs"][6].removesuffix(".jpg")] == "unreadable"


def _changed(**values: Any) -> Any:
    def change(index: dict[str, Any]) -> object:
        return {name: each for name, each in {**index, **values}.items() if each is not None}

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda index: list(index), "holds a list"),
        (_changed(joints=None), "has no joints"),
        (_changed(joints=np.zeros((12, 17, 2))), "(12, 17, 2)"),
        (_changed(joints=np.full((12, 18, 2), np.nan)), "not finite"),
        (_changed(joints=np.full((12, 18, 2), "x")), "not numbers"),
        (_changed(joints="none"), "joints is a str"),
        (_changed(train=[True, False]), "train has the shape (2,)"),
        (_changed(train=[2] * 12), "yes or no"),
        (_changed(imgs=[]), "imgs is not a list of paths"),
        (_changed(imgs=[1] * 12), "imgs is not a list of paths"),
    ],
)
def test_an_index_of_another_form_is_an_error_before_any_work(
    tmp_path: Path, change: Any, said: str
) -> None:
    index = _collection(tmp_path / "raw", market)
    write_index(tmp_path / "raw", change(index))
    with pytest.raises(UserError, match="is not the index of a collection") as caught:
        _extract(tmp_path / "data", tmp_path / "raw", market)
    assert caught.value.exit_code == 4
    assert said in caught.value.details["reason"]
    assert "to fix" in caught.value.details
    assert not (tmp_path / "data").exists()


def test_a_missing_index_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no images of 'deepfashion'") as caught:
        _extract(tmp_path, tmp_path / "raw", deepfashion)
    assert caught.value.details["run first"] == "i2v download deepfashion"
