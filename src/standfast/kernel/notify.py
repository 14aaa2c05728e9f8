"""Tells whoever supervises this process how it stands, by the protocol of sd_notify(3)."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(state: str) -> bool:
    """Send ``state`` (such as ``READY=1``) to the supervisor; return whether there was one to hear it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        # "@" stands for the zero byte of an abstract address.
        told.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
        return True
    return False
