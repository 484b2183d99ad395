"""The parts of a page, top to bottom. Each is a function from what was collected to HTML."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from pipelines.report.gallery import Gallery, SceneRow, Tile
from pipelines.report.markup import Html, element, embedded_json
from pipelines.report.runs import ReportedRun


def header(runs: Sequence[ReportedRun]) -> Html:
    """Name of the run, what it is, and the facts one asks for first."""
    main = runs[0]
    facts = {
        "status": main.run.status,
        "checkpoint": f"step {main.step:,}" if main.step is not None else None,
        "training time": _duration(main.seconds),
        "data": _data(main.run.request),
        "built on": ", ".join(each.run.path.name for each in runs[1:]) or None,
    }
    listed = [
        element("div", element("dt", name), element("dd", text))
        for name, text in facts.items()
        if text
    ]
    return element(
        "header",
        element("p", main.title, class_="eyebrow"),
        element("h1", main.run.path.name),
        element("dl", listed, class_="facts"),
    )


def navigation(names: Mapping[str, str]) -> Html:
    """Links to the sections. names: id to text."""
    links = [element("a", text, href=f"#{id_}") for id_, text in names.items()]
    return element("nav", links, aria_label="Sections")


def videos(gallery: Gallery, pictures: Sequence[tuple[str, str]]) -> Html:
    """Rows of playing videos. pictures: caption and path of further pictures."""
    parts = []
    if gallery.rows:
        parts = [_player(), *(_rows(gallery))]
    if len(gallery.rows) < gallery.num_scenes:
        text = f"{len(gallery.rows)} of {gallery.num_scenes} start images are shown."
        parts.append(element("p", text, class_="note"))
    for caption, path in pictures:
        image = element("img", src=_url(path), alt=caption, loading="lazy")
        parts.append(element("figure", image, element("figcaption", caption), class_="picture"))
    return _section("videos", "Videos", parts)


def numbers(runs: Sequence[ReportedRun]) -> Html:
    """A table of all evaluations of a run, then one of each with what was measured and how."""
    together = [table for run in runs for table in _side_by_side(run)]
    tables = [_evaluation(each, run) for run in runs for each in run.evaluations if each["results"]]
    return _section("numbers", "Numbers", [*together, *tables])


def curves(runs: Sequence[ReportedRun]) -> Html:
    """A place for each chart; the page's script draws them."""
    blocks = []
    for index, run in enumerate(runs):
        if not run.charts:
            continue
        charts = [
            element("div", class_="chart", data_run=index, data_chart=number)
            for number in range(len(run.charts))
        ]
        heading = element("summary", element("h3", _run_title(run)))
        grid = element("div", charts, class_="charts")
        blocks.append(element("details", heading, grid, open=index == 0))
    if not blocks:
        return Html("")
    data = [[chart.to_json() for chart in run.charts] for run in runs]
    hint = element("noscript", element("p", "The curves need JavaScript.", class_="note"))
    roles = {series.role for run in runs for chart in run.charts for series in chart.series}
    controls = _curve_controls(roles)
    return _section(
        "curves", "Curves", [controls, hint, *blocks, embedded_json(data, id_="curve-data")]
    )


def settings(runs: Sequence[ReportedRun]) -> Html:
    """The resolved settings of each run, folded, and what it warned about."""
    blocks = []
    for run in runs:
        text = yaml.safe_dump(run.run.request, sort_keys=False, allow_unicode=True, width=90)
        blocks.append(_folded(f"{_run_title(run)} · config.yaml", element("pre", text)))
    for run in runs:
        if run.warnings:
            unique = dict.fromkeys(run.warnings)
            listed = element("ul", [element("li", each) for each in unique], class_="warnings")
            count = "1 warning" if len(unique) == 1 else f"{len(unique)} warnings"
            blocks.append(_folded(f"{_run_title(run)} · {count}", listed))
    return _section("settings", "Settings", blocks)


def footer(run_dir: Path) -> Html:
    """Where the page came from."""
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    return element("footer", f"Written {now} by i2v report from ", element("code", str(run_dir)))


def _section(id_: str, title: str, parts: Sequence[Html]) -> Html:
    if not parts:
        return Html("")
    return element("section", element("h2", title), parts, id=id_)


def _rows(gallery: Gallery) -> list[Html]:
    """Scenes under the headings of their groups; without headings when there is one group."""
    groups = list(dict.fromkeys(row.group for row in gallery.rows))
    rows: list[Html] = []
    for group in groups:
        if len(groups) > 1:
            rows.append(element("h3", group or "other images", class_="group"))
        rows += [_row(row) for row in gallery.rows if row.group == group]
    return rows


def _row(row: SceneRow) -> Html:
    tiles = element("div", [_tile(each, row) for each in row.tiles], class_="tiles")
    return element("article", element("h4", row.name), tiles, class_="scene")


def _tile(tile: Tile, row: SceneRow) -> Html:
    label = f"{row.name}: {tile.caption}"
    caption = element("figcaption", element("i", class_="dot", aria_hidden="true"), tile.caption)
    return element("figure", _moving(tile, label), caption, class_=f"tile {_known(tile.kind)}")


def _moving(tile: Tile, label: str) -> Html:
    if not tile.path.endswith((".mp4", ".webm")):
        return element("img", src=_url(tile.path), alt=label, loading="lazy")
    fallback = element("img", src=_url(tile.fallback), alt=label) if tile.fallback else "no video"
    return element(
        "video",
        fallback,
        src=_url(tile.path),
        autoplay=True,
        loop=True,
        muted=True,
        playsinline=True,
        preload="auto",
        aria_label=label,
        data_fallback=_url(tile.fallback) if tile.fallback else None,
    )


