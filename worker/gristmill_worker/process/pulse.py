"""The pulse of a worker: how it is, once a second, for `gristmill health`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress

from gristmill.probes.health import Health, judge
from gristmill.probes.pulse import Pulse, open_pulse, read_pulses
from gristmill_worker.process.host import Host

#: An idle consumer looks for work every second. One that has not for so long, with nothing in hand, cannot reach the broker,
#: seconds.
_UNREAD_S = 5.0


class Heart:
    """Beats for one worker process, from before its model is loaded until its end."""

    def __init__(self, supervisor: int | None) -> None:
        """`supervisor`: process id of the parent that counts on this process."""
        self._supervisor = supervisor
        self._host: Host | None = None
        self._looked_at: Callable[[], float] = time.monotonic
        self._file = open_pulse()
        #: The last beat.
        self.pulse = self._pulse()

    def attend(self, host: Host, looked_at: Callable[[], float]) -> None:
        """From now on this host takes work.

        Args:
            host: whose state is told.
            looked_at: when the consumer last looked for work, by the monotonic clock.
        """
        self._looked_at = looked_at
        self._host = host

    def __call__(self) -> None:
        """One beat."""
        self.pulse = self._pulse()
        if self._file is not None:
            self._file.beat(self.pulse)

    def health(self) -> Health:
        """How this process, its supervisor and the other processes of that are together; as `gristmill health` judges."""
        return judge([self.pulse, *self._others()])

    @property
    def unread(self) -> bool:
        """Whether the broker is out of reach: an idle consumer would have looked for work."""
        return self._host is not None and self._is_unread(self._host)

    def close(self) -> None:
        """The process ends."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _pulse(self) -> Pulse:
        state, detail, ails = ("starting", "", "") if self._host is None else self._state(self._host)
        now, mine = time.monotonic(), self._supervisor
        return Pulse(os.getpid(), "worker", state, supervisor=mine, detail=detail, ails=ails, at=now)

    def _others(self) -> list[Pulse]:
        if self._supervisor is None:
            return []
        with suppress(OSError):
            return [each for each in read_pulses() if each.pid != os.getpid() and self._is_of_us(each)]
        return []

    def _is_of_us(self, pulse: Pulse) -> bool:
        return self._supervisor in (pulse.pid, pulse.supervisor)

    def _is_unread(self, host: Host) -> bool:
        return not host.leases.held and time.monotonic() - self._looked_at() > _UNREAD_S

    def _state(self, host: Host) -> tuple[str, str, str]:
        ails = host.ails()
        if host.draining.is_set():
            return "draining", "", ails
        if self._is_unread(host):
            return "waiting", "the broker is out of reach", ails
        if not host.willing:
            return "waiting", next(iter(host.notices.all()), "no model takes work"), ails
        return "ready", "", ails
