"""How a worker's events look: moving bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from i2v_cli import console

if TYPE_CHECKING:
    from rich.progress import Task

PLAIN_INTERVAL_S = 10.0
MOST_BARS = 6

Event = Mapping[str, Any]


class Display(Protocol):
    """Something that shows events; the one who starts it also closes it, whatever happens."""

    def start(self, title: str) -> None:
        """Begin, under a title."""

    def show(self, event: Event) -> None:
        """Show one event (pipelines/events.py lists the kinds)."""

    def notice(self, text: str) -> None:
        """Show a line of our own above what moves."""

    def close(self) -> None:
        """Leave the terminal as a later line expects it."""


def make_display() -> Display:
    """The display for standard error as it is now: silent, plain or live."""
    if console.settings.is_quiet:
        return SilentDisplay()
    return LiveDisplay() if console.is_terminal(sys.stderr) else PlainDisplay()


class SilentDisplay:
    """Shows nothing (--quiet)."""

    def start(self, title: str) -> None:
        """Show nothing."""

    def show(self, event: Event) -> None:
        """Show nothing."""

    def notice(self, text: str) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Do nothing."""


class PlainDisplay:
    """Lines for a log file: the first, the last, and one in PLAIN_INTERVAL_S of every task."""

    def __init__(self) -> None:
        self._started: dict[str, tuple[float, float]] = {}
        self._last_line: dict[str, float] = {}

    def start(self, title: str) -> None:
        """Say what begins."""
        if title:
            console.say(title)

    def show(self, event: Event) -> None:
        """Show an event as a line, progress and metrics now and then."""
        kind = event.get("event")
        if kind == "progress" and event.get("total") != 0:
            self._progress(event)
        elif kind == "metric" and self._is_due("metric"):
            console.say(f"step {event['step']}: {metrics_text(event['values'], separator=', ')}")
        else:
            _show_line(event)

    def notice(self, text: str) -> None:
        """Say it."""
        console.say(text)

    def close(self) -> None:
        """Do nothing: every line is complete."""

    def _progress(self, event: Event) -> None:
        task, done, total = event["task"], event["done"], event.get("total")
        now = time.monotonic()
        start_time, start_done = self._started.setdefault(task, (now, done))
        is_last = total is not None and done >= total
        if not is_last and not self._is_due(task):
            return
        text = f"{task}: {amount_text(done, total, event.get('unit') or '')}"
        if is_last:
            text += f", {duration_text(now - start_time)}"
        elif total and done > start_done:
            left_s = (now - start_time) / (done - start_done) * (total - done)
            text += f" ({done / total:.0%}), {remaining_text(left_s)}"
        console.say(text)

    def _is_due(self, what: str) -> bool:
        now = time.monotonic()
        if now - self._last_line.get(what, float("-inf")) < PLAIN_INTERVAL_S:
            return False
        self._last_line[what] = now
        return True


class DisplayReporter:
    """Tells how the creation of an environment goes on, in the same look as a job."""

    def __init__(self) -> None:
        self._display: Display | None = None

    def log(self, text: str) -> None:
        """Say one line."""
        if self._display:
            self._display.show({"event": "log", "text": text})
        else:
            console.say(text)

    def progress(self, task: str, done: float, total: float | None = None, unit: str = "") -> None:
        """Move the bar; the display starts with the first call."""
        if self._display is None:
            self._display = make_display()
            self._display.start("")
        event = {"event": "progress", "task": task, "done": done, "total": total, "unit": unit}
        self._display.show(event)

    def close(self) -> None:
        """End the display, if there was one."""
        if self._display:
            self._display.close()
            self._display = None