def _known(kind: str) -> str:
    return kind if kind in {"start", "real", "reconstruction", "transfer"} else "sample"


def _player() -> Html:
    sizes = [("S", "96"), ("M", "144"), ("L", "216")]
    speeds = [("¼×", "0.25"), ("½×", "0.5"), ("1×", "1")]
    return element(
        "div",
        element("button", "Pause", type="button", id="play", class_="primary"),
        _choice("Speed", "speed", speeds, "1"),
        _choice("Size", "size", sizes, "144"),
        _choice("Pixels", "pixels", [("smooth", "auto"), ("sharp", "pixelated")], "auto"),
        class_="controls needs-script",
    )


def _curve_controls(roles: Set[str]) -> Html:
    slider = element(
        "input", type="range", id="smoothing", min=0, max=0.98, step=0.02, value=0.6,
        aria_describedby="smoothing-value",
    )  # fmt: skip
    return element(
        "div",
        element("label", "Smoothing ", slider, element("output", "0.60", id="smoothing-value")),
        _choice("Scale", "scale", [("linear", "linear"), ("log", "log")], "linear"),
        [_key(role, text) for role, text in _ROLES.items() if role in roles],
        class_="controls needs-script",
    )


_ROLES = {
    "training": "training",
    "held-out": "held-out clips",
    "reference": "static start frame",
}


def _key(role: str, text: str) -> Html:
    return element(
        "span", element("i", class_=f"line {role}", aria_hidden="true"), text, class_="key"
    )


def _choice(title: str, name: str, options: Sequence[tuple[str, str]], chosen: str) -> Html:
    """A row of radio buttons that looks like one control."""
    buttons = [
        element(
            "label",
            element("input", type="radio", name=name, value=value, checked=value == chosen),
            element("span", text),
        )
        for text, value in options
    ]
    return element("fieldset", element("legend", title), element("div", buttons, class_="segments"))


def _side_by_side(run: ReportedRun) -> list[Html]:
    """One table whose rows are what was measured; nothing where that is a single thing.

    Only evaluations of the same metrics, in the same units, can stand below each other.
    """
    heads = [_heads(each) for each in run.evaluations]
    alike = [each for each, head in zip(run.evaluations, heads, strict=True) if head == heads[0]]
    if len(alike) < 2:
        return []
    rows = [
        element(
            "tr",
            element("th", str(each.get("label", "")), scope="row"),
            [element("td", number(one.get("value")), class_="value") for one in each["results"]],
        )
        for each in alike
    ]
    head = element("tr", [element("th", each, scope="col") for each in ("", *heads[0])])
    caption = element("caption", element("b", "all of them"), f" · {run.run.path.name}")
    table = element("table", caption, element("thead", head), element("tbody", rows))
    return [element("div", table, class_="scroll together")]


def _heads(evaluation: Mapping[str, Any]) -> list[str]:
    """What an evaluation measured, with units."""
    return [
        f"{each.get('metric')} ({each['unit']})" if each.get("unit") else str(each.get("metric"))
        for each in evaluation["results"]
    ]


def _evaluation(evaluation: Mapping[str, Any], run: ReportedRun) -> Html:
    head = ("metric", "value", "compare with", "measured on")
    rows = [_result(each) for each in evaluation["results"]]
    caption = element(
        "caption",
        element("b", str(evaluation.get("label", "evaluation"))),
        f" · {run.run.path.name}",
    )
    table = element(
        "table",
        caption,
        element("thead", element("tr", [element("th", each, scope="col") for each in head])),
        element("tbody", rows),
    )
    return element("div", table, class_="scroll")


def _result(result: Mapping[str, Any]) -> Html:
    value = number(result.get("value"))
    interval = result.get("interval")
    chance = [element("small", f"95 %: {' to '.join(map(number, interval))}")] if interval else []
    if not chance and result.get("standard_error") is not None:
        value += f" ± {number(result['standard_error'])}"
    better = {"higher": "↑ higher is better", "lower": "↓ lower is better"}
    hint = better.get(str(result.get("better")), "near the real one is better")
    beside = [
        element("div", element("b", number(other)), f" {name}")
        for name, other in result.get("references", {}).items()
    ]
    beside += [
        element("small", element("div", f"{number(other)} {name}"))
        for name, other in result.get("details", {}).items()
    ]
    protocol = [element("div", str(result.get("protocol_text", "")))]
    protocol += [
        element("div", f"⚠ {each}", class_="warning") for each in result.get("warnings", ())
    ]
    unit = str(result.get("unit") or "")
    return element(
        "tr",
        element("th", str(result.get("metric")), element("small", hint), scope="row"),
        element(
            "td",
            element("b", value),
            f" {unit}" if unit else "",
            chance,
            class_="value",
            data_label="value",
        ),
        element("td", beside, class_="beside", data_label="compare with"),
        element("td", protocol, class_="protocol", data_label="measured on"),
    )


def number(value: object) -> str:
    """A number with four significant digits; a dash for what is none."""
    if not isinstance(value, int | float):
        return "–"
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e6):
        return f"{int(value):,}"
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.2e}"
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.4g}"


def _folded(title: str, content: Html) -> Html:
    return element("details", element("summary", title), content)


def _run_title(run: ReportedRun) -> str:
    return f"{run.title} · {run.run.path.name}"


def _data(request: Mapping[str, Any]) -> str | None:
    config = request.get("config")
    data = config.get("data") if isinstance(config, dict) else None
    if not isinstance(data, dict):
        return None
    include = data.get("include") or ["*"]
    patterns = "" if list(include) == ["*"] else f" ({', '.join(map(str, include))})"
    return f"{data.get('dataset')}{patterns}"


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _url(path: str) -> str:
    return quote(path)
