"""The tree of commands: which there are, and what an unknown one is answered.

Only the module of the command that was typed is imported: a command that needs no simulator, no web server
and no numbers must not pay for them.
"""

from __future__ import annotations

import difflib
import sys
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from standfast import __version__
from standfast.kernel.errors import ConfigError

_HERE = "standfast.cli.commands"
_SUMMARY = "Run evaluation networks so that nothing is lost silently, and no green is unfounded."


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        sys.stdout.write(f"standfast {__version__}\n")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version.")
]


class Branch(NamedTuple):
    """A module of commands: the words that it adds to the top, or the one group that it fills."""

    module: str
    words: tuple[str, ...]
    group_help: str = ""


BRANCHES = (
    Branch("running", ("up", "down")),
    Branch("status", ("status",)),
    Branch("logs", ("logs",)),
    Branch("services", ("restart", "hold", "release")),
    Branch("explain", ("explain",)),
    Branch("recover", ("recover",)),
    Branch("units", ("units",)),
    Branch("rounds", ("round",), "Look at rounds, and recompute what they published."),
    Branch("tasks", ("task",), "Look at tasks, and steer them."),
    Branch("executors", ("executors",), "Look at executors, and keep work from one."),
    Branch("facts", ("facts",), "Look at what happened, and prove that nobody changed it."),
    Branch("scoring", ("score",)),
    Branch("classify", ("classify",)),
    Branch("lint", ("lint",)),
    Branch("gate", ("gate",), "Ask a gate whether something may happen."),
    Branch("importing", ("import",), "Take over stacks that pm2 and compose files declare."),
    Branch("tokens", ("token",), "Give out and take back API tokens."),
    Branch("setup", ("doctor", "init", "version")),
    Branch("parts", ("api", "scheduler", "executor")),
)


_NEAR = 0.5


class NearestGroup(TyperGroup):
    """A group of commands that answers an unknown name with the nearest known one (X6)."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order that they were added in."""
        return list(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that ``args`` names; ConfigError where there is none."""
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            # X6 asks for the nearest; where nothing is near, the way to the list is the better answer.
            near = difflib.get_close_matches(args[0], known, n=1, cutoff=_NEAR)
            guess = f"did you mean {ctx.command_path} {near[0]}? " if near else f"{ctx.command_path} --help; "
            raise ConfigError(
                f"{ctx.command_path} has no command {args[0]!r}",
                fix=f"{guess}known: {', '.join(known)}",
                code="UnknownCommand",
            )
        return super().resolve_command(ctx, args)


def build(word: str = "") -> typer.Typer:
    """Return the tree, or only the branch that ``word`` stands on, if it is known."""
    root = _group(_SUMMARY)
    # With a callback it stays a group, even when it has a single command.
    root.callback(help=_SUMMARY)(_top)
    wanted = [branch for branch in BRANCHES if word in branch.words] or list(BRANCHES)
    for branch in wanted:
        module = import_module(f"{_HERE}.{branch.module}")
        if branch.group_help:
            group = _group(branch.group_help)
            module.add(group)
            root.add_typer(group, name=branch.words[0])
        else:
            module.add(root)
    return root


def _top(version: Version = False) -> None:
    pass


def _group(help_text: str) -> typer.Typer:
    return typer.Typer(
        cls=NearestGroup, help=help_text, no_args_is_help=True, rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )  # fmt: skip
