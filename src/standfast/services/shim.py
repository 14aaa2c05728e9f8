"""Becomes a service: ties itself to the supervisor, clears what was inherited, and executes the command.

Run as ``python -I -S shim.py SUPERVISOR_PID COMMAND...``, by path and with nothing of Standfast imported:
it stands between every decision to start and the start. It is already the leader of a session of its own.

1. If the supervisor dies, by whatever means, the kernel sends SIGTERM (PR_SET_PDEATHSIG, prctl(2)); what
   ignores that, and what the service itself started, is ended by the guardian.
2. Ignored and blocked signals are inherited through execve(2): started from a shell's background job, a
   service would never hear SIGINT. All that matter are set back.
3. A command that cannot be executed is told in the log and by the shells' exit codes, 127 and 126.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_RESET = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGCHLD)


def main() -> None:
    """Execute the command; never returns."""
    supervisor, command = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM), 0, 0, 0) != 0:
        sys.exit(f"standfast: prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != supervisor:
        # It died before the tie was made, and the signal will not come.
        sys.exit("standfast: the supervisor was gone before the service began")
    for number in _RESET:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is the point
    except OSError as error:
        sys.stderr.write(f"standfast: cannot run {command[0]}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(127 if isinstance(error, (FileNotFoundError, NotADirectoryError)) else 126)


main()
