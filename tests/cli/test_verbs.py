"""The other verbs, each once through a real worker, and what --json promises of all of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.checkouts import Workplace, make_workplace


@pytest.fixture(scope="module")
def trained_once(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace with the three stages of a model, for copies."""
    workplace = make_workplace(checkout, tmp_path_factory.mktemp("trained") / "place")
    workplace.prepare()
    for stage in ("1", "ae", "2"):
        assert workplace.i2v("train", "cinn", "--stage", stage, "--preset", "demo").returncode == 0
    for name in ("b.png", "a 10.png", "a 9.png", "-x.png"):
        (workplace.place / name).touch()
    return workplace


@pytest.fixture
def trained(trained_once: Workplace, tmp_path: Path) -> Workplace:
    """A workplace with the three stages of a model, to do anything with."""
    shutil.copytree(trained_once.place, tmp_path / "place")
    return Workplace(trained_once.checkout, tmp_path / "place")


ENVELOPE = {"version", "verb", "status", "exit_code", "result", "error", "next"}


@pytest.mark.parametrize(
    ("words", "code", "status"),
    [
        (("runs", "list"), 0, "done"),
        (("download", "synthetic", "--kinds", "fine"), 0, "done"),
        (("download", "synthetic", "--dry-run"), 0, "done"),
        (("download", "synthetic", "--kinds", "bug"), 1, "failed"),
        (("download", "nothing"), 2, "failed"),
        (("download", "--nope"), 2, "failed"),
        (("extract-frames", "synthetic"), 4, "failed"),
        (("data", "list"), 0, "done"),
        (("--version",), 0, "done"),
    ],
)
def test_json_is_one_envelope_whatever_happens(
    words: tuple[str, ...], code: int, status: str, workplace: Workplace
) -> None:
    done = workplace.i2v(*words, "--json")
    envelope = json.loads(done.stdout)
    assert set(envelope) == ENVELOPE
    assert (done.returncode, envelope["exit_code"], envelope["status"]) == (code, code, status)
    assert (envelope["error"] is None) == (code == 0)
    assert envelope["version"] == 1


def test_download_then_extract_name_each_other(workplace: Workplace) -> None:
    first = workplace.json("download", "synthetic", "--kinds", "fine")
    assert first["next"] == "i2v extract-frames synthetic"
    second = workplace.json("extract-frames", "synthetic")
    assert second["next"] == "i2v train cinn --stage 1 --dataset synthetic"
    assert second["result"]["variant_dir"] == str(workplace.data / "synthetic/prepared/64px")


def test_a_folder_gives_its_name_to_the_dataset(workplace: Workplace) -> None:
    folder = workplace.place / "-my clips (2024)"
    folder.mkdir()
    done = workplace.i2v("extract-frames", f"./{folder.name}", "--size", "32")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "data/my_clips_2024/prepared/32px\n"


def test_data_list_prints_a_table(workplace: Workplace) -> None:
    assert workplace.i2v("data", "list").stdout == "dataset    videos\nsynthetic      96\n"


def test_sample_takes_images_in_every_way_they_can_be_named(trained: Workplace) -> None:
    folder = trained.place / "more"
    folder.mkdir()
    for name in ("f10.png", "f9.JPG", "notes.txt"):
        (folder / name).touch()
    words = ("--image", "b.png", "--image", "-x.png", "--image", "more", "a 9.png", "num=2")
    envelope = trained.json("sample", "cinn", "--run", "cinn-stage2-demo", *words, "./a 10.png")
    assert envelope["result"]["num_videos"] == 12
    out_dir = Path(envelope["result"]["out_dir"])
    assert out_dir.parent == trained.runs / "cinn-stage2-demo" / "samples"
    asked = json.loads((out_dir / "meta.json").read_text())
    names = [Path(path).name for path in asked["images"]]
    assert names == ["b.png", "-x.png", "f9.JPG", "f10.png", "a 9.png", "a 10.png"]
    assert envelope["next"] == "i2v report cinn-stage2-demo"


