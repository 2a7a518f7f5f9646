"""The run's log: one JSON object a line, from every process of the run, in `log.jsonl`."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """Time, level, process and message, with whatever was passed as `extra`."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "message": record.getMessage(),
        }
        line |= {k: v for k, v in vars(record).items() if k not in _STANDARD}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_to(path: Path, process: str) -> logging.Handler:
    """Append this process's log to `path`. Returns the handler; `stop_logging` takes it away.

    Every process opens the file for itself: a line is one small append, which
    the processes' lines don't tear.
    """
    # A log that can't be written (a full disk) must not spill tracebacks over the terminal.
    logging.raiseExceptions = False
    handler = logging.FileHandler(path, mode="a", encoding="utf-8")
    handler.setFormatter(JsonLines(process))
    logger = logging.getLogger("livephase")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    return handler


def stop_logging(handler: logging.Handler) -> None:
    """Undo `log_to`."""
    logging.getLogger("livephase").removeHandler(handler)
    handler.close()
