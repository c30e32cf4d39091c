"""How the log of a process is set up: `gristmill worker`, `gristmill serve`."""

from __future__ import annotations

import logging
import sys
import threading
from enum import StrEnum
from typing import TextIO

from gristmill_worker.process.logs.lines import LineFormatter, LineHandler
from gristmill_worker.process.logs.objects import ObjectFormatter, note_concern

_FORMAT = "%(asctime)s %(levelname)-7s %(process)d %(name)s: %(message)s"
#: Loggers that say two lines per parcel, or what a line of ours says better, below the level at which they are heard.
_QUIET = {
    "httpx": logging.WARNING,
    "kombu": logging.WARNING,
    "celery.apps.worker": logging.WARNING,
    "celery.worker.consumer.consumer": logging.WARNING,
    "celery.worker.strategy": logging.WARNING,
    "celery.app.trace": logging.ERROR,
}


class LogFormat(StrEnum):
    """How a process logs: lines for people, objects for programs."""

    TEXT = "text"
    JSON = "json"


def set_up_logging(level: str, stream: TextIO | None = None, form: LogFormat = LogFormat.TEXT) -> None:
    """Let this process log to stderr.

    Args:
        level: debug, info, warning or error.
        stream: instead of stderr.
        form: lines for people, or one JSON object per event for programs.
    """
    debug = level.lower() == "debug"
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream) if debug else LineHandler(stream)
    handler.setFormatter(logging.Formatter(_FORMAT) if debug else LineFormatter(_FORMAT))
    if form is LogFormat.JSON:
        handler.addFilter(note_concern)
        handler.setFormatter(ObjectFormatter("%(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for name, quiet in _QUIET.items() if not debug else ():
        logging.getLogger(name).setLevel(quiet)
    logging.captureWarnings(True)
    threading.excepthook = _thread_died


def _thread_died(died: threading.ExceptHookArgs) -> None:
    if died.exc_value is not None and not isinstance(died.exc_value, SystemExit):
        name = died.thread.name if died.thread else "?"
        logging.getLogger(__name__).error("thread %s died", name, exc_info=died.exc_value)
