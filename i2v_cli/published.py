"""Published datasets and weights on the command line: names, terms, log-in, the job."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from i2v_cli import __version__, console, locations, names, options
from i2v_cli.console import Outcome, Table, short
from i2v_cli.progress import amount_text
from i2v_cli.registry import DATASETS, FAMILIES, Target
from pipelines.events import EXIT_USAGE, UserError

if TYPE_CHECKING:
    from i2v_cli.jobs import Plan
    from i2v_cli.presets import Given, Texts
    from pipelines.datasets.fetch_config import FetchRequest

WEIGHTS = "weights/"
TARGET = Target(
    "pipelines.datasets.fetch:fetch", "pipelines.datasets.fetch_config:FetchRequest", "data"
)


def dataset_names() -> list[str]:
    """The datasets that can be fetched: those of which the sources are known."""
    folder = locations.conf_dir() / "datasets"
    return [name for name in DATASETS if (folder / f"{name}.yaml").is_file()]


def list_weights() -> Outcome:
    """A table of all published weights."""
    from pipelines.datasets.fetch_config import list_weights

    found = list_weights(locations.conf_dir())
    return Outcome(
        result={"weights": found},
        table=Table(["weights", "what they are"], list(found.items())),
        next_command=f"i2v download {next(iter(found))}",
    )


def check_weights_name(name: str) -> None:
    """Raise UserError with the nearest name when there are no such weights."""
    from pipelines.datasets.fetch_config import list_weights

    found = list_weights(locations.conf_dir())
    if name not in found:
        guess = names.nearest(name, found)
        details = {"did you mean": guess} if guess else {}
        raise UserError(
            f"no published weights '{name}'",
            details | {"to see all": "i2v download weights"},
            EXIT_USAGE,
        )


def plan(name: str, given: Given, *, overrides: Texts = (), config_file: str | None = None) -> Plan:
    """The job that fetches a dataset or 'weights/NAME'.

    A section `sources` in the config file takes the place of what ships with i2v, for a mirror.
    """
    from i2v_cli import presets
    from i2v_cli.jobs import Plan
    from pipelines.datasets.fetch_config import FetchRequest, read_sources

    layers = presets.stack(
        FetchRequest,
        defaults={
            "dataset": name,
            "sources": read_sources(locations.conf_dir(), name).model_dump(mode="json"),
            "data_root": str(locations.data_root()),
            "weights_root": str(locations.data_root() / "weights"),
            "tool_version": f"i2v {__version__}",
        },
        config_file=config_file,
        overrides=overrides,
        options=options.that_matter(FetchRequest, given),
    )
    request = presets.resolve(FetchRequest, layers, who=f"download {name}")
    known = request.sources.subsets
    if request.subset is not None and request.subset not in known:
        raise names.unknown(f"'{name}' has no part '{request.subset}'", request.subset, known)
    return Plan(
        verb="download",
        title=f"download {name}",
        target=TARGET,
        request=request,
        outputs={"weights" if name.startswith(WEIGHTS) else "raw data": request.folder},
        after_stop={
            "kept": "every finished file and the beginnings of others;"
            " the same command goes on from there"
        },
    )


def carry_out(planned: Plan, *, cookie: str | None = None) -> Outcome:
    """Show the terms, have them accepted, fetch; ask for what only the user can give.

    cookie: the session cookie, if it was given on the command line.
    """
    request = _request(planned)
    if cookie:
        os.environ[request.cookie_variable] = cookie
    if request.verify:
        return _verified(planned, request)
    _show_terms(request)
    accepted = _accepted(request)
    _ask_for_cookie_before(accepted)
    return _fetched(_with_fresh_cookies(replace(planned, request=accepted)), accepted)


def dry_run(planned: Plan) -> Outcome:
    """The files that would be fetched, with their sizes as far as servers tell them.

    Servers are asked from the environment, so only where it is there already.
    """
    from i2v_cli import runner

    described = runner.dry_run(planned)
    lines = [line for line in described.lines if line.startswith("#")]
    headings = ["file", "size", "state"]
    state = described.result["environment"]
    if not isinstance(state, dict) or state["state"] not in ("ready", "adopted"):
        rows = list(_known_rows(_request(planned)))
        return replace(described, lines=lines, table=Table(headings, rows))
    found = runner.carry_out(replace(planned, title=""))
    lines += [f"# not reachable: {name}: {why}" for name, why in found["unreachable"].items()]
    lines += [f"# listed later, from {table}" for table in found["listed_later"]]
    needed, free = (amount_text(found[key], None, "B") for key in ("bytes_needed", "bytes_free"))
    is_known = all(row["bytes"] is not None for row in found["files"])
    more = "" if is_known else ", and more: some servers do not tell the size of a file"
    lines.append(f"# needs {needed}, with what is unpacked{more}; {free} are free")
    rows = [(row["name"], _size(row["bytes"]), row["state"]) for row in found["files"]]
    return Outcome(result={**described.result, **found}, lines=lines, table=Table(headings, rows))


def _request(planned: Plan) -> FetchRequest:
    return cast("FetchRequest", planned.request)


def _known_rows(request: FetchRequest) -> Iterator[tuple[str, str, str]]:
    """The files that the sources name; what is in a shared folder its server has to tell."""
    for source in request.sources.selected(request.subset):
        files = [*getattr(source, "files", ()), *filter(None, [getattr(source, "file", None)])]
        for file in files:
            yield file.name, _size(file.size), ""
        if not files:
            yield f"(files that the {source.kind} source lists)", "-", ""


def _show_terms(request: FetchRequest) -> None:
    about = request.sources
    console.say(about.about, console.BOLD)
    rows = [("terms", about.terms), ("please cite", " ".join(about.citation.split()))]
    rows += [("homepage", about.homepage)] if about.homepage else []
    rows += [("note", note) for note in about.notes]
    for label, text in rows:
        console.say(f"  {label:<11}   {text}")


def _accepted(request: FetchRequest) -> FetchRequest:
    """The request with the user's yes, where one is needed and was not given before."""
    if request.accept_terms or not request.sources.needs_acceptance:
        return request
    if _manifest(request.folder).get("terms_accepted"):
        return request
    terms = request.sources.terms
    if not console.ask(f"Do you accept the terms of '{request.dataset}' ({terms})?"):
        raise UserError(
            f"the terms of '{request.dataset}' have to be accepted first",
            {
                "terms": terms,
                "read them at": request.sources.homepage or "-",
                "to fix": f"i2v download {request.dataset} --accept-terms",
            },
            EXIT_USAGE,
        )
    return request.model_copy(update={"accept_terms": True})


