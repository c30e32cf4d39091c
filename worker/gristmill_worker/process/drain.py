"""Draining: from SIGTERM to the end of the process, in its time, whatever hangs meanwhile.

    0 s              take no more; waits for servers that are away end; parcels in work get their attempts back, since
                     whoever ends this process from now on, it is not they
    80 % of the time texts that still wait for the model go back to the ledger
    the time is up   what is still held is given back, as far as the ledger answers, and the process ends

What ends sooner, ends sooner: the process leaves as soon as its last task has.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from gristmill_schemas.errors import GristmillError
from gristmill_worker.process.host import Host
from gristmill_worker.vital_threads import end_process, vital_thread

log = logging.getLogger(__name__)

#: Share of the time after which nothing new goes onto the model.
_LAST_LAUNCH = 0.8
#: Longest wait for the ledger at the very end; part of the three seconds that the process has beyond its time.
_FAREWELL_S = 2.0


class Drain:
    """The end of one worker process."""

    def __init__(self, host: Host, timeout_s: float, status: Callable[[], int] = lambda: 0) -> None:
        """`status`: what the process ends with if it is not drained in its time."""
        self._status = status
        self._host = host
        self._timeout_s = timeout_s
        self._begun = threading.Event()

    def begin(self) -> None:
        """Start draining; harmless when repeated. Returns at once: the caller is a signal handler."""
        if self._begun.is_set():
            return
        self._begun.set()
        self._host.drain()
        vital_thread("gristmill-drain", self._run, end_process).start()

    def _say(self) -> None:
        """Nobody shall pay for what this process does not finish, nor count on it any more."""
        self._host.leases.excuse()
        with suppress(GristmillError):
            self._host.beat()

    def _run(self) -> None:
        log.info("draining: %d parcels in work have %.0f s to end", self._host.leases.held, self._timeout_s)
        started = time.monotonic()
        # On a thread of its own: where the ledger hangs, the time goes on.
        threading.Thread(target=self._say, name="gristmill-excuse", daemon=True).start()
        time.sleep(self._timeout_s * _LAST_LAUNCH)
        for engine in self._host.engines.values():
            engine.batcher.abandon()
        time.sleep(max(0.0, started + self._timeout_s - time.monotonic()))
        log.error("not drained after %.0f s: %d parcels go back as they are", self._timeout_s, self._host.leases.held)
        farewell = threading.Thread(target=self._host.leases.hand_back, name="gristmill-farewell", daemon=True)
        farewell.start()
        farewell.join(_FAREWELL_S)
        logging.shutdown()
        os._exit(self._status())