def test_sample_asks_only_for_what_was_said(trained: Workplace) -> None:
    run = ("sample", "cinn", "--run", "cinn-stage2-demo", "--image", "b.png", "--out", "there")
    trained.i2v(*run, "--num", "3", "--temperature", "0.5", "--seed", "9")
    asked = json.loads((trained.place / "there" / "meta.json").read_text())
    assert (asked["num"], asked["temperature"], asked["seed"], asked["frames"]) == (3, 0.5, 9, 16)


def test_a_shard_of_samples_needs_a_folder_that_all_shards_share(trained: Workplace) -> None:
    run = ("sample", "cinn", "--run", "cinn-stage2-demo", "--image", "b.png", "--shard", "0/2")
    done = trained.i2v(*run)
    assert done.returncode == 2
    assert "--shard needs --out" in done.stderr
    shown = trained.i2v(*run, "--out", "there", "--dry-run")
    assert shown.returncode == 0 and "shard: 0/2" in shown.stdout
    refused = trained.i2v(*run[:-1], "2/2", "--out", "there")
    assert refused.returncode == 2 and "must be i/n" in refused.stderr


def test_sample_names_an_image_that_is_not_there(trained: Workplace) -> None:
    done = trained.i2v("sample", "cinn", "--run", "cinn-stage2-demo", "--image", "no.png")
    assert done.returncode == 4
    assert done.stderr.startswith("error: no image 'no.png'\n  looked in   no.png\n")


def test_sample_refuses_a_run_that_is_not_the_whole_model(trained: Workplace) -> None:
    done = trained.i2v("sample", "cinn", "--run", "cinn-stage1-demo", "--image", "b.png")
    assert done.returncode == 2
    assert "holds stage 1 of cinn, not the whole model" in done.stderr


def test_sample_refuses_a_run_of_another_family(trained: Workplace) -> None:
    record = trained.runs / "cinn-stage2-demo" / "run.json"
    record.write_text(record.read_text().replace('"cinn"', '"poke"'))
    done = trained.i2v("sample", "cinn", "--run", "cinn-stage2-demo", "--image", "b.png")
    assert done.returncode == 2
    assert "is of family 'poke', not 'cinn'" in done.stderr


def test_sample_suggests_the_nearest_run(trained: Workplace) -> None:
    done = trained.i2v("sample", "cinn", "--run", "cinn-stage2-dmo", "--image", "b.png")
    assert done.returncode == 4
    assert "did you mean   cinn-stage2-demo" in done.stderr


def test_a_run_may_be_named_by_its_path(trained: Workplace) -> None:
    run = str(trained.runs / "cinn-stage2-demo")
    assert trained.i2v("sample", "cinn", "--run", run, "--image", "b.png").returncode == 0


def test_transfer_hands_the_video_on(trained: Workplace) -> None:
    (trained.place / "v.mp4").touch()
    run = ("transfer", "cinn", "--run", "cinn-stage2-demo", "--source", "v.mp4")
    envelope = trained.json(*run, "--image", "b.png", "--frames", "32")
    asked = json.loads((Path(envelope["result"]["out_dir"]) / "meta.json").read_text())
    assert (asked["source"], asked["frames"]) == (str(trained.place / "v.mp4"), 32)


def test_eval_prints_its_table_and_takes_a_run_by_name(trained: Workplace) -> None:
    done = trained.i2v("eval", "psnr", "ssim", "--source", "cinn-stage2-demo")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "metric  value  unit",
        "psnr     1.50  dB",
        "ssim     1.50  dB",
    ]
    assert done.stderr.endswith("next: i2v report cinn-stage2-demo\n")


