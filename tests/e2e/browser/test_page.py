"""The page around the picture: pictures and clips that are sent, saving, keys, themes, widths."""

from __future__ import annotations

import base64
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.e2e.browser.conftest import DESKTOP, PHONE, SCREENSHOTS, Serving, opened
from tests.e2e.browser.test_poking import SAVED, choose_run, drag, wait_for_answer

DROP = """([name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const files = new DataTransfer();
  files.items.add(new File([bytes], name, { type }));
  const how = { dataTransfer: files, bubbles: true, cancelable: true };
  document.dispatchEvent(new DragEvent("drop", how));
}"""
UNNAMED = """() => [...document.querySelectorAll("button, input, select, [tabindex='0']")]
  .filter((each) => each.checkVisibility() || each.matches("[type=file]"))
  .filter((each) => !(each.getAttribute("aria-label") || each.labels?.[0]?.textContent.trim()
    || each.textContent.trim()))
  .map((each) => each.outerHTML)"""


def drop(page: Page, name: str, kind: str, data: bytes) -> None:
    page.evaluate(DROP, [name, kind, base64.b64encode(data).decode()])


def saved(page: Page, label: str) -> Path:
    with page.expect_download() as download:
        page.get_by_role("button", name=label, exact=True).click()
    return download.value.path()


@pytest.fixture(scope="module")
def photo(serving: Serving) -> bytes:
    """A picture of a user, from somewhere else."""
    gallery = Path(__file__).parents[2] / "gallery"
    return next(gallery.glob("*.png")).read_bytes()


def test_an_answer_is_saved_in_every_form_and_lies_in_the_session(
    page: Page, serving: Serving
) -> None:
    choose_run(page, "plants")
    drag(page, (0.5, 0.4), (0.1, 0.0))
    wait_for_answer(page)
    assert saved(page, "MP4").read_bytes()[4:8] == b"ftyp"
    assert saved(page, "GIF").read_bytes()[:4] == b"GIF8"
    assert saved(page, "Arrow PNG").read_bytes()[:4] == b"\x89PNG"
    page.get_by_text("Command line").click()
    words = shlex.split(page.locator("#command").text_content() or "")
    assert words[:3] == ["i2v", "sample", "poke"]
    made = serving.desk.i2v(*words[1:], "--out", "again", "--json")
    assert made.result["videos"] == 1
    expect(page.locator("#folder")).to_contain_text(str(serving.session_dir))
    assert list(serving.session_dir.glob("answers/*-poke/answer.mp4"))


def test_an_own_picture_is_taken_by_button_and_by_drop(page: Page, photo: bytes) -> None:
    choose_run(page, "plants")
    file = {"name": "holiday.png", "mimeType": "image/png", "buffer": photo}
    page.get_by_label("Add picture").set_input_files([file])  # type: ignore[list-item]
    mine = page.get_by_role("button", name="holiday.png")
    expect(mine).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_label("The true answer")).to_be_hidden()
    drag(page, (0.5, 0.5), (0.1, 0.1))
    wait_for_answer(page)
    drop(page, "other.png", "image/png", photo)
    expect(page.get_by_role("button", name="other.png")).to_have_attribute("aria-pressed", "true")
    drag(page, (0.5, 0.5), (0.1, 0.1))
    wait_for_answer(page)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "This is no picture"),
        ("half.png", b"\x89PNG\r\n\x1a\n" + bytes(40), "Cannot read the picture"),
    ],
)
def test_a_file_that_is_no_picture_is_refused_in_words(
    name: str, data: bytes, words: str, page: Page
) -> None:
    drop(page, name, "image/png", data)
    expect(page.locator("#alert")).to_contain_text(f"{name}: {words}")
    expect(page.locator(".thumbnail.busy")).to_have_count(0)


def wall_frames(page: Page) -> list[str]:
    frames: Any = page.locator(".tile:not(.start):not(.slot) canvas").evaluate_all(
        "(all) => all.map((each) => each.toDataURL())"
    )
    return list(frames)


def settled_wall(page: Page, index: int) -> list[str]:
    expect(page.locator(".tile.empty")).to_have_count(0)
    expect(page.locator("#save-buttons button").first).to_be_enabled()
    page.get_by_label("Frame", exact=True).fill(str(index))
    return wall_frames(page)


def test_futures_of_a_picture_are_drawn_again_calmer_and_saved(page: Page) -> None:
    choose_run(page, "cinn-stage2-tiny")
    first = settled_wall(page, 8)
    assert len(first) == 8 and len(set(first)) == 8
    page.get_by_role("button", name="Another draw").click()
    second = settled_wall(page, 8)
    assert not set(first) & set(second)
    temperature = page.locator(".field", has_text="Temperature").locator("input")
    temperature.fill("0")
    temperature.dispatch_event("change")
    expect(page.locator(".tile.empty")).to_have_count(0)
    assert len(set(settled_wall(page, 8))) == 1
    page.get_by_role("button", name="Video 3").click()
    assert saved(page, "MP4").read_bytes()[4:8] == b"ftyp"
    assert saved(page, "MP4 of all").read_bytes()[4:8] == b"ftyp"
    page.get_by_text("Command line").click()
    expect(page.locator("#command")).to_contain_text("--temperature 0.0")


