"""Makes and resets environments in a process of its own: ``python -m standfast.app.environment_trial ID...``.

A simulator may hang or die by signal when its libraries are wrong; then this process does, not the one
that asked. It prints one line of JSON: ``{id: error}``, with an empty error for what works.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

from standfast.checks import EnvironmentSample, Unread
from standfast.evaluation.environments.catalogue import Catalogue, load_catalogue, make
from standfast.kernel.errors import StandfastError

_LIMIT_S = 30.0


def try_environments(
    ids: Sequence[str], packages: Sequence[str], *, limit_s: float = _LIMIT_S
) -> tuple[EnvironmentSample, ...] | Unread:
    """Return whether each environment can be made, tried in one child process within ``limit_s``."""
    if not ids:
        return ()
    command = [sys.executable, "-m", "standfast.app.environment_trial", ",".join(packages), *ids]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=limit_s, check=False, stdin=subprocess.DEVNULL
        )
        answers = json.loads(done.stdout.splitlines()[-1])
        return tuple(EnvironmentSample(name, *answers[name]) for name in ids)
    except subprocess.TimeoutExpired:
        return Unread(f"making the environments took more than {limit_s:g} s")
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        return Unread(f"the process that tried them ended with {done.returncode}: {_last_line(done.stderr)}")


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else "no output"


def _try(catalogue: Catalogue, name: str) -> tuple[str, str]:
    try:
        environment = make(catalogue.get(name))
        environment.reset(seed=1, variant=1)
        environment.close()
    except StandfastError as error:
        return f"{error.what}: {error.why}" if error.why else error.what, error.fix
    except Exception as error:  # noqa: BLE001 - the plugin boundary: an environment may raise anything
        return f"{type(error).__name__}: {error}"[:500], ""
    return "", ""


def _main(packages: str, ids: Sequence[str]) -> None:
    catalogue = load_catalogue([name for name in packages.split(",") if name])
    sys.stdout.write("\n" + json.dumps({name: _try(catalogue, name) for name in ids}) + "\n")


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2:])
