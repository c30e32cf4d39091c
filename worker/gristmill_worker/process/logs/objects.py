"""The log for programs: one JSON object per line (`--log-format json`).

    {"time": "2026-11-26T11:05:03.120Z", "level": "warning", "logger": "gristmill_worker.pipeline.handler", "process": 8834,
     "message": "parcel 5f….0, attempt 2, failed: …", "error": "EncodingFailed", "model": …, "job": …, "parcel": …,
     "collection": …, "document": …, "more": 41}

`job` and what follows it are there where the event is about one; `more` counts like events that were not written.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from gristmill_worker.concerning import concerned
from gristmill_worker.process.logs.lines import LineFormatter


def note_concern(record: logging.LogRecord) -> bool:
    """A filter that passes everything: notes what the thread had in hand, which is another's when the record is written."""
    record.concerned = {**concerned(), **getattr(record, "concerned", {})}
    return True


class ObjectFormatter(LineFormatter):
    """A record as one JSON object on one line; its message is the line's."""

    def format(self, record: logging.LogRecord) -> str:
        """The object."""
        error = record.exc_info[1] if record.exc_info else None
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": super().format(record),
        }
        if error is not None:
            said["error"] = type(error).__name__
        if more := getattr(record, "more", 0):
            said["more"] = more
        return json.dumps(said | getattr(record, "concerned", {}), ensure_ascii=False, default=str)
