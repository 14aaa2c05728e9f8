"""Reads compose files into one merged model: several files, includes, extended services, variables.

1. The files of one unit are put over each other in the order given. Paths in them count from the unit's
   folder, which is the folder of its first file unless told otherwise.
2. An ``include`` is a unit of its own, with its own folder and ``.env``; what it declares must not be
   declared again beside it.
3. ``extends`` takes the other service, with paths that count from the other file's folder, and puts this one
   over it. Both include and extends end in an error that names the path where they go in a circle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from standfast.services.stacks.anchoring import absolute_path, anchored
from standfast.services.stacks.documents import read_yaml, refused
from standfast.services.stacks.dotenv import read_env
from standfast.services.stacks.fields import mapping_of, text_of, texts_of
from standfast.services.stacks.interpolation import substitute
from standfast.services.stacks.merging import KNOWN_TAGS, as_mapping, merged, settled
from standfast.services.stacks.nodes import MappingNode, Node, Place, ScalarNode, SequenceNode
from standfast.services.stacks.problems import Problems, meant

SHARED = ("services", "volumes", "networks", "secrets", "configs", "models")
_REMOTE = ("http://", "https://", "git@", "oci://", "ssh://")
#: No stack that a person keeps has more files; a generated loop of includes ends here.
MOST_FILES = 200
_DEEPEST = 30


@dataclass(frozen=True, slots=True)
class Unit:
    """Files that are one model: relative paths count from ``folder``, variables come from ``variables``."""

    files: tuple[Path, ...]
    folder: Path
    variables: Mapping[str, str]
    includers: tuple[Path, ...] = ()


@dataclass(slots=True)
class Loader:
    """Reads units; remembers which files it read, and what it found wrong."""

    problems: Problems
    read: list[Path] = field(default_factory=list)
    _bases: dict[tuple[Path, ...], MappingNode] = field(default_factory=dict)

    def model(self, unit: Unit) -> MappingNode:
        """Return the merged model of a unit; ConfigError where a file cannot be read or merged."""
        found: MappingNode | None = None
        for file in unit.files:
            for root in self._roots(file, unit):
                included = self._with_includes(root, file, unit)
                whole = self._extended(included, file, unit)
                found = mapping_of(settled(whole) if found is None else merged(found, whole))
        return _finished(found, unit) if found else MappingNode(Place(unit.files[0], 1), {}, {})

    def _roots(self, file: Path, unit: Unit) -> list[MappingNode]:
        if len(self.read) >= MOST_FILES:
            raise refused(Place(file, 1), f"the stack has more than {MOST_FILES} files", code="TooManyFiles")
        self.read.append(file)
        roots: list[MappingNode] = []
        for root in read_yaml(file).roots:
            if isinstance(root, ScalarNode) and root.value is None:
                continue
            filled = self._filled(mapping_of(root), unit.variables)
            roots.append(mapping_of(anchored(filled, unit.folder, unit.variables)))
        return roots

    def _filled(self, node: Node, variables: Mapping[str, str]) -> Node:
        """Return ``node`` with its variables replaced, and say which of them are not set."""
        if node.tag not in KNOWN_TAGS:
            raise refused(node.place, f"there is no tag {node.tag}", fix=f"known: {', '.join(KNOWN_TAGS)}",
                          code="UnknownTag")  # fmt: skip
        if isinstance(node, MappingNode):
            _need_text_keys(node)
            value = {key: self._filled(inner, variables) for key, inner in node.value.items()}
            return MappingNode(node.place, value, node.keys, tag=node.tag)
        if isinstance(node, SequenceNode):
            inner = tuple(self._filled(member, variables) for member in node.nodes)
            return SequenceNode(node.place, inner, tag=node.tag)
        assert isinstance(node, ScalarNode)
        if not isinstance(node.value, str) or "$" not in node.value:
            return node
        text, unset = substitute(node.value, variables, node.place)
        for name in unset:
            self.problems.warn(
                node.place, "VariableUnset", f"the variable {name} is not set: it is blank here",
                fix=f"set it in .env or the environment, or write ${{{name}:-default}}",
            )  # fmt: skip
        return ScalarNode(node.place, text, text, is_quoted=True, tag=node.tag)

    def _with_includes(self, root: MappingNode, file: Path, unit: Unit) -> MappingNode:
        node = root.get("include")
        if node is None or (isinstance(node, ScalarNode) and node.value is None):
            return root
        if not isinstance(node, SequenceNode):
            raise refused(node.place, f"include needs a list, this is {node.kind}", code="BadType")
        value = {key: inner for key, inner in root.value.items() if key != "include"}
        keys = {key: inner for key, inner in root.keys.items() if key != "include"}
        whole = MappingNode(root.place, value, keys)
        for entry in node.nodes:
            inner = self.model(self._included(entry, file, unit))
            whole = self._beside(whole, inner)
        return whole

    def _included(self, entry: Node, file: Path, unit: Unit) -> Unit:
        paths = texts_of(_needed(entry, "path") if isinstance(entry, MappingNode) else entry)
        files = tuple(Path(_local(path, entry.place, unit)) for path in paths)
        if not files:
            raise refused(entry.place, "include names no file", code="BadValue")
        chain = (*unit.includers, file)
        if len(chain) > _DEEPEST:
            raise refused(entry.place, f"includes are nested deeper than {_DEEPEST}", code="TooDeep")
        if files[0] in chain:
            circle = " -> ".join(str(path) for path in (*chain[chain.index(files[0]) :], files[0]))
            raise refused(entry.place, f"the includes go in a circle: {circle}", code="IncludeLoop")
        folder, named = files[0].parent, entry.get("project_directory")
        if named is not None:
            folder = Path(_local(text_of(named), entry.place, unit))
        return Unit(files, folder, self._variables(entry, folder, unit), chain)

    def _variables(self, entry: Node, folder: Path, unit: Unit) -> Mapping[str, str]:
        """Return the variables of an included unit: those of the including one, then its own files'."""
        named = entry.get("env_file")
        if named is None:
            own = folder / ".env"
            files = [own] if own.is_file() else []
        else:
            files = [Path(_local(text, named.place, unit)) for text in texts_of(named)]
        found: Mapping[str, str] = unit.variables
        for file in files:
            if str(file) != "/dev/null":
                found = {**read_env(file, unit.variables), **found}
        return found

    def _beside(self, whole: MappingNode, included: MappingNode) -> MappingNode:
        """Return ``whole`` with what was included; a name that both declare differently is an error."""
        value, keys = dict(whole.value), dict(whole.keys)
        for section in SHARED:
            new = included.get(section)
            if not isinstance(new, MappingNode):
                continue
            old = value.get(section)
            ours = mapping_of(old) if old is not None else MappingNode(new.place, {}, {})
            for name in new.value.keys() & ours.value.keys():
                if new.value[name].plain() != ours.value[name].plain():
                    self._say_twice(section, ours.keys[name], new.keys[name])
            value[section] = MappingNode(ours.place, {**new.value, **ours.value}, {**new.keys, **ours.keys})
            keys.setdefault(section, included.keys[section])
        return MappingNode(whole.place, value, keys)

    def _say_twice(self, section: str, first: ScalarNode, second: ScalarNode) -> None:
        self.problems.fail(
            first.place, "NameTwice",
            f"{first.text} of {section} is declared here, and differently in the included {second.place}",
            subject=first.text,
            fix=f"keep one of the two; to change an included one, write it into {_override(first.file)}",
        )  # fmt: skip

    def _extended(self, root: MappingNode, file: Path, unit: Unit) -> MappingNode:
        services = root.get("services")
        if not isinstance(services, MappingNode):
            return root
        value = {name: self._service(name, services, ((file, name),), unit) for name in services.value}
        return MappingNode(
            root.place,
            {**root.value, "services": MappingNode(services.place, value, services.keys)},
            root.keys,
        )

    def _service(
        self, name: str, services: MappingNode, chain: tuple[tuple[Path, str], ...], unit: Unit
    ) -> Node:
        """Return the service ``name`` with what it extends below it; each step is one longer ``chain``."""
        node = services.value[name]
        extends = node.get("extends")
        if not isinstance(node, MappingNode) or extends is None:
            return node
        other = text_of(_needed(extends, "service") if isinstance(extends, MappingNode) else extends)
        named = extends.get("file")
        known, file = services, chain[-1][0]
        if named is not None:
            file = Path(text_of(named))
            known = self._services(file, unit, named.place)
        if other not in known.value:
            raise refused(
                extends.place, f"{name} extends {other}, which is not in {file}",
                fix=meant(other, known.value), code="ServiceUnknown",
            )  # fmt: skip
        if len(chain) > _DEEPEST:
            raise refused(extends.place, f"more than {_DEEPEST} services extend another", code="TooDeep")
        if (file, other) in chain:
            path = [step[1] for step in chain[chain.index((file, other)) :]]
            circle = " -> ".join((*path, other))
            raise refused(extends.place, f"the services extend in a circle: {circle}", code="ExtendsLoop")
        below = self._service(other, known, (*chain, (file, other)), unit)
        rest = {key: inner for key, inner in node.value.items() if key != "extends"}
        own = MappingNode(node.place, rest, {key: node.keys[key] for key in rest}, tag=node.tag)
        return merged(below, own, ("services", name))

    def _services(self, file: Path, unit: Unit, place: Place) -> MappingNode:
        """Return the services of a file that is extended; paths in it count from its own folder."""
        _local(str(file), place, unit)
        key = (*unit.files, file)
        if key not in self._bases:
            self._bases[key] = self._base(file, unit)
        return self._bases[key]

    def _base(self, file: Path, unit: Unit) -> MappingNode:
        other = Unit((file,), file.parent, unit.variables)
        found: MappingNode | None = None
        for root in self._roots(file, other):
            found = mapping_of(settled(root) if found is None else merged(found, root))
        services = found.get("services") if found else None
        return services if isinstance(services, MappingNode) else MappingNode(Place(file, 1), {}, {})


