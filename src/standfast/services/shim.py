"""Makes and minds the lives of services, apart from the supervisor, so that its death touches nothing.

Run as ``python -I -S shim.py``, by path and with nothing of Standfast imported. One *host* process reads
requests (a length of 4 bytes, then JSON) from its standard input and forks one *shim* for each. The end of
its input ends the host; the shims go on. A shim minds one life:

1. It leads a session of its own, so that no terminal reaches it, and is a child subreaper (prctl(2)):
   whatever the service starts, in whatever session it hides, stays a descendant and is ended with it. Its
   own death sends the service SIGTERM (PR_SET_PDEATHSIG).
2. The service's output goes straight to a file that is only appended to, never through a pipe: nobody's
   death blocks or kills it.
3. What happened stands in ``life.json``, replaced as a whole: who it is (pid and start time), READY=1 of
   sd_notify(3), being stopped, exit code or signal with time, kills for want of memory counted by the
   control group before that goes away. Each change is also sent to ``../supervisor.sock``, as a hint.
4. SIGTERM ends the service in order: its stop signal to the process group, SIGKILL to everything that is
   left when its time is over. SIGUSR1 ends it at once. SIGHUP has it tell again what it knows, for a
   supervisor that cannot read the file. The shim leaves last.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import json
import os
import select
import signal
import socket
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # Importing it would make every shim larger.

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36
#: What ps(1) shows of a shim, and what the supervisor knows it by.
_NAME = b"sf-shim"
_SFD_CLOEXEC, _SFD_NONBLOCK = 0o2000000, 0o4000
_SIGINFO_BYTES = 128
_RESET = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGCHLD)
_HEARD = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1}
#: What a process that its parent left behind gets between SIGTERM and SIGKILL.
_LEFT_GRACE_S = 1.0
#: How often a life that could not be written down (a full disk) is tried again, and how often at most.
_WRITE_AGAIN_S, _WRITE_TRIES = 0.5, 120
#: How often what does not end is killed again; it may fork faster than it dies.
_KILL_AGAIN_MS = 20
_LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Serve requests until the end of the input."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # A shim that ended is nobody's zombie: its supervisor hears of it through a pidfd.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # Collecting garbage in a fork would copy the pages that all of them share.
    gc.disable()
    gc.freeze()
    # Ends with the input.
    while (head := _read(4)) is not None:
        body = _read(struct.unpack("!I", head)[0])
        if body is None:
            break
        request = json.loads(body)
        try:
            pid = os.fork()
        except OSError as error:
            _refuse(request, error)
            continue
        if pid == 0:
            os.close(0)
            os.open(os.devnull, os.O_RDWR)
            code = 1
            try:
                code = Shim(request).run()
            except OSError as error:
                _refuse(request, error)
            finally:
                os._exit(code)


def _refuse(request: dict[str, Any], error: OSError) -> None:
    """Tell the supervisor why there is no life; it would wait in vain."""
    with contextlib.suppress(OSError):
        os.chdir(request["folder"])
        why = error.strerror or type(error).__name__
        _hint(json.dumps({"life": request["life"], "refused": why}).encode())


def _hint(raw: bytes) -> None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hint:
        hint.setblocking(False)
        hint.sendto(raw, "../supervisor.sock")


def _read(count: int) -> bytes | None:
    """Return exactly so many bytes of the input, or None at its end."""
    data = b""
    while len(data) < count:
        part = os.read(0, count - len(data))
        if not part:
            return None
        data += part
    return data


class Shim:
    """One life of one service.

    The request: ``life``, ``folder`` (of life.json), ``command``, ``cwd``, ``env``, ``log`` (a path),
    ``cgroups`` (folders to join), ``notify`` (whether to offer a socket), ``stop_signal``,
    ``stop_timeout_s``, ``record`` (kept in life.json as it is).
    """

    def __init__(self, request: dict[str, Any]) -> None:
        self.request = request
        self.child = 0
        self.told = {**request["record"], "life": request["life"], "shim": [0, 0], "child": [0, 0]}
        self.told |= {
            "ready_s": None,
            "status": "",
            "stopped": False,
            "asked_by": 0,
            "exit": None,
            "gone": False,
        }
        self.kill_at_s: float | None = None
        self.notify: socket.socket | None = None
        self.shared_kills: int | None = None

    def run(self) -> int:
        """Mind the life from its start until nothing of it is left."""
        os.setsid()
        os.chdir(self.request["folder"])
        _LIBC.prctl(_PR_SET_NAME, _NAME, 0, 0, 0)
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
        signals = _signal_file()
        _spare_from_oom(-900)
        if self.request["notify"]:
            self._open_notify()
        self._start()
        self.tell()
        self._loop(signals)
        return 0

    def _start(self) -> None:
        log = os.open(self.request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        shim, self.shared_kills = os.getpid(), _oom_kills_of_own()
        # Before anything that the service does: a file that is older is not of this life.
        self.told |= {"started_s": time.monotonic(), "started_at": time.time()}
        self.child = os.fork()
        if self.child == 0:
            _become(self.request, shim, log, writing)
        os.close(writing)
        os.close(log)
        # The end of the pipe is the moment of execve(2): from here on the process is the service.
        os.read(reading, 1)
        os.close(reading)
        self.told["shim"] = [shim, _start_ticks(shim)]
        self.told["child"] = [self.child, _start_ticks(self.child)]

    def _loop(self, signals: int) -> None:
        poll = select.poll()
        poll.register(signals, select.POLLIN)
        if self.notify is not None:
            poll.register(self.notify.fileno(), select.POLLIN)
        # Ends when the service has ended and nothing that came from it is left.
        while not self.told["gone"]:
            ready = dict(poll.poll(self._wait_ms()))
            if signals in ready:
                self._hear(os.read(signals, 32 * _SIGINFO_BYTES))
            if self.notify is not None and self.notify.fileno() in ready:
                self._listen()
            self._go_on()

    def _wait_ms(self) -> int | None:
        if self.kill_at_s is None:
            return None
        return max(_KILL_AGAIN_MS, int((self.kill_at_s - time.monotonic()) * 1000))

    def _hear(self, raw: bytes) -> None:
        for at in range(0, len(raw), _SIGINFO_BYTES):
            number, _, _, sender = struct.unpack_from("=IiiI", raw, at)
            if number == signal.SIGUSR1:
                self.kill_at_s = time.monotonic()
            elif number == signal.SIGHUP:
                self.tell()
            elif number in (signal.SIGTERM, signal.SIGINT) and self.kill_at_s is None:
                # Nobody is 1, so that a sender outside of our sight is told apart from nobody at all.
                self.told["asked_by"] = sender or 1
                self.kill_at_s = time.monotonic() + self.request["stop_timeout_s"]
                self._signal_group(self.request["stop_signal"])

    def _signal_group(self, number: int) -> None:
        """Ask the service's own group; a stopped process would keep the signal pending."""
        if self.told["exit"] is None:
            for one in (number, signal.SIGCONT):
                with contextlib.suppress(OSError):
                    os.killpg(self.child, one)

    def _reap(self) -> bool:
        """Bury what has ended; return whether anything that came from the service is left.

        Whatever lost its parent is this subreaper's child: without children nothing is left.
        """
        ended, is_left = None, False
        with contextlib.suppress(ChildProcessError):
            # Ends when nobody has anything to tell.
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
                is_left = pid == 0
                if is_left:
                    break
                if pid != self.child:
                    continue
                if os.WIFSTOPPED(status) or os.WIFCONTINUED(status):
                    self.told["stopped"] = os.WIFSTOPPED(status)
                    self.tell()
                else:
                    ended = status
        if ended is not None:
            self._note_exit(ended, _descendants(os.getpid()) if is_left else [])
        return is_left

    def _note_exit(self, status: int, left: list[int]) -> None:
        by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        kills, peak = _memory_of(self.request["cgroups"])
        now = _oom_kills_of_own()
        shared = None if now is None or self.shared_kills is None else now - self.shared_kills
        self.told["exit"] = {
            "code": 0 if by else os.WEXITSTATUS(status), "signal": by,
            "s": time.monotonic(), "at": time.time(),
            "left": len(left), "oom_kills": kills, "shared_oom_kills": shared, "peak_bytes": peak,
        }  # fmt: skip
        self.told["stopped"] = False
        self.tell()
        if left and self.kill_at_s is None:
            self.kill_at_s = time.monotonic() + _LEFT_GRACE_S
        for pid in left:
            for number in (signal.SIGTERM, signal.SIGCONT):
                _send(pid, number)

    def _go_on(self) -> None:
        """Kill what is left where its time is over, and leave when nothing is left."""
        is_left = self._reap()
        if is_left and self.kill_at_s is not None and time.monotonic() >= self.kill_at_s:
            for pid in _descendants(os.getpid()):
                _send(pid, signal.SIGKILL)
        if self.told["exit"] is None or is_left:
            return
        for folder in self.request["cgroups"]:
            with contextlib.suppress(OSError):
                os.rmdir(folder)  # noqa: PTH106
        self.told["gone"] = True
        tries = 0
        # A full disk may have room again; the supervisor, where there is one, has been told already.
        while not self.tell() and tries < _WRITE_TRIES:
            time.sleep(_WRITE_AGAIN_S)
            tries += 1

    def tell(self) -> bool:
        """Write down what is known, and hint at it; return whether another try could tell nobody more."""
        raw = json.dumps(self.told).encode()
        _hint(raw)
        try:
            with open("life.json.new", "wb") as file:  # noqa: PTH123 - without importing pathlib in each host
                file.write(raw)
            os.replace("life.json.new", "life.json")  # noqa: PTH105
        except OSError as error:
            # A full disk may have room again. A folder that was removed has no reader any more.
            return error.errno in (errno.ENOENT, errno.ENOTDIR)
        return True

    def _open_notify(self) -> None:
        name = f"\0standfast-{self.request['life']}"
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.notify.setblocking(False)
        self.notify.bind(name)
        self.request["env"]["NOTIFY_SOCKET"] = "@" + name[1:]

    def _listen(self) -> None:
        assert self.notify is not None
        with contextlib.suppress(OSError):
            raw, ancillary, _, _ = self.notify.recvmsg(8192, socket.CMSG_SPACE(12))
            senders = [data for _, kind, data in ancillary if kind == socket.SCM_CREDENTIALS]
            if not any(struct.unpack("iii", data[:12])[1] in (0, os.getuid()) for data in senders):
                return
            for line in raw.decode("utf-8", "replace").splitlines():
                if line == "READY=1" and self.told["ready_s"] is None:
                    self.told["ready_s"] = time.monotonic()
                elif line.startswith("STATUS="):
                    self.told["status"] = line[7:207]
            self.tell()


