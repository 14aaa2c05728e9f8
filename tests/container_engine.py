"""A real container engine for tests: dockerd with its own data, socket and control group, and a small image.

It is found in PATH, or unpacked from the system's own packages into a cache; nothing is installed. Where it
cannot run, the calling test is skipped with the reason.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import DockerException

IMAGE = "standfast-busybox:1"
#: The engine redirects its containers' name lookups with iptables; the rest is what that needs.
_PACKAGES = (
    "docker.io", "containerd", "runc", "tini", "busybox-static", "iptables", "libxtables12", "libip4tc2",
    "libip6tc2", "libnftnl11", "libmnl0",
)  # fmt: skip
_OPTIONS = (
    "--storage-driver=vfs", "--exec-opt=native.cgroupdriver=cgroupfs", "--iptables=false",
    "--ip6tables=false", "--bridge=none",
)  # fmt: skip
#: Beside the engine and not below it, as packages set it up: it outlives the engine's death.
_CONTAINERD = """version = 2
root = "{folder}/containerd-data"
state = "{folder}/containerd-state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{folder}/c.sock"
"""
_DOWNLOAD_S, _START_S, _END_S = 180, 30.0, 20.0
_GROUPS = Path("/sys/fs/cgroup")


class EngineError(Exception):
    """No engine can run here; the text says why."""


class ContainerEngine:
    """One engine; it can be killed and started again on the data that it has."""

    def __init__(self, folder: Path, programs: Programs) -> None:
        self.folder = folder
        self.host = f"unix://{folder}/d.sock"
        self._programs = programs
        self._popen: subprocess.Popen[bytes] | None = None
        self._containerd: subprocess.Popen[bytes] | None = None
        self._group = f"standfast-test-{folder.name}"
        self._client: Any = None

    @property
    def client(self) -> Any:
        """The docker SDK's low-level client of this engine."""
        if self._client is None:
            self._client = docker.APIClient(self.host, version="auto", timeout=60)
        return self._client

    def _forget_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def start(self) -> None:
        """Start it and wait until it answers; EngineError where it does not."""
        # A killed engine leaves it, and its number may have been given out again.
        (self.folder / "d.pid").unlink(missing_ok=True)
        self._forget_client()
        if self._containerd is None:
            config = self.folder / "containerd.toml"
            config.write_text(_CONTAINERD.format(folder=self.folder))
            self._containerd = self._spawn("containerd", "--config", str(config))
        self._popen = self._spawn(
            "dockerd", *_OPTIONS, f"--data-root={self.folder}/data", f"--exec-root={self.folder}/exec",
            f"--pidfile={self.folder}/d.pid", f"--host={self.host}", f"--cgroup-parent=/{self._group}",
            f"--containerd={self.folder}/c.sock",
        )  # fmt: skip
        until_s = time.monotonic() + _START_S
        while time.monotonic() < until_s and self._popen.poll() is None:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as door:
                door.connect(f"{self.folder}/d.sock")
                break
            time.sleep(0.05)
        with contextlib.suppress(DockerException, OSError):
            self.client.ping()
            return
        raise EngineError(f"dockerd does not start here: {self._last_words()}")

    def _spawn(self, program: str, *words: str) -> subprocess.Popen[bytes]:
        environment = os.environ | self._programs.environment
        path = shutil.which(program, path=environment["PATH"])
        if path is None:
            raise EngineError(f"{program} is not there")
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [path, *words], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def kill(self) -> None:
        """Kill it with SIGKILL, as a crash would; its containers go on."""
        assert self._popen is not None
        self._popen.kill()
        self._popen.wait()

    def freeze(self) -> None:
        """Freeze it where it is: it takes connections and answers none."""
        assert self._popen is not None
        self._popen.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._popen is not None
        self._popen.send_signal(signal.SIGCONT)

    def load_image(self, name: str = IMAGE) -> None:
        """Make an image of busybox alone."""
        repository, _, tag = name.partition(":")
        self.client.import_image_from_data(_root_of(self._programs.busybox), repository=repository, tag=tag)

    def remove_all(self) -> None:
        """Remove every container and network that tests have made."""
        for one in self.client.containers(all=True):
            self.client.remove_container(one["Id"], force=True, v=True)
        for one in self.client.networks():
            if one["Name"] not in ("bridge", "host", "none"):
                self.client.remove_network(one["Id"])

    def pids_of(self, container: str) -> list[int]:
        """Return the process numbers, on this machine, of what runs in a container."""
        return [int(row[1]) for row in self.client.top(container)["Processes"]]

    def end(self) -> None:
        """End it with everything that it runs, and take away what the kernel keeps of it."""
        with contextlib.suppress(EngineError, DockerException, OSError):
            if self._popen is not None and self._popen.poll() is not None:
                self.start()  # It alone can take its networks away.
            self.remove_all()
        self._forget_client()
        for one in (self._popen, self._containerd):
            if one is not None:
                one.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    one.wait(_END_S)
                one.kill()
                one.wait()
        self._end_leftovers()
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in sorted(mounts, reverse=True):
            if mount.startswith(f"{self.folder}/"):
                subprocess.run(["umount", "-l", mount], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end_leftovers(self) -> None:
        """Kill what a killed engine left: its shims by their command line, the rest by its control group."""
        for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
            with contextlib.suppress(OSError):
                if f"{self.folder}/".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
        for top in (*_GROUPS.glob(self._group), *_GROUPS.glob(f"*/{self._group}")):
            for folder in (*sorted(top.glob("**/"), reverse=True), top):
                with contextlib.suppress(OSError):
                    for word in (folder / "cgroup.procs").read_text().split():
                        os.kill(int(word), signal.SIGKILL)
                    time.sleep(0.01)
                    folder.rmdir()

    def _last_words(self) -> str:
        lines = (self.folder / "log").read_text(errors="replace").splitlines()
        told = [line for line in lines if "level=fatal" in line or "failed to" in line]
        return (told or lines or ["it said nothing"])[-1][-300:]


class Programs:
    """Where the engine's programs lie, and a busybox that needs no library."""

    def __init__(self, dockerd: str, busybox: str, libraries: Path | None = None) -> None:
        self.dockerd, self.busybox = dockerd, busybox
        folder = Path(dockerd).parent
        self.environment = {"PATH": f"{folder}:{folder.parent / 'bin'}:{os.environ['PATH']}"}
        if libraries is not None:
            self.environment |= {
                "LD_LIBRARY_PATH": str(libraries), "XTABLES_LIBDIR": str(libraries / "xtables"),
            }  # fmt: skip


def find_programs() -> Programs:
    """Return the programs of this machine, or those of its packages; EngineError where there are none."""
    if os.geteuid() != 0:
        raise EngineError("an engine of its own needs root")
    dockerd, busybox = shutil.which("dockerd"), shutil.which("busybox")
    if dockerd and busybox and not _needs_libraries(busybox):
        return Programs(dockerd, busybox)
    root = _unpacked()
    libraries = next(root.glob("usr/lib/*/libxtables.so.12")).parent
    return Programs(str(root / "usr/sbin/dockerd"), str(root / "bin/busybox"), libraries)


def _needs_libraries(program: str) -> bool:
    done = subprocess.run(["ldd", program], capture_output=True, check=False)
    return done.returncode == 0


def _unpacked() -> Path:
    """Return the folder that the packages were unpacked into, once; nothing of them is installed."""
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise EngineError("there is no dockerd, and no apt-get and dpkg to unpack one with")
    above = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(above) / "standfast-tests" / "engine"
    if (folder / "filled").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        packages, root = Path(made) / "packages", Path(made) / "root"
        packages.mkdir()
        _call(["apt-get", "download", *_PACKAGES], packages)
        for package in sorted(packages.glob("*.deb")):
            _call(["dpkg", "-x", str(package), str(root)], packages)
        # What the package's own script would link.
        (root / "usr/sbin/iptables").symlink_to("xtables-nft-multi")
        (root / "filled").write_text("")
        shutil.rmtree(folder, ignore_errors=True)
        # Whoever fills it at the same time fills it with the same.
        with contextlib.suppress(OSError):
            root.rename(folder)
    return folder


def _call(argv: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(argv, cwd=folder, capture_output=True, timeout=_DOWNLOAD_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{argv[0]}: {error}") from error
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise EngineError(f"{' '.join(argv[:3])} failed: {' '.join(last)}")


def _root_of(busybox: str) -> bytes:
    """Return a root file system with busybox and its applets, as an archive."""
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    image = io.BytesIO()
    with tarfile.open(fileobj=image, mode="w") as archive:
        for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        archive.add(busybox, "bin/busybox")
        for applet in applets:
            if applet == "busybox":
                continue
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
    return image.getvalue()


@contextlib.contextmanager
def running_engine() -> Iterator[ContainerEngine]:
    """Yield a started engine with its image; the calling test is skipped where none can run."""
    # Not one of pytest's folders: the address of a socket has room for 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="sf-engine-"))
    engine: ContainerEngine | None = None
    try:
        try:
            engine = ContainerEngine(folder, find_programs())
            engine.start()
            engine.load_image()
        except (EngineError, DockerException, OSError) as error:
            pytest.skip(f"no container engine can run here: {error}")
        yield engine
    finally:
        if engine is not None:
            engine.end()
        shutil.rmtree(folder, ignore_errors=True)
