"""Runs an ecosystem file with node and takes what it exports: for files that are more than values.

An ecosystem file is a program. It runs here as it does under pm2: as the user who asks, with that user's
files. It gets the environment that it is given and no other, no input, a folder (its own), a limit of time
and of output, and no network where the kernel lets us take that away. Nothing runs that nobody named.
"""

from __future__ import annotations

import json
import os
import re
import resource
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from standfast.kernel.errors import ConfigError
from standfast.services.stacks.documents import refused
from standfast.services.stacks.nodes import Place

RUN_S = 10.0
LARGEST_BYTES = 4_000_000

#: Prints, behind a mark, what the file exports and which variables it asked for.
_PROGRAM = """
const asked = new Set();
process.env = new Proxy(process.env, {
  get(env, name) { if (typeof name === 'string') asked.add(name); return env[name]; },
  ownKeys(env) { asked.add('*'); return Reflect.ownKeys(env); },
});
const [file, mark] = process.argv.slice(-2);
(async () => {
  let found;
  try { found = require(file); }
  catch (error) {
    if (error.code !== 'ERR_REQUIRE_ESM') throw error;
    found = (await import('file://' + file)).default;
  }
  if (found && found.__esModule && found.default) found = found.default;
  const text = JSON.stringify({ found, asked: [...asked] });
  require('fs').writeSync(1, '\\n' + mark + text + '\\n');
  process.exit(0);
})().catch((error) => {
  require('fs').writeSync(2, '\\n' + mark + JSON.stringify(String(error && error.stack || error)) + '\\n');
  process.exit(1);
});
"""
_COMPLAINT = re.compile(r"\w*(?:Error|Exception)\b")
#: Ways to a world without network, the first that works is taken.
_UNSHARED = (("unshare", "--net", "--"), ("unshare", "--user", "--map-current-user", "--net", "--"))


class Evaluated(NamedTuple):
    """What a file exports, as plain JSON values, and the variables that it asked for (``*`` is all)."""

    value: Any
    asked: tuple[str, ...]
    is_offline: bool


def node_program(environment: Mapping[str, str]) -> str:
    """Return the path of node on the PATH of ``environment``, or nothing."""
    return shutil.which("node", path=environment.get("PATH", "")) or ""


def run_script(file: Path, environment: Mapping[str, str], *, run_s: float = RUN_S) -> Evaluated:
    """Run ``file`` with node and return what it exports.

    Raises ConfigError where node is absent, the file fails, takes longer than ``run_s``, or prints too much.
    """
    node = node_program(environment)
    place = Place(file, 1)
    if not node:
        raise refused(place, "node is not on the PATH", fix="install node", code="NodeMissing")
    mark = f"standfast-{secrets.token_hex(16)}:"
    prefix = _offline(environment)
    words = [*prefix, node, "-e", _PROGRAM, "--", str(file.absolute()), mark]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        code = _run(words, file, environment, (out, err), run_s)
        if code is None:
            raise refused(
                place, f"it did not end within {run_s:g} s", fix="make it end, or write plain values",
                code="ScriptTimeout",
            )  # fmt: skip
        said, complaint = _behind(out, mark), _behind(err, mark)
    if said is None or not isinstance(said, dict) or "found" not in said:
        silent = f"it ended with {code} and exported nothing"
        what = _first_lines(complaint) if isinstance(complaint, str) else silent
        raise refused(place, f"node cannot run it: {what}", fix=f"node {file}", code="ScriptFailed")
    return Evaluated(said["found"], tuple(said["asked"]), bool(prefix))


def _run(
    words: list[str],
    file: Path,
    environment: Mapping[str, str],
    outputs: tuple[IO[bytes], IO[bytes]],
    run_s: float,
) -> int | None:
    """Return the exit code, or None where it had to be killed."""
    out, err = outputs
    try:
        process = subprocess.Popen(
            words, cwd=file.absolute().parent, env=dict(environment), stdin=subprocess.DEVNULL,
            stdout=out, stderr=err, start_new_session=True, preexec_fn=_limit,  # noqa: PLW1509
        )  # fmt: skip
    except OSError as error:
        raise ConfigError(
            f"{words[0]} cannot be started",
            why=error.strerror or "",
            fix="node --version",
            code="NodeMissing",
        ) from None
    try:
        return process.wait(timeout=run_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        # What the file started is in its session, and ends with it.
        _kill_group(process.pid)
        process.wait()


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_BYTES, LARGEST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _offline(environment: Mapping[str, str]) -> tuple[str, ...]:
    for words in _UNSHARED:
        program = shutil.which(words[0], path=environment.get("PATH", ""))
        if not program:
            return ()
        attempt = (program, *words[1:])
        done = subprocess.run([*attempt, "true"], capture_output=True, check=False, env=dict(environment))
        if done.returncode == 0:
            return attempt
    return ()


def _behind(stream: IO[bytes], mark: str) -> Any:
    stream.seek(0)
    for line in reversed(stream.read().decode(errors="replace").split("\n")):
        if line.startswith(mark):
            try:
                return json.loads(line.removeprefix(mark))
            except ValueError:
                return None
    return None


def _first_lines(text: str) -> str:
    """Return what node complains of: behind the line and caret that it shows first."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    named = next((line for line in lines if _COMPLAINT.match(line)), "")
    return (named or " ".join(lines[:2]))[:300]
