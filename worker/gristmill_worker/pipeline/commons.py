"""What all engines of one process share: made once by the host, handed to each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qdrant_client import QdrantClient

from gristmill.ledger import Ledger
from gristmill.ledger.clock import LedgerClock
from gristmill.store.collections import Collections
from gristmill_worker.pipeline.gate import Gate
from gristmill_worker.pipeline.leases import Leases
from gristmill_worker.waiting.missing_collections import MissingCollections
from gristmill_worker.waiting.notices import Notices
from gristmill_worker.waiting.patience import Patience
from gristmill_worker.waiting.patient_ledger import PatientLedger


@dataclass(frozen=True, slots=True)
class Commons:
    """What a process has once, whatever it serves."""

    ledger: Ledger
    #: What is written down for other machines is told by it.
    clock: LedgerClock
    store: QdrantClient
    collections: Collections
    leases: Leases
    patience: Patience
    notices: Notices
    missing: MissingCollections
    #: A suspect has the whole process to itself, not only its model: it is the process that it may end.
    gate: Gate
    #: Tells the workers of a model that so many more parcels wait.
    publish: Callable[[str, int], None]
    #: How many workers serve a model, this one included.
    workers: Callable[[str], int]
    max_attempts: int
    #: Longest wait of a task thread for one answer of the store, or of a model's server, seconds.
    server_wait_s: float

    @property
    def patient_ledger(self) -> PatientLedger:
        """The ledger, wrapped in waiting."""
        return PatientLedger(self.ledger, self.patience)
