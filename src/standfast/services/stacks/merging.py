"""Puts one compose model over another, as section 13 of the Compose Specification has it.

1. Mappings merge key by key, sequences are appended, anything else is replaced; a null changes nothing.
2. Commands and checks are replaced whole. What may be written as a list or as a mapping (environment, labels)
   is merged by name. Ports, mounts and the like are made unique where they are read (``service``).
3. ``!reset`` removes, ``!override`` replaces without merging.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from standfast.services.stacks.documents import refused
from standfast.services.stacks.nodes import MappingNode, Node, Place, ScalarNode, SequenceNode

Path = tuple[str, ...]
_Rule = Callable[[Node, Node, Path], Node]

RESET, OVERRIDE = "!reset", "!override"
KNOWN_TAGS = frozenset({"", RESET, OVERRIDE})


def merged(base: Node, over: Node, path: Path = ()) -> Node:
    """Return ``base`` with ``over`` put over it; ``path`` is where in a compose model both stand.

    Raises ConfigError at the line of ``over`` where the two are of kinds that cannot be merged.
    """
    if over.tag == OVERRIDE:
        return settled(over)
    rule = _rule(path)
    if rule:
        return rule(base, over, path)
    if isinstance(over, ScalarNode) and over.value is None:
        return base
    if isinstance(base, MappingNode) and isinstance(over, MappingNode):
        return _mappings(base, over, path)
    if isinstance(base, SequenceNode) and isinstance(over, SequenceNode):
        return SequenceNode(over.place, (*base.nodes, *settled(over).nodes))
    if isinstance(base, ScalarNode):
        return settled(over)
    raise refused(
        over.place,
        f"{'.'.join(path)} is {over.kind} here, and {base.kind} at {base.place}",
        fix=f"write both as {base.kind}",
        code="CannotMerge",
    )


def settled(node: Node) -> Node:
    """Return ``node`` without what ``!reset`` removes, and without tags."""
    if isinstance(node, MappingNode):
        kept = {key: settled(inner) for key, inner in node.value.items() if inner.tag != RESET}
        return MappingNode(node.place, kept, {key: node.keys[key] for key in kept})
    if isinstance(node, SequenceNode):
        return SequenceNode(node.place, tuple(settled(inner) for inner in node.nodes if inner.tag != RESET))
    return replace(node, tag="") if node.tag else node


def as_mapping(node: Node, *, leaf: Node | None = None) -> MappingNode:
    """Return a list of names, or of ``name=value``, as a mapping; ``leaf`` stands in for a missing value.

    Raises ConfigError where it is neither list nor mapping, or a member is no text.
    """
    if isinstance(node, MappingNode):
        return node
    if isinstance(node, ScalarNode) and node.value is None:
        return MappingNode(node.place, {}, {}, tag=node.tag)
    if not isinstance(node, SequenceNode):
        raise refused(node.place, f"a list or a mapping is needed, this is {node.kind}", code="BadType")
    value: dict[str, Node] = {}
    keys: dict[str, ScalarNode] = {}
    for member in node.nodes:
        if not isinstance(member, ScalarNode) or member.value is None:
            raise refused(member.place, f"text is needed, this is {member.kind}", code="BadType")
        name, equals, text = member.text.partition("=") if leaf is None else (member.text, "", "")
        missing = leaf or ScalarNode(member.place, None, "")
        value[name] = ScalarNode(member.place, text, text, is_quoted=True) if equals else missing
        keys[name] = ScalarNode(member.place, name, name, tag=member.tag)
    return MappingNode(node.place, value, keys, tag=node.tag)


def as_sequence(node: Node) -> SequenceNode:
    """Return a lone value as a list of one."""
    if isinstance(node, SequenceNode):
        return node
    if isinstance(node, ScalarNode) and node.value is None:
        return SequenceNode(node.place, (), tag=node.tag)
    return SequenceNode(node.place, (node,), tag=node.tag)


def _mappings(base: MappingNode, over: MappingNode, path: Path) -> MappingNode:
    value, keys = dict(base.value), dict(base.keys)
    for key, node in over.items():
        name = key.text
        if node.tag == RESET:
            value.pop(name, None)
            keys.pop(name, None)
            continue
        value[name] = merged(value[name], node, (*path, name)) if name in value else settled(node)
        keys.setdefault(name, key)
    return MappingNode(over.place if not base.value else base.place, value, keys)


def _by_name(base: Node, over: Node, path: Path) -> Node:
    first, second = as_mapping(base), as_mapping(over)
    value, keys = dict(first.value), dict(first.keys)
    for key, node in second.items():
        if node.tag == RESET:
            value.pop(key.text, None)
            keys.pop(key.text, None)
        else:
            # A name without value takes it from the environment: that replaces too.
            value[key.text], keys[key.text] = settled(node), key
    return MappingNode(second.place, value, keys)


def _appended(base: Node, over: Node, path: Path) -> Node:
    both = (*as_sequence(base).nodes, *as_sequence(settled(over)).nodes)
    return SequenceNode(over.place, both)


def _hosts(base: Node, over: Node, path: Path) -> Node:
    found = {node.text: node for part in (base, over) for node in _addresses(part)}
    return SequenceNode(over.place, tuple(found.values()))


def _addresses(node: Node) -> Iterator[ScalarNode]:
    if not isinstance(node, MappingNode):
        yield from (inner for inner in as_sequence(settled(node)).nodes if isinstance(inner, ScalarNode))
        return
    for key, inner in node.items():
        for address in as_sequence(inner).nodes:
            if isinstance(address, ScalarNode):
                text = f"{key.text}={address.text}"
                yield ScalarNode(address.place, text, text, is_quoted=True)


def _replaced(base: Node, over: Node, path: Path) -> Node:
    return settled(over)


def _names(base: Node, over: Node, path: Path) -> Node:
    return _mappings(_named(base, path), _named(over, path), path)


def _named(node: Node, path: Path) -> MappingNode:
    if path[-1] != "depends_on":
        return as_mapping(node, leaf=ScalarNode(node.place, None, ""))
    if not isinstance(node, SequenceNode):
        return as_mapping(node)
    named = as_mapping(node, leaf=ScalarNode(node.place, None, ""))
    value = {
        key.text: _mapped(key.place, {"condition": "service_started", "required": True})
        for key, _ in named.items()
    }
    return MappingNode(node.place, dict(value), named.keys)


def _mapped(place: Place, plain: Mapping[str, str | bool]) -> MappingNode:
    value: dict[str, Node] = {key: ScalarNode(place, atom, str(atom)) for key, atom in plain.items()}
    return MappingNode(place, value, {key: ScalarNode(place, key, key) for key in plain})


def _built(base: Node, over: Node, path: Path) -> Node:
    return _mappings(_build(base), _build(over), path)


def _build(node: Node) -> MappingNode:
    if isinstance(node, ScalarNode) and isinstance(node.value, str):
        key = ScalarNode(node.place, "context", "context")
        return MappingNode(node.place, {"context": node}, {"context": key})
    return as_mapping(node)


def _logged(base: Node, over: Node, path: Path) -> Node:
    drivers = [driver.plain() for node in (base, over) if (driver := node.get("driver"))]
    if len(drivers) == 2 and drivers[0] != drivers[1]:
        return settled(over)
    return _mappings(as_mapping(base), as_mapping(over), path)


def _service(*keys: str) -> Path:
    return ("services", "*", *keys)


def _table(paths: Iterable[Path], rule: _Rule) -> dict[Path, _Rule]:
    return dict.fromkeys(paths, rule)


_RULES: dict[Path, _Rule] = {
    **_table((_service("command"), _service("entrypoint"), _service("healthcheck", "test")), _replaced),
    **_table(
        (
            *(_service(key) for key in ("annotations", "environment", "labels", "sysctls")),
            *(_service("build", key) for key in ("args", "additional_contexts", "labels")),
            _service("deploy", "labels"),
            ("networks", "*", "labels"),
            ("volumes", "*", "labels"),
        ),
        _by_name,
    ),
    **_table(
        (_service(key) for key in ("dns", "dns_opt", "dns_search", "env_file", "label_file", "tmpfs")),
        _appended,
    ),
    **_table((_service(key) for key in ("depends_on", "networks", "models")), _names),
    _service("build"): _built,
    _service("extra_hosts"): _hosts,
    _service("logging"): _logged,
    _service("ulimits", "*"): _replaced,
}


def _rule(path: Path) -> _Rule | None:
    found = _RULES.get(path)
    if found or len(path) < 2:
        return found
    starred = (path[0], "*", *path[2:])
    return _RULES.get(starred) or _RULES.get((*starred[:-1], "*") if len(path) == 4 else starred)
