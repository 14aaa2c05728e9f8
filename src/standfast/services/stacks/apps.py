"""Turns one app of an ecosystem file into a service, as pm2 would start it."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from standfast.services.stacks.breaker import breaker_of
from standfast.services.stacks.fields import (
    Fields,
    flag_of,
    go_text,
    number_of,
    text_of,
    texts_of,
    whole_of,
)
from standfast.services.stacks.forms import size_bytes
from standfast.services.stacks.model import DeclaredService, Port, ProcessRules, UnsupportedKey
from standfast.services.stacks.nodes import MappingNode, Node, Place, ScalarNode, SequenceNode
from standfast.services.stacks.problems import Problems, nearest
from standfast.services.stacks.script import FROM_ENVIRONMENT, MADE_WITH

#: Other names of keys (lib/API/schema.json); each key has its camelCase form too.
_ALIASES = {
    "exec": "script", "cmd": "script", "command": "script", "exec_interpreter": "interpreter",
    "interpreter_args": "node_args", "out": "out_file", "output": "out_file", "out_log": "out_file",
    "error": "error_file", "err": "error_file", "err_file": "error_file", "err_log": "error_file",
    "log": "log_file", "cron": "cron_restart", "pid": "pid_file", "combine_logs": "merge_logs",
    "user": "uid", "watch_ignore": "ignore_watch",
}  # fmt: skip
_HARMLESS = frozenset((
    "append_env_to_name", "automation", "deep_monitoring", "description", "disable_logs",
    "disable_source_map_support", "disable_trace", "event_loop_inspector", "execute_command", "force",
    "ignore_watch", "increment_var", "install_url", "instance_var", "io", "kill_retry_time",
    "log_date_format", "log_file", "log_type", "merge_logs", "name_prefix", "namespace", "pid_file",
    "pmx", "post_update",
    "source_map_support", "time", "trace", "username", "v8", "version", "vizion", "watch_delay",
    "watch_options", "windows_hide", "write",
))  # fmt: skip
#: Keys that change what runs, and what to do instead; carried where that says so.
_LOST = {
    "cron_restart": "nothing restarts it by the clock: use a timer of the system for that",
    "shutdown_with_message": "it is ended by a signal, not by a message",
    "filter_env": "it gets the whole environment",
    "gid": "it runs as the user who starts Standfast",
    "uid": "it runs as the user who starts Standfast",
}
_READ = frozenset((
    "args", "autorestart", "autostart", "cwd", "env", "error_file", "exec_mode", "exp_backoff_restart_delay",
    "instances", "interpreter", "kill_timeout", "listen_timeout", "max_memory_restart", "max_restarts",
    "min_uptime", "name", "node_args", "out_file", "port", "restart_delay", "script", "stop_exit_codes",
    "treekill", "wait_ready", "watch",
))  # fmt: skip
_BY_ENDING = {
    ".sh": "bash", ".py": "python", ".rb": "ruby", ".php": "php", ".pl": "perl", ".js": "node",
    ".cjs": "node", ".mjs": "node", ".ts": "bun", ".tsx": "bun", ".coffee": "coffee", ".ls": "lsc",
}  # fmt: skip
_WORD = re.compile(r"""[^\s"'=]+="[^"]*"|[^\s"'=]+='[^']*'|"[^"]*"|'[^']*'|\S+""")
_TIME = re.compile(r"(\d+)([hms])")
_TIME_UNITS = {"h": 3_600.0, "m": 60.0, "s": 1.0}
_LARGEST_PORT = 65_535
_MOST_INSTANCES = 1_000
_SIZE = re.compile(r"\d+[GMK]?")
#: What a running pm2 adds to the environment of an app, for itself.
_OWN_VARIABLES = re.compile(
    r"PM2_\w*|pm_\w*|axm_\w*|unique_id|NODE_APP_INSTANCE|vizion\w*|km_link|status|name"
)


@dataclass(frozen=True, slots=True)
class AppSource:
    """Where an app is read from, and in which environment and mode (``--env``)."""

    file: Path
    environment: Mapping[str, str]
    mode: str
    problems: Problems


def read_app(node: MappingNode, source: AppSource) -> DeclaredService:
    """Return the app as a service; all that is wrong or not carried goes into the findings."""
    running = node.get("pm2_env")
    is_running = isinstance(running, MappingNode)
    app = _of_list(running) if isinstance(running, MappingNode) else _named(node)
    name = _name(app)
    get = Fields(app, source.problems, subject=name, where="")
    rules = _rules(get)
    cwd = _cwd(get, source)
    command = _command(get, cwd)
    env, taken = _environment(get, source, is_running=is_running)
    if "python" in _interpreter(get):
        env["PYTHONUNBUFFERED"] = "1"
    port = get.read("port", _port)
    if port:
        env["PORT"] = str(port)
    place = app.keys["name"].place if "name" in app.keys else node.place
    service = DeclaredService(
        name, place.file, place.line, driver="process", command=command or None, env=env,
        ports=(Port(port, port, "tcp", get.line("port")),) if port else (), working_dir=cwd,
        mem_limit_bytes=rules.max_memory_bytes, replicas=_instances(get), stop_signal="SIGINT",
        stop_grace_s=rules.kill_timeout_s, process=rules,
        unsupported=() if is_running else _rest(get, source.mode),
        env_taken=taken, places={key: written.place for key, written in app.keys.items()},
    )  # fmt: skip
    if not command:
        source.problems.fail(
            place, "NothingToRun", f"{name} has no script", subject=name, fix=f"add script: at {place}"
        )
    _say_breaker(service, source.problems)
    return service


def _named(node: MappingNode) -> MappingNode:
    """Return the app with pm2's one name for each key; of two names for the same, the first counts."""
    value: dict[str, Node] = {}
    keys: dict[str, ScalarNode] = {}
    for key, inner in node.items():
        snake = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", key.text).lower()
        name = key.text if key.text.startswith("env_") else _ALIASES.get(snake, snake)
        if name not in value:
            value[name], keys[name] = inner, key
    return MappingNode(node.place, value, keys)


def _of_list(running: MappingNode) -> MappingNode:
    """Return an app of ``pm2 jlist``, where the daemon's state stands beside what was declared."""
    names = {"pm_exec_path": "script", "pm_cwd": "cwd", "exec_interpreter": "interpreter",
             "pm_out_log_path": "out_file", "pm_err_log_path": "error_file"}  # fmt: skip
    value = {names.get(key, key): node for key, node in running.value.items() if names.get(key, key) in _READ}
    keys = {names.get(key, key): node for key, node in running.keys.items() if names.get(key, key) in value}
    return MappingNode(running.place, value, keys)


def _name(app: MappingNode) -> str:
    for key in ("name", "script"):
        node = app.get(key)
        if isinstance(node, ScalarNode) and node.value is not None:
            return node.text if key == "name" else posixpath.splitext(posixpath.basename(node.text))[0]
    return "app"


def _cwd(get: Fields, source: AppSource) -> str:
    folder = source.file.absolute().parent
    written = get.text("cwd")
    if not written:
        get.problems.warn(
            get.node.place, "CwdNotDeclared",
            f"{get.subject} has no cwd: pm2 runs it in the folder it is called from; {folder} is taken",
            subject=get.subject, fix="declare cwd",
        )  # fmt: skip
    return posixpath.normpath(folder / written)


def _command(get: Fields, cwd: str) -> tuple[str, ...]:
    script, interpreter = get.text("script"), _interpreter(get)
    arguments = get.read("args", _arguments) or ()
    before = get.read("node_args", _arguments) or ()
    if not script:
        return ()
    if " " in script:
        return ("bash", "-c", script)
    path = script
    if "/" in script or (Path(cwd) / script).exists() or posixpath.splitext(script)[1] in _BY_ENDING:
        path = posixpath.normpath(posixpath.join(cwd, script))
    return (path, *arguments) if interpreter == "none" else (interpreter, *before, path, *arguments)


def _interpreter(get: Fields) -> str:
    ending = posixpath.splitext(get.text("script"))[1]
    return get.text("interpreter") or _BY_ENDING.get(ending, "none")


def _arguments(node: Node) -> tuple[str, ...]:
    """Return arguments as pm2 splits them: a quote belongs to a word only at its start, or after ``=``."""
    if isinstance(node, SequenceNode):
        return texts_of(node)
    words = _WORD.findall(text_of(node))
    return tuple(word[1:-1] if word[0] in "\"'" and word[-1] == word[0] else word for word in words if word)


def _environment(
    get: Fields, source: AppSource, *, is_running: bool
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the variables of an app, and those among them that were made with one from outside."""
    found: dict[str, str] = {}
    taken: dict[str, str] = {}
    for key in ("env", *([f"env_{source.mode}"] if source.mode else [])):
        for name, node in _variables(get, key).items():
            if is_running and (_OWN_VARIABLES.fullmatch(name) or name == get.subject):
                continue
            text = _variable(node)
            found.pop(name, None)
            taken.pop(name, None)
            if text is None or _is_inherited(name, node, text, source, is_running=is_running):
                continue
            found[name] = text
            if is_running:
                # pm2 lists what it was started with: nobody can tell which of it was declared.
                taken[name] = name
            elif node.tag.startswith((FROM_ENVIRONMENT, MADE_WITH)):
                taken[name] = node.tag.rpartition(":")[2]
                _say_taken(get, name, node)
    return found, taken


def _variables(get: Fields, key: str) -> dict[str, Node]:
    node = get.mapping(key)
    return dict(node.value) if node else {}


def _variable(node: Node) -> str | None:
    if not isinstance(node, ScalarNode):
        return json.dumps(node.plain(), separators=(",", ":"), ensure_ascii=False)
    is_number = isinstance(node.value, int | float) and not isinstance(node.value, bool)
    return node.text if is_number else go_text(node.value)


def _is_inherited(name: str, node: Node, text: str | None, source: AppSource, *, is_running: bool) -> bool:
    """Whether a variable only repeats what the process gets from its parent anyway."""
    if node.tag == FROM_ENVIRONMENT + name:
        return True
    return is_running and source.environment.get(name) == text


def _say_taken(get: Fields, name: str, node: Node) -> None:
    get.problems.warn(
        node.place, "EnvironmentTaken",
        f"env.{name} holds what {node.tag.rpartition(':')[2]} is in this environment, now",
        subject=get.subject, fix="check the value before it is kept in a file",
    )  # fmt: skip


def _instances(get: Fields) -> int:
    node = get.get("instances")
    number = 1
    if isinstance(node, ScalarNode) and node.text != "max":
        number = min(get.whole("instances") or 0, _MOST_INSTANCES + 1)
    elif node is not None:
        number = 0
    if number < 1 and node is not None:
        get.problems.fail(
            node.place, "KeyNotSupported", f"instances of {get.subject} are as many as the machine has cores",
            subject=get.subject, fix="write a number",
        )  # fmt: skip
    if node is not None and number > _MOST_INSTANCES:
        get.problems.fail(
            node.place, "BadValue", f"instances of {get.subject} are more than {_MOST_INSTANCES}",
            subject=get.subject, fix="write a smaller number",
        )  # fmt: skip
    if get.text("exec_mode").startswith("cluster"):
        _say_cluster(get, number)
    return max(1, min(number, _MOST_INSTANCES))


def _say_cluster(get: Fields, number: int) -> None:
    what = f"exec_mode cluster of {get.subject} is node's own: there is no process that shares a port for it"
    if number == 1:
        get.problems.warn(
            get.place("exec_mode"), "ClusterOfOne", f"{what}; with one instance it runs as a plain process",
            subject=get.subject, fix="write exec_mode: 'fork'",
        )  # fmt: skip
    else:
        get.problems.fail(
            get.place("exec_mode"), "KeyNotSupported", what, subject=get.subject,
            fix="give each instance its own port and exec_mode: 'fork'",
        )  # fmt: skip


def _rules(get: Fields) -> ProcessRules:
    watch = get.read("watch", _watched) or ()
    if watch:
        get.problems.warn(
            get.place("watch"), "WatchNotCarried", f"{get.subject} is not restarted when files change",
            subject=get.subject, fix=f"restart it when they do: standfast restart {get.subject}",
        )  # fmt: skip
    if get.flag("wait_ready"):
        get.problems.warn(
            get.place("wait_ready"), "ReadyNotCarried",
            f"{get.subject} says that it is ready on node's own channel, which only pm2 reads",
            subject=get.subject, fix="declare another sign of readiness: http, tcp, log or file",
        )  # fmt: skip
    for key, what in (("autostart", "it is started with the others"), ("treekill", "all of it is ended")):
        if get.flag(key) is False:
            get.problems.warn(
                get.place(key), "KeyNotCarried", f"{key}: false of {get.subject}: {what}",
                subject=get.subject, fix=f"remove {key}",
            )  # fmt: skip
    return ProcessRules(
        autorestart=get.flag("autorestart"), max_restarts=get.whole("max_restarts"),
        min_uptime_s=get.read("min_uptime", _time), restart_delay_s=get.read("restart_delay", _milliseconds),
        backoff_s=get.read("exp_backoff_restart_delay", _milliseconds) or None,
        max_memory_bytes=get.read("max_memory_restart", _memory),
        kill_timeout_s=get.read("kill_timeout", _milliseconds), wait_ready=bool(get.flag("wait_ready")),
        listen_timeout_s=get.read("listen_timeout", _milliseconds),
        stop_exit_codes=get.read("stop_exit_codes", _codes) or (), cron_restart=_cron(get),
        watch=watch, out_file=get.text("out_file"), error_file=get.text("error_file"),
    )  # fmt: skip


def _cron(get: Fields) -> str:
    text = get.text("cron_restart")
    return "" if text == "0" else text


def _time(node: Node) -> float:
    match = _TIME.fullmatch(text_of(node))
    return int(match[1]) * _TIME_UNITS[match[2]] if match and len(match[1]) < 10 else _milliseconds(node)


def _milliseconds(node: Node) -> float:
    value = number_of(node)
    if value < 0:
        raise ValueError(f"{value} is less than nothing")
    return value / 1000


def _memory(node: Node) -> int:
    text = text_of(node)
    if not _SIZE.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no size, such as 500M or 2G")
    return size_bytes(text)


def _codes(node: Node) -> tuple[int, ...]:
    return tuple(whole_of(inner) for inner in (node.nodes if isinstance(node, SequenceNode) else (node,)))


def _port(node: Node) -> int:
    port = whole_of(node)
    if not 0 <= port <= _LARGEST_PORT:
        raise ValueError(f"{port} is no port")
    return port


def _watched(node: Node) -> tuple[str, ...]:
    if isinstance(node, ScalarNode) and isinstance(node.value, bool):
        return (".",) if flag_of(node) else ()
    return texts_of(node)


def _rest(get: Fields, mode: str) -> tuple[UnsupportedKey, ...]:
    """Say which keys are not carried; pm2 itself says nothing about a key it does not know."""
    found: list[UnsupportedKey] = []
    for name, key in get.node.keys.items():
        if name in _READ and name != "watch":
            continue
        place = Place(key.file, key.line)
        if name.startswith("env_"):
            if name.removeprefix("env_") != mode:
                get.problems.note(place, "ModeNotChosen", f"{name} of {get.subject} is for another --env")
        elif name in _HARMLESS:
            found.append(UnsupportedKey(key.text, key.line, changes_what_runs=False))
        elif name in _LOST:
            found.append(UnsupportedKey(key.text, key.line, changes_what_runs=True))
            get.problems.warn(
                place, "KeyNotCarried", f"{key.text} of {get.subject} is not carried over: {_LOST[name]}",
                subject=get.subject, fix=f"do without {key.text}, or keep this app in pm2",
            )  # fmt: skip
        elif name != "watch":
            found.append(UnsupportedKey(key.text, key.line, changes_what_runs=False))
            near = nearest(name, _READ | _HARMLESS | _LOST.keys())
            get.problems.warn(
                place, "KeyUnknown", f"pm2 has no key {key.text}, and ignores it", subject=get.subject,
                fix=f"did you mean {near}?" if near else f"remove {key.text}",
            )  # fmt: skip
    return tuple(found)


def _say_breaker(service: DeclaredService, problems: Problems) -> None:
    """Say where pm2 would restart a hopeless app without end (``breaker``)."""
    rules = service.process or ProcessRules()
    breaker = breaker_of(rules)
    if breaker is None:
        return
    place = service.places.get("max_restarts") or service.places.get("min_uptime") or service.place
    seen = (
        f"{service.name}: pm2 gives up only after {breaker.most} lives shorter than "
        f"{breaker.counted_life_s:g} s, within {breaker.window_s:g} s of the first start"
    )
    if breaker.is_inert:
        how = "max_restarts and min_uptime are not set" if breaker.is_default else "the waits fill the window"
        problems.warn(
            place, "BreakerInert", f"{seen}: {how}, and what lives longer is restarted without end",
            subject=service.name, fix="set min_uptime longer than a failing life, and max_restarts",
        )  # fmt: skip
    else:
        problems.note(place, "BreakerNarrow", f"{seen}; later failures are restarted without end",
                      subject=service.name)  # fmt: skip
