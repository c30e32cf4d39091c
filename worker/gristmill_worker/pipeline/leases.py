"""The keeper: one thread that keeps this worker's claims alive and says that it lives; its watchdog ends a hung process.

A claim is renewed only while its task runs, so the work of a killed worker is free after one lease, and that of a worker
whose threads hang in a lost connection is not stolen while it still moves.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from gristmill.ledger import Claim, Ledger
from gristmill_schemas.errors import Unavailable

log = logging.getLogger(__name__)

#: Exit status of a process that gives up on itself; the supervisor starts a new one.
EXIT_HUNG = 70


class Keeper:
    """Renews leases, sends heartbeats, runs periodic duties."""

    def __init__(
        self,
        ledger: Ledger,
        worker_id: str,
        lease_s: float,
        status: Callable[[], Mapping[str, object]],
        duties: Mapping[str, tuple[float, Callable[[], None]]],
    ) -> None:
        """`duties`: name to (period in seconds, function); they run on this thread, one after the other."""
        self._ledger = ledger
        self._worker_id = worker_id
        self._lease_s = lease_s
        self._status = status
        self._duties = dict(duties)
        self._due = dict.fromkeys(duties, 0.0)
        self._claims: dict[str, Claim] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gristmill-keeper", daemon=True)

    def start(self) -> None:
        """Start keeping."""
        self._thread.start()

    def close(self) -> None:
        """Stop keeping; claims still held run out by themselves."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    @contextmanager
    def holding(self, claim: Claim) -> Iterator[None]:
        """Keep the claim alive while the block runs."""
        with self._lock:
            self._claims[claim.token] = claim
        try:
            yield
        finally:
            with self._lock:
                del self._claims[claim.token]

    @property
    def held(self) -> int:
        """Parcels in work."""
        return len(self._claims)

    def _run(self) -> None:
        while not self._stop.wait(self._tick()):
            pass

    def _tick(self) -> float:
        """Do what is due; returns seconds until the next look."""
        try:
            with self._lock:
                claims = list(self._claims.values())
            self._ledger.renew(claims, self._lease_s)
            self._ledger.heartbeat(self._worker_id, self._status(), ttl_s=max(3 * self._interval_s, 10.0))
        except Unavailable as error:
            log.warning("heartbeat: %s", error)
        except Exception:
            # This thread is all that keeps this worker's leases: it must outlive whatever goes wrong here.
            log.exception("leases could not be renewed; trying again")
        for name, (period_s, duty) in self._duties.items():
            if time.monotonic() >= self._due[name]:
                self._due[name] = time.monotonic() + period_s
                self._perform(name, duty)
        return min([self._interval_s, *(period_s for period_s, _ in self._duties.values())])

    @property
    def _interval_s(self) -> float:
        return min(self._lease_s / 4, 3.0)

    @staticmethod
    def _perform(name: str, duty: Callable[[], None]) -> None:
        try:
            duty()
        except Unavailable as error:
            log.warning("%s: %s", name, error)
        except Exception:
            # A duty that fails must not take the leases down with it.
            log.exception("%s failed; trying again later", name)


def exit_if_hung(busy_since: Callable[[], float | None], limit_s: float) -> Callable[[], None]:
    """A duty that ends the process when one batch has been on the model for longer than `limit_s`.

    Nothing gentler helps: a thread inside a hung kernel cannot be stopped. The parcel's attempt is counted already.
    """

    def watch() -> None:
        since = busy_since()
        if since is not None and time.monotonic() - since > limit_s:
            log.critical("one batch has been on the model for more than %.0f s: giving this process up", limit_s)
            logging.shutdown()
            os._exit(EXIT_HUNG)

    return watch