def _become(request: dict[str, Any], shim: int, log: int, writing: int) -> None:
    """Turn this process into the service; a command that cannot run is told in the log, and by 127 or 126."""
    code = 126
    try:
        os.setsid()
        _LIBC.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != shim:
            os._exit(143)
        _spare_from_oom(0)
        for folder in request["cgroups"]:
            with open(f"{folder}/cgroup.procs", "w") as file:  # noqa: PTH123
                file.write(str(os.getpid()))
        # Ignored and blocked signals are inherited through execve(2): a service must hear all of them.
        for number in _RESET:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.dup2(log, 1)
        os.dup2(log, 2)
        if request["cwd"]:
            os.chdir(request["cwd"])
        os.execvpe(request["command"][0], request["command"], request["env"])  # noqa: S606 - no shell is the point
    except BaseException as error:  # noqa: BLE001 - whatever it is, this process must not go on as a shim
        told = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        os.write(log, f"standfast: cannot run {request['command'][0]}: {told}\n".encode())
        code = 127 if isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTDIR) else 126
    finally:
        os._exit(code)


def _signal_file() -> int:
    mask = (ctypes.c_char * 128)()
    _LIBC.sigemptyset(mask)
    for number in _HEARD:
        _LIBC.sigaddset(mask, int(number))
    file: int = _LIBC.signalfd(-1, mask, _SFD_CLOEXEC | _SFD_NONBLOCK)
    if file < 0:
        raise OSError(ctypes.get_errno(), "signalfd")
    return file


