"""Finds files below a folder, bounded, and tells what each declares by its name and then by its content."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from standfast.kernel.errors import ConfigError
from standfast.services.lint.model import FileKind
from standfast.services.lint.monitoring import is_alertmanager, is_prometheus, is_rules
from standfast.services.stacks.documents import read_text
from standfast.services.stacks.nodes import MappingNode, Node, SequenceNode

#: Folders that hold nothing that somebody of this project declared.
SKIPPED = frozenset({
    ".git", ".hg", ".svn", "node_modules", ".venv", "venv", "__pycache__", "site-packages", ".tox", ".nox",
    ".mypy_cache", ".ruff_cache", ".pytest_cache", ".standfast", ".terraform", ".cache", ".idea",
})  # fmt: skip
MOST_FILES = 60_000
LARGEST_SOURCE = 1_000_000
MOST_SOURCE_BYTES = 96_000_000
CODE = frozenset({
    ".py", ".js", ".ts", ".mjs", ".cjs", ".tsx", ".jsx", ".go", ".java", ".kt", ".rs", ".rb", ".php", ".cs",
    ".scala", ".sh", ".bash", ".c", ".cc", ".cpp", ".h", ".hpp", ".ex", ".exs", ".lua", ".pl", ".swift",
})  # fmt: skip
TEXTS = frozenset({".yml", ".yaml", ".toml", ".ini", ".cfg", ".conf", ".properties", ".env", ".tf", ".txt"})

_DOCKERFILE = re.compile(
    r"(?:dockerfile|containerfile)(?:[.-][\w.-]+)?|[\w.-]+\.(?:dockerfile|containerfile)", re.I
)
_NO_DOCKERFILE = re.compile(
    r"\.(?:dockerignore|md|j2|tmpl|tpl|template|py|sh|orig|bak|swp|txt|json|ya?ml)$", re.I
)
_PM2 = re.compile(
    r"(?:ecosystem|pm2|process(?:es)?)[\w.-]*\.(?:js|cjs|json|ya?ml)|[\w.-]+\.config\.(?:js|cjs|json)", re.I
)
_APPS = re.compile(r"(?:[\"']apps[\"']|\bapps)\s*:\s*[\[{]")
#: Rule files of prometheus are YAML, whatever they are called.
_YAML = frozenset({".yml", ".yaml", ".rules"})
_SERVICE_KEYS = frozenset({
    "image", "build", "extends", "command", "ports", "environment", "volumes", "depends_on", "restart",
    "mem_limit", "deploy", "profiles", "networks", "container_name", "env_file", "healthcheck", "entrypoint",
    "labels", "expose", "logging", "cap_add", "privileged", "gpus", "runtime", "tty", "user", "cpus",
})  # fmt: skip
#: Names whose owner expects them to be read, so that silence about them would be misleading.
_EXPECTED = re.compile(r"compose|prometheus|alertmanager|alerts?\b|rules?\b|ecosystem", re.IGNORECASE)


def walk(folder: Path) -> tuple[list[Path], list[Path], bool]:
    """Return the files and the folders below ``folder``, and whether that is all of them."""
    files: list[Path] = []
    folders: list[Path] = []
    for top, names, leaves in os.walk(folder, followlinks=False):
        names[:] = sorted(name for name in names if name not in SKIPPED)
        here = Path(top)
        folders.append(here)
        files += [here / leaf for leaf in sorted(leaves)]
        if len(files) > MOST_FILES:
            return files[:MOST_FILES], folders, False
    return files, folders, True


def is_dockerfile(path: Path) -> bool:
    """Return whether a file is called as Dockerfiles are."""
    return _DOCKERFILE.fullmatch(path.name) is not None and _NO_DOCKERFILE.search(path.name) is None


def may_be_pm2(path: Path) -> bool:
    """Return whether a file is called as ecosystem files are; only its content tells for sure."""
    return _PM2.fullmatch(path.name) is not None


def has_apps(text: str) -> bool:
    """Return whether a text declares a list of pm2 apps."""
    return _APPS.search(text) is not None


def is_yaml(path: Path) -> bool:
    """Return whether a file is called as YAML files are."""
    return path.suffix.lower() in _YAML


def is_expected(path: Path) -> bool:
    """Return whether its name promises a kind that lint reads."""
    return _EXPECTED.search(path.name) is not None


def kind_of(root: Node) -> FileKind | None:
    """Return what a YAML document declares, or None where it is of no kind that lint knows."""
    if not isinstance(root, MappingNode):
        return None
    if is_prometheus(root):
        return FileKind.PROMETHEUS
    if is_alertmanager(root):
        return FileKind.ALERTMANAGER
    if is_rules(root):
        return FileKind.RULES
    if isinstance(root.get("apps"), SequenceNode):
        return FileKind.PM2
    return FileKind.COMPOSE if _is_compose(root) else None


def _is_compose(root: MappingNode) -> bool:
    services = root.get("services")
    if not isinstance(services, MappingNode):
        return root.get("include") is not None and root.get("jobs") is None and root.get("stages") is None
    # CI files have a "services" key too, inside jobs; at the top it is compose's, if its members look so.
    members = [node for _, node in services.items() if isinstance(node, MappingNode)]
    return root.get("jobs") is None and (
        not members or any(_SERVICE_KEYS & node.value.keys() for node in members)
    )


def text_or_none(path: Path, largest: int) -> str | None:
    """Return the text of a file, or None where it cannot be read as text."""
    try:
        return read_text(path, largest=largest)
    except ConfigError:
        return None


def source_files(files: list[Path]) -> Iterator[Path]:
    """Yield the files that may say which names are defined, within the bounds."""
    total = 0
    for path in files:
        if path.suffix.lower() in CODE | TEXTS:
            try:
                size = path.stat().st_size
            except OSError:
                continue
            if size <= LARGEST_SOURCE and total + size <= MOST_SOURCE_BYTES:
                total += size
                yield path
