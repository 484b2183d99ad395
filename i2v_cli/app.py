"""The program `i2v`: reads the flags that work everywhere, calls a verb, turns its end into output.

Everything that goes wrong ends here: as a line a user can act on, never as a traceback unless
--verbose asks for it, and as an exit code (0 done, 1 failed, 2 wrong usage or config,
3 environment, 4 input data missing, 130 interrupted).
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Sequence

import typer

from i2v_cli import console, verbs
from i2v_cli.console import Outcome
from i2v_cli.registry import VERBS
from pipelines.events import EXIT_FAILED, EXIT_INTERRUPTED, UserError

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    flags = set(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    console.configure(
        verbose="--verbose" in flags, quiet="--quiet" in flags, as_json="--json" in flags
    )
    # A polite kill gets the same orderly end as Ctrl-C, in whatever we are doing.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    first_word = next((word for word in arguments if not word.startswith("-")), None)
    verb = first_word if first_word in VERBS else None
    try:
        outcome = _call(arguments, verb)
        if outcome is None:
            return 0
        console.show_outcome(outcome, verb or "")
        return outcome.exit_code
    except BrokenPipeError:  # the reader of our output has seen enough, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except BaseException as problem:
        return _fail(problem, verb)


def _call(arguments: list[str], verb: str | None) -> Outcome | None:
    root = verbs.root(has_completion=verb is None)
    result = root.main(arguments, prog_name="i2v", standalone_mode=False)
    if result == EXIT_INTERRUPTED:  # how Typer says that it has caught a Ctrl-C
        raise KeyboardInterrupt
    return result if isinstance(result, Outcome) else None


def _fail(problem: BaseException, verb: str | None) -> int:
    if isinstance(problem, SystemExit):  # only shell completion leaves this way
        return problem.code if isinstance(problem.code, int) else EXIT_FAILED
    error = explain(problem, verb)
    if console.settings.is_verbose and not isinstance(problem, UserError):
        traceback.print_exception(problem)
    console.show_error(error)
    if console.settings.is_json:
        console.print_envelope(verb, error.exit_code, {}, error)
    return error.exit_code


def explain(problem: BaseException, verb: str | None = None) -> UserError:
    """Whatever ended a command, as an error of our form."""
    if isinstance(problem, UserError):
        return problem
    if isinstance(problem, (KeyboardInterrupt, typer.Abort)):
        return UserError("interrupted", exit_code=EXIT_INTERRUPTED)
    if isinstance(problem, typer.TyperException):
        return verbs.usage_problem(problem, verb)
    if isinstance(problem, OSError) and (problem.filename or problem.errno in _DISK_FULL):
        return _explain_os_error(problem)
    reason = traceback.format_exception_only(problem)[-1].strip().split("\n")[0]
    return UserError(
        "something went wrong inside i2v",
        {"reason": reason, "to see where": "run the same command with --verbose"},
    )


def _explain_os_error(problem: OSError) -> UserError:
    details: dict[str, object] = {"path": problem.filename} if problem.filename else {}
    if problem.errno in _DISK_FULL:
        return UserError(
            "no space left on the disk", details | {"to fix": "free some space, then try again"}
        )
    reason = (problem.strerror or type(problem).__name__).lower()
    return UserError(
        f"cannot use a file or folder: {reason}",
        details
        | {"to fix": "choose one you may read and write; I2V_HOME, I2V_DATA, I2V_RUNS say where"},
    )
