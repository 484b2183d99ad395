"""The page of a run: read as a browser would, with an HTML parser."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import yaml

from pipelines.events import UserError, Work
from pipelines.io.images import write_png
from pipelines.io.video import read_video, write_gif, write_mp4
from pipelines.report.config import ReportRequest
from pipelines.report.page import report

NASTY = "</script><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """What is on a page: elements with their attributes, and all its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.texts: list[str] = []
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in {"img", "meta", "input"}:
            self._open.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag, f"<{tag}> is closed where it is not open"

    def handle_data(self, data):
        tag, attributes = self._open[-1] if self._open else ("", {})
        if tag == "script":
            self.scripts[attributes.get("id") or f"script {len(self.scripts)}"] = data
        elif tag != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def clip(value: int = 100, num_frames: int = 4) -> np.ndarray:
    frames = np.full((num_frames, 16, 16, 3), value, np.uint8)
    frames[:, :8] += (np.arange(num_frames, dtype=np.uint8) * 10)[:, None, None, None]
    return frames


def make_run(path: Path, *, stage: str = "1", events: list[dict] | None = None, **links) -> Path:
    path.mkdir(parents=True)
    record = {"family": "cinn", "stage": stage, "version": 1, "status": "done"}
    (path / "run.json").write_text(json.dumps(record))
    config = {"data": {"dataset": "synthetic", "include": ["clouds/*"]}}
    request = {"config": config, "stage": stage, **{k: str(v) for k, v in links.items()}}
    (path / "config.yaml").write_text(yaml.safe_dump(request))
    lines = [json.dumps(each) for each in events or []]
    (path / "events.jsonl").write_text("\n".join(lines))
    return path


def add_videos(
    run: Path, name: str, kind: str, scenes: dict[str, int], num_samples: int = 1
) -> None:
    folder = run / "samples" / name
    entries = []
    for scene, value in scenes.items():
        for sample in range(num_samples):
            stem = f"v{len(entries)}"
            write_mp4(folder / f"{stem}.mp4", clip(value + sample), 8)
            write_gif(folder / f"{stem}.gif", clip(value + sample), 8)
            entry = {"file": f"{stem}.mp4", "gif": f"{stem}.gif", "scene": scene}
            entries.append(entry | ({"sample": sample} if num_samples > 1 else {}))
    (folder / "meta.json").write_text(json.dumps({"kind": kind, "fps": 8, "videos": entries}))


def write_report(run: Path, work: Work | None = None, **settings) -> Page:
    outcome = report(ReportRequest(run_dir=run, **settings), work or Work())
    return Page(Path(outcome["report"]))


def metric(step: int, **values: float) -> dict:
    return {"event": "metric", "time": 0.0, "step": step, "values": values}


