"""`Retry-After`: how long a server asks us to wait, by the server's own clock."""

from __future__ import annotations

import email.utils
from collections.abc import Mapping
from datetime import UTC, datetime


def retry_after_s(headers: Mapping[str, str] | None) -> float | None:
    """Seconds from an answer's headers: as a number, or until a date; None where they say neither.

    A date is of the server's clock, and so is the answer's own `Date`: ours, which may be hours off, is asked only where
    there is none.
    """
    headers = headers or {}
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        return float(value)
    until = _moment(value)
    if until is None:
        return None
    answered_at = _moment(headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - answered_at).total_seconds())


def _moment(value: str) -> datetime | None:
    try:
        parsed = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return parsed.replace(tzinfo=parsed.tzinfo or UTC)
