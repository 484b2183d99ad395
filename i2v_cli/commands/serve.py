"""`i2v serve`: the page where pictures are poked, on this machine."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from i2v_cli import console, options
from i2v_cli.console import Outcome, short
from i2v_cli.registry import Target

if TYPE_CHECKING:
    from i2v_cli.jobs import Plan
    from i2v_cli.presets import Given, Texts
    from i2v_cli.progress import Event

SERVER = "Server"


def run(
    overrides: options.Overrides = None,
    run: Annotated[
        list[str] | None,
        typer.Option(
            "--run",
            metavar="RUN",
            help="a run to offer; may be given several times (all there are)",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="port to listen on; 0 is any free one (8765 or the next free one)",
            rich_help_panel=SERVER,
        ),
    ] = None,
    allow_remote: Annotated[
        bool,
        typer.Option(
            "--allow-remote",
            help="listen to other machines too; nothing is encrypted",
            rich_help_panel=SERVER,
        ),
    ] = False,
    host_name: Annotated[
        list[str] | None,
        typer.Option(
            "--host-name",
            metavar="NAME",
            help="a further name of this machine, with --allow-remote",
            rich_help_panel=SERVER,
        ),
    ] = None,
    no_browser: Annotated[
        bool,
        typer.Option("--no-browser", help="only print the address", rich_help_panel=SERVER),
    ] = False,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="where pictures and answers are kept (RUNS/sessions/TIME)",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    config_file: options.ConfigFile = None,
    preset: options.Preset = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
) -> Outcome:
    """Open the page for poking images

    i2v serve
    i2v serve --run poke-demo --no-browser

    Drag an arrow on a picture and a trained model answers; Ctrl-C ends it.
    """
    from i2v_cli import runner

    given: Given = {
        "port": ("--port", port),
        "allow_remote": ("--allow-remote", allow_remote or None),
        "host_names": ("--host-name", host_name),
        "session_dir": ("--out", options.absolute(out)),
        "device": ("--device", device),
    }
    planned = plan(
        run or [], given, overrides=overrides or (), config_file=config_file, preset=preset
    )
    if dry_run:
        return runner.dry_run(planned)
    result = runner.carry_out(planned, PageDisplay(may_open=not no_browser))
    folder = planned.outputs["session"]
    kept = [short(folder)] if folder.exists() else []
    return Outcome(result=result, lines=kept)


def plan(
    runs: list[str],
    given: Given,
    *,
    overrides: Texts = (),
    config_file: str | None = None,
    preset: str | None = None,
) -> Plan:
    """The job that serves the page."""
    from i2v_cli import locations, presets, run_folders
    from i2v_cli.jobs import Plan
    from i2v_cli.registry import FAMILIES

    found = [run_folders.find(name) for name in runs]
    for each in found:
        if each.family in FAMILIES:
            run_folders.require_last_stage(each, FAMILIES[each.family])
        run_folders.require_checkpoint(each)
    runs_root = locations.runs_root()
    target = Target("pipelines.serve.app:serve", "pipelines.serve.config:ServeRequest", "main")
    model = presets.find_class(target.request)
    layers = presets.stack(
        model,
        defaults={
            "runs": [str(each.path) for each in found],
            "runs_root": str(runs_root),
            "session_dir": str(runs_root / "sessions" / time.strftime("%Y%m%d-%H%M%S")),
        },
        preset=preset,
        presets_of="serve",
        config_file=config_file,
        overrides=overrides,
        options=options.that_matter(model, given),
    )
    request = presets.resolve(model, layers, who="serve")
    return Plan(
        verb="serve",
        title="serve: Ctrl-C ends it",
        target=target,
        request=request,
        outputs={"session": request.model_dump()["session_dir"]},
    )


class PageDisplay:
    """Shows what a server says; an address goes to standard output, and to the browser."""

    def __init__(self, *, may_open: bool) -> None:
        from i2v_cli.progress import PlainDisplay

        self._lines, self._may_open = PlainDisplay(), may_open

    def start(self, title: str) -> None:
        """Say what begins."""
        self._lines.start(title)

    def show(self, event: Event) -> None:
        """Show an event; the first address is opened."""
        if event.get("event") != "address":
            self._lines.show(event)
            return
        # With --json the one object on standard output comes at the end.
        stream = sys.stderr if console.settings.is_json else sys.stdout
        print(console.clean(str(event["url"])), file=stream, flush=True)
        if self._may_open and console.is_terminal(sys.stdout) and _has_desktop():
            self._may_open = False
            _open(event["url"])

    def notice(self, text: str) -> None:
        """Say it."""
        self._lines.notice(text)

    def close(self) -> None:
        """Do nothing: every line is complete."""


def _has_desktop() -> bool:
    """Whether a browser would open a window, and not take over this terminal."""
    is_desktop_system = sys.platform in ("darwin", "win32")
    return is_desktop_system or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open(url: Any) -> None:
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(str(url),), daemon=True).start()