def _stat(pid: int) -> list[bytes]:
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
        raw = file.read()
    return raw[raw.rindex(b")") + 2 :].split()


def _start_ticks(pid: int) -> int:
    try:
        return int(_stat(pid)[19])
    except (OSError, ValueError, IndexError):
        return 0


def _descendants(root: int) -> list[int]:
    """Return every living process below ``root``; a subreaper's orphans are its children."""
    parents = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = _stat(int(name))
                if fields[0] not in (b"Z", b"X"):
                    parents[int(name)] = int(fields[1])
    found, grew = {root}, True
    # Each turn adds one generation at least; ends when one adds nobody.
    while grew:
        more = {pid for pid, parent in parents.items() if parent in found and pid not in found}
        found |= more
        grew = bool(more)
    return sorted(found - {root})


def _send(pid: int, number: int) -> None:
    # A child's number cannot be given out again before this process, its subreaper, has reaped it.
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def _spare_from_oom(adjustment: int) -> None:
    """Keep the kernel from killing the shim first when memory runs out; only root may ask for that."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
        file.write(str(adjustment))


def _memory_of(cgroups: list[str]) -> tuple[int | None, int]:
    """Return (kills by the kernel, most bytes used) of the control groups, None and 0 where unknown."""
    kills, peak = None, 0
    for folder in cgroups:
        counted = _oom_kills(folder)
        kills = counted if kills is None else kills
        for name in ("memory.peak", "memory.max_usage_in_bytes"):
            with contextlib.suppress(OSError, ValueError), open(f"{folder}/{name}") as file:  # noqa: PTH123
                peak = max(peak, int(file.read()))
    return kills, peak


def _oom_kills(folder: str) -> int | None:
    for name in ("memory.events", "memory.oom_control"):
        with contextlib.suppress(OSError, ValueError), open(f"{folder}/{name}") as file:  # noqa: PTH123
            for line in file:
                words = line.split()
                if words and words[0] == "oom_kill":
                    return int(words[1])
    return None


def _oom_kills_of_own() -> int | None:
    """Return the counter of the group that this shim itself is in, where that can be read."""
    with contextlib.suppress(OSError, ValueError), open("/proc/self/cgroup") as file:  # noqa: PTH123
        for line in file:
            _, names, path = line.rstrip("\n").split(":", 2)
            if names == "" or "memory" in names.split(","):
                root = "/sys/fs/cgroup/memory" if names else "/sys/fs/cgroup"
                counted = _oom_kills(root + path)
                if counted is not None:
                    return counted
    return None


if __name__ == "__main__":
    main()
