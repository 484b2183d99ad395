"""Arrows on a picture, with a mouse, a finger and the keyboard, and what the model answers."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e.browser.conftest import PHONE, Serving, opened
from tests.e2e.browser.pictures import Frame, likeness, parted_px, shift, shown_frame

LEAVES = [(0.3, 0.5), (0.38, 0.42), (0.5, 0.4), (0.62, 0.42), (0.7, 0.5)]
"""Places on the leaves of most generated plants, in parts of the picture."""

ARROW = 0.09
SAVED = 'button[data-file="answer.mp4"]:enabled'


def choose_run(page: Page, name: str) -> None:
    page.locator("#run").select_option(name)
    expect(page.locator("#stage[data-picture]")).to_be_visible()


def choose_plant(page: Page, number: int) -> None:
    thumbnail = page.locator(".thumbnail").nth(number)
    thumbnail.click()
    chosen = thumbnail.get_attribute("data-id")
    expect(page.locator(f"#stage[data-picture='{chosen}']")).to_be_visible()


def drag(page: Page, start: tuple[float, float], move: tuple[float, float]) -> None:
    """Press on the first picture and drag; all in parts of it."""
    box = page.locator(".board").first.bounding_box()
    assert box
    x, y = box["x"] + start[0] * box["width"], box["y"] + start[1] * box["height"]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + move[0] * box["width"] / 2, y + move[1] * box["height"] / 2)
    page.mouse.move(x + move[0] * box["width"], y + move[1] * box["height"])
    page.mouse.up()


def wait_for_answer(page: Page) -> None:
    """Until every pane has its whole answer."""
    expect(page.locator(SAVED)).to_be_visible()
    expect(page.locator('.board[aria-busy="true"]')).to_have_count(0)


def frame_at(page: Page, index: int, *, pane: int = 0) -> Frame:
    page.get_by_label("Frame", exact=True).fill(str(index))
    return shown_frame(page, pane=pane)


def last_index(page: Page) -> int:
    return int(page.get_by_label("Frame", exact=True).get_attribute("max") or 0)


def arrows(page: Page) -> Locator:
    return page.locator(".board").first.locator("svg.arrows g.line")


@pytest.fixture
def poked(page: Page) -> Page:
    """The page with the trained model and its first plant."""
    choose_run(page, "plants")
    return page


def test_an_arrow_pokes_what_lies_under_it_and_the_leaf_moves_its_way(poked: Page) -> None:
    """By the simulator's answer, which knows; the model's goes with the arrow's direction."""
    poked.get_by_label("The true answer").check()
    agree: list[bool] = []
    for place in LEAVES:
        made: list[Frame] = []
        for move in ((ARROW, 0.0), (-ARROW, 0.0)):
            drag(poked, place, move)
            wait_for_answer(poked)
            before = frame_at(poked, 0)
            column, row = (int(part * before.width) for part in place)
            moved = shift(before, frame_at(poked, last_index(poked), pane=1), column, row)
            if moved != (0, 0):  # a leaf is there
                agree.append(moved[0] * move[0] > 0)
            made.append(frame_at(poked, last_index(poked)))
        assert made[0] != made[1]
    assert len(agree) >= 4, "the places must be on leaves"
    assert sum(agree) >= 0.75 * len(agree), f"{sum(agree)} of {len(agree)}"


def test_a_model_that_has_learned_moves_the_poked_leaf_the_way_of_the_arrow(page: Page) -> None:
    """As the simulator moves it, and as one that has learned nothing does not.

    Arrows to the right and to the left at places on three plants never seen. Around the place the
    answer to the right must lie farther right than that to the left: at 17 of 18 places, by 0.8 px
    in the mean, when this bound was set; at three quarters and by 0.3 px is asked for. The two must
    also differ as the true ones do: correlation over the picture, 0.31 in the mean and 0.14 at
    least then; 0.2 and all above 0 are asked for.
    """
    choose_run(page, "leaves")
    page.get_by_label("Beside it").select_option("unlearned")
    page.get_by_label("The true answer").check()
    alike: dict[str, list[float]] = {"leaves": [], "unlearned": []}
    parted: list[float] = []
    for plant in range(3):
        choose_plant(page, plant)
        for place in LEAVES[:: 2 if plant else 1]:
            right, left = (final_frames(page, place, (move, 0.0)) for move in (ARROW, -ARROW))
            for pane, name in enumerate(alike):
                found = likeness((right[pane], left[pane]), (right[2], left[2]))
                if found is not None:
                    alike[name].append(found)
            if likeness((right[2], left[2]), (right[2], left[2])) is not None:
                column, row = (int(part * right[0].width) for part in place)
                parted.append(parted_px(right[0], left[0], column, row))
    means = {name: sum(values) / len(values) for name, values in alike.items()}
    assert len(alike["leaves"]) >= 5, "the places must be on leaves"
    assert means["leaves"] >= 0.2 and means["leaves"] >= means["unlearned"] + 0.1, alike
    assert min(alike["leaves"]) > 0, alike
    assert sum(each > 0 for each in parted) >= 0.75 * len(parted), parted
    assert sum(parted) / len(parted) >= 0.3, parted


