"""Pictures that move as a clip does, and what lies between two pictures."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.browser.conftest import Serving
from tests.e2e.browser.test_page import drop, saved, settled_wall
from tests.e2e.browser.test_poking import choose_run

NUM_BETWEEN = 16


def command_of(page: Page) -> list[str]:
    """The command line that is offered."""
    return shlex.split(page.locator("#command").text_content() or "")


def slot(page: Page, name: str) -> str:
    """What the tile of the start or the end shows."""
    shown = page.locator(f".slot[data-slot={name}] canvas").evaluate("(each) => each.toDataURL()")
    return str(shown)


def test_a_generated_clip_moves_a_picture_from_the_first_click(page: Page) -> None:
    choose_run(page, "moved")
    expect(page.locator(".tile.start")).to_contain_text("generated arm 9")
    assert len(settled_wall(page, 1)) == 1
    page.get_by_role("button", name="generated arm 10").click()
    expect(page.locator(".tile.start")).to_contain_text("generated arm 10")
    settled_wall(page, 24)
    expect(page.locator("#frame-number")).to_have_text("24 / 24")
    assert saved(page, "MP4").read_bytes()[4:8] == b"ftyp"


def test_a_dropped_clip_moves_a_picture_by_keypoints_relative_or_not(
    page: Page, serving: Serving
) -> None:
    choose_run(page, "moved")
    settled_wall(page, 1)
    drop(page, "motion.gif", "image/gif", saved(page, "GIF").read_bytes())
    expect(page.locator(".tile.start")).to_contain_text("motion.gif")
    settled_wall(page, 1)
    assert command_of(page)[:3] == ["i2v", "transfer", "fomm"]
    assert "--relative" in command_of(page) and "--adapt-scale" not in command_of(page)
    page.get_by_label("Fit moves to the picture's size").check()
    settled_wall(page, 1)
    assert "--adapt-scale" in command_of(page)
    page.get_by_label("Relative to the clip's first frame").uncheck()
    expect(page.get_by_label("Fit moves to the picture's size")).to_be_disabled()
    settled_wall(page, 1)
    words = command_of(page)
    assert "--relative" not in words and "--adapt-scale" not in words
    made = serving.desk.i2v(*words[1:], "--out", "moved again", "--json")
    assert made.result["videos"] == 1


def test_several_ways_lead_from_a_picture_to_what_it_became(page: Page) -> None:
    choose_run(page, "between")
    middles = [settled_wall(page, index) for index in (4, 8, 12)]
    expect(page.get_by_role("button", name="Start: generated moving digits 1")).to_be_visible()
    end = "End: generated moving digits 1, 15 frames later"
    expect(page.get_by_role("button", name=end)).to_be_visible()
    assert [len(each) for each in middles] == [4, 4, 4]
    assert any(len(set(each)) > 1 for each in middles), "no draw differs from another"
    assert set(settled_wall(page, 0)) == {slot(page, "start")}
    assert set(settled_wall(page, NUM_BETWEEN)) == {slot(page, "end")}
    page.get_by_role("button", name="Another draw").click()
    settled_wall(page, NUM_BETWEEN)
    assert command_of(page)[-2:] == ["--seed", "1"]
    was_start, was_end = slot(page, "start"), slot(page, "end")
    page.get_by_role("button", name="Swap start and end").click()
    settled_wall(page, NUM_BETWEEN)
    assert (slot(page, "start"), slot(page, "end")) == (was_end, was_start)
    page.get_by_role("button", name="Video 2").click()
    assert saved(page, "MP4").read_bytes()[4:8] == b"ftyp"
    assert saved(page, "MP4 of all").read_bytes()[4:8] == b"ftyp"


@pytest.fixture(scope="module")
def photo() -> bytes:
    """A picture of a user, from somewhere else."""
    return next((Path(__file__).parents[2] / "gallery").glob("*.png")).read_bytes()


def test_own_pictures_become_start_and_end_and_must_have_one_size(page: Page, photo: bytes) -> None:
    choose_run(page, "between")
    settled_wall(page, 1)
    drop(page, "before.png", "image/png", photo)
    expect(page.get_by_role("button", name="Start: before.png")).to_be_visible()
    expect(page.locator("#hint")).to_contain_text("Now choose the end")
    drop(page, "after.png", "image/png", photo)
    expect(page.get_by_role("button", name="End: after.png")).to_be_visible()
    settled_wall(page, NUM_BETWEEN)
    options = dict(zip(command_of(page)[3::2], command_of(page)[4::2], strict=True))
    assert Path(options["--start"]).name.startswith("before")
    assert Path(options["--end"]).name.startswith("after")
    page.get_by_role("button", name="End: after.png").click()
    expect(page.locator("#hint")).to_contain_text("for the end")
    drop(page, "other.png", "image/png", page.screenshot())
    expect(page.locator("#alert")).to_contain_text("Start and end have different sizes")
