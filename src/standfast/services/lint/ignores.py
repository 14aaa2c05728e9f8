"""Comments that silence a finding: ``# standfast: ignore[rule] reason``, on its line or right above it.

A comment without a reason is not honoured, and is a finding itself. ``//`` begins one as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from standfast.services.lint.model import LintFinding

_COMMENT = re.compile(r"(?:#|//)\s*standfast:\s*ignore\[([^\]]*)\]\s*(.*?)\s*$")
_LINE_COMMENT = re.compile(r"\s*(?:#|//|\*)")
#: A finding about a block may have a few comment lines above it.
_MOST_LINES_ABOVE = 10


class Comment(NamedTuple):
    """One ignore comment."""

    rules: tuple[str, ...]
    reason: str


def comments(text: str) -> Iterator[tuple[int, Comment]]:
    """Yield the ignore comments of a text with their lines."""
    for number, line in enumerate(text.splitlines(), start=1):
        match = _COMMENT.search(line)
        if match is not None:
            rules = tuple(part.strip() for part in match[1].split(",") if part.strip())
            yield number, Comment(rules, match[2])


def is_ignored(finding: LintFinding, path: Path, texts: Mapping[Path, str]) -> bool:
    """Return whether a comment with a reason silences ``finding``, which stands in the file at ``path``."""
    lines = texts.get(path, "").splitlines()
    if not 1 <= finding.line <= len(lines):
        return False
    candidates = [lines[finding.line - 1]]
    for above in reversed(lines[max(0, finding.line - 1 - _MOST_LINES_ABOVE) : finding.line - 1]):
        if not _LINE_COMMENT.match(above):
            break
        candidates.append(above)
    for text in candidates:
        match = _COMMENT.search(text)
        if match and match[2] and finding.rule in {part.strip() for part in match[1].split(",")}:
            return True
    return False
