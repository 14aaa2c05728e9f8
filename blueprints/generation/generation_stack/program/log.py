"""Writes one JSON object per line to stdout: when, which program, what happened, and the facts of it."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import sys
from typing import Any


class Log:
    """The log of one program."""

    def __init__(self, program: str) -> None:
        self._program = program

    def info(self, event: str, **facts: Any) -> None:
        """Say that something happened as it should."""
        self._write("info", event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        """Say that something did not go as it should and that the program copes."""
        self._write("warning", event, facts)

    def error(self, event: str, **facts: Any) -> None:
        """Say that something was given up."""
        self._write("error", event, facts)

    def take_over(self) -> None:
        """Write what libraries log in the same form, from warnings on."""
        logging.basicConfig(level=logging.WARNING, handlers=[_Handler(self)], force=True)

    def _write(self, level: str, event: str, facts: dict[str, Any]) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = {"ts": now, "level": level, "program": self._program, "event": event, **facts}
        # A full disk or a reader that went away must not end the service.
        with contextlib.suppress(OSError):
            sys.stdout.write(json.dumps(line, default=str) + "\n")
            sys.stdout.flush()


class _Handler(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        say = self._log.error if record.levelno >= logging.ERROR else self._log.warning
        say("library", logger=record.name, text=text)