def test_numbers_of_a_folder_of_samples_belong_to_its_run(trained: Workplace) -> None:
    samples = trained.runs / "cinn-stage2-demo" / "samples" / "one"
    elsewhere = trained.place / "elsewhere"
    for folder in (samples, elsewhere):
        folder.mkdir(parents=True)
    for folder, place in ((samples, samples.parents[1]), (elsewhere, elsewhere)):
        planned = trained.json("eval", "psnr", "--source", str(folder), "--dry-run")
        assert planned["result"]["outputs"]["metrics"] == str(place / "metrics.json")


def test_report_prints_the_page(trained: Workplace) -> None:
    done = trained.i2v("report", "cinn-stage2-demo")
    assert done.stdout == "runs/cinn-stage2-demo/report/index.html\n"


def test_runs_are_listed_shown_and_removed(trained: Workplace) -> None:
    listed = trained.i2v("runs", "list").stdout.splitlines()
    assert [line.split()[:5] for line in listed[1:]] == [
        ["cinn-ae-demo", "cinn", "ae", "done", "10"],
        ["cinn-stage1-demo", "cinn", "1", "done", "10"],
        ["cinn-stage2-demo", "cinn", "2", "done", "10"],
    ]
    shown = trained.i2v("runs", "show", "cinn-ae-demo").stdout
    assert "# status: done" in shown
    assert "backbone: efficientnet-lite0" in shown
    asked = trained.i2v("runs", "rm", "cinn-ae-demo")
    assert asked.returncode == 2
    assert "i2v runs rm cinn-ae-demo --yes" in asked.stderr
    assert trained.i2v("runs", "rm", "cinn-ae-demo", "--yes").returncode == 0
    assert sorted(path.name for path in trained.runs.iterdir()) == [
        "cinn-stage1-demo",
        "cinn-stage2-demo",
    ]


def test_runs_rm_deletes_nothing_but_runs(trained: Workplace) -> None:
    done = trained.i2v("runs", "rm", str(trained.data), "--yes")
    assert done.returncode == 4
    assert trained.data.is_dir()


def test_a_damaged_run_is_named(trained: Workplace) -> None:
    (trained.runs / "cinn-ae-demo" / "run.json").write_text("{")
    done = trained.i2v("runs", "show", "cinn-ae-demo")
    assert done.returncode == 1
    assert "the run 'cinn-ae-demo' cannot be read" in done.stderr
    assert "i2v runs rm cinn-ae-demo" in done.stderr
    assert trained.i2v("runs", "rm", "cinn-ae-demo", "--yes").returncode == 0
    assert not (trained.runs / "cinn-ae-demo").exists()


def test_seed_and_device_are_taken_by_verbs_they_mean_nothing_to(trained: Workplace) -> None:
    done = trained.i2v("report", "cinn-stage2-demo", "--seed", "3", "--device", "cpu")
    assert done.returncode == 0
    assert "warning: --seed makes no difference here" in done.stderr


def test_demo_goes_through_every_step_and_skips_what_is_done(workplace: Workplace) -> None:
    words = ("demo", "--kinds", "fine", "--clips", "tiny")
    done = workplace.i2v(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "runs/cinn-stage2-demo/report/index.html\n"
    assert (workplace.place / done.stdout.strip()).is_file()
    assert "1/7  i2v download synthetic --kinds fine --preset tiny --size 64" in done.stderr
    assert "7/7  i2v report cinn-stage2-demo" in done.stderr
    assert "already done" not in done.stderr
    again = workplace.i2v(*words)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("already done") == 6


def test_demo_may_be_put_somewhere_else(workplace: Workplace) -> None:
    done = workplace.i2v("demo", "--kinds", "fine", "--out", "there")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "there/runs/cinn-stage2-demo/report/index.html\n"
    assert not workplace.runs.exists()


def test_demo_can_say_what_it_would_do(workplace: Workplace) -> None:
    done = workplace.i2v("demo", "--dry-run")
    own = "data.variant=64px 'data.include=[fire/*]'"
    assert done.stdout.splitlines()[2] == f"i2v train cinn --stage 1 --preset demo {own}"
    assert len(done.stdout.splitlines()) == 7
