"""Draining: from SIGTERM to the end of the process, in its time, whatever hangs meanwhile.

    0 s              take no more; waits for servers that are away end; parcels in work get their attempts back, since
                     whoever ends this process from now on, it is not they
    80 % of the time texts that still wait for the model go back to the ledger
    the time is up   what is still held is given back, as far as the ledger answers, and the process ends

What ends sooner, ends sooner: the process leaves as soon as its last task has; at once, where it has taken none yet.

A signal handler interrupts this process anywhere, so it may wait for no lock: the interrupted code may hold it. And what it
raises may be lost: in a finalizer, or in a callback of native code, there is nobody to take it. So a handler leaves word,
and the rest is a thread's.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from types import FrameType

from gristmill_schemas.errors import GristmillError
from gristmill_worker.process.host import Host
from gristmill_worker.vital_threads import end_now, end_process, vital_thread

log = logging.getLogger(__name__)

#: Share of the time after which nothing new goes onto the model.
_LAST_LAUNCH = 0.8
#: Longest wait for the ledger at the very end; part of the three seconds that the process has beyond its time.
_FAREWELL_S = 2.0


class Drain:
    """The end of one worker process."""

    def __init__(self, timeout_s: float, status: Callable[[], int] = lambda: 0) -> None:
        """Nobody has asked for it.

        Args:
            timeout_s: the time.
            status: what the process ends with if it is not drained in its time.
        """
        self._timeout_s, self._status = timeout_s, status
        self._host: Host | None = None
        #: Whether somebody has.
        self.asked = False
        #: Says to the thread whether the end has begun, or nobody asks any more. Of all that threads can wait for, only
        #: this may be called wherever a signal finds them.
        self._word: SimpleQueue[bool] = SimpleQueue()

    def begin(self) -> None:
        """Start draining; harmless when repeated, and in a signal handler. Returns at once."""
        self.asked = True
        self._word.put(True)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Have the process leave the block when it is asked to, by SIGTERM or Ctrl-C, before Celery listens to them.

        In any thread but the main one, the block hears no signals.
        """
        vital_thread("gristmill-drain", self._run, end_process).start()
        try:
            if threading.current_thread() is not threading.main_thread():
                yield
                return
            asked = (signal.SIGTERM, signal.SIGINT)
            # Whoever is a shell's background job has Ctrl-C ignored.
            numbers = [each for each in asked if signal.getsignal(each) is not signal.SIG_IGN]
            before = {each: signal.signal(each, self._leave) for each in numbers}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
        finally:
            self._word.put(False)

    def _leave(self, number: int, _: FrameType | None) -> None:
        """Nothing was taken that could be drained."""
        self.begin()
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(self._status())

    def takes(self, host: Host) -> None:
        """From now on there is something to drain.

        Raises:
            SystemExit: the process was asked to leave, and what its handler raised was lost.
        """
        if self.asked:
            raise SystemExit(self._status())
        self._host = host

    def _say(self, host: Host) -> None:
        """Nobody shall pay for what this process does not finish, nor count on it any more."""
        log.info("draining: %d parcels in work have %.0f s to end", host.leases.held, self._timeout_s)
        host.leases.excuse()
        with suppress(GristmillError):
            host.beat()

    def _run(self) -> None:
        if not self._word.get():
            return
        until, host = time.monotonic() + self._timeout_s, self._host
        if host is not None:
            host.drain()
            # On a thread of its own: where the ledger hangs, or whoever reads the log, the time goes on.
            threading.Thread(target=self._say, args=(host,), name="gristmill-excuse", daemon=True).start()
            time.sleep(self._timeout_s * _LAST_LAUNCH)
            for engine in host.engines.values():
                engine.batcher.abandon()
        time.sleep(max(0.0, until - time.monotonic()))
        why = "still starting"
        if host is not None:
            why = f"not drained: {host.leases.held} parcels go back as they are"
            farewell = threading.Thread(target=host.leases.hand_back, name="gristmill-farewell", daemon=True)
            farewell.start()
            farewell.join(_FAREWELL_S)
        end_now(self._status(), lambda: log.error("asked to end %.0f s ago, %s", self._timeout_s, why))
