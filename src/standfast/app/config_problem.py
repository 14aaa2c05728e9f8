"""One thing that is wrong in a configuration, and the shapes that recur."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a configuration; ``path`` leads to the setting to look at."""

    code: str
    path: KeyPath
    what: str
    fix: str


def clash(path: KeyPath, what: str, fix: str) -> Problem:
    """Return the problem of settings that cannot both be."""
    return Problem("ImpossibleCombination", path, what, fix)


def repeated(path: KeyPath, key: str, values: Sequence[object]) -> Iterator[Problem]:
    """Yield a problem for each value that several entries share."""
    for value, count in Counter(values).items():
        if count > 1:
            where = [index for index, other in enumerate(values) if other == value]
            yield Problem(
                "Duplicate",
                (*path, where[1], key),
                f"{'.'.join(map(str, path))}: {key} = {value!r} is used {count} times "
                f"(entries {', '.join(str(index + 1) for index in where)})",
                f"give each entry its own {key}",
            )
