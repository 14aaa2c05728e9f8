"""What a build step installs: manager, packages, requirement files, indexes, and whether failure counts."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import NamedTuple

from standfast.services.lint.shell import Command, bare, commands, script

_PYTHON = re.compile(r"(?:.*/)?python(?:\d(?:\.\d+)?)?")
_PIP = re.compile(r"(?:.*/)?pip(?:\d(?:\.\d+)?)?")
#: Options of pip that take a value, besides those that are read below.
_PIP_VALUES = frozenset({
    "-c", "--constraint", "-t", "--target", "--prefix", "--root", "--platform",
    "--python-version", "--trusted-host", "--cache-dir", "--log", "--timeout", "--retries", "--progress-bar",
    "--no-binary", "--only-binary", "--src", "--abi", "--implementation", "--upgrade-strategy",
    "--config-settings", "--report", "--proxy", "--cert", "-b", "-C", "--python",
})  # fmt: skip
_PIP_INDEXES = frozenset({
    "-i", "--index-url", "--extra-index-url", "--index", "--default-index", "-f", "--find-links",
})  # fmt: skip
_SUCCEEDS = frozenset({"true", ":", "echo", "printf"})
_MANAGERS: dict[str, frozenset[str]] = {
    "apt-get": frozenset({"install"}),
    "apt": frozenset({"install"}),
    "aptitude": frozenset({"install"}),
    "apk": frozenset({"add"}),
    "yum": frozenset({"install"}),
    "dnf": frozenset({"install"}),
    "microdnf": frozenset({"install"}),
    "zypper": frozenset({"install", "in"}),
    "conda": frozenset({"install", "create"}),
    "mamba": frozenset({"install", "create"}),
    "micromamba": frozenset({"install", "create"}),
    "npm": frozenset({"install", "i", "ci"}),
    "pnpm": frozenset({"install", "i", "add"}),
    "yarn": frozenset({"install", "add"}),
    "gem": frozenset({"install"}),
    "bundle": frozenset({"install"}),
    "poetry": frozenset({"install"}),
    "go": frozenset({"install"}),
    "cargo": frozenset({"install"}),
    "pipenv": frozenset({"install", "sync"}),
}
#: Managers of the system's packages by the name of their family.
_FAMILY = {
    "apt-get": "apt", "aptitude": "apt", "yum": "dnf", "microdnf": "dnf", "mamba": "conda",
    "micromamba": "conda",
}  # fmt: skip


class Word(NamedTuple):
    """A packaged thing that was asked for, as it was written."""

    text: str

    @property
    def name(self) -> str:
        """The name without version, extras and markers, normalised."""
        return re.sub(r"[._]", "-", re.split(r"[\s\[<>=!~;@]", self.text, maxsplit=1)[0].lower())


@dataclass(frozen=True, slots=True)
class Install:
    """One call of a package manager; ``offset`` is where it starts in the text that it was found in."""

    manager: str
    packages: tuple[Word, ...]
    offset: int
    requirement_files: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    is_pre: bool = False
    swallowed_by: str = ""
    has_no_deps: bool = False
    swallowed_at: int = -1


def installs(text: str) -> list[Install]:
    """Return every installation that ``text``, a shell script, asks for."""
    found: list[Install] = []
    parts = commands(text)
    for position, command in enumerate(parts):
        words = bare(command.words)
        inner = script(words)
        if inner:
            found += [replace(install, offset=command.offset) for install in installs(inner)]
            continue
        install = _install(words, command.offset, _swallowed(parts, position))
        if install is not None:
            found.append(install)
    return found


class _Swallow(NamedTuple):
    """What makes a failure count as success, and where it stands; nothing for most commands."""

    text: str = ""
    offset: int = -1


def _swallowed(parts: list[Command], position: int) -> _Swallow:
    operator = _operator_after(parts, position)
    # Along "a && b || true" the failure of a is swallowed by the end too; a group has an end of its own.
    while (
        operator in ("&&", "|", "|&") and position + 1 < len(parts) and parts[position + 1].before == operator
    ):
        position += 1
        operator = _operator_after(parts, position)
    if operator != "||" or position + 1 >= len(parts):
        return _Swallow()
    words = bare(parts[position + 1].words)
    # "|| (sleep 5 && pip install ...)" tries again: what follows must itself be the end.
    follows = parts[position + 1].after
    if words and (words[0] in _SUCCEEDS or words[:2] == ("exit", "0")) and follows not in ("&&", "||"):
        return _Swallow("|| " + " ".join(words[:3]), parts[position + 1].offset)
    return _Swallow()


def _operator_after(parts: list[Command], position: int) -> str:
    """Return what follows a command, or the group that it ends: ``(pip install x) || true``."""
    operator = parts[position].after
    if operator == ")" and position + 1 < len(parts):
        return parts[position + 1].before
    return operator


def _install(words: tuple[str, ...], offset: int, swallow: _Swallow) -> Install | None:
    rest = _pip_arguments(words)
    if rest is not None:
        return _pip_install(rest, offset, swallow)
    if not words:
        return None
    program = words[0].rsplit("/", 1)[-1]
    is_yarn_alone = words == ("yarn",)
    verbs = _MANAGERS.get(program)
    arguments = list(words[1:])
    while arguments and arguments[0].startswith("-"):
        arguments.pop(0)
    if not is_yarn_alone and (verbs is None or not arguments or arguments[0] not in verbs):
        return None
    packages = tuple(Word(word) for word in _plain_arguments(arguments[1:]))
    family = _FAMILY.get(program, program)
    return Install(family, packages, offset, swallowed_by=swallow.text, swallowed_at=swallow.offset)


def _plain_arguments(words: list[str]) -> list[str]:
    """Return the words that are no options, without the values of options that are known to take one."""
    found: list[str] = []
    takes_value = False
    for word in words:
        if takes_value:
            takes_value = False
        elif word in ("-t", "-n", "-c", "--virtual", "-o", "--repository", "-X", "-p", "--root", "--channel"):
            takes_value = True
        elif not word.startswith("-"):
            found.append(word)
    return found


def _pip_arguments(words: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return what stands after ``pip install``, however pip was called, or None."""
    rest = list(words)
    if not rest:
        return None
    if _PYTHON.fullmatch(rest[0]):
        del rest[0]
        while rest and rest[0].startswith("-") and rest[0] != "-m":
            del rest[0]
        if rest[:1] != ["-m"]:
            return None
        del rest[0]
    if rest[:1] == ["uv"] and "pip" in rest[1:3]:
        rest = rest[rest.index("pip") :]
    if not rest or not _PIP.fullmatch(rest[0]):
        return None
    del rest[0]
    while rest and rest[0].startswith("-"):
        del rest[: 2 if rest[0] in _PIP_VALUES else 1]
    return tuple(rest[1:]) if rest[:1] == ["install"] else None


