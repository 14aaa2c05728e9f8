"""Reads what pm2 was told: ecosystem files (``.config.js``, ``.json``, ``.yml``) and ``pm2 jlist``.

1. A file of plain values is read without running it. One that computes is run with node, if the caller allows
   that (``script_node`` says how); where it may not be run or node is absent, the error names the line.
2. Times are milliseconds and sizes powers of 1024, as for pm2; paths count from the app's ``cwd``.
3. pm2 starts apps in the folder of the shell that calls it. A file does not say which that is; its own folder
   is taken, and a finding says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from standfast.services.stacks.apps import AppSource, read_app
from standfast.services.stacks.documents import DeclarationError, parse_yaml, read_text, refused
from standfast.services.stacks.fields import mapping_of
from standfast.services.stacks.model import DeclaredService, Stack
from standfast.services.stacks.nodes import MappingNode, Node, Place, ScalarNode, SequenceNode
from standfast.services.stacks.problems import Problems
from standfast.services.stacks.script import FROM_ENVIRONMENT, MADE_WITH, read_script, read_value
from standfast.services.stacks.script_node import node_program, run_script

_DEEPEST = 60
#: A shorter value may stand in a text by chance.
_TELLING = 6
_SCRIPTS = (".js", ".cjs", ".mjs")
_YAML = (".yml", ".yaml")
_NAME = re.compile(r"""\bname['"]?\s*:\s*(['"`])((?:\\.|(?!\1).)*)\1""")


def read_pm2(
    file: Path,
    *,
    environment: Mapping[str, str],
    mode: str = "",
    may_run: bool = False,
) -> Stack:
    """Return the apps of an ecosystem file, or of ``pm2 jlist``, as a stack of processes.

    ``mode`` is what ``--env`` of pm2 says: the variables of ``env_MODE`` go over those of ``env``. With
    ``may_run`` a file that computes its values is run with node. Raises ConfigError where it cannot be read;
    what else is wrong is in the findings.
    """
    problems = Problems()
    root = _root(file, environment, problems, may_run=may_run)
    modes: set[str] = set()
    services: list[DeclaredService] = []
    for node in apps_of(root):
        with problems.gathered(node.place):
            app = mapping_of(node)
            modes.update(key.removeprefix("env_") for key in app.value if key.startswith("env_"))
            services.append(read_app(app, AppSource(file, environment, mode, problems)))
    if any(node.get("pm2_env") is not None for node in root.nodes):
        services = _counted(services)
    _judge(services, problems)
    if mode and mode not in modes:
        problems.fail(
            root.place, "ModeUnknown", f"no app has env_{mode}",
            fix=f"known: {', '.join(sorted(modes)) or 'none'}",
        )  # fmt: skip
    if not services and not problems.found:
        problems.fail(root.place, "EmptyStack", "the file declares no app", fix="add one to apps: [...]")
    return Stack(
        file.absolute().parent.name, (file,), file.absolute().parent, tuple(services),
        findings=tuple(problems.found), read=(file,),
    )  # fmt: skip


def _root(file: Path, environment: Mapping[str, str], problems: Problems, *, may_run: bool) -> Node:
    text = read_text(file)
    if file.suffix in _YAML:
        return (parse_yaml(text, file).roots or (ScalarNode(Place(file, 1), None, ""),))[0]
    if file.suffix not in _SCRIPTS:
        return read_value(text, file)
    try:
        found = read_script(text, file, environment)
    except DeclarationError as error:
        return _run(file, text, environment, problems, may_run=may_run, error=error)
    for place in found.undefined_in:
        problems.warn(
            place, "VariableUnset", "a variable that is not set became the text 'undefined' here",
            fix="set it, or give a default: (process.env.NAME || '')",
        )  # fmt: skip
    return found.value


