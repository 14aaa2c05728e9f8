"""What reaches a terminal and a pipe."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from standfast.cli.documents import read_json
from standfast.cli.output import Printer, envelope, plain, printer, say_error
from standfast.kernel.errors import ConfigError


def printed() -> tuple[io.StringIO, Printer]:
    stream = io.StringIO()
    return stream, printer(stream)


@pytest.mark.parametrize(
    "evil", ["\x1b[2J", "\x1b]0;title\x07", "a\rb", "a\nb", "\u202e", "\x9b31m", "a\x00b"]
)
def test_foreign_text_cannot_drive_a_terminal(evil: str) -> None:
    assert plain(evil).isprintable()


def test_a_pipe_gets_aligned_columns_without_colour_or_cuts() -> None:
    stream, out = printed()
    out.table((">n", "what"), [(1, "x" * 300), (22, None)])
    assert stream.getvalue().splitlines() == [" n  what", " 1  " + "x" * 300, "22  -"]


def test_a_table_without_rows_has_its_headings() -> None:
    stream, out = printed()
    out.table(("a", "b"), [])
    assert stream.getvalue() == "a  b\n"


def test_findings_are_shown_with_their_remedies_and_as_text_only() -> None:
    stream, out = printed()
    finding = {
        "verdict": "FAIL", "check": "c", "subject": "s\x1b[31m", "reason": "R", "message": "[red]m[/red]",
        "remedy": "do", "since": "then",
    }  # fmt: skip
    out.findings([finding])
    text = stream.getvalue()
    assert "\x1b" not in text
    assert "[red]m[/red] (since then)" in text
    assert "-> do" in text


def test_an_error_has_all_its_parts(capsys: pytest.CaptureFixture[str]) -> None:
    say_error(ConfigError("what", why="why", fix="fix", since="since", code="Code"))
    _, err = capsys.readouterr()
    assert err.splitlines() == ["error Code: what", "  why   why", "  since since", "  fix   fix"]


def test_the_envelope_is_versioned() -> None:
    assert envelope("round.show", data=1)["schema"] == "standfast.round.show/1"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"\xff\xfe\x00", "no JSON"),
        (b'{"a": 1, "a": 2}', "no JSON"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_a_document_that_is_none_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "d.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        read_json(path)