def test_a_dropped_clip_gives_its_motion_to_the_picture(page: Page) -> None:
    choose_run(page, "cinn-stage2-tiny")
    frames = page.locator(".field", has_text="Frames").locator("input")
    frames.fill("20")
    frames.dispatch_event("change")
    settled_wall(page, 1)
    clip = saved(page, "GIF").read_bytes()
    drop(page, "motion.gif", "image/gif", clip)
    expect(page.get_by_role("button", name="Transfer")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".tile.start")).to_contain_text("motion.gif")
    start, end = settled_wall(page, 0), settled_wall(page, 8)
    assert len(start) == 1 and start != end
    drop(page, "noise.gif", "image/gif", b"noise")
    expect(page.locator("#alert")).to_contain_text("This is no clip")


class Held:
    """Answers of the server to an address that wait until they are let go."""

    def __init__(self, page: Page, address: str) -> None:
        self._waiting: list[Route] | None = []
        page.route(address, self._hold)

    def _hold(self, route: Route) -> None:
        if self._waiting is None:
            route.continue_()
        else:
            self._waiting.append(route)

    def let_go(self) -> None:
        """Have them answered, and all that follow."""
        waiting, self._waiting = self._waiting or [], None
        for route in waiting:
            route.continue_()


def leave_for(page: Page, name: str, asked: str) -> None:
    """Choose a model and go on as soon as this address was asked for."""
    with page.expect_request(asked):
        page.locator("#run").select_option(name)


def take_in(page: Page, held: Held, address: str) -> None:
    """Let an answer come and the page make of it what it will."""
    with page.expect_response(address) as late:
        held.let_go()
    late.value.finished()
    page.wait_for_timeout(200)


def thumbnails(page: Page) -> list[str]:
    names: Any = page.locator(".thumbnail").evaluate_all("(all) => all.map((each) => each.title)")
    return list(names)


def test_an_offer_of_pictures_that_comes_late_is_not_made_to_another_model(page: Page) -> None:
    choose_run(page, "plants")
    offered, address = thumbnails(page), "**/api/examples?run=controlled"
    late = Held(page, address)
    leave_for(page, "controlled", address)
    choose_run(page, "plants")
    take_in(page, late, address)
    assert thumbnails(page) == offered


def test_a_picture_that_comes_late_does_not_reach_the_stage_of_another_model(page: Page) -> None:
    picture, offer = "**/api/pictures/*", "**/api/examples?run=plants"
    late, later = Held(page, picture), Held(page, offer)
    leave_for(page, "controlled", picture)
    leave_for(page, "plants", offer)
    take_in(page, late, picture)
    expect(page.locator(".thumbnail img:not([src])")).to_have_count(0)
    expect(page.locator("#stage[data-picture]")).to_have_count(0)
    later.let_go()
    expect(page.locator("#stage[data-picture]")).to_be_visible()
    drag(page, (0.5, 0.4), (0.1, 0.0))
    wait_for_answer(page)


def test_a_clip_that_comes_late_leaves_the_stage_to_what_was_chosen_since(page: Page) -> None:
    choose_run(page, "moved")
    settled_wall(page, 1)
    clip, address = saved(page, "GIF").read_bytes(), "**/api/clips"
    late = Held(page, address)
    with page.expect_request(address):
        drop(page, "motion.gif", "image/gif", clip)
    choose_run(page, "plants")
    take_in(page, late, address)
    drag(page, (0.5, 0.4), (0.1, 0.0))
    wait_for_answer(page)
    expect(page.locator(".tile")).to_have_count(0)


def test_a_click_says_where_the_arm_shall_end(page: Page) -> None:
    choose_run(page, "controlled")
    expect(page.locator("#hint")).to_contain_text("the arm shall end there")
    place = page.get_by_role("application", name="Where the arm shall end")
    place.click(position={"x": 30, "y": 60})
    first = settled_wall(page, 8)
    page.get_by_role("application", name="Where the arm shall end").press("ArrowRight")
    for _ in range(8):
        page.get_by_role("application", name="Where the arm shall end").press("ArrowRight")
    page.get_by_role("application", name="Where the arm shall end").press("Enter")
    second = settled_wall(page, 8)
    assert not set(first) & set(second)
    page.get_by_text("Command line").click()
    expect(page.locator("#command")).to_contain_text("--endpoint 0.")