def declared_name(files: Sequence[Path], variables: Mapping[str, str]) -> str:
    """Return what the last of ``files`` that has a ``name`` calls the stack, or nothing."""
    names = [root.get("name") for file in files for root in read_yaml(file).roots]
    written = [node for node in names if isinstance(node, ScalarNode) and isinstance(node.value, str)]
    return substitute(written[-1].text, variables, written[-1].place).text if written else ""


def _need_text_keys(node: MappingNode) -> None:
    for key in node.keys.values():
        if not isinstance(key.value, str):
            raise refused(
                key.place, f"the key {key.text[:40]!r} is {key.kind}, and compose needs text",
                fix=f'write "{key.text[:40]}":', code="BadType",
            )  # fmt: skip


def _finished(model: MappingNode, unit: Unit) -> MappingNode:
    """Return the model with what only its own unit knows: default build folders, variables without value."""
    services = model.get("services")
    if not isinstance(services, MappingNode):
        return model
    value = {name: _settled_service(node, unit) for name, node in services.value.items()}
    whole = MappingNode(services.place, value, services.keys)
    return MappingNode(model.place, {**model.value, "services": whole}, model.keys)


def _settled_service(node: Node, unit: Unit) -> Node:
    if not isinstance(node, MappingNode):
        return node
    value = dict(node.value)
    build, environment = node.get("build"), node.get("environment")
    if isinstance(build, MappingNode) and build.get("context") is None:
        folder = ScalarNode(build.place, str(unit.folder), str(unit.folder), is_quoted=True)
        key = ScalarNode(build.place, "context", "context")
        value["build"] = MappingNode(
            build.place, {"context": folder, **build.value}, {"context": key, **build.keys}
        )
    if isinstance(environment, SequenceNode) and all(_is_text(member) for member in environment.nodes):
        environment = as_mapping(environment)
    if isinstance(environment, MappingNode):
        taken = {key: _taken(key, inner, unit.variables) for key, inner in environment.value.items()}
        value["environment"] = MappingNode(environment.place, taken, environment.keys)
    return MappingNode(node.place, value, node.keys)


def _is_text(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.value is not None


def _taken(name: str, node: Node, variables: Mapping[str, str]) -> Node:
    """Return the value that a variable without one takes from outside."""
    if _is_text(node) or not isinstance(node, ScalarNode) or name not in variables:
        return node
    return ScalarNode(node.place, variables[name], variables[name], is_quoted=True)


def _needed(node: MappingNode, key: str) -> Node:
    found = node.get(key)
    if found is None:
        raise refused(
            node.place, f"{key} is missing here", fix=f"add {key} at {node.place}", code="KeyMissing"
        )
    return found


def _local(path: str, place: Place, unit: Unit) -> str:
    if path.startswith(_REMOTE):
        raise refused(
            place, f"{path[:60]!r} is not on this machine, and nothing is fetched",
            fix="fetch it yourself, and name the file", code="KeyNotSupported",
        )  # fmt: skip
    return absolute_path(path, unit.folder, unit.variables)


def _override(file: Path) -> str:
    stem, dot, ending = file.name.rpartition(".")
    return f"{stem}.override{dot}{ending}"
