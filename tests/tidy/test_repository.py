"""The repository keeps its own rules: what may lie where, and what may not be said in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from repository import ROOT, text_of, tracked

ROOT_FILES = {
    "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "SECURITY.md",
    "pyproject.toml", "requirements-dev.lock", "requirements.lock", ".gitignore",
}  # fmt: skip
TEXT_SUFFIXES = {".py", ".md", ".toml", ".sql", ".lock", ".json", ".txt", ".typed", ""}
LARGEST_BYTES = 1_000_000
# Written apart, so that this file does not say them itself.
REGISTRIES = [
    "py" "pi.org", "python" "hosted", "npm" "js.org", "deb" "ian.org", "cra" "tes.io",
]  # fmt: skip
MACHINE_PATH = re.compile(r"(^|[^A-Za-z0-9_.])/(" + "wo" + "rk|fa" + "rm|ho" + "me|ro" + "ot)/")
UNFINISHED = re.compile(r"\b(TO" + "DO|FIX" + r"ME|XX" + r"X)\b")
RESULTS_OF_RUNS = re.compile(r"(_complete|_final|_v\d+|_new|_old|_backup|_fixed)\.[a-z]+$", re.IGNORECASE)


def texts() -> list[Path]:
    return [path for path in tracked() if path.suffix in TEXT_SUFFIXES]


def test_nothing_new_lies_in_the_root() -> None:
    assert {str(path) for path in tracked() if len(path.parts) == 1} - ROOT_FILES == set()


def test_the_root_has_what_a_visitor_looks_for() -> None:
    assert ROOT_FILES - {path.name for path in tracked()} == set()


def test_no_backups_reports_or_large_files() -> None:
    odd = [path for path in tracked() if RESULTS_OF_RUNS.search(path.name)]
    large = [path for path in tracked() if (ROOT / path).stat().st_size > LARGEST_BYTES]
    assert (odd, large) == ([], [])


@pytest.mark.parametrize("host", REGISTRIES)
def test_no_registry_is_named(host: str) -> None:
    assert [path for path in texts() if host in text_of(path).lower()] == []


def test_no_path_of_a_machine_is_named() -> None:
    said = [
        f"{path}:{number}"
        for path in texts()
        for number, line in enumerate(text_of(path).splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert said == []


def test_nothing_is_left_to_do() -> None:
    said = [
        f"{path}:{number} {line.strip()}"
        for path in texts()
        if path.suffix in (".py", ".sql", ".toml", "")
        for number, line in enumerate(text_of(path).splitlines(), start=1)
        if UNFINISHED.search(line)
    ]
    assert said == []


def test_every_text_ends_with_one_newline() -> None:
    wrong = [
        str(path)
        for path in texts()
        if (text := text_of(path)) and (not text.endswith("\n") or text.endswith("\n\n"))
    ]
    assert wrong == []


def test_no_code_is_commented_out_by_a_banner() -> None:
    banner = re.compile(r"^\s*#\s*[-=#*]{4,}|[-=]{20,}\s*$")
    said = [
        f"{path}:{number}"
        for path in texts()
        if path.suffix == ".py"
        for number, line in enumerate(text_of(path).splitlines(), start=1)
        if line.lstrip().startswith("#") and banner.search(line)
    ]
    assert said == []


def test_migrations_are_numbered_without_a_gap_and_for_both_stores() -> None:
    folders: dict[Path, dict[str, list[int]]] = {}
    for path in tracked():
        match = re.fullmatch(r"(\d{4})_(\w+)\.(sqlite|postgres)\.sql", path.name)
        if path.parent.name == "migrations" and path.suffix == ".sql":
            assert match, f"{path} is not named NNNN_name.DIALECT.sql"
            folders.setdefault(path.parent, {}).setdefault(match[3], []).append(int(match[1]))
    assert folders, "the walk sees the migrations"
    for folder, numbers in folders.items():
        wanted = list(range(1, len(numbers["sqlite"]) + 1))
        # A supervisor's memory is its host's own: it must be there before any server is.
        is_of_host = folder.parent.name == "services"
        assert numbers == ({"sqlite": wanted} if is_of_host else {"sqlite": wanted, "postgres": wanted}), (
            folder
        )


def test_the_changelog_tells_of_this_version() -> None:
    version = re.search(r'^version = "(.+)"$', text_of(Path("pyproject.toml")), re.MULTILINE)
    assert version
    assert f"## [{version[1]}]" in text_of(Path("CHANGELOG.md"))
    assert f'__version__ = "{version[1]}"' in text_of(Path("src/standfast/__init__.py"))


def test_decisions_are_numbered_once_and_titled() -> None:
    names = [path.name for path in tracked() if path.parent == Path("docs/decisions")]
    assert names
    assert all(re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", name) for name in names)
    assert len({name[:4] for name in names}) == len(names)
