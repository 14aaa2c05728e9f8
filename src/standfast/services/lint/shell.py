"""Splits shell text into commands, well enough to see what is installed and which programs are called.

It is no shell: expansions stay as written, and what stands inside ``$(...)`` is one word. That is enough
for build steps and health checks, and it never runs anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

#: Operators, longest first.
_OPERATORS = (
    ";;", "&&", "||", "|&", "<<<", "<<-", "<<", ">>", "&>", ">&", "<&", ">|", ";", "|", "&", "\n", ">", "<",
    "(", ")",
)  # fmt: skip
_REDIRECTIONS = frozenset({">", ">>", "<", "<<", "<<-", "<<<", ">&", "<&", "&>", ">|"})
_OPENERS = frozenset({"then", "else", "elif", "do", "{", "!", "if", "while", "until"})
_CLOSERS = frozenset({"fi", "done", "}", "esac"})
_BUILTINS = frozenset({
    "echo", "printf", "test", "[", "[[", "true", "false", ":", "exit", "return", "cd", "set", "unset",
    "export", "read", "exec", "eval", "trap", "wait", "kill", "pwd", "command", "type", "source", ".",
    "shift", "local", "ulimit", "umask", "times", "hash", "let",
})  # fmt: skip
_SHELLS = frozenset({"sh", "bash", "ash", "dash", "zsh"})


class Token(NamedTuple):
    """A word or an operator, and where it starts."""

    text: str
    offset: int
    is_operator: bool = False


class Command(NamedTuple):
    """A simple command: its words, where it starts, and the operators before and after it."""

    words: tuple[str, ...]
    offset: int
    before: str
    after: str


def commands(text: str) -> list[Command]:
    """Return the simple commands of ``text`` in order; keywords are left out."""
    found: list[Command] = []
    words: list[Token] = []
    before = ""
    tokens = [*tokenize(text), Token("\n", len(text), is_operator=True)]
    skip_word = False
    for token in tokens:
        if not token.is_operator:
            if not skip_word:
                words.append(token)
            skip_word = False
        elif token.text in _REDIRECTIONS:
            if words and words[-1].text.isdigit() and words[-1].offset + len(words[-1].text) == token.offset:
                words.pop()
            skip_word = True
        else:
            command = _command(words, before, token.text)
            if command is not None:
                found.append(command)
            before, words, skip_word = token.text, [], False
    return found


def _command(words: list[Token], before: str, after: str) -> Command | None:
    while words and words[0].text in _OPENERS | _CLOSERS:
        words = words[1:]
    while words and words[-1].text in _CLOSERS:
        words = words[:-1]
    if not words or words[0].text in ("for", "case", "function", "select"):
        return None
    return Command(tuple(word.text for word in words), words[0].offset, before, after)


def tokenize(text: str) -> Iterator[Token]:
    """Yield words, with their quotes taken away, and operators."""
    position = 0
    while position < len(text):
        character = text[position]
        if character in " \t\r":
            position += 1
        elif text.startswith("\\\n", position):
            position += 2
        elif character == "#":
            end = text.find("\n", position)
            position = len(text) if end < 0 else end
        else:
            operator = next((op for op in _OPERATORS if text.startswith(op, position)), "")
            if operator:
                yield Token(operator, position, is_operator=True)
                position += len(operator)
            else:
                word, end = _word(text, position)
                yield Token(word, position)
                # A word is never empty on the input side, so that this loop always advances.
                position = end


def _word(text: str, start: int) -> tuple[str, int]:
    parts: list[str] = []
    position = start
    while position < len(text):
        character = text[position]
        if character in " \t\r\n;|&<>()":
            break
        part, position = _piece(text, position)
        parts.append(part)
    return "".join(parts), max(position, start + 1)


def _piece(text: str, position: int) -> tuple[str, int]:
    character = text[position]
    if character == "'":
        end = _until(text, "'", position + 1)
        return text[position + 1 : end], end + 1
    if character == '"':
        return _double_quoted(text, position + 1)
    if character == "\\":
        following = text[position + 1 : position + 2]
        return ("" if following == "\n" else following), position + 2
    if text.startswith("$(", position):
        end = _closing(text, position + 1)
        return text[position:end], end
    if text.startswith("${", position):
        end = _until(text, "}", position) + 1
        return text[position:end], end
    if character == "`":
        end = _until(text, "`", position + 1) + 1
        return text[position:end], end
    return character, position + 1


def _double_quoted(text: str, position: int) -> tuple[str, int]:
    parts: list[str] = []
    while position < len(text) and text[position] != '"':
        if text[position] == "\\" and text[position + 1 : position + 2] in ('"', "\\", "$", "`", "\n"):
            parts.append(text[position + 1].replace("\n", ""))
            position += 2
        elif text.startswith("$(", position):
            end = _closing(text, position + 1)
            parts.append(text[position:end])
            position = end
        else:
            parts.append(text[position])
            position += 1
    return "".join(parts), position + 1


def _until(text: str, mark: str, position: int) -> int:
    end = text.find(mark, position)
    return len(text) if end < 0 else end


def _closing(text: str, opening: int) -> int:
    """Return the position after the parenthesis that closes the one at ``opening``."""
    depth = 0
    for position in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return position + 1
    return len(text)


def bare(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return ``words`` without what only prepares the call: assignments, sudo, exec, env, time, nice."""
    rest = list(words)
    while rest:
        name, _, _ = rest[0].partition("=")
        if "=" in rest[0] and name.replace("_", "a").isalnum() and not name[:1].isdigit():
            rest.pop(0)
        elif rest[0] in ("sudo", "exec", "env", "time", "nice", "command", "gosu", "stdbuf"):
            rest.pop(0)
            while rest and rest[0].startswith("-"):
                rest.pop(0)
        else:
            break
    return tuple(rest)


def programs(text: str) -> list[tuple[str, int]]:
    """Return the programs that ``text`` calls, with their offsets; shell builtins are left out."""
    found: list[tuple[str, int]] = []
    for command in commands(text):
        words = bare(command.words)
        if not words or words[0] in _BUILTINS or words[0].startswith("$"):
            continue
        if words[0] == "timeout":
            words = _after_timeout(words)
        if words:
            found.append((words[0], command.offset))
            found += [(name, command.offset) for name, _ in programs(script(words))]
    return found


def _after_timeout(words: tuple[str, ...]) -> tuple[str, ...]:
    rest = [word for word in words[1:] if not word.startswith("-")]
    return tuple(rest[1:])


def script(words: tuple[str, ...]) -> str:
    """Return the text that ``sh -c TEXT`` runs, or an empty text for other commands."""
    if len(words) < 3 or words[0].rsplit("/", 1)[-1] not in _SHELLS:
        return ""
    for position, word in enumerate(words[1:-1], start=1):
        if word.startswith("-") and word.endswith("c"):
            return words[position + 1]
    return ""
