"""What a page shows, measured in the page: frames of an answer, and where a patch of one went."""

from __future__ import annotations

from typing import Any, cast

from playwright.sync_api import Page

SHOWN = """(pane) => {
  const canvas = document.querySelectorAll(".pane")[pane].querySelector("canvas.answer");
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  return [width, height, Array.from(data)];
}"""

REACH_PX, HALF_PX, AROUND_PX = 6, 4, 8


class Frame:
    """A frame of the answer as its canvas holds it, grey levels by row and column."""

    def __init__(self, width: int, height: int, data: list[int]) -> None:
        self.width, self.height, self.data = width, height, data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frame) and self.data == other.data

    def grey(self, column: int, row: int) -> float:
        """The mean of the three colours; the border goes on outside."""
        column = min(max(column, 0), self.width - 1)
        row = min(max(row, 0), self.height - 1)
        at = 4 * (row * self.width + column)
        return sum(self.data[at : at + 3]) / 3


def shown_frame(page: Page, *, pane: int = 0) -> Frame:
    """The frame that is on a pane now."""
    width, height, data = cast(Any, page.evaluate(SHOWN, pane))
    return Frame(width, height, data)


def shift(before: Frame, after: Frame, column: int, row: int) -> tuple[int, int]:
    """Where the patch around a place has gone, pixels right and down: the best match nearby."""
    around = range(-HALF_PX, HALF_PX + 1)
    patch = [(x, y, before.grey(column + x, row + y)) for x in around for y in around]

    def error(dx: int, dy: int) -> float:
        found = sum(abs(after.grey(column + dx + x, row + dy + y) - grey) for x, y, grey in patch)
        return found + 0.01 * (dx * dx + dy * dy)  # of equal ones the nearest

    reach = range(-REACH_PX, REACH_PX + 1)
    return min(((dx, dy) for dx in reach for dy in reach), key=lambda move: error(*move))


def likeness(made: tuple[Frame, Frame], true: tuple[Frame, Frame]) -> float | None:
    """How alike two pairs of answers differ: the correlation of the pairs' differences, -1 to 1.

    Of answers to opposite arrows: 1 when what was made parts as it does in truth, below 0 when it
    goes the other way. None where the true answers hardly differ: nothing is there to be moved.
    """
    ours, theirs = _difference(*made), _difference(*true)
    if sum(map(abs, theirs)) < len(theirs):
        return None
    together = sum(a * b for a, b in zip(ours, theirs, strict=True))
    power = sum(a * a for a in ours) * sum(b * b for b in theirs)
    return together / power**0.5 if power else 0.0


def parted_px(right: Frame, left: Frame, column: int, row: int) -> float:
    """How far apart two answers show what is around a place: pixels, above 0 when `right` has it
    farther right than `left`.

    By the slopes of their mean (Lucas and Kanade, 1981): for answers that are soft and differ by
    little, as those of a small model; a sharp leaf that goes far is not followed.
    """
    around, slopes, differences = range(-AROUND_PX, AROUND_PX + 1), 0.0, 0.0
    for y in (row + each for each in around):
        for x in (column + each for each in around):
            if not (0 < x < right.width - 1 and 0 <= y < right.height):
                continue
            before, after = (right.grey(at, y) + left.grey(at, y) for at in (x - 1, x + 1))
            slope = (after - before) / 4
            slopes += slope * slope
            differences += slope * (left.grey(x, y) - right.grey(x, y))
    return differences / slopes if slopes else 0.0


def _difference(one: Frame, other: Frame) -> list[float]:
    places = [(column, row) for row in range(one.height) for column in range(one.width)]
    return [one.grey(*place) - other.grey(*place) for place in places]
