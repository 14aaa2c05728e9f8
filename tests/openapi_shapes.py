"""Judges JSON by an OpenAPI document, and one document by another; only what FastAPI writes is understood."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

Schema = Mapping[str, Any]
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "null": (type(None),),
    "array": (list,), "object": (dict,),
}  # fmt: skip


class Shapes:
    """The schemas of one document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document

    def resolved(self, schema: Schema) -> Schema:
        """Return ``schema``, or what it refers to."""
        while "$ref" in schema:
            schema = self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return schema

    def operation(self, method: str, path: str) -> Mapping[str, Any]:
        """Return the operation that serves ``path``: fixed paths win, as in the router."""
        paths = self.document["paths"]
        parts = path.split("?", maxsplit=1)[0].split("/")
        fits = [
            known
            for known in paths
            if len(known.split("/")) == len(parts)
            and all(k.startswith("{") or k == p for k, p in zip(known.split("/"), parts, strict=True))
        ]
        assert fits, f"{path} is not described"
        operation = paths[min(fits, key=lambda known: known.count("{"))][method.lower()]
        assert isinstance(operation, dict)
        return operation

    def reply_schema(self, method: str, path: str, status: int) -> Schema:
        """Return the schema of a reply."""
        replies = self.operation(method, path)["responses"]
        schema = replies[str(status)]["content"]["application/json"]["schema"]
        assert isinstance(schema, dict)
        return schema

    def flaws(self, schema: Schema, value: Any, where: str = "$") -> Iterator[str]:
        """Yield how ``value`` departs from ``schema``."""
        schema = self.resolved(schema)
        if "anyOf" in schema:
            if all(any(True for _ in self.flaws(one, value, where)) for one in schema["anyOf"]):
                yield f"{where}: {value!r} is none of what it may be"
            return
        kind = schema.get("type")
        if kind is not None and not _is(kind, value):
            yield f"{where}: {value!r} is no {kind}"
            return
        if "enum" in schema and value not in schema["enum"]:
            yield f"{where}: {value!r} is not one of {schema['enum']}"
        if schema.get("format") == "date-time":
            assert datetime.fromisoformat(value).tzinfo is not None, f"{where}: {value} has no zone"
        if isinstance(value, list) and "items" in schema:
            for index, one in enumerate(value):
                yield from self.flaws(schema["items"], one, f"{where}[{index}]")
        if isinstance(value, dict):
            yield from self._object_flaws(schema, value, where)

    def _object_flaws(self, schema: Schema, value: Mapping[str, Any], where: str) -> Iterator[str]:
        properties = schema.get("properties", {})
        yield from (f"{where}.{name} is missing" for name in schema.get("required", ()) if name not in value)
        for name, one in value.items():
            inner = properties.get(name, schema.get("additionalProperties"))
            if isinstance(inner, dict):
                yield from self.flaws(inner, one, f"{where}.{name}")

    def kinds(self, schema: Schema) -> set[str]:
        """Return the JSON types that ``schema`` allows."""
        schema = self.resolved(schema)
        if "anyOf" in schema:
            return set().union(*(self.kinds(one) for one in schema["anyOf"]))
        return {schema["type"]} if "type" in schema else set(_TYPES)


def _is(kind: str, value: Any) -> bool:
    return isinstance(value, _TYPES[kind]) and not (isinstance(value, bool) and kind != "boolean")


def missing(theirs: Shapes, ours: Shapes, wanted: Schema, given: Schema, where: str) -> Iterator[str]:
    """Yield what ``wanted`` of their document promises and ``given`` of ours does not."""
    wanted, given = theirs.resolved(wanted), ours.resolved(given)
    if odd := ours.kinds(given) - theirs.kinds(wanted):
        yield f"{where} may be {sorted(odd)} here"
    for part in ("items", "additionalProperties"):
        if isinstance(wanted.get(part), dict) and isinstance(given.get(part), dict):
            yield from missing(theirs, ours, wanted[part], given[part], f"{where}.{part}")
    for name, one in wanted.get("properties", {}).items():
        if name not in given.get("properties", {}):
            yield f"{where}.{name} is missing"
        else:
            yield from missing(theirs, ours, one, given["properties"][name], f"{where}.{name}")