@pytest.fixture
def run(tmp_path, trained) -> Path:
    """A trained stage 2 with everything a page can show, of one's own."""
    return Path(shutil.copytree(trained, tmp_path / "runs" / "second"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    tmp_path = tmp_path_factory.mktemp("trained")
    events = [metric(step, loss=3.0 / step, seconds_per_step=0.5) for step in (10, 20, 30)]
    stage1 = make_run(tmp_path / "runs" / "first", events=events)
    add_videos(stage1, "recon", "reconstruction", {"a": 60})
    path = make_run(tmp_path / "runs" / "second", stage="2", events=events, stage1_run=stage1)
    add_videos(path, "real", "real", {"a": 50, "b": 90})
    add_videos(path, "sample", "sample", {"a": 70, "b": 80}, num_samples=2)
    (path / "metrics.json").write_text(json.dumps({"version": 1, "evaluations": [evaluation()]}))
    return path


def evaluation(**changes) -> dict:
    result = {
        "metric": "psnr",
        "value": 24.25,
        "unit": "dB",
        "better": "higher",
        "standard_error": 0.5,
        "references": {"static first frame": 20.5},
        "details": {},
        "warnings": ["few videos"],
        "protocol_text": "8 videos, 16 frames of 64 x 64 px",
    }
    return {"label": "held-out", "results": [result | changes]}


def test_real_reconstructed_and_sampled_videos_of_a_scene_stand_side_by_side(run):
    page = write_report(run)
    labels = [each["aria-label"] for each in page.all("video")]
    assert labels == [
        "a: real",
        "a: reconstruction",
        "a: sample 1",
        "a: sample 2",
        "b: real",
        "b: sample 1",
        "b: sample 2",
    ]


def test_videos_play_silently_in_place_and_in_a_loop_even_without_the_script(run):
    for video in write_report(run).all("video"):
        assert {"autoplay", "loop", "muted", "playsinline"} <= video.keys()


def test_everything_the_page_shows_lies_beside_it(run):
    page = write_report(run)
    shown = [each for name in ("video", "img") for each in page.all(name)]
    paths = [each["src"] for each in shown] + [each["data-fallback"] for each in page.all("video")]
    assert len(paths) > 10
    for path in paths:
        assert (run / "report" / unquote(path)).stat().st_size > 0


def test_nothing_is_fetched_from_anywhere(run):
    page = write_report(run)
    assert "://" not in page.source.replace("http://www.w3.org/", "")  # names of XML namespaces
    assert not page.all("link")
    assert all("src" not in each for each in page.all("script"))
    assert "fetch(" not in page.source


def test_the_folder_can_be_moved(run, tmp_path):
    write_report(run)
    moved = (run / "report").rename(tmp_path / "elsewhere")
    for video in Page(moved / "index.html").all("video"):
        assert len(read_video(moved / unquote(video["src"]))) == 4


def test_curves_of_the_run_and_of_the_runs_it_was_built_on_are_in_the_page(run):
    page = write_report(run)
    data = json.loads(page.scripts["curve-data"])
    assert [[chart["title"] for chart in each] for each in data] == [
        ["loss", "seconds per step"],
        ["loss", "seconds per step"],
    ]
    assert data[0][0]["series"][0]["values"] == pytest.approx([0.3, 0.15, 0.1])
    assert len([each for each in page.all("div") if each.get("class") == "chart"]) == 4


def test_numbers_come_with_their_protocol_reference_and_warnings(run):
    text = write_report(run).text
    for part in ("24.25 ± 0.5000", "dB", "20.5", "static first frame", "16 frames of 64 x 64 px"):
        assert part in text
    assert "few videos" in text


def test_numbers_of_a_single_folder_of_videos_are_shown_too(run):
    text = json.dumps({"evaluations": [evaluation(metric="ssim", value=0.87654)]})
    (run / "samples" / "sample" / "metrics.json").write_text(text)
    page = write_report(run)
    assert len(page.all("table")) == 2
    assert "0.8765" in page.text


def test_what_was_measured_alike_stands_in_one_table_too(run):
    labels = ("crossfade", "model")
    found = [evaluation() | {"label": label} for label in labels] + [evaluation(metric="ssim")]
    (run / "metrics.json").write_text(json.dumps({"evaluations": found}))
    before = write_report(run)
    (run / "metrics.json").write_text(json.dumps({"evaluations": found[1:]}))
    after = write_report(run)
    assert len(before.all("table")) - len(after.all("table")) == 2, "one of each, and one of both"
    assert "all of them" in before.text and "all of them" not in after.text


def test_settings_of_all_runs_are_in_the_page(run):
    page = write_report(run)
    assert "dataset: synthetic" in page.text
    assert page.text.count("config.yaml") == 2


def test_the_header_says_what_the_run_is(run):
    (run / "checkpoints" / "step-00001200").mkdir(parents=True)
    text = write_report(run).text
    for part in ("second", "cinn stage 2", "done", "step 1,200", "15 s", "synthetic (clouds/*)"):
        assert part in text


def test_names_and_texts_from_files_cannot_become_markup(tmp_path):
    events = [{"event": "warning", "message": NASTY}, metric(1, **{NASTY: 1.0})]
    run = make_run(tmp_path / "run & <b>", events=events, note=NASTY)
    add_videos(run, "x", "sample", {NASTY: 50})
    (run / "metrics.json").write_text(
        json.dumps({"evaluations": [evaluation(metric=NASTY, references={NASTY: 1.0}, unit=NASTY)]})
    )
    page = write_report(run)
    assert "onerror" not in {name for _, attributes in page.elements for name in attributes}
    assert not page.all("b") or all(not each for each in page.all("b"))
    assert json.loads(page.scripts["curve-data"])[0][0]["title"] == NASTY
    assert NASTY in page.text


def test_a_second_report_replaces_the_first_whole(run):
    write_report(run)
    stray = run / "report" / "media" / "stray.mp4"
    stray.write_bytes(b"")
    write_report(run)
    assert not stray.exists()
    assert not list(run.glob(".report*"))


def test_a_folder_that_is_no_report_is_never_replaced(run, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    with pytest.raises(UserError, match="not a report"):
        write_report(run, out_dir=precious)
    assert (precious / "thesis.txt").read_text() == "years"


def test_a_failure_leaves_the_old_report(run, monkeypatch):
    write_report(run)
    before = (run / "report" / "index.html").read_text()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("pipelines.report.sections.settings", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(run)
    assert (run / "report" / "index.html").read_text() == before
    assert not list(run.glob(".report*"))


def test_a_run_with_nothing_but_settings_has_a_page(tmp_path):
    page = write_report(make_run(tmp_path / "bare"))
    assert [each["id"] for each in page.all("section")] == ["settings"]
    assert [each["href"] for each in page.all("a")] == ["#settings"]


def test_a_linked_run_that_is_gone_is_passed_over(tmp_path):
    run = make_run(
        tmp_path / "run", stage="2", stage1_run=tmp_path / "gone", ae_run=tmp_path / "run"
    )
    assert "config.yaml" in write_report(run).text


def test_only_so_many_scenes_and_samples_are_shown_and_the_page_says_so(tmp_path):
    run = make_run(tmp_path / "run")
    add_videos(run, "x", "sample", {f"scene{i}": 50 for i in range(4)}, num_samples=3)
    page = write_report(run, max_scenes=2, max_samples=1)
    assert [each["aria-label"] for each in page.all("video")] == [
        "scene0: sample 1",
        "scene1: sample 1",
    ]
    assert "2 of 4 start images are shown" in page.text


def test_folders_of_frames_become_videos_that_browsers_play(tmp_path):
    run = make_run(tmp_path / "run")
    for index, frame in enumerate(clip()):
        write_png(run / "samples" / "x" / "a b" / f"{index}.png", frame)
    (video,) = write_report(run).all("video")
    shown = read_video(run / "report" / unquote(video["src"]))
    assert shown.shape == clip().shape
    assert np.abs(shown.astype(int) - clip()).mean() < 6


def test_a_video_that_cannot_be_read_is_left_out_with_a_warning(tmp_path):
    run = make_run(tmp_path / "run")
    add_videos(run, "x", "sample", {"good": 50})
    folder = run / "samples" / "y"
    folder.mkdir()
    (folder / "broken.avi").write_bytes(b"no video")
    heard = []

    class Listening(Work):
        def warning(self, message: str) -> None:
            heard.append(message)

    page = write_report(run, Listening())
    assert [each["aria-label"] for each in page.all("video")] == ["good: sample"]
    assert any("broken.avi" in each for each in heard)


def test_a_grid_of_images_is_shown_where_a_run_has_no_videos(tmp_path):
    run = make_run(tmp_path / "run", stage="ae")
    write_png(run / "samples" / "images" / "grid.png", clip()[0])
    (image,) = write_report(run).all("img")
    assert image["alt"] == "cinn stage ae: images"
    assert (run / "report" / unquote(image["src"])).is_file()


@pytest.mark.parametrize(
    "text", ["", "[]", '{"evaluations": 3}', '{"evaluations": [{"results": 1}]}']
)
def test_a_metrics_file_that_is_not_ours_gives_no_table(tmp_path, text):
    run = make_run(tmp_path / "run")
    (run / "metrics.json").write_text(text)
    assert not write_report(run).all("table")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError):
        write_report(tmp_path)
