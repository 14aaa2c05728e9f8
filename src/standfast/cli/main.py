"""The top of the process: every way a command can end becomes a message and an exit code.

| code | meaning | code | meaning |
|---|---|---|---|
| 0 | ok | 5 | refused by a gate |
| 1 | failed | 6 | conflict |
| 2 | usage or configuration | 7 | unreachable |
| 3 | unhealthy | 8 | pending |
| 4 | not authorized | 70 | a bug; the traceback is in a file |

130 is Ctrl-C.
"""

from __future__ import annotations

import difflib
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import typer

from standfast.app.instance import registry_folder
from standfast.app.tokens import redact
from standfast.cli import output
from standfast.cli.application import build
from standfast.kernel.errors import ConfigError, StandfastError

_BUG = 70
_INTERRUPTED = 130
_KEEP_CRASHES = 20

#: The parser's own errors; typer has no public name for their class, only for one below it.
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]


class UsageError(ConfigError):
    """The command line cannot be understood."""

    code = "Usage"


def run() -> None:
    """Run the command of this process and end it."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; nothing is raised."""
    try:
        app = build(arguments[0] if arguments else "")
        code = app(args=list(arguments), prog_name="standfast", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except StandfastError as error:
        output.say_error(error)
        return error.exit_code
    except _USAGE_ERROR as error:
        return _usage(error, arguments)
    except (KeyboardInterrupt, typer.Abort):
        output.say("interrupted")
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read us went away; what is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - the top of the process
        return _bug(error, arguments)


def _usage(error: Exception, arguments: Sequence[str]) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(f"{str(error).strip()}\n")
        return UsageError.exit_code
    if not getattr(error, "format_message", str)():
        return 2  # A group without a command has shown its help.
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "standfast")
    usage = UsageError(_message(error), fix=_nearest_option(error) or f"{path} --help")
    output.say_error(usage)
    if "--json" in arguments:
        output.print_json(output.envelope("usage", error=output.error_body(usage)))
    return usage.exit_code


def _message(error: Exception) -> str:
    return str(getattr(error, "format_message", lambda: error)()).partition(" Did you mean")[0].rstrip(".")


def _nearest_option(error: Exception) -> str:
    """Return the option that was probably meant, where an unknown one was given."""
    unknown, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if type(error).__name__ != "NoSuchOption" or unknown is None or context is None:
        return ""
    known = [name for parameter in context.command.get_params(context) for name in parameter.opts]
    known = [name for name in known if name.startswith("-")]
    # Without their dashes: two short options are not alike because both start with "--".
    bare = {name.lstrip("-"): name for name in known}
    near = difflib.get_close_matches(str(unknown).lstrip("-"), bare, n=1, cutoff=0.5)
    guess = f"did you mean {bare[near[0]]}? " if near else ""
    return f"{guess}known: {', '.join(sorted(known))}"


def _bug(error: Exception, arguments: Sequence[str]) -> int:
    text = redact("".join(traceback.format_exception(error)))
    where = _write_crash(text)
    bug = StandfastError(
        f"this is a bug in standfast: {type(error).__name__}",
        why=f"the traceback is in {where}" if where else "its traceback follows",
        fix="report it with that file; nothing that was acknowledged is lost",
        code="Bug",
    )
    output.say_error(bug)
    if not where:
        sys.stderr.write(text)
    if "--json" in arguments:
        body = {**output.error_body(bug), "exit_code": _BUG}
        output.print_json(output.envelope("bug", error=body))
    return _BUG


def _write_crash(text: str) -> Path | None:
    """Write the traceback where this user finds it; None where no folder takes it."""
    name = f"standfast-crash-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.txt"
    for folder in (registry_folder().parent / "crashes", Path(tempfile.gettempdir())):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for old in sorted(folder.glob("standfast-crash-*.txt"))[:-_KEEP_CRASHES]:
                old.unlink(missing_ok=True)
            path = folder / name
            path.write_text(text, "utf-8")
        except OSError:
            continue
        return path
    return None
