"""Rules as data: read from TOML files, checked, and able to prove themselves on their own texts.

1. A rule names one kind of failure by phrases, and carries texts that it must match and texts that it must
   refuse. A rule without either is no rule.
2. A user's rules come before the ones shipped here; one with the same id takes its place.
3. What is wrong with a file is said with its name and the rule's id, and nothing of it is used.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from standfast.kernel.errors import ConfigError
from standfast.services.failures.model import Action, FailureClass
from standfast.services.failures.peers import peer
from standfast.services.failures.phrase import Phrase, PhraseError, phrase
from standfast.services.failures.text import Tail, tail, weight

_HERE = Path(__file__).parent / "signatures"
_LARGEST_BYTES = 1_000_000
_MOST_RULES = 2_000
_PHASES = ("", "never_ready", "was_ready")
#: Names that every fix may use: they are looked for in the line, whatever the phrase.
_OF_PEERS = frozenset({"host", "port", "address"})
#: What may stand in a command without a meaning of its own to a shell.
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:@%+=,~-")
_MOST_NAME = 200


class RulesError(ConfigError):
    """A file of rules cannot be used."""

    code = "BadRules"


@dataclass(frozen=True)
class Rule:
    """One kind of failure, and how it is recognised (docs/how-to/failure-classes.md has each field)."""

    id: str
    cls: FailureClass
    when: tuple[Phrase, ...]
    match: tuple[str, ...]
    refuse: tuple[str, ...]
    source: str
    confidence: float
    fix: str = ""
    sub: str = ""
    unless: tuple[Phrase, ...] = ()
    context: tuple[Phrase, ...] = ()
    exit: tuple[int, ...] = ()
    signal: tuple[int, ...] = ()
    phase: str = ""
    outside: FailureClass | None = None
    action: Action | None = None
    is_kernel: bool = False
    is_own: bool = False
    file: str = ""

    def hits(self, read: Tail) -> Iterator[Hit]:
        """Yield where the rule recognises ``read``; says nothing about exit code, signal or phase."""
        around = (*read.lines, *read.frames) if self.context else ()
        if self.context and not any(wanted.is_in(line) for wanted in self.context for line in around):
            return
        for wanted in self.when:
            for number, named in wanted.hits(read):
                line = read.lines[number]
                if not any(refused.is_in(line) for refused in self.unless):
                    yield Hit(self, number, line, named, weight(line))


class Hit(NamedTuple):
    """A line that a rule recognises; ``weight`` says how much the line counts."""

    rule: Rule
    number: int
    line: str
    named: Mapping[str, str]
    weight: float

    @property
    def fix(self) -> str:
        """The rule's fix, with what the line named; a name that is not plain is left in capitals.

        What others wrote must not become a part of a command that a person copies.
        """
        text, named = self.rule.fix, self.named
        if any(name in _OF_PEERS and name not in named for name in _names_in(text)):
            far = peer((self.line,))
            named = {"host": far.host, "port": str(far.port or ""), "address": far.address, **named}
        for name in _names_in(text):
            said = named.get(name, "")
            is_plain = 0 < len(said) <= _MOST_NAME and _SAFE.issuperset(said) and not said.startswith("-")
            text = text.replace(f"{{{name}}}", said if is_plain else name.upper())
        return text


class Failed(NamedTuple):
    """A text on which a rule does not do what it says."""

    rule: str
    file: str
    why: str
    text: str


@cache
def builtin() -> tuple[Rule, ...]:
    """Return the rules that are shipped here; read once."""
    return load(sorted(_HERE.glob("*.toml")), is_own=False)


def rules_with(own: Iterable[Path] = ()) -> tuple[Rule, ...]:
    """Return the rules in ``own`` files and folders, and then the shipped ones that they do not replace."""
    first = load(_files(own), is_own=True)
    replaced = {rule.id for rule in first}
    return (*first, *(rule for rule in builtin() if rule.id not in replaced))


def load(paths: Iterable[Path], *, is_own: bool = True) -> tuple[Rule, ...]:
    """Return the rules in ``paths``, in their order; RulesError for the first thing that is wrong."""
    found: list[Rule] = []
    files: dict[str, Path] = {}
    for path in paths:
        for rule in _rules_in(path):
            if rule.id in files:
                raise RulesError(
                    f"{path}: rule {rule.id!r} stands twice", why=f"it is also in {files[rule.id]}",
                    fix="give each rule an id of its own",
                )  # fmt: skip
            files[rule.id] = path
            found.append(replace(rule, is_own=is_own))
    if len(found) > _MOST_RULES:
        raise RulesError(f"{len(found)} rules are more than {_MOST_RULES}", fix="remove some of them")
    return tuple(found)


def self_test(rules: Sequence[Rule]) -> Iterator[Failed]:
    """Yield each text that a rule should match and does not, or should refuse and does not."""
    for rule in rules:
        for text in rule.match:
            if next(rule.hits(tail(text.splitlines())), None) is None:
                yield Failed(rule.id, rule.file, "does not match what it must match", text)
        for text in rule.refuse:
            hit = next(rule.hits(tail(text.splitlines())), None)
            if hit is not None:
                yield Failed(rule.id, rule.file, "matches what it must refuse", text)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            inside = sorted(path.glob("*.toml"))
            if not inside:
                raise RulesError(f"{path} has no file of rules", why="no *.toml", fix=f"ls {path}")
            yield from inside
        else:
            yield path


def _rules_in(path: Path) -> Iterator[Rule]:
    try:
        with path.open("rb") as stream:
            raw = stream.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise RulesError(f"{path} cannot be read", why=error.strerror or "", fix=f"ls -l {path}") from error
    if len(raw) > _LARGEST_BYTES:
        raise RulesError(f"{path} is larger than {_LARGEST_BYTES} bytes", fix="split it")
    try:
        document = tomllib.loads(raw.decode("utf-8"))
    except ValueError as error:
        raise RulesError(f"{path} is no TOML", why=str(error), fix=f"correct {path}") from error
    tables = document.get("rule")
    others = sorted(set(document) - {"rule"})
    if others or not isinstance(tables, list) or not tables:
        what = f"has {others[0]!r}" if others else "has no rule"
        raise RulesError(f"{path} {what}", fix="write each rule under a line [[rule]]")
    for number, table in enumerate(tables, start=1):
        yield _rule(path, number, table)


#: Keys of the file and the fields that they fill; the rest have the same name.
_FIELDS = {"class": "cls", "kernel": "is_kernel"}
_KEYS = tuple(sorted({f.name for f in fields(Rule)} - {"cls", "is_kernel", "is_own", "file"} | set(_FIELDS)))
_NEEDED = ("id", "class", "when", "match", "refuse", "source", "confidence")


def _rule(path: Path, number: int, table: dict[str, Any]) -> Rule:
    named = table.get("id") if isinstance(table, dict) else None
    where = f"{path}: rule {named!r}" if isinstance(named, str) and named else f"{path}: rule number {number}"
    if not isinstance(table, dict):
        raise RulesError(f"{where} is no table", fix="write it under a line [[rule]]")
    for key in table:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            raise RulesError(
                f"{where}: unknown key {key!r}", why=f"did you mean {near[0]!r}?" if near else "",
                fix=f"known: {', '.join(_KEYS)}",
            )  # fmt: skip
    missing = [key for key in _NEEDED if key not in table]
    if missing:
        raise RulesError(f"{where}: {missing[0]!r} is missing", fix=f"add it to {path}")
    try:
        values: dict[str, Any] = {_FIELDS.get(key, key): _value(key, value) for key, value in table.items()}
        return _checked(Rule(**values, file=str(path)))
    except (PhraseError, ValueError) as error:
        raise RulesError(f"{where}: {error}", fix=f"correct it in {path}") from error


def _checked(rule: Rule) -> Rule:
    known = {piece for wanted in rule.when for piece in _names_in(wanted.text)}
    unknown = sorted(set(_names_in(rule.fix)) - known - _OF_PEERS)
    if unknown:
        raise ValueError(f"the fix uses {{{unknown[0]}}}, which no phrase of 'when' names")
    return rule


def _names_in(text: str) -> tuple[str, ...]:
    parts = text.split("{")[1:]
    return tuple(part.partition("}")[0] for part in parts if part.partition("}")[0].isidentifier())


def _value(key: str, value: Any) -> Any:
    """Return a value of the file as its field has it; ValueError says what it must be."""
    if key in ("when", "unless", "context"):
        return tuple(_phrase(key, text) for text in _texts(key, value))
    if key in ("match", "refuse"):
        return _texts(key, value)
    if key in ("exit", "signal"):
        return _codes(key, value)
    if key == "confidence":
        return _confidence(value)
    if key == "kernel":
        if not isinstance(value, bool):
            raise ValueError("'kernel' must be true or false")
        return value
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"{key!r} must be a text on one line")
    return _choice(key, value)


def _choice(key: str, value: str) -> Any:
    kinds: dict[str, Any] = {"class": FailureClass, "outside": FailureClass, "action": Action}
    if key in kinds:
        if value not in list(kinds[key]):
            raise ValueError(f"{key!r} is {value!r}, and must be one of: {', '.join(kinds[key])}")
        return kinds[key](value)
    if key == "phase" and value not in _PHASES:
        raise ValueError(f"'phase' is {value!r}, and must be never_ready or was_ready")
    return value


def _texts(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(v, str) and v.strip() for v in value):
        raise ValueError(f"{key!r} must be a list of texts, and not an empty one")
    return tuple(value)


def _phrase(key: str, text: str) -> Phrase:
    try:
        return phrase(text)
    except PhraseError as error:
        raise ValueError(f"{key!r} has a phrase that cannot be used, {text!r}: {error}") from error


def _codes(key: str, value: Any) -> tuple[int, ...]:
    is_whole = isinstance(value, list) and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    if not is_whole or not value or not all(0 <= v <= 255 for v in value):
        raise ValueError(f"{key!r} must be a list of whole numbers from 0 to 255")
    return tuple(value)


def _confidence(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError("'confidence' must be a number above 0 and at most 1")
    return float(value)
