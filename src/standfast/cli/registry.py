"""Turns a function into a command: its own arguments, and the options that every command has."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from standfast.app.instance import Wanted
from standfast.cli.session import Session
from standfast.kernel.errors import StandfastError

Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON in a versioned envelope.")]
Url = Annotated[
    str, typer.Option("--url", envvar="STANDFAST_URL", metavar="URL", help="Address of the API to talk to.")
]
Token = Annotated[
    str,
    typer.Option(
        "--token", envvar="STANDFAST_TOKEN", metavar="TOKEN",
        help="Token to show; others can read a command line, so prefer --token-file.",
    ),
]  # fmt: skip
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", envvar="STANDFAST_TOKEN_FILE", metavar="FILE", help="File with the token."),
]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", metavar="DIR", help="Data directory of the instance.")
]

_LOCAL: dict[str, tuple[Any, Any]] = {"is_json": (Json, False)}
_REMOTE: dict[str, tuple[Any, Any]] = {
    "url": (Url, ""),
    "token": (Token, ""),
    "token_file": (TokenFile, None),
    "data_dir": (DataDir, None),
}

Command = Callable[..., int | None]


def command(
    app: typer.Typer,
    function: Command,
    name: str,
    *,
    schema: str,
    example: str,
    is_remote: bool = True,
) -> None:
    """Register ``function(session, ...)`` as the command ``name`` of ``app``.

    ``schema`` names its envelope, ``example`` is shown below its help, ``is_remote`` gives it the options
    that say which instance is meant. The function returns the exit code, or None for 0.
    """
    common = {**_LOCAL, **_REMOTE} if is_remote else _LOCAL
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    shared = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
        for key, (kind, default) in common.items()
    ]

    def run(**given: Any) -> None:
        chosen = {key: given.pop(key) for key in common}
        session = Session(schema, chosen.pop("is_json"), Wanted(**chosen))
        try:
            code = function(session, **given)
        except StandfastError as error:
            session.fail(error)
            raise
        if code:
            raise typer.Exit(code)

    parameters = [*(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *shared]
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    # This is where typer looks for the arguments and options of a command.
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    app.command(name, epilog=f"Example: {example}")(run)