def test_the_key_is_out_of_sight_survives_a_reload_and_is_asked_for_when_missing(
    browser: Browser, page: Page, serving: Serving
) -> None:
    origin, _, token = serving.url.partition("/#token=")
    assert token not in page.url and token not in page.content()
    page.reload()
    expect(page.locator(".thumbnail img[src]").first).to_be_visible()
    stranger = browser.new_context().new_page()
    stranger.goto(origin)
    expect(stranger.get_by_role("heading", name="This page needs its key")).to_be_visible()
    stranger.get_by_label("Address or key").fill("wrong")
    stranger.get_by_role("button", name="Open").click()
    expect(stranger.get_by_role("heading", name="This key does not fit")).to_be_visible()
    stranger.get_by_label("Address or key").fill(serving.url)
    stranger.get_by_role("button", name="Open").click()
    expect(stranger.locator(".thumbnail img[src]").first).to_be_visible()
    stranger.context.close()


def test_without_a_run_the_page_says_how_to_get_one(
    browser: Browser, serving: Serving, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "i2v_cli", "serve", "--port", "0", "--no-browser", "--json"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=serving.desk.variables() | {"I2V_RUNS": str(tmp_path / "none")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr and process.stdout
        url = next(line for line in process.stderr if line.startswith("http")).strip()
        page = browser.new_page()
        page.goto(url)
        expect(page.get_by_role("heading", name="There is no model to ask yet")).to_be_visible()
        expect(page.locator(".notice")).to_contain_text("i2v train poke")
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / "no-run.png")
        page.close()
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0 and url.partition("token=")[2] not in said
    finally:
        process.kill()
        process.wait()
    assert not list((tmp_path / "none").rglob("*.*"))


def test_everything_that_can_be_used_has_a_name_and_the_theme_can_be_chosen(page: Page) -> None:
    choose_run(page, "plants")
    drag(page, (0.5, 0.4), (0.1, 0.0))
    wait_for_answer(page)
    assert page.evaluate(UNNAMED) == []
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before


def test_the_reference_names_every_request_and_what_it_takes(page: Page) -> None:
    page.get_by_role("link", name="For other programs").click()
    expect(page.get_by_role("heading", name="Requests")).to_be_visible()
    expect(page.locator("#reference[aria-busy]")).to_have_count(0)
    paths: Any = page.evaluate("fetch('api/openapi.json').then((found) => found.json())")
    wanted = [f"{method.upper()}{path}" for path, each in paths["paths"].items() for method in each]
    assert page.locator(".request h4").all_text_contents() == wanted and len(wanted) >= 15
    poke = page.get_by_role("region", name="/api/poke")
    expect(poke).to_contain_text("dxneedednumber, -1.5 to 1.5how far to the right")
    expect(poke).to_contain_text("too many questions are waiting")
    expect(page.locator("#example")).to_contain_text("/api/runs")
    page.get_by_role("link", name="To the page").click()
    expect(page.locator(".thumbnail img[src]").first).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("width", "size"), [("desktop", DESKTOP), ("phone", PHONE)])
def test_pictures_of_the_page_are_made_and_nothing_hangs_over_its_edge(
    width: str, size: tuple[int, int], theme: str, browser: Browser, serving: Serving
) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for page in opened(browser, serving, size=size, theme=theme, touch=width == "phone"):

        def keep(name: str, page: Page = page) -> None:
            page.screenshot(path=SCREENSHOTS / f"{width}-{theme}-{name}.png")
            overhang = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert overhang <= 0, f"{name} is {overhang} px too wide"

        choose_run(page, "plants")
        keep("empty")
        drag(page, (0.5, 0.4), (0.1, 0.0))
        wait_for_answer(page)
        keep("poke")
        page.get_by_label("The true answer").check()
        page.get_by_label("Beside it").select_option("untrained")
        expect(page.locator(SAVED)).to_be_visible()
        keep("compare")
        page.get_by_role("button", name="Eight directions").click()
        expect(page.locator("#save-buttons button").first).to_be_enabled()
        keep("directions")
        drop(page, "noise.png", "image/png", b"noise")
        expect(page.locator("#alert")).to_be_visible()
        keep("problem")
        choose_run(page, "cinn-stage2-tiny")
        expect(page.locator(".tile.empty")).to_have_count(0)
        expect(page.locator(".tile")).to_have_count(9)
        keep("futures")
        for name, run in (("transfer", "moved"), ("between", "between")):
            choose_run(page, run)
            settled_wall(page, 8)
            keep(name)
        page.get_by_role("link", name="For other programs").click()
        expect(page.locator("#reference .request").first).to_be_visible()
        keep("reference")


def test_nothing_that_was_logged_or_kept_has_the_token(serving: Serving) -> None:
    token = serving.url.partition("token=")[2]
    assert re.fullmatch(r"[\w-]{43}", token)
    jobs = [path for path in serving.records() if path.is_file()]
    assert any(path.name == "job.json" for path in jobs)
    kept = list(files_below(serving.session_dir))
    assert kept
    for path in (*jobs, *kept):
        with suppress(FileNotFoundError):  # an answer being made moves to its place meanwhile
            assert token.encode() not in path.read_bytes(), path


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder that the server may be writing to: what vanishes is left out."""
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in names)
