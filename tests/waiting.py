"""Waiting for a condition, instead of sleeping and hoping."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(look: Callable[[], T], within_s: float = 60.0) -> T:
    """Return the first true answer of `look`; an AssertionError shows the last false one."""
    until = time.monotonic() + within_s
    while not (answer := look()):
        if time.monotonic() > until:
            raise AssertionError(f"still {answer!r} after {within_s:g} s")
        threading.Event().wait(0.02)
    return answer
