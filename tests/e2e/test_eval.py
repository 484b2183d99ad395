"""`i2v eval` as typed: FVD in both worlds, one table from one pass, with made-up weights."""

from __future__ import annotations

import re
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from i2v_cli import locations
from tests.e2e.conftest import Answer, Desk

ASKED = ("fvd", "fvd-tf", "lpips", "ssim", "psnr", "fid", "diversity")
SIZE_PX = 32


def write_video(folder: Path, scene: int, shift: int) -> None:
    """Moving stripes as BMP images, which no library is needed to write."""
    folder.mkdir(parents=True)
    for frame in range(9):
        row = bytes(
            (x * (scene + 3) + 9 * frame + shift * (channel + 1)) % 256
            for x in range(SIZE_PX)
            for channel in range(3)
        )
        pixels = row * SIZE_PX
        head = b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54)
        sizes = struct.pack("<IiiHHIIiiII", 40, SIZE_PX, SIZE_PX, 1, 24, 0, 0, 0, 0, 0, 0)
        (folder / f"{frame}.bmp").write_bytes(head + sizes + pixels)


@pytest.fixture(scope="module")
def table_desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A working folder with two real videos and two samples of each."""
    desk = Desk(tmp_path_factory.mktemp("eval"))
    for scene in range(2):
        write_video(desk.path / "real" / f"clip{scene}", scene, 0)
        for sample in range(2):
            write_video(desk.path / "fake" / f"clip{scene}-s{sample}", scene, 10 + 20 * sample)
    return desk


@pytest.fixture(scope="module")
def answer(table_desk: Desk) -> Answer:
    words = ("--source", "fake", "--real", "real", "--generated-weights", "--no-baselines")
    return table_desk.i2v("eval", *ASKED, *words, "--row", "markdown", "--json")


def by_metric(found: dict[str, Any]) -> dict[str, Any]:
    return {each["metric"]: each for each in found["results"]}


def test_any_set_of_metrics_makes_one_table(answer: Answer) -> None:
    found = by_metric(answer.result)
    wanted = {*ASKED[:-1], "diversity (pixels)", "diversity (embedded)"}
    assert set(found) == wanted
    assert all(each["protocol"]["num_videos"] == 4 for each in found.values())


def test_fvd_in_pytorch_and_in_tensorflow_agree(answer: Answer) -> None:
    found = by_metric(answer.result)
    assert found["fvd"]["value"] == pytest.approx(found["fvd-tf"]["value"], rel=1e-3)
    assert found["fvd"]["value"] > 0
    hashes = {found[name]["protocol"]["extractor_sha256"] for name in ("fvd", "fvd-tf")}
    assert len(hashes) == 1


def test_made_up_weights_are_said_wherever_a_number_comes_from_them(answer: Answer) -> None:
    found = by_metric(answer.result)
    for name in ("fvd", "fvd-tf", "lpips", "fid"):
        assert "made-up weights" in found[name]["protocol_text"]
    assert "made-up" not in found["psnr"]["protocol_text"]


def test_the_alias_measures_the_same(table_desk: Desk, answer: Answer) -> None:
    words = ("--source", "fake", "--real", "real", "--generated-weights", "--no-baselines")
    found = by_metric(table_desk.i2v("eval-fvd", *words, "--json").result)
    assert found["fvd"]["value"] == pytest.approx(by_metric(answer.result)["fvd"]["value"])


def test_a_protocol_nobody_has_is_refused_with_the_nearest(table_desk: Desk) -> None:
    refused = table_desk.i2v("eval", "fvd/cin", "--source", "fake")
    assert refused.code == 2
    assert re.search(r"did you mean +cinn$", refused.err, re.MULTILINE)


def test_metrics_without_their_weights_name_the_download(table_desk: Desk) -> None:
    refused = table_desk.i2v("eval", "fvd", "--source", "fake", "--real", "real")
    assert refused.code == 4
    assert "i2v download weights/i3d-tf" in refused.err
    assert "--generated-weights" in refused.err


def test_a_run_without_samples_is_measured_on_a_fixed_list(desk: Desk) -> None:
    run_dir = desk.path / "runs" / "bare"
    left_out = shutil.ignore_patterns("samples", "metrics.json", "report")
    shutil.copytree(desk.run_dir("2"), run_dir, ignore=left_out)
    words = ("--source", "bare", "num_samples=2", "num_images=4")
    first = desk.i2v("eval", "psnr", "diversity", *words, "--json").result
    assert (run_dir / "evaluation.json").is_file()
    again = desk.i2v("eval", "psnr", "diversity", *words, "--json").result
    assert first["results"][0]["value"] == again["results"][0]["value"]
    assert "frames in memory" in first["results"][0]["protocol_text"]


def test_the_self_test_finds_both_worlds_equal(table_desk: Desk) -> None:
    found = table_desk.i2v("eval", "--self-test", "--json").result
    assert found["relative_difference"] < 1e-3
    assert "made up" in found["weights"]


def test_a_hub_cache_and_the_modules_own_folder_give_one_number(
    table_desk: Desk, answer: Answer
) -> None:
    by_path = by_metric(answer.result)["fvd-tf"]
    digest = by_path["protocol"]["extractor_sha256"]
    module = locations.i2v_home() / "metrics" / f"i3d-made-up-{digest[:12]}"
    cache = table_desk.path / "hub-cache"
    cache.mkdir()
    (cache / "092225fb776e28d6d64ac605ab6be03f18dd2027").symlink_to(module)
    words = ("--source", "fake", "--real", "real", "--no-baselines", f"weights.i3d-tf={cache}")
    found = by_metric(table_desk.i2v("eval", "fvd-tf", *words, "--json").result)["fvd-tf"]
    assert found["value"] == pytest.approx(by_path["value"], rel=1e-6)
    assert found["protocol"]["extractor_sha256"] == digest


def test_a_folder_that_is_no_hub_module_is_named(table_desk: Desk) -> None:
    broken = table_desk.path / "broken"
    broken.mkdir()
    words = ("--source", "fake", "--real", "real", f"weights.i3d-tf={broken}")
    refused = table_desk.i2v("eval", "fvd-tf", *words)
    assert refused.code == 4
    assert "'broken' is no TensorFlow hub module" in refused.err
    assert "saved_model.pb" in refused.err
