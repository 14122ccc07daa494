"""Lines of JSON on stderr: a constant message with key-values. No token and no input is ever among them."""

from __future__ import annotations

import logging
import sys
from typing import Any

import orjson

_LOG = logging.getLogger("af_inference")


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": self.formatTime(record), "level": record.levelname.lower(), "event": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line | getattr(record, "fields", {}), default=str).decode()


def set_up() -> None:
    """Let this process log, libraries included."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def info(event: str, **fields: Any) -> None:
    """Log what happened."""
    _LOG.info(event, extra={"fields": fields})


def warning(event: str, **fields: Any) -> None:
    """Log what somebody should look at."""
    _LOG.warning(event, extra={"fields": fields})


def error(event: str, cause: BaseException) -> None:
    """Log what must not happen, with where it did."""
    _LOG.error(event, exc_info=cause)
