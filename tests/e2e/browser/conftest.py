"""A real browser on the page of a real `i2v serve`, with models trained here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from platformdirs import user_cache_dir
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.e2e.conftest import ROOT, TINY, Desk, walked

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NAMES = ("chromium", "chromium-browser", "google-chrome")
DESKTOP, PHONE = (1360, 860), (390, 844)
SCREENSHOTS = ROOT / ".build" / "screenshots"
"""Pictures of the page that this test run made, to be looked at."""

WAIT_MS = 180_000
LEARNING_STEPS = 500
"""Two minutes of one core; a quarter of what the preset asks for."""

expect.set_options(timeout=WAIT_MS)


@dataclass(frozen=True)
class Serving:
    """A page that is open. session_dir: where it keeps things."""

    url: str
    process: subprocess.Popen[str]
    session_dir: Path
    desk: Desk

    def records(self) -> list[Path]:
        """What the command line keeps of this server's job."""
        home = Path(os.environ.get("I2V_HOME") or user_cache_dir("i2v", appauthor=False))
        for path in sorted((home / "jobs").glob("*-serve-*/job.json"), reverse=True):
            if str(self.session_dir) in path.read_text():
                return list(path.parent.iterdir())
        return []

    @property
    def model_processes(self) -> list[int]:
        """Process ids of the model processes of this server."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
                group = os.getpgid(int(path.parent.name))
            except OSError:
                continue
            if any(b"spawn_main" in word for word in words) and group in self._groups():
                found.append(int(path.parent.name))
        return found

    def _groups(self) -> set[int]:
        """The process groups of the workers that this command has started."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return {int(text) for text in children.read_text().split()}


@pytest.fixture(scope="session")
def leaves(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A model that has learned what a poked leaf does, and one like it that has learned nothing.

    As the preset says, on 800 generated plants and estimated motion, but not to its end.
    """
    learn = ("train", "poke", "--preset", "demo", "train.threads=1")
    return walked(
        tmp_path_factory.mktemp("leaves"),
        ("download", "synthetic", "--kinds", "plant", "--frames", "5"),
        ("extract-frames", "synthetic", "--min-frames", "4"),
        ("estimate-flow", "synthetic", "--estimator", "dis", "--lags", "3"),
        (*learn, "--name", "leaves", "--max-steps", str(LEARNING_STEPS)),
        (*learn, "--name", "unlearned", "--max-steps", "1"),
    )


@pytest.fixture(scope="session")
def others(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """The smallest models of the other families, one of them told where an arm shall end."""
    built_on = ("--stage1-run", desk.run_dir("1"), "--ae-run", desk.run_dir("ae"))
    control = ("is_controlled=true", "endpoint_in_image=true", "allow_other_data=true")
    settings = [f"stage2.{each}" for each in control]
    return walked(
        tmp_path_factory.mktemp("others"),
        ("download", "synthetic", "--kinds", "arm,moving_digits", *TINY, "--size", "32"),
        ("extract-frames", "synthetic", "--size", "32"),
        ("train", "fomm", *TINY, "--name", "moved"),
        ("train", "inbetween", *TINY, "--name", "between"),
        (
            *("train", "cinn", "--stage", "2", *TINY, *built_on, "--name", "controlled"),
            *(*settings, "data.include=[arm/*]"),
        ),
    )


@pytest.fixture(scope="session")
def serving(plants: Desk, leaves: Desk, others: Desk, desk: Desk) -> Iterator[Serving]:
    """The command itself, as a user types it, ended as a user ends it."""
    command = [sys.executable, "-m", "i2v_cli", "serve", "--port", "0", "--device", "cpu"]
    runs = ["plants", "untrained", desk.run_dir("2")]
    runs += [leaves.path / "runs" / name for name in ("leaves", "unlearned")]
    runs += [others.path / "runs" / name for name in ("controlled", "moved", "between")]
    for run in runs:
        command += ["--run", str(run)]
    process = subprocess.Popen(
        [*command, "--no-browser", "--out", "kept"],
        cwd=plants.path,
        env=plants.variables(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), process.stderr.read()
        yield Serving(url, process, plants.path / "kept", plants)
        process.send_signal(signal.SIGINT)
        said, told = process.communicate(timeout=120)
        assert process.returncode == 0, told
        assert said.strip() == "kept"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.fail("no browser: these tests need Debian's chromium (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, serving: Serving) -> Iterator[Page]:
    """The page at desktop width, with its first picture on the stage."""
    yield from opened(browser, serving)


def opened(
    browser: Browser,
    serving: Serving,
    *,
    size: tuple[int, int] = DESKTOP,
    theme: str = "light",
    touch: bool = False,
) -> Iterator[Page]:
    """The page in a browser of this size and theme; an error in its scripts fails the test."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=theme,  # type: ignore[arg-type]
        has_touch=touch,
        accept_downloads=True,
    )
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: _check(request.url, serving.url, problems))
    page.goto(serving.url)
    expect(page.locator(".thumbnail img[src]").first).to_be_visible(timeout=WAIT_MS)
    yield page
    context.close()
    assert not problems


def _check(url: str, own: str, problems: list[str]) -> None:
    """Nothing is asked of anybody else, and no address holds the token."""
    origin, _, token = own.partition("/#token=")
    is_own = url.startswith((f"{origin}/", f"blob:{origin}/", "data:"))
    if not is_own or token in url.partition("#")[0]:
        problems.append(f"the page asks for {url}")
