"""A real browser, driven over its own debugging pipe: enough to press, drag and look.

Standard library only, so that it runs in the environment whose work is measured.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_S = 120.0
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
_FROM_US, _TO_US = 3, 4  # where the browser hears and speaks


class Page:
    """A page that is open in a browser."""

    def __init__(self, pipe: _Pipe, session: str) -> None:
        self._pipe, self._session = pipe, session

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A method of the browser's protocol."""
        return self._pipe.call(method, parameters, self._session)

    def value(self, expression: str) -> Any:
        """What an expression gives in the page; of a promise, what it resolves to."""
        done = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in done:
            raise RuntimeError(f"in the page: {done['exceptionDetails']}")
        return done["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """The value of an expression once it is true. Raises RuntimeError when it never is."""
        return self.value(
            f"""new Promise((found, lost) => {{
              const end = performance.now() + {PATIENCE_S * 1000};
              const look = () => {{
                const value = {expression};
                if (value) found(value);
                else if (performance.now() > end) lost(new Error("waited in vain"));
                else setTimeout(look, 20);
              }};
              look();
            }})"""
        )

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press, move and release the mouse; places in pixels of the page."""
        middle = tuple((a + b) / 2 for a, b in zip(start, end, strict=True))
        for kind, (x, y) in (
            ("mouseMoved", start),
            ("mousePressed", start),
            ("mouseMoved", middle),
            ("mouseMoved", end),
            ("mouseReleased", end),
        ):
            button = {"button": "left", "buttons": 1, "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)


@contextmanager
def opened(url: str, *, width: int = 1360, height: int = 860) -> Iterator[Page]:
    """A page in a browser of its own. Raises FileNotFoundError where there is no browser."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        raise FileNotFoundError("no browser: apt-get install chromium")
    hears, ours = os.pipe()
    theirs, speaks = os.pipe()

    def place() -> None:
        # Copies first: the ends may lie where the browser wants others.
        copies = os.dup(hears), os.dup(speaks)
        os.dup2(copies[0], _FROM_US)
        os.dup2(copies[1], _TO_US)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={profile}"],
            preexec_fn=place,
            close_fds=False,
            stderr=subprocess.DEVNULL,
        )
        os.close(hears)
        os.close(speaks)
        pipe = _Pipe(ours, theirs)
        try:
            target = pipe.call("Target.createTarget", {"url": "about:blank"})["targetId"]
            attach = {"targetId": target, "flatten": True}
            page = Page(pipe, pipe.call("Target.attachToTarget", attach)["sessionId"])
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            page.call("Emulation.setDeviceMetricsOverride", **size)
            page.call("Page.navigate", url=url)
            yield page
        finally:
            pipe.close()
            process.terminate()
            process.wait()


class _Pipe:
    """Messages to and from the browser: JSON, each ended by a zero byte."""

    def __init__(self, write_fd: int, read_fd: int) -> None:
        self._out, self._in = os.fdopen(write_fd, "wb"), os.fdopen(read_fd, "rb", buffering=0)
        self._rest, self._number = b"", 0

    def call(
        self, method: str, parameters: dict[str, Any], session: str | None = None
    ) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        while (said := self._next()).get("id") != self._number:
            pass  # events, which nobody has asked for
        if "error" in said:
            raise RuntimeError(f"{method}: {said['error']}")
        result: dict[str, Any] = said["result"]
        return result

    def close(self) -> None:
        self._out.close()
        self._in.close()

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            chunk = self._in.read(1 << 16)
            if not chunk:
                raise RuntimeError("the browser has ended")
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        said: dict[str, Any] = json.loads(message)
        return said
