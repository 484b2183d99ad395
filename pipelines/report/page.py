"""`i2v report`: one folder with a run's videos, numbers, curves and settings.

index.html opens by double click: styles, script and data are inside it, videos lie beside it, and
nothing is fetched from anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines import files
from pipelines.events import EXIT_USAGE, UserError, Work
from pipelines.report import sections
from pipelines.report.config import ReportRequest
from pipelines.report.gallery import GalleryMaker
from pipelines.report.markup import Html, element, join
from pipelines.report.runs import ReportedRun, collect

PAGE_NAME = "index.html"
MARK_NAME = "report.json"
"""Says that a folder is a report, so that nothing else is ever replaced by one."""

_STATIC = Path(__file__).parent / "static"


def report(request: ReportRequest, work: Work) -> dict[str, Any]:
    """Write the page of a run; returns where it is and what is on it."""
    out_dir = request.out_dir or request.run_dir / "report"
    _refuse_to_replace(out_dir)
    runs = collect(request.run_dir)
    with files.atomic_folder(out_dir) as building:
        maker = GalleryMaker(
            building, max_scenes=request.max_scenes, max_samples=request.max_samples, work=work
        )
        gallery = maker.make([folder for run in runs for folder in run.folders])
        pictures = [
            (f"{run.title}: {path.parent.name}", maker.picture(path, f"{run.run.stage}-grid"))
            for run in runs
            for path in run.pictures
        ]
        parts = {
            "Videos": sections.videos(gallery, pictures),
            "Numbers": sections.numbers(runs),
            "Curves": sections.curves(runs),
            "Settings": sections.settings(runs),
        }
        files.write_text(building / PAGE_NAME, _page(runs, parts))
        files.write_json(building / MARK_NAME, {"version": 1, "run": str(request.run_dir)})
    work.artifact(out_dir / PAGE_NAME, "report")
    return {
        "report": str(out_dir / PAGE_NAME),
        "runs": [str(each.run.path) for each in runs],
        "num_videos": sum(len(row.tiles) for row in gallery.rows),
        "num_curves": sum(len(each.charts) for each in runs),
        "num_evaluations": sum(len(each.evaluations) for each in runs),
    }


def _page(runs: Sequence[ReportedRun], parts: dict[str, Html]) -> Html:
    shown = {name: part for name, part in parts.items() if part}
    title = f"{runs[0].run.path.name} · {runs[0].title}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("style", _static("page.css")),
        element("script", Html('document.documentElement.classList.remove("no-script")')),
    )
    body = element(
        "body",
        sections.navigation({name.lower(): name for name in shown}),
        element("main", sections.header(runs), *shown.values(), sections.footer(runs[0].run.path)),
        element("script", _static("player.js")),
        element("script", _static("curves.js")),
    )
    return join(
        Html("<!doctype html>\n"), element("html", head, body, lang="en", class_="no-script"), "\n"
    )


def _static(name: str) -> Html:
    return Html((_STATIC / name).read_text(encoding="utf-8"))


def _refuse_to_replace(out_dir: Path) -> None:
    if not out_dir.exists() or (out_dir / MARK_NAME).is_file():
        return
    if out_dir.is_dir() and not any(out_dir.iterdir()):
        return
    raise UserError(
        f"'{out_dir.name}' exists and is not a report",
        {"folder": out_dir, "to fix": "choose another --out, or remove it"},
        EXIT_USAGE,
    )
