"""Variables, files of variables and short forms: what compose makes of them, and what it refuses."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standfast.kernel.errors import ConfigError
from standfast.services.stacks import forms
from standfast.services.stacks.dotenv import parse_env, read_env
from standfast.services.stacks.fields import go_text
from standfast.services.stacks.interpolation import substitute
from standfast.services.stacks.nodes import Place

PLACE = Place(Path("compose.yaml"), 7)
VARIABLES = {"SET": "value", "EMPTY": "", "_u1": "under"}


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("${UNSET?give one}", "VariableMissing", "UNSET is not set, because give one"),
        ("${UNSET:?}", "VariableMissing", "UNSET is not set"),
        ("${EMPTY:?needed for $SET}", "VariableMissing", "EMPTY is empty, because needed for value"),
        ("${UNSET:-${EMPTY:?deep}}", "VariableMissing", "EMPTY is empty, because deep"),
        ("${", "VariableInvalid", "'${'"),
        ("${}", "VariableInvalid", "'${}'"),
        ("a ${SET", "VariableInvalid", "'${SET'"),
        ("${1A}", "VariableInvalid", "'${1A}'"),
        ("${SET/a/b}", "VariableInvalid", "'${SET/a/b}'"),
        ("${SET:=x}", "VariableInvalid", "write $$"),
        ("${A-" * 30 + "}" * 30, "TooDeep", "deeper than 20"),
    ],
)
def test_what_is_missing_or_no_variable_is_refused_with_its_line(text: str, code: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        substitute(text, VARIABLES, PLACE)
    assert caught.value.code == code
    assert caught.value.what.startswith("compose.yaml:7: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "result", "unset"),
    [
        ("plain", "plain", ()),
        ("$SET and ${SET}", "value and value", ()),
        ("${_u1}$SETX", "under", ("SETX",)),
        ("$UNSET,$UNSET", ",", ("UNSET",)),
        ("${EMPTY}", "", ()),
        ("${UNSET:-d}|${UNSET-d}|${EMPTY:-d}|${EMPTY-d}", "d|d|d|", ()),
        ("${SET:-d}|${SET-d}", "value|value", ()),
        ("${SET:+a}|${EMPTY:+a}|${EMPTY+a}|${UNSET+a}|${UNSET:+a}", "a||a||", ()),
        ("${SET:?x}|${SET?x}|${EMPTY?x}", "value|value|", ()),
        ("${UNSET:-${EMPTY:-$SET}}", "value", ()),
        ("${UNSET:-$OTHER}", "", ("OTHER",)),
        ("${SET:-$OTHER}", "value", ()),
        ('${UNSET:-{"a": {"b": 1}}}', '{"a": {"b": 1}}', ()),
        ("$$SET $${SET} $$$SET", "$SET ${SET} $value", ()),
        ("$ 5$ a$1 $-", "$ 5$ a$1 $-", ()),
        ("${UNSET-a:-b?c}", "a:-b?c", ()),
        ("${UNSET:-a\nb}", "a\nb", ()),
    ],
)
def test_variables_are_replaced_as_the_compose_specification_has_it(
    text: str, result: str, unset: tuple[str, ...]
) -> None:
    assert substitute(text, VARIABLES, PLACE) == (result, unset)


@given(st.text(alphabet="${}:-?+ABab_1 /\n", max_size=60), st.text(max_size=20))
def test_any_text_is_replaced_or_refused(text: str, value: str) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(substitute(text, {"A": value}, PLACE).text, str)


@given(st.text(alphabet=st.characters(exclude_characters="$"), max_size=50))
def test_text_without_a_dollar_and_doubled_dollars_stay_as_they_are(text: str) -> None:
    assert substitute(text, {}, PLACE) == (text, ())
    assert substitute(f"$${text}$$", {}, PLACE).text == f"${text}$"


def env(text: str, **outside: str) -> dict[str, str]:
    return parse_env(text, Path(".env"), outside)


@pytest.mark.parametrize(
    ("text", "line"),
    [("A=1\nB C=2\n", 2), ("=x\n", 1), ("A!=1\n", 1), ('A=1\n\nB="open\n', 3), ("A='it''s'\n", 1)],
)
def test_a_line_that_is_no_variable_is_refused(text: str, line: int) -> None:
    with pytest.raises(ConfigError) as caught:
        env(text)
    assert caught.value.what.startswith(f".env:{line}: ")


def test_a_file_of_variables_is_read_as_compose_reads_it() -> None:
    text = (
        "# comment\nA=1\n  B = two words # not this\nexport C='$A \\' # kept'\n"
        'D="x\\ty $A \\$A $$A"\nE: yaml\nTAKEN\nNOT_TAKEN\nF=a#b\nG=\n'
        'H="two\nlines"\nI=${A}${NOPE:-d}\r\nJ.x-y=1'
    )
    assert env(text, TAKEN="outside", A="wins") == {
        "A": "1", "B": "two words", "C": "$A ' # kept", "D": "x\ty wins $A $A", "E": "yaml",
        "TAKEN": "outside", "F": "a#b", "G": "", "H": "two\nlines", "I": "winsd", "J.x-y": "1",
    }  # fmt: skip


def test_a_raw_file_is_not_interpreted() -> None:
    text = "A='x' # y\n# comment\n\nB=$A\nnothing\n"
    assert parse_env(text, Path("r.env"), {}, is_raw=True) == {"A": "'x' # y", "B": "$A"}


@given(st.text(alphabet="AB=:'\"\\#$ {}\n\r01", max_size=60))
def test_any_file_of_variables_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        env(text)


def test_a_large_file_of_variables_is_read_in_linear_time(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("".join(f"NAME_{n}=value of $NAME_{n - 1}\n" for n in range(20_000)))
    assert len(read_env(path, {})) == 20_000


REFUSED: list[tuple[Callable[[str], object], str]] = [
    *((forms.size_bytes, text) for text in ("", "x", "1x", "-1", "1.5.2g", "g", "9" * 50, "1 2")),
    *((forms.duration_s, text) for text in ("", "30", "s", "5S", "1m 30s", "1y", "-", "1" * 70)),
    *((forms.truth, text) for text in ("", "1", "maybe")),
    *(
        (forms.ports, text)
        for text in (
            "", "a", "a:80", "80:", "99999:80", "80:99999", "1-2:1-3", "80/foo", "127.0.0.1:80",
            "localhost:80:80", "8000-7999:80", "1-60000:1-60000", "1:2:3:4", "80:80/tcp/udp", "٣:80",
        )
    ),
    *((forms.mount, text) for text in ("", ":", "a:", ":/b", "a:/b:ro:z", "a::ro")),
    *(
        (forms.command_words, text)
        for text in ('a "open', "a 'open", "a \\", "a (b)", "a ) b", "`a", "`a' b` c", "$(a (b))")
    ),
]  # fmt: skip


@pytest.mark.parametrize(("read", "text"), REFUSED)
def test_what_compose_refuses_is_refused(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(text)


@pytest.mark.parametrize(
    ("text", "result"),
    [("512m", 536870912), ("1.5g", 1610612736), ("10G", 10737418240), ("7 mib", 7340032), ("5kb", 5120),
     ("1073741824", 1073741824), ("0", 0)],
)  # fmt: skip
def test_sizes(text: str, result: int) -> None:
    assert forms.size_bytes(text) == result


@pytest.mark.parametrize(
    ("text", "result"),
    [("1m30s", 90), ("500ms", 0.5), ("1.5h", 5400), ("1d2w", 1296000), ("0", 0), (".5s", 0.5)],
)
def test_durations(text: str, result: float) -> None:
    assert forms.duration_s(text) == result


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("80", [(80, 0, "tcp", "", 0)]),
        ("8080:80/udp", [(80, 8080, "udp", "", 0)]),
        ("127.0.0.1:81:82", [(82, 81, "tcp", "127.0.0.1", 0)]),
        ("1.2.3.4::80", [(80, 0, "tcp", "1.2.3.4", 0)]),
        ("[::1]:60:61", [(61, 60, "tcp", "::1", 0)]),
        ("::1:60:61", [(61, 60, "tcp", "::1", 0)]),
        ("80-81:90-91", [(90, 80, "tcp", "", 0), (91, 81, "tcp", "", 0)]),
        ("8080-8090:80", [(80, 8080, "tcp", "", 8090)]),
        ("70-71", [(70, 0, "tcp", "", 0), (71, 0, "tcp", "", 0)]),
        ("80/TCP", [(80, 0, "tcp", "", 0)]),
    ],
)
def test_ports(text: str, result: list[tuple[object, ...]]) -> None:
    assert [tuple(port) for port in forms.ports(text)] == result


@pytest.mark.parametrize(
    ("text", "words", "lost"),
    [
        ("pytest tests/ -v", ["pytest", "tests/", "-v"], ""),
        ('sh -c "a && b" \'c d\' x\\ y "" e"f"g', ["sh", "-c", "a && b", "c d", "x y", "", "efg"], ""),
        ("echo a && b", ["echo", "a"], "&& b"),
        ("a 2>/dev/null", ["a"], ">/dev/null"),
        ("a2>b", ["a2"], ">b"),
        ("a $(b c) `d e`", ["a", "$(b c)", "`d e`"], ""),
        ("  ", [], ""),
        ("a\tb\n c", ["a", "b", "c"], ""),
    ],
)
def test_commands_are_split_as_compose_splits_them(text: str, words: list[str], lost: str) -> None:
    assert forms.command_words(text) == (tuple(words), lost)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (1e-5, "1e-05"), (0.0001, "0.0001"), (1e6, "1e+06"), (1234567.5, "1.2345675e+06"),
     (100000.5, "100000.5"),
     (123456.0, "123456"), (-1e7, "-1e+07"), (1e300, "1e+300"), (True, "true"),
     (18, "18"), (None, None), ("x", "x"), (2.5, "2.5"), (0.0, "0"), (-1.5, "-1.5")],
)  # fmt: skip
def test_numbers_are_written_as_compose_writes_them(value: object, text: str | None) -> None:
    assert go_text(value) == text  # type: ignore[arg-type]


@given(st.text(alphabet="0123456789:-/.[]abtcpudp", max_size=30))
def test_any_text_is_a_port_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert forms.ports(text)


@given(st.text(alphabet="ab '\"\\`$();&|<>1", max_size=30))
def test_any_text_is_a_command_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        forms.command_words(text)
