"""Periodic duties: small functions, each with its period, one after the other on a thread of their own.

A process has two sets: watches, which must not wait for anything, and chores, which speak to servers.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from gristmill_schemas.errors import GristmillError, Unavailable
from gristmill_worker.vital_threads import Died, end_process, vital_thread

log = logging.getLogger(__name__)

#: Name to period in seconds and function.
DutyList = Mapping[str, tuple[float, Callable[[], None]]]


class Duties:
    """Performs duties until closed. One that fails is tried again at its next time, and disturbs no other."""

    def __init__(self, name: str, duties: DutyList, died: Died = end_process, *, prompt: bool = False) -> None:
        """Nothing is performed yet.

        Args:
            name: of the set, and its thread.
            duties: what is performed, and how often.
            died: told if the thread dies.
            prompt: whether none of them ever waits for anything, so that being late means that something is wrong.
        """
        self.name, self.prompt = name, prompt
        self._duties = dict(duties)
        self._due = dict.fromkeys(duties, 0.0)
        self._stop = threading.Event()
        self._thread = vital_thread(f"gristmill-{name}", self._run, died)

    def start(self) -> None:
        """Start performing: each at once, then by its period."""
        self._due = dict.fromkeys(self._due, time.monotonic())
        self._thread.start()

    def late_s(self) -> float:
        """How long the duty that is due first has been waiting for its turn, seconds; 0 where none is late."""
        return max(0.0, time.monotonic() - min(self._due.values())) if self._thread.is_alive() else 0.0

    def close(self) -> None:
        """Stop after the duty that is being performed."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            for name, (period_s, duty) in self._duties.items():
                if time.monotonic() >= self._due[name] and not self._stop.is_set():
                    self._due[name] = time.monotonic() + period_s
                    self._perform(name, duty)
            self._stop.wait(max(0.0, min(self._due.values(), default=time.monotonic() + 1.0) - time.monotonic()))

    @staticmethod
    def _perform(name: str, duty: Callable[[], None]) -> None:
        try:
            duty()
        except Unavailable as error:
            log.warning("%s: %s", name, error)
        except GristmillError as error:
            log.error("%s failed; trying again later: %s", name, error)
        except Exception:
            log.exception("%s failed; trying again later", name)
