"""Logs go to stderr as JSON lines, or readable where a person watches; stdout is for data only."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog


def configure_logs(*, level: str = "info", stream: TextIO | None = None) -> None:
    """Send the process's logs to ``stream``, or stderr; readable on a terminal, elsewhere JSON lines."""
    target = stream or sys.stderr
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if target.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(file=target),
        cache_logger_on_first_use=False,
    )
