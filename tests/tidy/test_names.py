"""Names say what a thing is, and what is public says what it promises."""

from __future__ import annotations

import ast
import re

from repository import python_files, text_of, tracked, tree_of

BANNED = {"utils", "helpers", "common", "misc", "manager", "base", "v2", "new", "final", "util", "helper"}
#: SQL that both dialects share is called what it is.
ALLOWED = {"common.sql"}


def test_no_file_or_folder_has_a_name_that_says_nothing() -> None:
    said = {
        str(path)
        for path in tracked()
        for part in path.parts
        if part not in ALLOWED
        and set(re.split(r"[^a-z0-9]+", part.lower().rpartition(".")[0] or part.lower())) & BANNED
    }
    assert said == set()


def _words(name: str) -> set[str]:
    stem = name.lower().rpartition(".")[0] or name.lower()
    return set(re.split(r"[^a-z0-9]+", stem))


def test_no_class_is_a_manager() -> None:
    found = [
        f"{path}:{node.lineno} {node.name}"
        for path in python_files("src", "blueprints")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ClassDef) and re.search(r"(Manager|Helper|Utils?|Base)$", node.name)
    ]
    assert found == []


def test_k9_all_is_sorted_and_true() -> None:
    wrong = []
    for path in python_files("src"):
        for node in tree_of(path).body:
            if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__all__" for t in node.targets):
                names = ast.literal_eval(node.value)
                if list(names) != sorted(names, key=_ruff_order):
                    wrong.append(f"{path}: __all__ is not sorted")
                wrong += [f"{path}: {name} is not defined" for name in names if not _defines(path, name)]
    assert wrong == []


def _ruff_order(name: str) -> tuple[int, str]:
    """Constants first, then classes, then the rest: the order that RUF022 keeps."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2), name


def _defines(path: object, name: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", text_of(path).replace(f'"{name}"', "")) is not None  # type: ignore[arg-type]


def test_everything_public_has_a_docstring() -> None:
    bare = []
    for path in python_files("src", "blueprints"):
        tree = tree_of(path)
        if not ast.get_docstring(tree) and path.name != "py.typed":
            bare.append(f"{path}: the module")
        bare += [f"{path}:{node.lineno} {node.name}" for node in _public(tree) if not ast.get_docstring(node)]
    assert bare == []


def _public(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    found: list[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef] = []
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in tree.body:
        if isinstance(node, kinds) and not node.name.startswith("_"):
            found.append(node)
            inner = node.body if isinstance(node, ast.ClassDef) else []
            found += [n for n in inner if isinstance(n, kinds) and not n.name.startswith("_")]
    return found
