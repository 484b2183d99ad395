"""Verbs as Typer commands: our help page, the flags that work everywhere, errors in our form.

A verb's module is imported only when it is called or its own help is asked for.
"""

from __future__ import annotations

import importlib
import inspect
import re
from functools import cache
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from i2v_cli import __version__, console, help_page
from i2v_cli.help_page import EVERYWHERE_PANEL, Entry
from i2v_cli.names import nearest, not_built
from i2v_cli.registry import VERBS
from pipelines.events import EXIT_USAGE, UserError


class Command(TyperCommand):
    """A verb, or an action of one such as `i2v data list`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        known = {name for param in self.params for name in param.opts}
        self.params += [flag for flag in _flags() if not known.intersection(flag.opts)]

    def invoke(self, ctx: Any) -> Any:
        """Call the verb without the flags that app.py has already read."""
        for flag in _flags():
            if flag in self.params:
                ctx.params.pop(flag.name, None)
        return super().invoke(ctx)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print our own page."""
        params = self.get_params(ctx)
        usage = help_page.usage_line(ctx.command_path, params)
        panels = help_page.command_panels(params, "--help")
        formatter.write(help_page.page(usage, _doc(self), panels))


class Group(TyperGroup):
    """A verb with several actions, such as `i2v data`."""

    def get_help_option(self, ctx: Any) -> Any:
        """The option --help, with a value that Typer can take without importing pydantic."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False
        return option

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print our own page."""
        usage = help_page.usage_line(ctx.command_path, (), is_group=True)
        rows = [Entry(name, _first_line(command)) for name, command in self.commands.items()]
        panels = [("Actions", rows), *help_page.command_panels((), "--help")]
        formatter.write(help_page.page(usage, _doc(self), panels))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the action, or raise our own error with the nearest name."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            raise _no_command(name, list(self.list_commands(ctx)), f"{ctx.command_path} --help")
        return super().resolve_command(ctx, args)


class Verbs(Group):
    """All verbs of the registry, each loaded when it is needed."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the verbs that this version has."""
        return [name for name, verb in VERBS.items() if verb.is_built]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import the module of a verb; None when there is no such verb."""
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        if not verb.is_built:
            raise not_built(f"'i2v {cmd_name}'", self.list_commands(ctx))
        return load(cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the verbs under their headings, from the registry alone."""
        panels: dict[str, list[Entry]] = {}
        for name, verb in VERBS.items():
            if verb.is_built:
                panels.setdefault(verb.group, []).append(Entry(name, verb.about))
        rest = help_page.command_panels(self.get_params(ctx), "--help")
        formatter.write(help_page.page("i2v COMMAND ...", _doc(self), [*panels.items(), *rest]))


def load(name: str) -> Any:
    """The command of a verb: its module's `app` (several actions) or its function `run`."""
    module = importlib.import_module(VERBS[name].module)
    app: typer.Typer | None = getattr(module, "app", None)
    if app is None:
        app = typer.Typer(add_completion=False)
        app.command(name=name, cls=Command)(module.run)
    else:
        app.info.cls, app.info.name = Group, name
        for action in app.registered_commands:
            action.cls = Command
    command = typer.main.get_command(app)
    command.help = command.help or inspect.getdoc(module)
    return command


def root(*, has_completion: bool = True) -> Any:
    """The command `i2v` itself.

    has_completion: with the options that install shell completion. They make Typer import pydantic,
    so a command line that names a verb goes without.
    """
    app = typer.Typer(
        cls=Verbs,
        add_completion=has_completion,
        invoke_without_command=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(_i2v)
    command: Any = typer.main.get_command(app)
    for param in command.params:
        if param.name in ("install_completion", "show_completion"):
            param.rich_help_panel = "Shell"
            param.help = str(param.help).split(",")[0].rstrip(".").lower()
    return command


JsonFlag = Annotated[
    bool,
    typer.Option(
        "--json", help="print the result as one JSON object", rich_help_panel=EVERYWHERE_PANEL
    ),
]
QuietFlag = Annotated[
    bool,
    typer.Option(
        "--quiet", help="say nothing but results and errors", rich_help_panel=EVERYWHERE_PANEL
    ),
]
VerboseFlag = Annotated[
    bool,
    typer.Option(
        "--verbose", help="say more when something fails", rich_help_panel=EVERYWHERE_PANEL
    ),
]


def _i2v(
    ctx: typer.Context,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    verbose: VerboseFlag = False,
    version: Annotated[
        bool, typer.Option("--version", help="show the version", rich_help_panel=EVERYWHERE_PANEL)
    ] = False,
) -> console.Outcome | None:
    """Image-to-video synthesis: train on clips, animate a still image, measure the result

    i2v demo

    i2v extract-frames my_clips/
    i2v train cinn --stage 1 --dataset my_clips
    i2v sample cinn --run RUN --image photo.jpg
    """
    if version:
        return console.Outcome(result={"version": __version__}, lines=[f"i2v {__version__}"])
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
    return None


@cache
def _flags() -> tuple[Any, ...]:
    """The flags that every command takes; app.py reads them before anything else runs."""

    def everywhere(
        as_json: JsonFlag = False, quiet: QuietFlag = False, verbose: VerboseFlag = False
    ) -> None: ...

    app = typer.Typer(add_completion=False)
    app.command()(everywhere)
    return tuple(typer.main.get_command(app).params)


def usage_problem(error: Any, verb: str | None = None) -> UserError:
    """A wrong command line, as Typer sees it, in our words. verb: what was being called."""
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path if ctx else f"i2v {verb or ''}".strip()
    remedy = {"to see all": f"{path} --help"}
    option = str(getattr(error, "option_name", ""))
    if type(error).__name__ == "NoSuchOption":
        known = (
            [name for param in ctx.command.get_params(ctx) for name in param.opts] if ctx else []
        )
        guess = nearest(option, [name for name in known if name.startswith("--")])
        details = ({"did you mean": guess} if guess else {}) | remedy
        return UserError(f"{path} has no option {option}", details, EXIT_USAGE)
    if type(error).__name__ == "MissingParameter":
        return UserError(f"missing {_param_name(error.param)}", remedy, EXIT_USAGE)
    if getattr(error, "param", None) is not None:
        return UserError(_param_name(error.param), {"": _plain(error.message)}, EXIT_USAGE)
    return UserError(_plain(error.format_message()), remedy, EXIT_USAGE)


def _param_name(param: Any) -> str:
    if param.param_type_name == "argument":
        return str(param.metavar or param.name.upper())
    return f"option {param.opts[0]}"


_PLAIN_WORDS = (
    (r"Input should be a valid integer.*", "must be a whole number"),
    (r"Input should be a valid number.*", "must be a number"),
    (r"Input should be ", "must be "),
    (r"^Option '(.+)' requires (an argument|\d+ arguments)", r"option \1 needs \2"),
    (r"^Option '(.+)' does not take", r"option \1 does not take"),
)


def _plain(message: str) -> str:
    text = message.strip().rstrip(".")
    for pattern, words in _PLAIN_WORDS:
        text = re.sub(pattern, words, text)
    return text[:1].lower() + text[1:]


def _no_command(name: str, known: list[str], remedy: str) -> UserError:
    guess = nearest(name, known)
    details = {"did you mean": guess} if guess else {}
    return UserError(f"no command '{name}'", details | {"to see all": remedy}, EXIT_USAGE)


def _doc(command: Any) -> str:
    return inspect.cleandoc(command.help or "")


def _first_line(command: Any) -> str:
    return _doc(command).split("\n", 1)[0]
