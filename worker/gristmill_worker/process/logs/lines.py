"""The worker's log: one line per event, whoever logs it, and a flood of like events told by their number.

    2026-11-25 22:16:05,852 WARNING 8834 gristmill_worker.waiting.notices: waiting: Redis at redis://… cannot be used: …
    2026-11-25 22:17:06,110 WARNING 8834 gristmill_worker.process.duties: heartbeat: Redis at … (and 41 more like it in 60 s)

An exception is one line, too: what it says, and for one of ours that nobody expected, where it came from. Celery's lines
about the connection are told in our words. `--log-level debug` shows everything as it comes, tracebacks included.
"""

from __future__ import annotations

import copy
import logging
import re
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from gristmill.cli.terminal import visible

#: What is like an event within so many seconds of it is counted.
_WINDOW_S = 60.0
#: Kinds of events that are remembered; with more the oldest are told and forgotten.
_KINDS = 1_000
#: Frames of an exception that are named, the innermost first.
_FRAMES = 6
#: A server that is away is one event, whoever waits for it, and however much else they say.
_AWAY = re.compile(
    r"(?:Redis at \S+|Qdrant) (?:cannot be used|takes no writes now|refuses the login|denies its user)[^:]*: (?:\S+ ?){1,2}"
)
#: How the line begins that tells of Redis's return.
_CONNECTED = "connected to Redis at"
#: What tells like events apart: ids, and numbers that stand alone.
_PARTICULARS = re.compile(r"\b[0-9a-f]{8,}(?:\.\d+)*\b|(?<![\w.:/-])\d+(?:[.,]\d+)*(?!\w)")


class LineFormatter(logging.Formatter):
    """A record on one line, with nothing in it that a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        bare = copy.copy(record)
        text, bare.exc_info, bare.exc_text, bare.stack_info = _message(record), None, None, None
        if record.exc_info and (error := record.exc_info[1]) is not None:
            text = f"{text}: {_told(error, where=record.name.startswith('gristmill'))}"
        bare.msg, bare.args = visible(" ".join(text.split())), ()
        return super().format(bare)


def _told(error: BaseException, *, where: bool) -> str:
    told = f"{type(error).__name__}: {error}"
    if where and (frames := traceback.extract_tb(error.__traceback__)[: -_FRAMES - 1 : -1]):
        told += f" (at {', in '.join(f'{Path(each.filename).name}:{each.lineno} {each.name}' for each in frames)})"
    return told if error.__cause__ is None else f"{told}; from {_told(error.__cause__, where=where)}"


def _message(record: logging.LogRecord) -> str:
    """What a record says; Celery's about the connection in our words."""
    try:
        told = _IN_OUR_WORDS.get(" ".join(str(record.msg).split("%")[0].split()))
        return told(record) if told else record.getMessage()
    except (
        TypeError,
        ValueError,
        IndexError,
    ) as error:  # a line of somebody's that does not fit together is a line, too
        return f"{record.msg} {record.args} ({error})"


def _lost(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    record.exc_info = None
    return f"the connection to Redis is lost ({error}); connecting again"


def _away(record: logging.LogRecord) -> str:
    address, error, then = record.args if isinstance(record.args, tuple) else ("", "", "")
    return f"Redis at {address} cannot be used: {str(error).rstrip('.')}. Start one, or set GRISTMILL_REDIS_URL. {then}"


def _connected(record: logging.LogRecord) -> str:
    return f"{_CONNECTED} {record.args[0] if isinstance(record.args, tuple) else record.args}"


def _not_settled(record: logging.LogRecord) -> str:
    record.exc_info, record.levelno, record.levelname = None, logging.WARNING, "WARNING"
    error = record.args[1] if isinstance(record.args, tuple) else ""
    return f"a message could not be settled ({error}): it comes again, and its parcel is not worked on twice"


#: By how the line begins, in Celery 5 and Kombu 5. What is not found here is told as it is.
_IN_OUR_WORDS: dict[str, Callable[[logging.LogRecord], str]] = {
    "consumer: Connection to broker lost. Trying to re-establish the connection...": _lost,
    "consumer: Cannot connect to": _away,
    "Connected to": _connected,
    "Couldn't ack": _not_settled,
    "Couldn't reject": _not_settled,
}


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes the first of like events, and how many there were once their time is over."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds that only grow."""
        super().__init__(stream)
        self._clock = clock
        self._kinds: dict[str, _Flood] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write what is to be said now; runs under the handler's lock."""
        record = copy.copy(record)
        record.msg, record.args = _message(record), ()
        for each in (*self._over(), *self._recovered(record), *self._admitted(record)):
            super().emit(each)

    def _admitted(self, record: logging.LogRecord) -> Iterator[logging.LogRecord]:
        if not _may_flood(record):
            yield record
        elif (flood := self._kinds.get(kind := _kind(record))) is not None:
            flood.more, flood.last, flood.last_at = flood.more + 1, record, self._clock()
        else:
            self._kinds[kind] = _Flood(record, self._clock())
            yield record

    def _recovered(self, record: logging.LogRecord) -> Iterator[logging.LogRecord]:
        """Redis is there again: how often its absence was told, and the next absence is news."""
        if record.msg.startswith(_CONNECTED):
            for kind in [kind for kind in self._kinds if "Redis" in kind]:
                flood = self._kinds.pop(kind)
                if flood.more:
                    yield flood.summary(self._clock())

    def _over(self) -> Iterator[logging.LogRecord]:
        """Floods whose time is over, each as its last record with their number. One that goes on begins anew."""
        now = self._clock()
        for kind, flood in list(self._kinds.items()):
            if now - flood.since < _WINDOW_S and len(self._kinds) <= _KINDS:
                break  # they are in the order of their beginnings
            del self._kinds[kind]
            if flood.more:
                yield flood.summary(now)
                if now - flood.last_at < _WINDOW_S:
                    self._kinds[kind] = _Flood(flood.last, now)


class _Flood:
    """Like events: the last of them, and how many there were after the first."""

    def __init__(self, first: logging.LogRecord, since: float) -> None:
        self.last = first
        self.since = self.last_at = since
        self.more = 0

    def summary(self, now: float) -> logging.LogRecord:
        """The last of them, with how many there were besides; it is told now, so that the log's times only grow."""
        told, ago_s = copy.copy(self.last), now - self.last_at
        told.created += ago_s
        ago = f", {ago_s:.0f} s ago" if ago_s >= 1 else ""
        told.more = max(0, self.more - 1)
        if self.more > 1:
            told.msg = f"{told.msg} (and {self.more - 1} more like it in {self.last_at - self.since:.0f} s{ago})"
        elif ago:
            told.msg = f"{told.msg} (once more{ago})"
        return told


def _may_flood(record: logging.LogRecord) -> bool:
    """What goes wrong may go wrong often, and what happens to a parcel to many; all else is said on purpose."""
    return record.levelno >= logging.WARNING or record.name.startswith("gristmill_worker.pipeline")


def _kind(record: logging.LogRecord) -> str:
    error = record.exc_info[1] if record.exc_info else None
    text = record.getMessage() if error is None else f"{record.getMessage()}: {error}"
    if away := _AWAY.search(text):
        return away[0]
    return f"{record.name} {_PARTICULARS.sub('#', text)}"