class LiveDisplay:
    """Bars with rate and remaining time, the newest metrics below, everything else above."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        self._console = Console(stderr=True, highlight=False)
        self._bars = _make_bars(self._console)
        self._tasks: dict[str, Any] = {}
        self._metrics = Text(style="dim", no_wrap=True, overflow="ellipsis")
        self._live = Live(
            get_renderable=self._render,
            console=self._console,
            refresh_per_second=8,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def start(self, title: str) -> None:
        """Show the title and begin to refresh."""
        if title:
            console.say(title, console.BOLD)
        self._live.start()

    def show(self, event: Event) -> None:
        """Update a bar or the metrics, or print a line above them."""
        kind = event.get("event")
        if kind == "progress" and event.get("total") != 0:
            self._progress(event)
        elif kind == "metric":
            self._metrics.plain = f"  {metrics_text(event['values'], separator='   ')}"
        elif kind == "warning":
            self._print(f"warning: {event['message']}", "yellow")
        elif kind == "log":
            self._print(event["text"], "")

    def notice(self, text: str) -> None:
        """Print a line above the bars."""
        self._print(text, "yellow")

    def close(self) -> None:
        """Stop refreshing; the last state stays on the screen."""
        if not self._tasks:
            self._metrics.plain = ""
        self._live.stop()

    def _print(self, text: str, style: str) -> None:
        from rich.text import Text

        self._console.print(Text(console.clean(text), style=style))

    def _progress(self, event: Event) -> None:
        name, done, total = console.clean(event["task"]), event["done"], event.get("total")
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, completed=done)
            self._hide_old_bars()
        unit = event.get("unit") or ""
        self._bars.update(
            self._tasks[name],
            completed=done,
            total=total,
            amount=amount_text(done, total, unit),
            unit=unit,
        )

    def _hide_old_bars(self) -> None:
        finished = [task for task in self._bars.tasks if task.finished and task.visible]
        shown = sum(task.visible for task in self._bars.tasks)
        for task in finished[: max(0, shown - MOST_BARS)]:
            self._bars.update(task.id, visible=False)

    def _render(self) -> Any:
        from rich.console import Group

        return Group(self._bars, self._metrics) if self._metrics.plain else self._bars


def amount_text(done: float, total: float | None, unit: str) -> str:
    """'512/900 steps', '12 frames' or '3.4/10.0 MB'."""
    if unit in ("B", "bytes"):
        scale, name = _byte_scale(total if total is not None else done)
        parts = [f"{value / scale:.1f}" for value in (done, total) if value is not None]
        return f"{'/'.join(parts)} {name}"
    parts = [f"{value:.1f}" if value % 1 else f"{value:.0f}" for value in (done, total or done)]
    return f"{'/'.join(parts if total is not None else parts[:1])} {unit}".rstrip()


def metrics_text(values: Mapping[str, float | None], *, separator: str) -> str:
    """Names and values in four significant digits; a value that was not finite is shown as such."""
    return separator.join(
        f"{name} {value:.4g}" if value is not None else f"{name} not finite"
        for name, value in values.items()
    )


def duration_text(seconds: float) -> str:
    """'0.8 s', '41 s', '3 min 20 s' or '2 h 05 min'."""
    if seconds < 9.95 and isinstance(seconds, float):
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def remaining_text(seconds: float) -> str:
    """'5 s left', in whole seconds: it is a guess."""
    return f"{duration_text(max(1, round(seconds)))} left"


def _show_line(event: Event) -> None:
    if event.get("event") == "warning":
        console.warn(event["message"])
    elif event.get("event") == "log":
        console.say(event["text"])


def _byte_scale(size: float) -> tuple[float, str]:
    for scale, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= scale:
            return scale, name
    return 1.0, "B"


def _make_bars(rich_console: Any) -> Any:
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
    from rich.text import Text

    class Amount(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(task.fields.get("amount", ""))

    class Timing(ProgressColumn):
        """Rate and remaining time; once finished, the time it took."""

        def render(self, task: Task) -> Text:
            if task.finished:
                return Text(duration_text(task.finished_time or 0.0), style="green")
            parts = []
            if task.speed and task.fields.get("unit") not in ("B", "bytes"):
                parts.append(f"{task.speed:.3g}/s")
            if task.time_remaining is not None:
                parts.append(f"{remaining_text(task.time_remaining)}")
            return Text("  ".join(parts), style="cyan")

    return Progress(
        TextColumn("  {task.description}", markup=False),
        BarColumn(bar_width=28),
        Amount(),
        Timing(),
        console=rich_console,
        auto_refresh=False,
    )