def _ask_for_cookie_before(request: FetchRequest) -> None:
    """On a terminal, ask for the session cookie that files still to be fetched will need."""
    if request.from_dir is not None or os.environ.get(request.cookie_variable):
        return
    here = _manifest(request.folder).get("files", {})
    for source in request.sources.selected(request.subset):
        if source.kind == "cookie-session" and any(each.name not in here for each in source.files):
            console.say(f"  log-in        {source.how}")
            _ask_for_cookie(request)
            return


def _ask_for_cookie(request: FetchRequest) -> bool:
    """Read the cookie without showing it, into the environment, where only the worker finds it."""
    if not sys.stdin.isatty():
        return False
    value = getpass.getpass("session cookie (not shown; nothing to stop): ").strip()
    if value:
        os.environ[request.cookie_variable] = value
    return bool(value)


def _with_fresh_cookies(planned: Plan) -> dict[str, Any]:
    """Do the job; on a terminal, ask for a new cookie whenever the session has ended."""
    from i2v_cli import runner

    while True:
        try:
            return runner.carry_out(planned)
        except UserError as problem:
            request = _request(planned)
            if problem.details.get("variable") != request.cookie_variable:
                raise
            if sys.stdin.isatty():
                console.warn(problem.message)
            if not _ask_for_cookie(request):
                raise


def _fetched(result: dict[str, Any], request: FetchRequest) -> Outcome:
    size = sum(row["bytes"] or 0 for row in result["files"])
    notes = [
        f"{result['num_files_here']} of {result['num_files']} files are here, {_size(size)};"
        f" {_size(result['bytes_fetched'])} were fetched now"
    ]
    notes += [
        f"unpacked {row['archive']}: {row['files']:,} file{'s' if row['files'] != 1 else ''}"
        for row in result["unpacked"]
    ]
    if result["missing"]:
        notes.append(f"{len(result['missing'])} files cannot be had; missing.json says why")
    return Outcome(
        result=result,
        lines=[short(Path(result["folder"]))],
        notes=notes,
        next_command=_next_command(request.dataset),
    )


def _verified(planned: Plan, request: FetchRequest) -> Outcome:
    from i2v_cli import runner

    result = runner.carry_out(replace(planned, title=f"verify {request.dataset}"))
    published, learned = result["num_published_checksums"], result["num_learned_checksums"]
    return Outcome(
        result=result,
        lines=[
            f"{result['num_files']} files are as they were downloaded"
            f" ({published} compared with the publisher's checksum,"
            f" {learned} with that of the first download)"
        ],
        next_command=_next_command(request.dataset),
    )


def _next_command(name: str) -> str | None:
    if not name.startswith(WEIGHTS):
        return f"i2v extract-frames {name}"
    short_name = name.removeprefix(WEIGHTS)
    family = next((each for each in FAMILIES if short_name.startswith(each)), None)
    if family is None or "import" not in FAMILIES[family].verbs:
        return None
    return f"i2v import {family} {short_name}"


def _manifest(folder: Path) -> Mapping[str, Any]:
    """What a folder's download.json says; nothing where it cannot be read (the worker says why)."""
    from pipelines.files import read_json

    try:
        found = read_json(folder / "download.json")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _size(num_bytes: int | None) -> str:
    return "-" if num_bytes is None else amount_text(num_bytes, None, "B")
