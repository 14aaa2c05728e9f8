"""Nothing grows beyond what a reader can hold at once."""

from __future__ import annotations

import pytest

from repository import functions, python_files, text_of

MOST_LINES_OF_A_FUNCTION = 60
MOST_LINES_OF_A_FILE = 500
MOST_LINES_OF_A_TEST_FILE = 600


def test_the_walk_sees_the_code() -> None:
    assert len(python_files("src")) > 50


@pytest.mark.parametrize("tops", [("src", "blueprints", "benchmarks")])
def test_functions_are_short(tops: tuple[str, ...]) -> None:
    long = [
        f"{path}:{node.lineno} {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for path in python_files(*tops)
        for node in functions(path)
        if node.end_lineno is not None and node.end_lineno - node.lineno + 1 > MOST_LINES_OF_A_FUNCTION
    ]
    assert long == []


@pytest.mark.parametrize(
    ("tops", "limit"),
    [(("src", "blueprints", "benchmarks"), MOST_LINES_OF_A_FILE), (("tests",), MOST_LINES_OF_A_TEST_FILE)],
)
def test_files_are_short(tops: tuple[str, ...], limit: int) -> None:
    sizes = {path: len(text_of(path).splitlines()) for path in python_files(*tops)}
    assert {path: size for path, size in sizes.items() if size > limit} == {}
