"""Telling workers of parcels while a stream of them goes into the ledger.

The first parcels of a job get a message each, later ones share theirs (`messages_for`), which goes out with the first that
it is for. A worker that is faster than the stream has used it up before the others come; so whatever was accepted since the
last message is told of by another one, a second later at most, and at the end of the stream.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType

from gristmill_schemas.errors import GristmillError

#: Longest time that an accepted parcel goes without a message after it, seconds. A fast stream so sends one more in each.
QUIET_S = 1.0


class Announcer:
    """Publishes for one stream, inside a `with` block around it."""

    def __init__(self, publish: Callable[[], None]) -> None:
        """`publish` sends one message; from another thread, too."""
        self._publish = publish
        self._lock = threading.Lock()
        self._untold = False
        self._timer: threading.Timer | None = None

    def accepted(self, *, tell: bool) -> None:
        """The ledger owes one more parcel.

        Args:
            tell: at once.
        """
        if tell:
            self._untold = False
            self._publish()
        else:
            self._untold = True
            self._watch()

    def _watch(self) -> None:
        with self._lock:
            if self._timer is None:
                self._timer = threading.Timer(QUIET_S, self._time_is_up)
                self._timer.daemon = True
                self._timer.start()

    def _time_is_up(self) -> None:
        with self._lock:
            self._timer = None
        # What it raises is raised again in the stream's own thread, at the latest at its end.
        with contextlib.suppress(GristmillError):
            self._tell_the_rest()

    def _tell_the_rest(self) -> None:
        if self._untold:
            # Before the message goes out: what is accepted from now on may miss it.
            self._untold = False
            try:
                self._publish()
            except GristmillError:
                self._untold = True
                raise

    def __enter__(self) -> Announcer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            timer.join()
        # The stream's own error goes before.
        with contextlib.suppress(GristmillError) if error else contextlib.nullcontext():
            self._tell_the_rest()
