"""Turns what the validator and the rules object to into words: file, line, setting, what, and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from standfast.app.config_problem import Problem
from standfast.app.toml_lines import KeyPath, line_of
from standfast.kernel.errors import ConfigError

_KINDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "text in quotes",
    "tuple": "an array",
    "dict": "a table",
    "model": "a table",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}
_FOUND = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "an array"}


class InvalidConfigError(ConfigError):
    """A configuration is refused; ``problems`` has all that is wrong, in the order of the file."""

    def __init__(self, source: str, text: str, problems: Sequence[Problem]) -> None:
        assert problems, "a refusal has a reason"
        placed = [(line_of(text, problem.path) or 0, problem) for problem in problems]
        placed.sort(key=lambda item: item[0])
        lines = [f"{f'{source}:{line}' if line else source}: {problem.what}" for line, problem in placed]
        first = placed[0][1]
        rest = [f"{line}; {p.fix}" for line, (_, p) in zip(lines[1:], placed[1:], strict=True)]
        super().__init__(
            lines[0],
            why=f"there is more ({len(rest)}):\n" + "\n".join(rest) if rest else "",
            fix=first.fix,
            code=first.code,
        )
        self.problems = tuple(problem for _, problem in placed)
        self.lines = tuple(line for line, _ in placed)


def problem_of(error: ErrorDetails, root: type[BaseModel]) -> Problem:
    """Return what one objection of the validator means to the person who wrote the file."""
    path = tuple(error["loc"])
    kind = error["type"]
    if kind == "extra_forbidden":
        return _unknown(path, root)
    if kind == "missing":
        return Problem("MissingSetting", path, f"{dotted(path)} is missing", f"set {_last_key(path)}")
    if kind in _BOUNDS or kind == "finite_number":
        return Problem("OutOfRange", path, _range_text(path, error, root), "choose a value in that range")
    if kind == "literal_error":
        return _not_a_choice(path, error)
    wanted = next((words for name, words in _KINDS.items() if kind.startswith(name + "_type")), "")
    if wanted:
        found = _FOUND.get(type(error["input"]), "something else")
        what = f"{dotted(path)} must be {wanted}, not {found}"
        return Problem("WrongType", path, what, f"write {wanted}")
    # The value itself may be a secret (a URL with a password) and is not repeated.
    return Problem(
        "WrongValue", path, f"{dotted(path)}: {error['msg']}", "see docs/reference/configuration.md"
    )


def dotted(path: KeyPath) -> str:
    """Return ``path`` as a person writes it: ``subjects[2].hotkey``; entries count from 1."""
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _last_key(path: KeyPath) -> str:
    return next((part for part in reversed(path) if isinstance(part, str)), "")


def _unknown(path: KeyPath, root: type[BaseModel]) -> Problem:
    known = tuple(_fields_at(path[:-1], root))
    key = str(path[-1])
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    hint = f"did you mean {near[0]!r}? " if near else ""
    where = f"[{dotted(path[:-1])}]" if path[:-1] else "the top level"
    return Problem(
        "UnknownSetting",
        path,
        f"{dotted(path)} is not a setting",
        f"{hint}known in {where}: {', '.join(sorted(known))}",
    )


def _not_a_choice(path: KeyPath, error: ErrorDetails) -> Problem:
    expected = str(error.get("ctx", {}).get("expected", ""))
    choices = expected.replace(" or ", ", ").replace("'", "").split(", ")
    near = difflib.get_close_matches(str(error["input"]), choices, n=1, cutoff=0.0)
    return Problem(
        "WrongValue", path, f"{dotted(path)} must be {expected}", f"did you mean {near[0]!r}?" if near else ""
    )


def _range_text(path: KeyPath, error: ErrorDetails, root: type[BaseModel]) -> str:
    field = _fields_at(path[:-1], root).get(str(path[-1]))
    bounds = {}
    for mark in getattr(field, "metadata", []):
        bounds.update({name: getattr(mark, name) for name, _ in _BOUNDS.values() if hasattr(mark, name)})
    words = [f"{text} {bounds[name]:g}" for name, text in _BOUNDS.values() if name in bounds]
    return f"{dotted(path)} = {error['input']!r} is out of range: it must be {' and '.join(words)}"


def _fields_at(path: KeyPath, root: type[BaseModel]) -> Mapping[str, Any]:
    """Return the fields of the section that ``path`` leads to."""
    model = root
    for part in path:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        inner = _section_of(field.annotation) if field is not None else None
        if inner is None:
            return {}
        model = inner
    return model.model_fields


def _section_of(annotation: Any) -> type[BaseModel] | None:
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
