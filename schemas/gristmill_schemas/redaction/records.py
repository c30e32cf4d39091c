"""Log records and uncaught tracebacks without secrets: by a filter in an application, altogether in a process of our own."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

from gristmill_schemas.redaction.texts import redact


class RedactingFilter(logging.Filter):
    """Takes secrets out of a log record: out of its text, and out of the traceback that it brings."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, clean."""
        clean_record(record)
        return True


def clean_record(record: logging.LogRecord) -> logging.LogRecord:
    """The record itself, without secrets."""
    try:
        text = record.getMessage()
    except (TypeError, ValueError, KeyError):  # its arguments do not fit; whoever prints it says so
        return record
    if (clean := redact(text)) != text:
        record.msg, record.args = clean, None
    if record.exc_info and record.exc_info[1] is not None:
        trace = "".join(traceback.format_exception(record.exc_info[1])).rstrip("\n")
        if (clean := redact(trace)) != trace:
            record.exc_text, record.exc_info = clean, None
    return record


#: Packages whose loggers speak of addresses and headers.
_SPEAKERS = frozenset(
    {
        "celery",
        "gristmill",
        "gristmill_schemas",
        "gristmill_worker",
        "grpc",
        "hpack",
        "httpcore",
        "httpx",
        "huggingface_hub",
    }
    | {"kombu", "qdrant_client", "redis", "transformers", "urllib3"}
)
_filter = RedactingFilter()


def clean_loggers() -> None:
    """Have all loggers of this package and of the libraries below it filtered, as far as they exist.

    An application's own loggers, handlers and levels stay as they are.
    """
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in _SPEAKERS:
            logging.getLogger(name).addFilter(_filter)


def clean_process() -> None:
    """In a process of our own: whatever is logged, by whomever, and every traceback that nobody caught. Once is enough."""
    make = logging.getLogRecordFactory()
    if isinstance(make, _CleanRecords):
        return
    logging.setLogRecordFactory(_CleanRecords(make))
    sys.excepthook = _clean_hook(sys.excepthook)
    for_threads = threading.excepthook
    threading.excepthook = lambda failed: _clean_hook(lambda *_: for_threads(failed))(*failed[:3])


class _CleanRecords:
    """A factory of log records without secrets."""

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make

    def __call__(self, *args: Any, **named: Any) -> logging.LogRecord:
        return clean_record(self._make(*args, **named))


def _clean_hook(show: Callable[..., object]) -> Callable[..., None]:
    """A hook for exceptions that nobody caught: as before, unless there is a secret in what it would show."""

    def hook(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        text = "".join(traceback.format_exception(kind, error, trace))
        if (clean := redact(text)) == text:
            show(kind, error, trace)
        else:
            sys.stderr.write(clean)

    return hook
