"""Leases: the claims that this process holds, kept alive by a thread that does nothing else.

With them goes how far each has come, so that whoever watches a job sees it move before a parcel ends.

A claim is renewed only while its task runs, so the work of a killed worker is free after one lease, and that of a worker
whose threads hang in a lost connection is not stolen while it still moves.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from gristmill.ledger import Claim, Encoded, Ledger
from gristmill_schemas.errors import GristmillError, Unavailable
from gristmill_worker.vital_threads import Died, end_process, vital_thread

log = logging.getLogger(__name__)

#: Longest pause between two renewals.
_LONGEST_S = 1.0
_LOOK_S = 0.02


class Leases:
    """What this process holds. Shared by all task threads."""

    def __init__(self, ledger: Ledger, lease_s: float, died: Died = end_process) -> None:
        self._ledger = ledger
        self.lease_s = lease_s
        self._claims: dict[str, Claim] = {}
        #: By the claim's token: documents and tokens.
        self._encoded: dict[str, list[int]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = vital_thread("gristmill-leases", self._run, died)

    def start(self) -> None:
        """Start renewing."""
        self._thread.start()

    def close(self) -> None:
        """Stop renewing; claims still held run out by themselves."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    @contextmanager
    def holding(self, claim: Claim) -> Iterator[None]:
        """Keep the claim alive while the block runs."""
        with self._lock:
            self._claims[claim.token] = claim
            self._encoded[claim.token] = [0, 0]
        try:
            yield
        finally:
            with self._lock:
                self._claims.pop(claim.token, None)
                self._encoded.pop(claim.token, None)

    def encoded(self, claim: Claim, tokens: int) -> None:
        """One more document of a claim, of so many tokens, has all its vectors."""
        if (so_far := self._encoded.get(claim.token)) is not None:
            so_far[0] += 1
            so_far[1] += tokens

    @property
    def held(self) -> int:
        """Parcels in work."""
        return len(self._claims)

    def excuse(self) -> None:
        """Give every held claim its attempt back while it is worked on: whatever ends this process now, it is not they."""
        with self._lock:
            claims = list(self._claims.values())
        try:
            for claim in claims:
                self._ledger.begin(replace(claim, attempts=claim.attempts - 1))
        except GristmillError as away:
            log.warning("attempts could not be given back: %s", away)

    def settle(self, within_s: float = 2.0) -> None:
        """Wait for the tasks to give back what they hold, each as its error asks for; then hand back the rest."""
        until = time.monotonic() + within_s
        while self._claims and time.monotonic() < until:
            time.sleep(_LOOK_S)
        self.hand_back()

    def hand_back(self) -> None:
        """Give everything back that is still held, each with its attempt: for a process that ends without finishing it."""
        with self._lock:
            claims, self._claims = list(self._claims.values()), {}
        for claim in claims:
            try:
                self._ledger.release(claim, refund=True)
            except GristmillError as away:
                log.warning("parcel %s could not be given back (%s); its lease will run out", claim.parcel.id, away)
                return  # so could none of the others

    def _progress(self, claim: Claim) -> Encoded:
        documents, tokens = self._encoded[claim.token]
        # A document that is overtaken is encoded twice.
        return Encoded(min(documents, len(claim.parcel)), tokens)

    def _run(self) -> None:
        while not self._stop.wait(min(self.lease_s / 4, _LONGEST_S)):
            self._renew()

    def _renew(self) -> None:
        with self._lock:
            claims = list(self._claims.values())
            encoded = {claim.token: self._progress(claim) for claim in claims}
        try:
            self._ledger.renew(claims, self.lease_s, encoded)
        except Unavailable as error:
            log.warning("leases could not be renewed: %s", error)
        except Exception:
            # This thread is all that keeps this worker's leases: it must outlive whatever goes wrong here.
            log.exception("leases could not be renewed; trying again")
