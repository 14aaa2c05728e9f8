"""What lint reads: nothing read is UNKNOWN, what cannot be read is said, a comment with a reason silences."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lint_lab import only, places, report, rules, written
from standfast.kernel.errors import ConfigError
from standfast.services.lint.judging import judge
from standfast.services.lint.model import Severity
from standfast.services.lint.reading import read_tree
from standfast.services.lint.table import RULES

BARE = """
    services:
      a:
        image: x:1
        restart: always
"""


def test_nothing_read_is_unknown_and_never_clean(tmp_path: Path) -> None:
    found = report(tmp_path, {"README.md": "hello\n", "ci.yml": "on: push\njobs: {}\n"})
    assert not found.has_evidence
    assert found.as_dict()["verdict"] == "UNKNOWN"
    assert [passed.file for passed in found.not_understood] == ["ci.yml"]


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_tree([tmp_path / "nope"])
    assert caught.value.code == "PathMissing"


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("docker-compose.yml", "services:\n  a: [1\n", 3),
        ("compose.yaml", "services:\n  a: {image: x}\n  a: {image: y}\n", 3),
        ("compose.yaml", "services:\n  a: {image: '${X:?}${'}\n", 2),
        ("prometheus.yml", "global: {}\nscrape_configs: x: y\n", 2),
        ("compose.yaml", "\0", 1),
    ],
)
def test_what_cannot_be_read_is_an_error_with_its_line(
    tmp_path: Path, name: str, text: str, line: int
) -> None:
    (tmp_path / name).write_text(text)
    finding = only(judge(read_tree([tmp_path]), tmp_path), "unreadable")
    assert (finding.file, finding.line, finding.severity) == (name, line, Severity.ERROR)


def test_yaml_of_others_that_does_not_parse_is_named_and_no_error(tmp_path: Path) -> None:
    found = report(tmp_path, {"templates/x.yaml": "{{- if .Values.x }}\na: b\n", "compose.yaml": BARE})
    assert rules(found) == {"memory-limit-missing"}
    assert found.not_understood[0].file == "templates/x.yaml"


@pytest.mark.parametrize(
    ("comment", "is_silenced"),
    [
        ("# standfast: ignore[memory-limit-missing] it is a toy", True),
        ("# standfast: ignore[memory-limit-missing, restart-missing] it is a toy", True),
        ("# standfast: ignore[memory-limit-missing]", False),
        ("# standfast: ignore[memory-limit-missng] typo", False),
        ("# standfast: ignore[restart-missing] another rule", False),
        ("# standfast: ignore[] none", False),
        ("# ignore all", False),
    ],
)
def test_a_comment_with_a_reason_silences_and_is_counted(
    tmp_path: Path, comment: str, *, is_silenced: bool
) -> None:
    above = report(tmp_path / "a", {"compose.yaml": BARE.replace("      a:", f"      {comment}\n      a:")})
    beside = report(tmp_path / "b", {"compose.yaml": BARE.replace("      a:", f"      a: {comment}")})
    for found in (above, beside):
        assert ("memory-limit-missing" not in rules(found)) is is_silenced
        assert len(found.ignored) == int(is_silenced)
        is_malformed = not is_silenced and "standfast" in comment and "another" not in comment
        assert ("ignore-malformed" in rules(found)) is is_malformed


def test_a_comment_reaches_no_further_than_the_next_line(tmp_path: Path) -> None:
    text = BARE.replace(
        "    services:", "    # standfast: ignore[memory-limit-missing] too far\n    services:"
    )
    assert "memory-limit-missing" in rules(report(tmp_path, {"compose.yaml": text}))


def test_a_comment_inside_a_continued_instruction(tmp_path: Path) -> None:
    text = (
        "FROM python:3.12-slim\nRUN true && \\\n"
        "    # standfast: ignore[install-swallowed] optional speed-up\n    pip install uvloop || true\n"
    )
    found = report(tmp_path, {"Dockerfile": text})
    assert found.findings == ()
    assert [f.rule for f in found.ignored] == ["install-swallowed"]


def test_folders_that_nobody_declared_are_not_searched(tmp_path: Path) -> None:
    files = {f"{folder}/compose.yaml": BARE for folder in ("node_modules/x", ".git", ".venv/lib", "sub")}
    assert places(report(tmp_path, files), "memory-limit-missing") == ["sub/compose.yaml:2"]


def test_links_are_not_followed(tmp_path: Path) -> None:
    written(tmp_path / "out", {"compose.yaml": BARE})
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    (tmp_path / "out" / "back").symlink_to(tmp_path / "in")
    assert not judge(read_tree([tmp_path / "in"]), tmp_path).has_evidence


def test_a_file_may_have_any_name_when_it_is_named(tmp_path: Path) -> None:
    written(
        tmp_path, {"stack.txt": BARE, "Build": "FROM python\n", "apps": "module.exports = {apps: [{name: 'a'"}
    )
    assert rules(judge(read_tree([tmp_path / "stack.txt"]), tmp_path)) == {"memory-limit-missing"}
    assert rules(judge(read_tree([tmp_path / "Build"]), tmp_path)) == {"base-floating"}
    assert rules(judge(read_tree([tmp_path / "apps"]), tmp_path)) == {"unreadable"}


def test_what_lies_beside_a_named_file_is_evidence_and_not_judged(tmp_path: Path) -> None:
    files = {
        "compose.yaml": BARE.replace(
            "image: x:1", 'build: ./a\n        healthcheck: {test: ["CMD", "curl", "x"]}'
        ),
        "a/Dockerfile": "FROM python:latest-slim\n",
        "other.yaml": BARE,
    }
    written(tmp_path, files)
    found = judge(read_tree([tmp_path / "compose.yaml"]), tmp_path)
    assert {f.file for f in found.findings} == {"compose.yaml"}
    assert rules(found) == {"healthcheck-program", "memory-limit-missing"}


def test_included_and_extended_files_belong_to_the_stack(tmp_path: Path) -> None:
    files = {
        "compose.yaml": "include: [db/compose.yaml]\n"
        "services:\n  a:\n    extends: {file: base.yaml, service: b}\n",
        "db/compose.yaml": "services:\n  db: {image: 'postgres:latest', restart: always, mem_limit: 1g}\n",
        "base.yaml": "services:\n  b: {image: 'x:latest', restart: always, mem_limit: 1g}\n",
    }
    found = report(tmp_path, files)
    assert places(found, "image-floating") == ["base.yaml:2", "db/compose.yaml:2"]
    assert {f.severity for f in found.findings} == {Severity.WARNING}


def test_required_variables_are_a_good_habit_and_no_finding(tmp_path: Path) -> None:
    text = """
        services:
          a:
            image: x:${TAG:?say which}
            restart: always
            mem_limit: 1g
            ports: ["${PORT_A:?}:80", "${PORT_B:?}:81"]
            environment: {KEY: "${KEY}"}
    """
    found = report(tmp_path, {"compose.yaml": text})
    assert [(f.rule, f.severity) for f in found.findings] == [("variable-unset", Severity.INFO)]
    assert report(tmp_path, {".env": "KEY=1\n", "compose.yaml": text}).findings == ()


def test_findings_are_the_same_whatever_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAG", "latest")
    text = "services:\n  a: {image: 'x:${TAG:-1}', restart: always, mem_limit: 1g}\n"
    assert report(tmp_path, {"compose.yaml": text}).findings == ()


def test_a_folder_that_may_not_be_read_is_no_crash(tmp_path: Path) -> None:
    written(tmp_path, {"compose.yaml": BARE, "closed/compose.yaml": BARE})
    (tmp_path / "closed").chmod(0)
    try:
        assert "memory-limit-missing" in rules(judge(read_tree([tmp_path]), tmp_path))
    finally:
        (tmp_path / "closed").chmod(0o755)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "compose.yaml")
    assert rules(judge(read_tree([tmp_path]), tmp_path)) == {"unreadable"}


NAMES = (
    "compose.yaml",
    "Dockerfile",
    "prometheus.yml",
    "alertmanager.yml",
    "ecosystem.config.js",
    "requirements.txt",
)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(NAMES), text=st.text(max_size=200))
def test_any_text_is_judged_without_an_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, text: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / name).write_text(text, encoding="utf-8", errors="replace")
    judge(read_tree([folder]), folder)


def test_every_rule_has_an_id_of_its_own_and_says_why() -> None:
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)
    assert all(rule.what and rule.why for rule in RULES)