def _run(
    file: Path,
    text: str,
    environment: Mapping[str, str],
    problems: Problems,
    *,
    may_run: bool,
    error: DeclarationError,
) -> Node:
    """Return what the file exports when node runs it; raise ``error`` where it may not or cannot be run."""
    if not may_run or not node_program(environment):
        why = "node is not on the PATH" if may_run else "it is not run here"
        raise refused(
            error.place, f"{error.what.removeprefix(f'{error.place}: ')}, and {why}",
            why=error.why, code=error.code,
            fix="put node on the PATH, or write plain values there" if may_run
            else f"run it by name: standfast import pm2 {file}",
        )  # fmt: skip
    seen = run_script(file, environment)
    if not seen.is_offline:
        problems.note(Place(file, 1), "RanWithNetwork", "the file was run, with the network it could reach")
    asked = [name for name in seen.asked if name != "toJSON"]
    if asked:
        listed = ", ".join(asked[:20])
        problems.note(Place(file, 1), "EnvironmentAsked", f"the file read {listed} of the environment")
    names = (
        environment if "*" in asked else {name: environment[name] for name in asked if name in environment}
    )
    return _placed(seen.value, Exported(file, app_lines(text), names))


def app_lines(text: str) -> dict[str, int]:
    """Return the first line that gives each name to an app, as far as text can show."""
    found: dict[str, int] = {}
    for match in _NAME.finditer(text):
        found.setdefault(match[2], text.count("\n", 0, match.start()) + 1)
    return found


class Exported(NamedTuple):
    """What is known of a file that was run: the lines of its names, and the variables that it could read."""

    file: Path
    lines: Mapping[str, int]
    variables: Mapping[str, str]

    def tag(self, text: str) -> str:
        """Return the tag of a text that a variable is in, as far as that can be told from the text."""
        for name, value in self.variables.items():
            if value == text and text:
                return FROM_ENVIRONMENT + name
        found = (name for name, value in self.variables.items() if len(value) >= _TELLING and value in text)
        return next((MADE_WITH + name for name in found), "")


def _placed(value: Any, exported: Exported, line: int = 1, depth: int = 0) -> Node:
    """Return plain JSON as nodes; what is in an app stands where its name does."""
    if depth > _DEEPEST:
        raise refused(Place(exported.file, line), "what it exports is nested too deeply", code="TooDeep")
    if isinstance(value, dict):
        name = value.get("name")
        line = exported.lines.get(name, line) if isinstance(name, str) else line
        place = Place(exported.file, line)
        keys = {key: ScalarNode(place, key, key) for key in value}
        inner = {key: _placed(one, exported, line, depth + 1) for key, one in value.items()}
        return MappingNode(place, inner, keys)
    place = Place(exported.file, line)
    if isinstance(value, list):
        return SequenceNode(place, tuple(_placed(one, exported, line, depth + 1) for one in value))
    if isinstance(value, str):
        return ScalarNode(place, value, value, is_quoted=True, tag=exported.tag(value))
    return ScalarNode(place, value, "" if value is None else str(value))


def apps_of(root: Node) -> Iterator[Node]:
    """Yield the app of each form that pm2 takes: apps, pm2 (of a package.json), a list, a single app."""
    for key in ("pm2", "apps"):
        inner = root.get(key)
        if inner is not None:
            is_list = isinstance(inner, SequenceNode)
            yield from apps_of(inner) if key == "pm2" else inner.nodes if is_list else (inner,)
            return
    if isinstance(root, SequenceNode):
        yield from root.nodes
    elif isinstance(root, MappingNode) and root.value and root.value.keys() != {"deploy"}:
        yield root
    elif not isinstance(root, MappingNode):
        raise refused(root.place, f"apps are needed, this is {root.kind}", code="BadType")


def _counted(services: list[DeclaredService]) -> list[DeclaredService]:
    """Return each app of ``pm2 jlist`` once, with how many instances of it run."""
    found: dict[tuple[str, tuple[str, ...] | None], DeclaredService] = {}
    for service in services:
        key = (service.name, service.command)
        before = found.get(key)
        found[key] = replace(service, replicas=1 + (before.replicas if before else 0))
    return list(found.values())


def _judge(services: list[DeclaredService], problems: Problems) -> None:
    first: dict[str, DeclaredService] = {}
    for service in services:
        if service.name in first:
            problems.fail(
                service.place, "NameTwice",
                f"{service.name} is declared here and at line {first[service.name].line}",
                subject=service.name, fix="give each app its own name",
            )  # fmt: skip
        first.setdefault(service.name, service)