def final_frames(page: Page, place: tuple[float, float], move: tuple[float, float]) -> list[Frame]:
    """What the last frame of the answer to an arrow shows on each of three panes."""
    drag(page, place, move)
    wait_for_answer(page)
    last = last_index(page)
    return [frame_at(page, last, pane=pane) for pane in range(3)]


def test_the_answer_plays_at_once_loops_and_stops_where_it_is_asked_to(poked: Page) -> None:
    drag(poked, (0.5, 0.4), (0.1, 0.0))
    number = poked.locator("#frame-number")
    expect(number).to_have_text(re.compile(r"[1-9]\d* / "))
    wait_for_answer(poked)
    last = last_index(poked)
    expect(number).to_have_text(f"{last} / {last}")
    expect(number).to_have_text(f"1 / {last}")  # again from the beginning
    poked.get_by_role("button", name="Pause").click()
    start, end = frame_at(poked, 0), frame_at(poked, last)
    assert start != end
    stopped = number.text_content()
    poked.wait_for_timeout(600)
    assert number.text_content() == stopped == f"{last} / {last}"
    poked.get_by_role("button", name="Play").click()
    expect(number).to_have_text(f"0 / {last}")


def test_undo_and_redo_bring_back_arrows_and_their_answers(poked: Page) -> None:
    drag(poked, (0.5, 0.4), (0.1, 0.0))
    wait_for_answer(poked)
    first = frame_at(poked, last_index(poked))
    drag(poked, (0.4, 0.45), (-0.1, -0.05))
    wait_for_answer(poked)
    second = frame_at(poked, last_index(poked))
    assert first != second
    poked.get_by_role("button", name="Undo").click()
    wait_for_answer(poked)
    assert frame_at(poked, last_index(poked)) == first
    poked.keyboard.press("Control+Shift+Z")
    wait_for_answer(poked)
    assert frame_at(poked, last_index(poked)) == second
    poked.get_by_role("button", name="Remove all arrows").click()
    expect(arrows(poked)).to_have_count(0)
    poked.keyboard.press("Control+z")
    expect(arrows(poked)).to_have_count(1)


def test_several_arrows_act_at_once(poked: Page) -> None:
    drag(poked, (0.5, 0.4), (0.1, 0.0))
    wait_for_answer(poked)
    one = frame_at(poked, last_index(poked))
    poked.get_by_label("Several arrows at once").check()
    drag(poked, (0.3, 0.5), (-0.1, 0.0))
    wait_for_answer(poked)
    expect(arrows(poked)).to_have_count(2)
    assert frame_at(poked, last_index(poked)) != one
    poked.get_by_text("Command line").click()
    assert (poked.locator("#command").text_content() or "").count("--poke") == 2


def test_another_length_is_asked_for_again(poked: Page) -> None:
    drag(poked, (0.5, 0.4), (0.1, 0.0))
    wait_for_answer(poked)
    frames = poked.locator(".field", has_text="Frames").locator("input")
    frames.fill("9")
    frames.dispatch_event("change")
    expect(poked.locator("#frame-number")).to_have_text("9 / 9")
    assert last_index(poked) == 9


def test_eight_directions_are_shown_around_the_picture_and_one_is_taken(poked: Page) -> None:
    drag(poked, (0.5, 0.4), (0.1, 0.0))
    wait_for_answer(poked)
    poked.get_by_role("button", name="Eight directions").click()
    tiles = poked.locator(".wall .tile")
    expect(tiles).to_have_count(9)
    expect(poked.locator(".tile.empty")).to_have_count(0)
    names = [tile.get_attribute("aria-label") for tile in tiles.all()]
    assert names[5] == "The way right" and names[3] == "The way left"
    assert names[4] == "Back to one arrow" and names[0] == "The way left and up"
    expect(poked.get_by_role("button", name="MP4 of all")).to_be_enabled()
    poked.get_by_role("button", name="The way left", exact=True).click()
    wait_for_answer(poked)
    line = arrows(poked).locator("line")
    assert float(line.get_attribute("x2") or 0) < float(line.get_attribute("x1") or 0)


