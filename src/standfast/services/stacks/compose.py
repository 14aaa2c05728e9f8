"""Reads compose files as they are, by the rules of the Compose Specification, without compose.

Nothing is run, built, pulled or fetched. ``read_compose`` gives a ``Stack`` with everything that is wrong in
its findings; ``Stack.usable`` refuses one that has errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from standfast.kernel.errors import ConfigError
from standfast.services.stacks import graph
from standfast.services.stacks.dotenv import read_env
from standfast.services.stacks.fields import Fields, mapping_of
from standfast.services.stacks.loading import SHARED, Loader, Unit, declared_name
from standfast.services.stacks.model import DeclaredService, Resource, Stack
from standfast.services.stacks.nodes import MappingNode, Node, Place, ScalarNode
from standfast.services.stacks.problems import Problems
from standfast.services.stacks.service import Surroundings, read_service

#: The names that compose looks for, in its order.
FILE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDE_NAMES = (
    "compose.override.yml", "compose.override.yaml", "docker-compose.override.yml",
    "docker-compose.override.yaml",
)  # fmt: skip

_SERVICE_NAME = re.compile(r"[a-zA-Z0-9._-]+")
_RESOURCE_KEYS = (
    "driver_opts", "attachable", "enable_ipv4", "enable_ipv6", "internal", "ipam", "labels",
)  # fmt: skip
_ALL = "*"


def read_compose(
    files: Sequence[Path],
    *,
    environment: Mapping[str, str],
    profiles: Sequence[str] = (),
    named: Sequence[str] = (),
    folder: Path | None = None,
) -> Stack:
    """Return the stack that ``files`` declare together, the later ones over the earlier ones.

    ``environment`` is where variables come from, before the ``.env`` of the stack's folder, which is that of
    the first file unless ``folder`` says otherwise. Services with profiles run where one of ``profiles`` (or
    of COMPOSE_PROFILES; ``*`` is all) is theirs, or where they are ``named``. Raises ConfigError where a file
    cannot be read, merged or filled with its variables; all else that is wrong is in the findings.
    """
    paths = tuple(path.absolute() for path in files)
    assert paths, "a stack has at least one file"
    base = (folder or paths[0].parent).absolute()
    problems = Problems()
    variables = _variables(base, environment)
    loader = Loader(problems)
    named_so = variables.get("COMPOSE_PROJECT_NAME") or declared_name(paths, variables)
    stack_name = project_name(named_so or base.name)
    model = loader.model(Unit(paths, base, {**variables, "COMPOSE_PROJECT_NAME": stack_name}))
    around = Surroundings(problems, base, variables, _section(model, "secrets"), _section(model, "configs"))
    declared = _services(model, around)
    active_profiles = tuple(profiles) or _listed(variables.get("COMPOSE_PROFILES", ""))
    active, inactive = activated(declared, active_profiles, named)
    volumes = _resources(model, "volumes", stack_name, problems)
    networks = _resources(model, "networks", stack_name, problems)
    _judge_top(model, problems)
    graph.check(active, inactive, volumes=volumes, networks=networks, problems=problems)
    return Stack(
        stack_name, paths, base, active, inactive, volumes, networks, active_profiles,
        tuple(problems.found), tuple(dict.fromkeys(loader.read)),
    )  # fmt: skip


def default_files(folder: Path, environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the files that compose takes in ``folder`` when none is named, with the override file.

    COMPOSE_FILE (of the environment, or of ``.env``) names them if set. ConfigError where there is none.
    """
    variables = _variables(folder, environment)
    named = variables.get("COMPOSE_FILE", "")
    if named:
        separator = variables.get("COMPOSE_PATH_SEPARATOR") or ":"
        return tuple(folder / part for part in named.split(separator) if part)
    first = [folder / name for name in FILE_NAMES if (folder / name).is_file()]
    if not first:
        raise ConfigError(
            f"there is no compose file in {folder}",
            why=f"none of {', '.join(FILE_NAMES)} is there",
            fix="name the file, or the folder that has it",
            code="StackMissing",
        )
    over = [folder / name for name in OVERRIDE_NAMES if (folder / name).is_file()]
    return (first[0], *over[:1])


def activated(
    declared: Sequence[DeclaredService], profiles: Sequence[str], named: Sequence[str] = ()
) -> tuple[tuple[DeclaredService, ...], tuple[DeclaredService, ...]]:
    """Return the services that run and those that do not, with ``profiles`` active and some ``named``.

    Naming a service makes its profiles active too.
    """
    wanted = {*profiles, *(p for s in declared if s.name in named for p in s.profiles)}

    def runs(service: DeclaredService) -> bool:
        return not service.profiles or _ALL in wanted or bool(wanted.intersection(service.profiles))

    return tuple(s for s in declared if runs(s)), tuple(s for s in declared if not runs(s))


def project_name(text: str) -> str:
    """Return ``text`` as compose makes a project's name of it."""
    return "".join(re.findall(r"[a-z0-9_-]", text.lower())).lstrip("_-")


def _variables(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    own = folder / ".env"
    found = read_env(own, environment) if own.is_file() else {}
    return {**found, **environment}


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _section(model: MappingNode, key: str) -> Mapping[str, Node]:
    node = model.get(key)
    return node.value if isinstance(node, MappingNode) else {}


def _services(model: MappingNode, around: Surroundings) -> tuple[DeclaredService, ...]:
    node = model.get("services")
    if node is None or (isinstance(node, ScalarNode) and node.value is None):
        return ()
    with around.problems.gathered(node.place):
        return tuple(
            read_service(key, inner, around)
            for key, inner in mapping_of(node).items()
            if _is_name(key, around.problems)
        )
    return ()


def _is_name(key: ScalarNode, problems: Problems) -> bool:
    if _SERVICE_NAME.fullmatch(key.text):
        return True
    problems.fail(
        key.place, "BadName", f"{key.text[:60]!r} cannot be the name of a service",
        fix="use letters, digits, dots, dashes and underscores",
    )  # fmt: skip
    return False


def _resources(model: MappingNode, section: str, stack_name: str, problems: Problems) -> dict[str, Resource]:
    found: dict[str, Resource] = {}
    node = model.get(section)
    for key, inner in node.items() if node is not None else ():
        body = inner
        if isinstance(inner, ScalarNode) and inner.value is None:
            body = MappingNode(key.place, {}, {})
        with problems.gathered(inner.place):
            get = Fields(mapping_of(body), problems, subject=key.text, where=f"{section}.{key.text}.")
            found[key.text] = _resource(get, key, stack_name)
    return found


def _resource(get: Fields, key: ScalarNode, stack_name: str) -> Resource:
    name, driver = get.text("name"), get.text("driver")
    outside = get.get("external")
    is_external = False
    if isinstance(outside, MappingNode):
        is_external, name = True, get.of(outside, f"{get.where}external.").text("name") or name
    elif outside is not None:
        is_external = bool(get.flag("external"))
    options = {k: value.plain() for k in _RESOURCE_KEYS if (value := get.get(k)) is not None}
    get.finish()
    own = key.text if is_external else f"{stack_name}_{key.text}"
    return Resource(key.text, name or own, key.file, key.line, is_external, driver, options)


def _judge_top(model: MappingNode, problems: Problems) -> None:
    get = Fields(model, problems, subject="", where="")
    for key in (*SHARED, "name"):
        get.get(key)
    get.finish(harmless=("version",))
    if not model.value:
        problems.fail(
            Place(model.file, 1), "EmptyStack", "the file declares nothing", fix="declare a service"
        )
