"""YAML as nodes with lines: what is refused, how unquoted text is typed, what bounds a hostile file."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standfast.kernel.errors import ConfigError
from standfast.services.stacks.documents import LARGEST_FILE_BYTES, parse_yaml, read_yaml
from standfast.services.stacks.nodes import MappingNode, Node, ScalarNode

FILE = Path("stack.yml")


def root(text: str) -> Node:
    return parse_yaml(text, FILE).root


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "code", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", "KeyTwice", 3, "line 1"),
        ("a:\n\t- 1\n", "NotYaml", 2, "tab"),
        ("a: [1, 2\nb: 3\n", "NotYaml", 2, ""),
        ("a: b: c\n", "NotYaml", 1, ""),
        ("a: *missing\n", "NotYaml", 1, "missing"),
        ("a: &x\n  - *x\n", "AliasLoop", 2, "inside its own anchor"),
        ("a: 1\nb:\n  <<: 5\n", "NotYaml", 3, "mapping"),
        ("? [1, 2]\n: x\n", "NotYaml", 1, "a list"),
        ("a: !!python/object:os.system x\n", "UnknownTag", 1, "python"),
        ("a: !!int x\n", "NotYaml", 1, "int"),
        ("a: \x01\n", "NotYaml", 1, ""),
        ("[" * 500, "TooDeep", 1, "deeper"),
        (BOMB, "TooManyValues", 6, "values"),
        (f"a: &a {'x' * 1_000_000}\nb: [{', '.join(['*a'] * 100)}]\n", "TooManyValues", 2, "values"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_what_cannot_be_read_is_refused_with_its_line(text: str, code: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, FILE)
    assert caught.value.code == code
    assert caught.value.what.startswith(f"stack.yml:{line}: ")
    assert words in str(caught.value)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_what_is_no_text_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    large = tmp_path / "large.yml"
    with large.open("wb") as stream:
        stream.truncate(100_000_000)
    codes = {
        tmp_path: "StackUnreadable",
        tmp_path / "pipe": "StackUnreadable",
        tmp_path / "loop": "StackUnreadable",
        tmp_path / "absent.yml": "StackMissing",
        tmp_path / "stack.yml" / "below": "StackUnreadable",
        large: "StackTooLarge",
        write(tmp_path / "stack.yml", b"\x7fELF\x02\x01\x01\0\0\0"): "StackUnreadable",
        write(tmp_path / "latin.yml", b"a: \xe9\n"): "StackUnreadable",
    }
    for path, code in codes.items():
        with pytest.raises(ConfigError) as caught:
            read_yaml(path)
        assert caught.value.code == code, path


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    secret = write(tmp_path / "a.yml", b"a: 1\n")
    secret.chmod(0)
    with pytest.raises(ConfigError, match="Permission denied"):
        read_yaml(secret)


def test_the_largest_file_is_read_or_refused_by_its_values(tmp_path: Path) -> None:
    path = write(tmp_path / "many.yml", b"- 1\n" * (LARGEST_FILE_BYTES // 4))
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert caught.value.code == "TooManyValues"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8001:8001", "8001:8001"),
        ("22:22", "22:22"),
        ("1:30:00", "1:30:00"),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("2024-01-01", "2024-01-01"),
        ("3.8", 3.8),
        ("'3.8'", "3.8"),
        ("022", 18),
        ("0o22", 18),
        ("089", 89.0),
        ("0x1F", 31),
        ("1_000", 1000),
        ("-5", -5),
        ("1e-5", 1e-5),
        ("1e999", "1e999"),
        ("9" * 60, "9" * 60),
        ("12345678901234567890123", 12345678901234567890123.0),
        ("+", "+"),
        ("0o", "0o"),
        ("true", True),
        ("False", False),
        ("'true'", "true"),
        ("~", None),
        ("", None),
        ("!!str 5", "5"),
        ("!!float 5", 5.0),
        ("[]", []),
        ("{a: }", {"a": None}),
    ],
)
def test_unquoted_text_means_what_it_means_to_compose(text: str, value: object) -> None:
    found = root(f"key: {text}\n").plain()
    assert found == {"key": value}
    assert type(found["key"]) is type(value)


def test_keys_and_values_know_their_line_and_column() -> None:
    document = root("# first\nservices:\n  web:\n    ports:\n      - '80:80'\n      - 81:81\n")
    web = document.at("services", "web")
    assert isinstance(web, MappingNode)
    assert (web.keys["ports"].line, web.keys["ports"].column) == (4, 5)
    second = document.at("services", "web", "ports", 1)
    assert isinstance(second, ScalarNode)
    assert (second.line, second.column, second.value) == (6, 9, "81:81")
    assert str(second.place) == "stack.yml:6"
    assert document.at("services", "web", "ports", 2) is None
    assert document.at("services", "api", "ports", 0) is None
    assert [(key.text, node.kind) for key, node in web.items()] == [("ports", "a list")]


def test_anchors_aliases_and_merge_keys_are_honoured() -> None:
    document = root(
        "x-a: &a {image: one, restart: always}\n"
        "x-b: &b {image: two, user: me}\n"
        "web:\n  <<: [*a, *b]\n  restart: no\n"
        "'<<': text\n"
    )
    web = document.get("web")
    assert isinstance(web, MappingNode)
    assert web.plain() == {"restart": "no", "image": "one", "user": "me"}
    # What was merged in keeps the line where it was written.
    assert web.keys["user"].line == 2
    assert document.plain()["<<"] == "text"  # type: ignore[index, call-overload]


def test_local_tags_are_kept_for_who_understands_them() -> None:
    ports = root("ports: !reset []\n").get("ports")
    assert ports is not None
    assert (ports.tag, ports.plain()) == ("!reset", [])


def test_several_documents_and_none() -> None:
    assert [node.plain() for node in parse_yaml("a: 1\n---\nb: 2\n", FILE).roots] == [{"a": 1}, {"b": 2}]
    empty = parse_yaml("# only a comment\n", FILE)
    assert empty.roots == ()
    assert empty.root.plain() is None


def test_an_anchor_of_one_document_is_none_of_the_next() -> None:
    with pytest.raises(ConfigError, match=r"has no anchor|undefined alias"):
        parse_yaml("a: &x 1\n---\nb: *x\n", FILE)


def test_a_byte_order_mark_and_json_are_read(tmp_path: Path) -> None:
    assert read_yaml(write(tmp_path / "a.yml", b"\xef\xbb\xbfa: 1\r\n")).root.plain() == {"a": 1}
    assert root('{"a": ["8001:8001", 1.5, null]}').plain() == {"a": ["8001:8001", 1.5, None]}


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        for node in parse_yaml(text, FILE).roots:
            node.plain()


def test_nothing_is_constructed_from_a_tag() -> None:
    before = set(sys.modules)
    with pytest.raises(ConfigError):
        root("a: !!python/module:antigravity ''\n")
    assert "antigravity" not in set(sys.modules) - before
