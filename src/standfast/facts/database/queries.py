"""SQL as files: named statements, one file per dialect beside a common one.

A statement starts with ``-- name: NAME`` and is written with ``:name`` parameters; for PostgreSQL they
become ``%(name)s`` when the file is read. A dialect's own file overrides the common one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources

from standfast.facts.database.ports import Dialect

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)
# A colon that is neither part of a cast (::text) nor of a word is the start of a parameter.
_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]\w*)")

Queries = Mapping[str, str]


def load_queries(package: str, dialect: Dialect) -> Queries:
    """Return the statements of ``package``'s ``sql`` folder for ``dialect``, by name."""
    folder = resources.files(package) / "sql"
    found: dict[str, str] = {}
    for file in ("common.sql", f"{dialect}.sql"):
        path = folder / file
        if path.is_file():
            found.update(_statements(path.read_text("utf-8"), dialect))
    return found


def _statements(text: str, dialect: Dialect) -> dict[str, str]:
    parts = _NAME.split(text)
    named = {name: body.strip().rstrip(";") for name, body in zip(parts[1::2], parts[2::2], strict=True)}
    if dialect == "sqlite":
        return named
    return {name: _PARAMETER.sub(r"%(\1)s", body) for name, body in named.items()}
