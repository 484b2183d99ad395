"""The page: from the release of an arrow in a real browser to the first frame that is painted.

The server, its model process and the browser share the cores of this machine. Models have their
published sizes and random weights. The server runs as the command line starts it: a worker.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from pipelines.poke.build import build_model
from pipelines.poke.config import FamilyConfig
from pipelines.training.checkpoint import checkpoints_dir, write_weights
from pipelines.training.run_folder import open_run
from tests.benchmarks.chromium import Page, opened
from tests.benchmarks.rows import Measurement, Settings
from tests.pipelines.serve.asking import Served
from tests.pipelines.serve.hostile_requests import CASES

NUM_POKES, NUM_SERIES, NUM_UPLOADS = 20, 3, 50
MODELS = {"first": ("plants_64", 0.3, 1.0), "second": ("plants_128", 1.0, None)}
"""Run -> preset, most seconds to the first frame, and to the whole answer of 10 frames."""

_ROOT = Path(__file__).resolve().parents[2]
_PLACE = (0.5, 0.4)
_PHOTO = (4000, 3000)
_ANSWERED = "document.querySelector('button[data-file=\"answer.mp4\"]:enabled') && 1"
_IS_OPEN = "document.querySelector('#stage[data-picture]') && 1"
_MEASURED = """performance.getEntriesByName("i2v whole answer").length &&
  Object.fromEntries(performance.getEntriesByType("measure").map((each) =>
    [each.name.replace("i2v ", ""), each.duration / 1000]))"""


@dataclass(frozen=True)
class Server:
    """A running server. url: of the page, with its token."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def token(self) -> str:
        """What every request must carry."""
        return self.url.partition("#token=")[2]

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.partition("/#")[0].rpartition(":")[2])

    @property
    def memory_mb(self) -> float:
        """Memory of the server and its model process that is in use now, 10^6 B."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        children = [int(each) for path in tasks for each in path.read_text().split()]
        return sum(map(_resident_mb, (self.process.pid, *children)))

    def post(self, path: str, body: bytes) -> Any:
        """Send a body; returns what is answered."""
        address = f"{self.url.partition('/#')[0]}/api/{path}"
        request = urllib.request.Request(
            address, body, {"Authorization": f"Bearer {self.token}", "X-Name": "photo.jpg"}
        )
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)


def measure(settings: Settings) -> Iterator[Measurement]:
    """Rows of both sizes, of ten quick pokes, of hostile requests and of many uploads."""
    runs_root = settings.scratch_dir / "runs"
    for number, (name, (preset, *_)) in enumerate(MODELS.items()):
        write_run(runs_root / name, preset, seed=number)
    with serving(runs_root, settings) as server:
        yield slowest_refusal(server, settings)
        with opened(server.url) as page:
            for name, (preset, first_s, whole_s) in MODELS.items():
                choose(page, name)
                found = [poked(page, 0.002 * number) for number in range(1 + _count(settings))][1:]
                note = _note(settings)
                for what, most in (("first frame", first_s), ("whole answer", whole_s)):
                    values = [each[what] for each in found]
                    title = f"{preset}, release of the mouse to the {what}, painted"
                    yield Measurement(
                        title, values, "s", at_most=most, peak_mb=server.memory_mb, note=note
                    )
            choose(page, "first")
            yield from quick_pokes(page, server, settings)
        yield growth(server, settings)


def write_run(run_dir: Path, preset: str, *, seed: int) -> None:
    """A run of a preset with random weights, as a training would leave it."""
    text = (_ROOT / "conf" / "poke" / f"{preset}.yaml").read_text(encoding="utf-8")
    config = FamilyConfig.model_validate(yaml.safe_load(text))
    request = {"config": config.model_dump(mode="json")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(config)
    with open_run(run_dir, family="poke", stage="1", request=request, fixed=()):
        tensors = {f"model.{name}": each.contiguous() for name, each in model.state_dict().items()}
        write_weights(checkpoints_dir(run_dir) / "step-00000000", tensors, about={})


@contextmanager
def serving(runs_root: Path, settings: Settings) -> Iterator[Server]:
    """The worker of `i2v serve`, until the block ends."""
    request = {
        "runs_root": str(runs_root),
        "session_dir": str(settings.scratch_dir / "session"),
        "port": 0,
        "device": settings.device,
    }
    job = {
        "verb": "serve",
        "target": "pipelines.serve.app:serve",
        "config_class": "pipelines.serve.config:ServeRequest",
        "config": request,
        "record_dir": str(settings.scratch_dir),
    }
    job_path = settings.scratch_dir / "job.json"
    job_path.write_text(json.dumps(job), encoding="utf-8")
    hears, speaks = os.pipe()
    command = [sys.executable, "-I", _ROOT / "pipelines" / "worker.py", job_path, str(speaks)]
    with (settings.scratch_dir / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, pass_fds=[speaks], stdout=log, stderr=log)
    os.close(speaks)
    try:
        with os.fdopen(hears, encoding="utf-8") as events:
            said = map(json.loads, events)
            url = next(each["url"] for each in said if each["event"] == "address")
            yield Server(url, process)
            process.send_signal(signal.SIGINT)
            process.wait(60)
    finally:
        process.kill()
        process.wait()


def choose(page: Page, run: str) -> None:
    """Choose a model on the page and wait for its first picture."""
    page.wait_for(f"document.querySelector('#run option[value={run}]') && 1")
    page.wait_for(_IS_OPEN)
    page.value(
        f"(() => {{ const all = document.getElementById('run'); all.value = '{run}';"
        " all.dispatchEvent(new Event('change')); })()"
    )
    page.wait_for(_IS_OPEN)


def poked(page: Page, extra: float) -> dict[str, float]:
    """Drag an arrow; seconds from its release to the first frame and to the whole answer."""
    page.value("performance.clearMeasures()")
    drag(page, extra)
    found: dict[str, float] = page.wait_for(_MEASURED)
    page.wait_for(_ANSWERED)
    return found


def drag(page: Page, extra: float) -> None:
    """An arrow to the right, that much longer than a tenth of the picture."""
    box = page.value("JSON.stringify(document.querySelector('.board').getBoundingClientRect())")
    board = json.loads(box)
    x, y = (
        board[a] + b * board[c] for a, b, c in zip("xy", _PLACE, ("width", "height"), strict=True)
    )
    page.drag((x, y), (x + (0.1 + extra) * board["width"], y))


def quick_pokes(page: Page, server: Server, settings: Settings) -> Iterator[Measurement]:
    """Ten arrows without a pause: whose answer is there in the end, and how soon."""
    waited, wrong = [], []
    for series in range(1 if settings.quick else NUM_SERIES):
        page.value("performance.clearMeasures()")
        for number in range(10):
            drag(page, 0.1 + 0.05 * series + 0.004 * number)
        page.wait_for(_ANSWERED)
        waited.append(page.wait_for(_MEASURED)["first frame"])
        shown = last_frame(page)
        # Another page knows no answers: it must ask for the last arrow's alone.
        page.value("location.reload()")
        choose(page, "first")
        drag(page, 0.1 + 0.05 * series + 0.004 * 9)
        page.wait_for(_ANSWERED)
        wrong.append(float(last_frame(page) != shown))
    note = _note(settings)
    yield Measurement(
        "ten quick pokes that end with another answer than the last one's",
        wrong, "of 1", at_most=0, peak_mb=server.memory_mb, note=note,
    )  # fmt: skip
    yield Measurement(
        "ten quick pokes, last release to the first frame of its answer",
        waited, "s", peak_mb=server.memory_mb, note=note,
    )  # fmt: skip


def last_frame(page: Page) -> str:
    """The last frame of the answer, as the page shows it."""
    page.value(
        "(() => { const all = document.getElementById('scrub'); all.value = all.max;"
        " all.dispatchEvent(new Event('input')); })()"
    )
    return str(page.value("document.querySelector('canvas.answer').toDataURL()"))


def slowest_refusal(server: Server, settings: Settings) -> Measurement:
    """Each hostile request of the tests, to a server with nothing else to do."""
    own = {"authorization": f"Bearer {server.token}"}
    served = Served(server.port, None, settings.scratch_dir, own)  # type: ignore[arg-type]
    slowest = []
    for _ in range(1 + settings.repeats):
        taken = {}
        for name, case in CASES.items():
            started = time.perf_counter()
            status = case.sent_to(served).status
            taken[name] = time.perf_counter() - started
            if status != case.status:
                raise RuntimeError(f"{name}: status {status} in place of {case.status}")
        slowest.append(max(taken.values()))
    return Measurement(
        f"the slowest of {len(CASES)} hostile requests to be refused",
        slowest[1:],  # the first round imports what the rest uses
        "s",
        at_most=0.1,
        peak_mb=server.memory_mb,
        note="one after the other; the slow bodies of the tests end by their time limit instead",
    )


def growth(server: Server, settings: Settings) -> Measurement:
    """How much more memory the server holds after many photographs."""
    before = server.memory_mb
    for number in range(3 if settings.quick else NUM_UPLOADS):
        server.post("pictures", photograph(number))
    after = server.memory_mb
    note = f"{NUM_UPLOADS} JPEGs of {_PHOTO[0]} x {_PHOTO[1]} px; server and model process"
    name = f"growth of the server's memory by {NUM_UPLOADS} uploads"
    return Measurement(name, [after - before], "MB", at_most=100, peak_mb=after, note=note)


def photograph(number: int) -> bytes:
    """A large picture with some texture, another one for each number."""
    width, height = _PHOTO
    draw = np.random.Generator(np.random.PCG64(number))
    coarse = Image.fromarray(draw.integers(0, 255, (30, 40, 3), np.uint8))
    stream = io.BytesIO()
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def _resident_mb(process_id: int) -> float:
    for line in Path(f"/proc/{process_id}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _count(settings: Settings) -> int:
    return 3 if settings.quick else NUM_POKES


def _note(settings: Settings) -> str:
    return f"random weights; {settings.device}; chromium on the same cores"
