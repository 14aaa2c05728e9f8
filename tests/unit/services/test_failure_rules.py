"""Rules are data: what a file may not say, that every rule does what it says, and what reading costs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from standfast.services.failures.decide import classify
from standfast.services.failures.model import Evidence, FailureClass
from standfast.services.failures.phrase import PhraseError, phrase
from standfast.services.failures.rules import Rule, RulesError, builtin, load, rules_with, self_test
from standfast.services.failures.text import MOST_CHARS, tail
from standfast.services.model import ExitStatus

GOOD = """
[[rule]]
id = "own.frost"
class = "hardware"
confidence = 0.9
when = ["pump {name} is frozen"]
fix = "thaw {name}"
source = "reproduced here"
match = ["ERROR pump p7 is frozen"]
refuse = ["the pond is frozen"]
"""


def written(folder: Path, text: str, name: str = "own.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[[rule]]", "[[rules]]", "'rules'"),
        ('id = "own.frost"', "", "'id' is missing"),
        ('class = "hardware"', 'class = "hardwear"', "must be one of"),
        ("confidence = 0.9", "confidence = 1.5", "confidence"),
        ("confidence = 0.9", "confidence = true", "confidence"),
        ('when = ["pump {name} is frozen"]', "when = []", "'when'"),
        ('when = ["pump {name} is frozen"]', 'when = ["* {name} *"]', "characters in a row"),
        ('when = ["pump {name} is frozen"]', 'when = ["a {name} b {name} frozen"]', "twice"),
        ('when = ["pump {name} is frozen"]', 'when = ["frozen * a * b * c * d"]', "gaps"),
        ('fix = "thaw {name}"', 'fix = "thaw {pump}"', "{pump}"),
        ("when =", "wen =", "did you mean 'when'"),
        ('match = ["ERROR pump p7 is frozen"]', "", "'match' is missing"),
        ('refuse = ["the pond is frozen"]', "refuse = 3", "'refuse'"),
        ("confidence = 0.9", "confidence = 0.9\nexit = [300]", "0 to 255"),
        ("confidence = 0.9", 'confidence = 0.9\nphase = "late"', "never_ready"),
        ("confidence = 0.9", 'confidence = 0.9\nkernel = "yes"', "true or false"),
        ("confidence = 0.9", "confidence = ", "no TOML"),
    ],
)
def test_a_wrong_rule_is_refused_with_its_file_and_name(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(RulesError) as caught:
        load([path])
    assert str(path) in caught.value.what
    assert said in f"{caught.value.what} {caught.value.why} {caught.value.fix}"
    assert caught.value.exit_code == 2


def test_a_file_that_is_no_text_or_too_large_is_refused(tmp_path: Path) -> None:
    binary = tmp_path / "x.toml"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(RulesError, match="no TOML"):
        load([binary])
    binary.write_bytes(b"#" * 2_000_000)
    with pytest.raises(RulesError, match="larger"):
        load([binary])
    with pytest.raises(RulesError, match="cannot be read"):
        load([tmp_path / "absent.toml"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(RulesError, match="has no file of rules"):
        rules_with([tmp_path / "empty"])


def test_an_id_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match="twice"):
        load([written(tmp_path, GOOD, "a.toml"), written(tmp_path, GOOD, "b.toml")])


def test_own_rules_come_first_and_replace_shipped_ones(tmp_path: Path) -> None:
    line = "port 7000 is already in use by pump p7 is frozen"
    evidence = Evidence(status=ExitStatus(1), lines=(line,))
    assert classify(evidence, rules_with()).cls is FailureClass.PORT_CONFLICT
    written(tmp_path, GOOD)
    found = classify(evidence, rules_with([tmp_path]))
    assert (found.rule, found.fix) == ("own.frost", "thaw p7")
    replaced = rules_with([written(tmp_path, GOOD.replace("own.frost", "ports.in-use"))])
    assert [rule.cls for rule in replaced if rule.id == "ports.in-use"] == [FailureClass.HARDWARE]
    assert len(replaced) == len(builtin())


def test_the_self_test_sees_a_rule_that_lies(tmp_path: Path) -> None:
    lying = GOOD.replace("the pond is frozen", "pump p8 is frozen").replace("ERROR pump p7", "ERROR pump")
    failed = list(self_test(load([written(tmp_path, lying)])))
    assert [one.why for one in failed] == ["does not match what it must match", "matches what it must refuse"]


def test_every_shipped_rule_does_what_it_says() -> None:
    assert list(self_test(builtin())) == []


@pytest.mark.parametrize("rule", builtin(), ids=lambda rule: rule.id)
def test_a_shipped_rule_names_its_own_texts(rule: Rule) -> None:
    """What a rule must match gets the rule's class from all rules together, or a better founded one."""
    code = rule.exit[0] if rule.exit else 1
    for text in rule.match:
        found = classify(Evidence(status=ExitStatus(code), lines=tuple(text.splitlines())), builtin())
        assert found.cls in (rule.cls, rule.outside) or found.confidence > rule.confidence, (text, found)


