"""A service of the toy stack: looks for what it needs, starts up for a while, then listens.

toy.py NAME PORT START_S JOURNAL NEEDS LIFE_S: NEEDS are ports with commas, or '-'; LIFE_S is '-', or the
seconds after which it fails without ever having been ready. It says what happens to it as lines of JOURNAL
(monotonic seconds, name, event), so that nobody who measures it has to guess or to poll it. Readiness is told
to READY_FD or NOTIFY_SOCKET where there is one. Run with -I -S: a small interpreter starts alike everywhere.
"""

import time

BEGAN = time.monotonic()

import os
import sys

NOT_READY, TAKEN, HOPELESS = (
    "needs port {} which is closed",
    "port {} is taken",
    "input table 7 is not usable",
)


def main() -> None:
    """Live as told."""
    name, port, start_s, journal, needs, life_s = sys.argv[1:]
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND)

    def say(event: str, at: float | None = None) -> None:
        os.write(descriptor, f"{time.monotonic() if at is None else at:.6f} {name} {event}\n".encode())

    say("begin", BEGAN)
    import socket

    for needed in needs.split(",") if needs != "-" else ():
        try:
            socket.create_connection(("127.0.0.1", int(needed)), timeout=2).close()
        except OSError:
            say("refused")
            sys.exit(f"ConnectionRefusedError: {NOT_READY.format(needed)}")
    if life_s != "-":
        time.sleep(float(life_s))
        say("failed")
        sys.exit(f"RuntimeError: {HOPELESS}")
    time.sleep(float(start_s))
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", int(port)))
    except OSError:
        say("taken")
        sys.exit(f"OSError: [Errno 98] {TAKEN.format(port)}")
    listener.listen(64)
    say("ready")
    tell()
    while True:
        listener.accept()[0].close()


def tell() -> None:
    """Tell whoever started it that it is ready."""
    if "READY_FD" in os.environ:
        os.write(int(os.environ["READY_FD"]), b"1")
    where = os.environ.get("NOTIFY_SOCKET", "")
    if where:
        import socket

        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"READY=1", "\0" + where[1:] if where[0] == "@" else where)


if __name__ == "__main__":
    main()
