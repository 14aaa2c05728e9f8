"""Which files the repository consists of, for the tests of its own rules."""

from __future__ import annotations

import ast
import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


#: What tools leave in a tree, for where git is not there to tell.
_LEFT_BY_TOOLS = {"__pycache__", "build", "dist"}
_KEPT_DOTS = {".ci", ".gitignore"}


@functools.cache
def tracked() -> tuple[Path, ...]:
    """Return every file that git tracks or would add, relative to the root, that is there.

    In a tree without git (an unpacked archive) it is every file that no tool has left there.
    """
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT, capture_output=True, check=True,
        ).stdout.decode()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return tuple(sorted(path.relative_to(ROOT) for path in ROOT.rglob("*") if _is_ours(path)))
    return tuple(sorted(Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()))


def _is_ours(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    is_hidden = any(part.startswith(".") and part not in _KEPT_DOTS for part in parts)
    return path.is_file() and not is_hidden and not _LEFT_BY_TOOLS & set(parts) and path.suffix != ".log"


def python_files(*tops: str) -> tuple[Path, ...]:
    """Return the tracked Python files below the named folders."""
    return tuple(p for p in tracked() if p.suffix == ".py" and p.parts[0] in tops)


@functools.cache
def text_of(path: Path) -> str:
    """Return the text of a tracked file."""
    return (ROOT / path).read_text("utf-8")


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """Return the syntax tree of a tracked Python file."""
    return ast.parse(text_of(path), str(path))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function of a tracked Python file, nested ones too."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
