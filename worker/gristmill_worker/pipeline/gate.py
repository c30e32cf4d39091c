"""The gate: most parcels share the worker; a suspect has it to itself.

A parcel that comes back was on a worker that died. Whoever else was on that worker comes back too, so all of them are
suspects, and each is tried alone: if the process dies again, exactly one parcel can have done it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """A readers-writer lock; waiting suspects keep new parcels out, so they get their turn."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._alone = False
        self._suspects = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Work beside others."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and not self._suspects)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Work with nobody else inside."""
        with self._changed:
            self._suspects += 1
            self._changed.wait_for(lambda: not self._alone and self._inside == 0)
            self._suspects -= 1
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()
