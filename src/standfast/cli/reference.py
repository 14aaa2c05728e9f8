"""Writes docs/reference from the code: ``python -m standfast.cli.reference DIR`` (``make docs``).

A page that is written by hand is wrong after the next change; a test compares these with the code.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from standfast.app.config import Config
from standfast.checks import BUILTIN
from standfast.cli.application import build
from standfast.services.lint.table import RULES

_WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", dict: "table of text"}
_BOUNDS = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}

_CONFIGURATION = """# Configuration

Written by `make docs` from `standfast.app.config`. One `standfast.toml` has everything; a key that is
not listed here is refused with the nearest one that is, and with its line. Times are in seconds."""
_COMMANDS = """# Commands

Written by `make docs` from `standfast.cli`. stdout is data, stderr is messages. Every command has
`--json`: one line, `{"schema": "standfast.COMMAND/1", "at": ..., "data": ...}`, with `"error"` in place
of `"data"` where it failed.
"""
_PREFLIGHT = """# Preflight

Written by `make docs` from `standfast.checks`. `standfast doctor` shows what each of them finds, and
`standfast up` starts only where all are PASS. What could not be found out is UNKNOWN, and UNKNOWN never
opens the gate.

| check | what must hold |
|---|---|"""


_LINT = """# Lint

Written by `make docs` from `standfast.services.lint`. How to use it: [find what is wrong](../how-to/lint.md).

| rule | file | severity | what it finds | why |
|---|---|---|---|---|"""


def pages() -> dict[str, str]:
    """Return the generated pages by file name."""
    return {
        "commands.md": "\n".join(_commands()) + "\n",
        "configuration.md": "\n".join(_configuration()) + "\n",
        "lint.md": "\n".join(_lint()) + "\n",
        "preflight.md": "\n".join(_preflight()) + "\n",
    }


def _configuration() -> Iterator[str]:
    yield from _CONFIGURATION.splitlines()
    for path, section, is_array in _sections(Config, ()):
        name = ".".join(path)
        yield ""
        yield f"## `{f'[[{name}]]' if is_array else f'[{name}]'}`"
        yield ""
        yield _summary(section)
        yield ""
        yield "| key | type | default | range | what it does |"
        yield "|---|---|---|---|---|"
        for key, field in section.model_fields.items():
            if _section_of(field) is None:
                yield _row(key, field)


def _sections(
    model: type[BaseModel], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], type[BaseModel], bool]]:
    """Yield every table of the file in its order; each field is visited once."""
    for key, field in model.model_fields.items():
        section = _section_of(field)
        if section is not None:
            yield (*path, key), section, section is not field.annotation
            yield from _sections(section, (*path, key))


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    candidates = [field.annotation, *get_args(field.annotation)]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _row(key: str, field: FieldInfo) -> str:
    cells = (f"`{key}`", _type(field), _default(field), _range(field), field.description or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(field: FieldInfo) -> str:
    choices = get_args(field.annotation)
    if choices and all(isinstance(choice, str) for choice in choices):
        return " or ".join(f'`"{choice}"`' for choice in choices)
    origin = getattr(field.annotation, "__origin__", field.annotation)
    return "array of text" if origin is tuple else _WORDS.get(origin, "text")  # type: ignore[arg-type]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, float):
        return f"`{value:g}`"
    return "none" if value in ((), {}) else f"`{value}`"


def _range(field: FieldInfo) -> str:
    bounds: dict[str, Any] = {}
    for mark in field.metadata:
        bounds.update({name: getattr(mark, name) for name in _BOUNDS if hasattr(mark, name)})
    return " ".join(f"{word} {_number(bounds[name])}" for name, word in _BOUNDS.items() if name in bounds)


def _number(value: float) -> str:
    return f"{value:,.10g}" if value >= 1 else f"{value:g}"


def _commands() -> Iterator[str]:
    yield from _COMMANDS.splitlines()
    yield ""
    yield "| exit code | meaning |"
    yield "|---|---|"
    for code, meaning in EXIT_CODES.items():
        yield f"| {code} | {meaning} |"
    root = typer.main.get_command(build())
    for path, command in _leaves(root, ("standfast",)):
        yield from _command(path, command)


EXIT_CODES: Mapping[int, str] = {
    0: "ok",
    1: "failed",
    2: "usage or configuration",
    3: "unhealthy",
    4: "not authorized",
    5: "refused by a gate",
    6: "conflict",
    7: "unreachable",
    8: "pending",
    70: "a bug; the message says where the traceback is",
    130: "Ctrl-C",
}


def _leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    children: Mapping[str, Any] | None = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        yield from _leaves(child, (*path, name))


def _command(path: Sequence[str], command: Any) -> Iterator[str]:
    yield ""
    yield f"## `{' '.join(path)}`"
    yield ""
    yield inspect.cleandoc(command.help or "")
    yield ""
    yield "```console"
    yield f"$ {command.epilog.removeprefix('Example: ')}"
    yield "```"
    yield ""
    yield "| argument or option | what it does |"
    yield "|---|---|"
    for parameter in command.params:
        name = parameter.metavar if parameter.param_type_name == "argument" else ", ".join(parameter.opts)
        yield f"| `{name}` | {_about(parameter)} |"


def _about(parameter: Any) -> str:
    parts = [parameter.help or ""]
    if parameter.required:
        parts.append("Required.")
    envvar = getattr(parameter, "envvar", None)
    if envvar:
        parts.append(f"Environment: `{envvar}`.")
    return " ".join(parts).replace("|", "\\|")


def _lint() -> Iterator[str]:
    yield from _LINT.splitlines()
    for rule in RULES:
        cells = (f"`{rule.id}`", rule.kind.value, rule.severity.value, rule.what, rule.why)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _preflight() -> Iterator[str]:
    yield from _PREFLIGHT.splitlines()
    for check in BUILTIN:
        yield f"| {check.name} | {check.summary} |"


def _summary(section: type[BaseModel]) -> str:
    return inspect.cleandoc(section.__doc__ or "").partition("\n\n")[0].replace("\n", " ")


def write(folder: Path) -> None:
    """Write every page into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
