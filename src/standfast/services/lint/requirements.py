"""Reads requirements files of pip: what is wanted, from which index, with lines."""

from __future__ import annotations

import re
from pathlib import Path

from standfast.services.lint.installs import Word, installs
from standfast.services.lint.tree import Index, Requirements, Wanted

_OPTION = re.compile(r"(-r|--requirement|-i|--index-url|--extra-index-url)(?:\s*=\s*|\s+|(?=[^\s-]))(\S+)")


def is_requirements(path: Path) -> bool:
    """Return whether a file is called as requirements files are."""
    return (
        path.suffix in (".txt", ".in")
        and re.search(r"require|constraint", path.name, re.IGNORECASE) is not None
    )


def read_requirements(path: Path, text: str) -> Requirements:
    """Return what a requirements file asks for; what is no requirement is passed over."""
    wanted: list[Wanted] = []
    indexes: list[Index] = []
    includes: list[str] = []
    is_pre = False
    for number, line in enumerate(text.splitlines(), start=1):
        content, _, comment = line.partition(" #") if not line.lstrip().startswith("#") else ("", "", line)
        if comment:
            found = installs(comment.lstrip("# ").split(":", 1)[-1])
            indexes += [Index(url, number, True, comment.strip()) for one in found for url in one.indexes]
        content = content.strip().rstrip("\\").strip()
        option = _OPTION.match(content)
        if option and option[1] in ("-r", "--requirement"):
            includes.append(option[2])
        elif option:
            indexes.append(Index(option[2], number, False, content))
        elif content.startswith("--pre"):
            is_pre = True
        elif content and not content.startswith("-"):
            wanted.append(Wanted(Word(content), number))
    return Requirements(path, tuple(wanted), tuple(indexes), tuple(includes), is_pre)
