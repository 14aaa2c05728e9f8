"""docker compose on an engine of its own: containers on the host's network that see the host's interpreter.

No image is pulled: the image is an empty root, and the interpreter, the toy and the journal are mounted.
Health checks every second: at compose's default of 30 s the toys take a minute and a half to come up.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.supervision import install, measure
from benchmarks.supervision.stack import TOY, Instance, Stack, kill, wait_for

_ENGINE_OPTIONS = (
    *("--storage-driver=vfs", "--exec-opt=native.cgroupdriver=cgroupfs"),
    *("--iptables=false", "--ip6tables=false", "--bridge=none"),
)
_CONTAINERD = """version = 2
root = "{folder}/containerd-data"
state = "{folder}/containerd-state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{folder}/c.sock"
"""
IMAGE = "toy:1"


class Compose(Instance):
    """dockerd with its own data, and a compose file with dependencies by health."""

    name: ClassVar[str] = "compose"
    about: ClassVar[str] = "depends_on service_healthy, health check every 1 s, restart: unless-stopped"
    too_many: ClassVar[str] = "so many containers take minutes to start"

    def __init__(self, stack: Stack, folder: Path) -> None:
        super().__init__(stack, folder)
        self._peer = install.engine()
        self._root = self._peer / "root" / "usr"
        self._docker = str(self._root / "bin/docker")
        self._cgroup = f"standfast-bench-{self.mark[:12]}"

    def environment(self) -> dict[str, str]:
        path = f"{self._root}/sbin:{self._root}/bin:{os.environ['PATH']}"
        engine = {"DOCKER_HOST": f"unix://{self.folder}/d.sock", "DOCKER_CONFIG": str(self._peer / "config")}
        return {**super().environment(), **engine, "PATH": path}

    def prepare(self) -> None:
        self._containerd()
        self._engine()
        self._import()
        services = {service.name: self._service(service) for service in self.stack.services}
        (self.folder / "compose.yaml").write_text(
            json.dumps({"name": "toys", "services": services}, indent=1)
        )

    def _containerd(self) -> None:
        # Beside the engine and not below it, as packages set it up: it outlives the engine's death.
        (self.folder / "containerd.toml").write_text(_CONTAINERD.format(folder=self.folder))
        self.spawn([str(self._root / "bin/containerd"), "--config", str(self.folder / "containerd.toml")])
        wait_for((self.folder / "c.sock").exists, 20)

    def _engine(self) -> None:
        state = [f"--data-root={self.folder}/data", f"--exec-root={self.folder}/exec"]
        where = [f"--pidfile={self.folder}/d.pid", f"--host=unix://{self.folder}/d.sock"]
        where += [f"--containerd={self.folder}/c.sock", f"--cgroup-parent=/{self._cgroup}"]
        with contextlib.suppress(FileNotFoundError):
            (self.folder / "d.pid").unlink()  # A killed engine leaves it, and its number may be taken.
        self.spawn([str(self._root / "sbin/dockerd"), *_ENGINE_OPTIONS, *state, *where])
        if not wait_for(lambda: "Cannot connect" not in self.call([self._docker, "ps", "-q"]), 20, 0.2):
            raise install.MissingError(f"the Docker engine does not start here: {self._fatal()}")

    def _fatal(self) -> str:
        lines = (self.folder / "tool.log").read_text(errors="replace").splitlines()
        return " ".join([line for line in lines if "failed to" in line or "level=fatal" in line][-1:])

    def _import(self) -> None:
        image = io.BytesIO()
        with tarfile.open(fileobj=image, mode="w") as archive:
            for name in ("usr", "etc", "proc", "sys", "dev", "tmp", "root", "opt"):
                entry = tarfile.TarInfo(name)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
            for name in ("bin", "lib", "lib64", "sbin"):
                entry = tarfile.TarInfo(name)
                entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{name}"
                archive.addfile(entry)
        subprocess.run(
            [self._docker, "import", "-", IMAGE],
            input=image.getvalue(),
            env=self.environment(),
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=60,
        )

    def _service(self, service: Any) -> dict[str, Any]:
        seen = {"/usr", sys.base_prefix, str(TOY.parent)}
        wanted = {
            "image": IMAGE,
            "command": self.stack.argv(service),
            "network_mode": "host",
            "restart": "unless-stopped",
            "environment": {measure.MARK: self.mark},
            "volumes": [
                *(f"{path}:{path}:ro" for path in sorted(seen)),
                f"{self.stack.journal.parent}:{self.stack.journal.parent}",
            ],
            "depends_on": {name: {"condition": "service_healthy"} for name in service.needs},
        }
        if service.life_s is None:
            check = f"exec 3<>/dev/tcp/127.0.0.1/{service.port}"
            wanted["healthcheck"] = {
                "test": ["CMD", "/bin/bash", "-c", check],
                "interval": "1s",
                "timeout": "2s",
                "start_period": "60s",
            }
        return wanted

    def up(self) -> None:
        self.spawn([self._docker, "compose", "--progress", "quiet", "up", "--detach"])

    def again(self) -> None:
        self._engine()

    def is_shim(self, argv: list[str]) -> bool:
        return "containerd-shim" in argv[0]

    def own_pids(self) -> set[int]:
        """Leave out what belongs to the client, to a start and to a health check."""
        named = ("dockerd", "containerd", "containerd-shim-runc-v2")
        return {pid for pid in super().own_pids() if Path(measure.command(pid)[0]).name in named}

    def crash(self) -> None:
        for pid in self.main_pids():
            if Path(measure.command(pid)[0]).name == "dockerd":
                kill(pid)

    def end(self) -> None:
        """Remove the containers first: what a killed engine leaves mounted cannot be removed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            words = self.call([self._docker, "ps", "--all", "--quiet"], 20).split()
            if found := [word for word in words if re.fullmatch("[0-9a-f]{12}", word)]:
                self.call([self._docker, "rm", "-f", *found], 60)
        for pid in self.main_pids():
            if Path(measure.command(pid)[0]).name == "dockerd":
                os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not self.main_pids(), 10, 0.1)
        super().end()
        self._clear()

    def _clear(self) -> None:
        """Take away what the kernel keeps of an engine that is gone: mounts and control groups."""
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in sorted(mounts, reverse=True):
            if mount.startswith(f"{self.folder}/"):
                subprocess.run(["umount", mount], check=False, stderr=subprocess.DEVNULL)
        groups = Path("/sys/fs/cgroup")
        for top in (*groups.glob(self._cgroup), *groups.glob(f"*/{self._cgroup}")):
            for folder in (*sorted(top.glob("**/"), reverse=True), top):
                with contextlib.suppress(OSError):
                    folder.rmdir()