def test_two_models_and_the_simulator_answer_the_same_arrow(poked: Page) -> None:
    poked.get_by_label("Beside it").select_option("untrained")
    poked.get_by_label("The true answer").check()
    expect(poked.locator(".pane")).to_have_count(3)
    captions = poked.locator(".caption b").all_text_contents()
    assert captions == ["plants", "untrained", "true answer"]
    drag(poked, (0.5, 0.4), (0.1, 0.0))
    wait_for_answer(poked)
    last = last_index(poked)
    frames = [frame_at(poked, last, pane=pane) for pane in range(3)]
    assert frames[0] != frames[1] != frames[2] != frames[0]
    starts = [frame_at(poked, 0, pane=pane) for pane in range(3)]
    assert starts[0] == starts[1] == starts[2]
    expect(poked.locator("svg.arrows g.line")).to_have_count(3)


def test_the_keyboard_alone_makes_an_arrow(poked: Page) -> None:
    board = poked.get_by_role("application")
    for _ in range(40):
        poked.keyboard.press("Tab")
        if board.evaluate("board => board === document.activeElement"):
            break
    expect(board).to_be_focused()
    for key in ("ArrowUp", "Enter", *["Shift+ArrowRight"] * 2, "Enter"):
        poked.keyboard.press(key)
    wait_for_answer(poked)
    line = arrows(poked).locator("line")
    assert float(line.get_attribute("x2") or 0) > float(line.get_attribute("x1") or 0)
    expect(poked.locator("p[role=status]")).to_contain_text("answer")


def test_a_finger_makes_an_arrow(browser: Browser, serving: Serving) -> None:
    for page in opened(browser, serving, size=PHONE, touch=True):
        choose_run(page, "plants")
        box = page.locator(".board").bounding_box()
        assert box
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.4
        touch = page.context.new_cdp_session(page)
        for kind, points in (
            ("touchStart", [(x, y)]),
            ("touchMove", [(x + 20, y)]),
            ("touchMove", [(x + 40, y)]),
            ("touchEnd", []),
        ):
            place = [{"x": column, "y": row} for column, row in points]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": place})
        wait_for_answer(page)
        expect(arrows(page)).to_have_count(1)


def test_ten_quick_pokes_end_with_the_answer_of_the_last(poked: Page) -> None:
    for number in range(10):
        drag(poked, (0.5, 0.4), (0.02 * number - 0.11, 0.03))
    wait_for_answer(poked)
    last = frame_at(poked, last_index(poked))
    poked.get_by_role("button", name="Undo").click()
    wait_for_answer(poked)
    assert frame_at(poked, last_index(poked)) != last
    choose_plant(poked, 1)
    choose_plant(poked, 0)
    drag(poked, (0.5, 0.4), (0.07, 0.03))
    wait_for_answer(poked)
    assert frame_at(poked, last_index(poked)) == last


@pytest.fixture
def frozen(serving: Serving) -> Iterator[int]:
    """The model process, made to wait until it is killed or the test ends."""
    (process_id,) = serving.model_processes
    os.kill(process_id, signal.SIGSTOP)
    yield process_id
    if process_id in serving.model_processes:
        os.kill(process_id, signal.SIGCONT)


def test_a_model_that_dies_says_so_and_answers_the_next_time(poked: Page, frozen: int) -> None:
    drag(poked, (0.5, 0.4), (0.1, 0.0))
    expect(poked.locator('.board[aria-busy="true"]')).to_have_count(1)
    os.kill(frozen, signal.SIGKILL)
    alert = poked.locator(".problem")
    expect(alert).to_contain_text("The model process has ended. Ask again")
    alert.get_by_role("button", name="Try again").click()
    wait_for_answer(poked)
    expect(alert).to_have_count(0)


def test_a_server_that_is_gone_is_said_in_the_picture(poked: Page) -> None:
    poked.context.set_offline(True)
    drag(poked, (0.5, 0.4), (0.1, 0.0))
    alert = poked.locator(".problem")
    expect(alert).to_contain_text("The server does not answer")
    poked.context.set_offline(False)
    alert.get_by_role("button", name="Try again").click()
    wait_for_answer(poked)