def _pip_install(rest: tuple[str, ...], offset: int, swallow: _Swallow) -> Install:
    packages: list[Word] = []
    files: list[str] = []
    indexes: list[str] = []
    words = list(rest)
    # Every turn takes at least one word away.
    while words:
        word = words.pop(0)
        name, has_value, value = word.partition("=")
        if not word.startswith("-"):
            packages.append(Word(word))
        elif word.startswith("-r") and len(word) > 2 and not word.startswith("--"):
            files.append(word[2:])
        elif name in ("-r", "--requirement"):
            files += [value] if has_value else words[:1]
            words = words if has_value else words[1:]
        elif name in _PIP_INDEXES:
            indexes += [value] if has_value else words[:1]
            words = words if has_value else words[1:]
        elif name in ("-e", "--editable"):
            words = words if has_value else words[1:]
        elif name in _PIP_VALUES and not has_value:
            words = words[1:]
    is_pre = "--pre" in rest or any(word.startswith("--prerelease") for word in rest)
    return Install(
        "pip", tuple(packages), offset, tuple(files), tuple(indexes), is_pre, swallow.text,
        "--no-deps" in rest, swallow.offset,
    )  # fmt: skip


#: Programs that come with a package of the system, where they are not called as it is.
PROGRAMS_OF: dict[str, frozenset[str]] = {
    "netcat": frozenset({"nc", "netcat"}),
    "netcat-openbsd": frozenset({"nc", "netcat"}),
    "netcat-traditional": frozenset({"nc", "netcat"}),
    "nmap-ncat": frozenset({"nc", "ncat"}),
    "ncat": frozenset({"nc", "ncat"}),
    "nmap": frozenset({"ncat", "nmap"}),
    "busybox": frozenset({"wget", "nc"}),
    "busybox-extras": frozenset({"telnet", "httpd"}),
    "inetutils-telnet": frozenset({"telnet"}),
    "procps": frozenset({"ps", "pgrep", "pkill", "pidof", "top"}),
    "procps-ng": frozenset({"ps", "pgrep", "pkill", "pidof", "top"}),
    "iproute2": frozenset({"ip", "ss"}),
    "iproute": frozenset({"ip", "ss"}),
    "net-tools": frozenset({"netstat", "ifconfig"}),
    "iputils-ping": frozenset({"ping"}),
    "inetutils-ping": frozenset({"ping"}),
    "iputils": frozenset({"ping"}),
    "dnsutils": frozenset({"dig", "nslookup"}),
    "bind9-dnsutils": frozenset({"dig", "nslookup"}),
    "bind-tools": frozenset({"dig", "nslookup"}),
    "postgresql-client": frozenset({"psql", "pg_isready"}),
    "postgresql": frozenset({"psql", "pg_isready", "postgres"}),
    "redis-tools": frozenset({"redis-cli"}),
    "redis": frozenset({"redis-cli", "redis-server"}),
    "redis-server": frozenset({"redis-cli", "redis-server"}),
    "default-mysql-client": frozenset({"mysql", "mysqladmin"}),
    "mysql-client": frozenset({"mysql", "mysqladmin"}),
    "mariadb-client": frozenset({"mysql", "mysqladmin", "mariadb-admin"}),
    "nodejs": frozenset({"node", "nodejs"}),
    "python3-minimal": frozenset({"python3"}),
    "python-is-python3": frozenset({"python", "python3"}),
    "python3-full": frozenset({"python3"}),
    "python3-pip": frozenset({"python3", "pip3", "pip"}),
    "python3-venv": frozenset({"python3"}),
    "python3-dev": frozenset({"python3"}),
    "python3": frozenset({"python3"}),
    "py3-pip": frozenset({"python3", "pip3", "pip"}),
    "default-jre": frozenset({"java"}),
    "default-jre-headless": frozenset({"java"}),
    "build-essential": frozenset({"gcc", "g++", "make"}),
    "httpie": frozenset({"http", "httpie"}),
    "curl-minimal": frozenset({"curl"}),
    "wget2": frozenset({"wget2"}),
}


def programs_of(package: str) -> frozenset[str]:
    """Return the programs that installing ``package`` of the system surely brings."""
    name = package.split("=", 1)[0].split("/", 1)[0].strip().lower()
    if match := re.fullmatch(r"postgresql(?:-client)?-?\d+(?:-client)?", name):
        return PROGRAMS_OF["postgresql-client"] | {match[0]}
    if re.fullmatch(r"python3\.\d+(?:-(?:venv|dev|minimal|full))?", name):
        # Debian and Ubuntu: python3.11 brings python3.11, and not the name python3.
        return frozenset({name.split("-")[0]})
    return PROGRAMS_OF.get(name, frozenset()) | {name}