def test_every_shipped_rule_has_a_source_and_a_fix() -> None:
    assert [rule.id for rule in builtin() if not rule.fix or not rule.source] == []


@pytest.mark.parametrize(
    ("text", "line", "named"),
    [
        ("address (already |)in use", "Address  already in USE", {}),
        ("address (already |)in use", "bind: address in use", {}),
        ("fail*", "it failed", {}),
        ("*Error: ", "FooError: bar", {}),
        ("open {file}: denied", "open '/a b/c': denied", {"file": "/a b/c"}),
        ("open {file}: denied", "open /a/c: denied", {"file": "/a/c"}),
        ("took # ms", "took 118 ms", {}),
        ("really (os error 3)", "really (os error 3)", {}),
        ("one * three", "one two three", {}),
        ('say "x"', "say `x`", {}),
        ("\\*\\*\\* end", "*** end", {}),
    ],
)
def test_a_phrase_matches(text: str, line: str, named: dict[str, str]) -> None:
    assert [dict(found) for _, found in phrase(text).hits(tail([line]))] == [named]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("in use", "min used"),
        ("fail*", "unfailing"),
        ("one * three", "one two\nthree"),
        ("one * three", "one threefold"),
        ("took # ms", "took long ms"),
        ("a.b.c", "aXbXc"),
    ],
)
def test_a_phrase_refuses(text: str, line: str) -> None:
    assert list(phrase(text).hits(tail(line.splitlines()))) == []


@pytest.mark.parametrize("text", ["", "ab", "{name}", "(a|b)", "* * *", "x" * 2_000, "(a {b}|cdef) ghij"])
def test_what_is_no_phrase_is_refused(text: str) -> None:
    with pytest.raises(PhraseError):
        phrase(text)


def hostile() -> dict[str, str]:
    """Lines of 64 KB, made of what rules look for: the worst that a service could print."""
    words = " ".join(needle for rule in builtin() for wanted in rule.when for needle in wanted.needles)
    return {
        "needles": (words * 8)[:65_536],
        "gaps": ("error failed could not connect to lock index in of the " * 2_000)[:65_536],
        "one letter": "a" * 65_536,
        "slashes": "/" * 65_536,
        "colons": ("fe80:" * 20_000)[:65_536],
        "quotes": ("'" * 65_536),
        "escapes": "\x1b[" * 32_768,
    }


@pytest.mark.parametrize("kind", ["needles", "gaps", "one letter", "slashes", "colons", "quotes", "escapes"])
def test_hostile_lines_cost_no_more_than_their_length(kind: str) -> None:
    """The cost is compared with itself: lines 16 times as long, or 40 of them, must not cost much more."""
    line = hostile()[kind]
    rules = rules_with()

    def cost_s(lines: list[str]) -> float:
        begun = time.process_time()
        classify(Evidence(status=ExitStatus(1), lines=tuple(lines)), rules)
        return time.process_time() - begun

    cost_s([line])
    small = min(cost_s([line[: MOST_CHARS // 4]] * 4) for _ in range(2))
    large = min(cost_s([line] * 40) for _ in range(2))
    assert large <= 8 * small + 0.2
    assert large < 10


def test_only_the_tail_is_read() -> None:
    first = "bind: address already in use"
    many = [first, *["all is well, truly, and has been so for a long while"] * 5_000]
    assert (
        classify(Evidence(status=ExitStatus(1), lines=tuple(many)), rules_with()).cls is FailureClass.UNKNOWN
    )
    read = tail(many)
    assert sum(map(len, read.lines)) <= MOST_CHARS
    long = "bind: address already in use" + "x" * 70_000
    assert classify(Evidence(lines=(long,)), rules_with()).cls is FailureClass.PORT_CONFLICT
    assert len(tail([long]).lines[0]) < 2_100
