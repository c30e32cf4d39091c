"""Bulk loads that are over: whoever began one may have been killed, or left while its documents were on their way.

Cost per look: one request to Qdrant per collection; of a load that nobody holds, a scan of what waits for its model.
"""

from __future__ import annotations

from gristmill.ledger import Ledger
from gristmill.maintenance.bulk_loads import BulkLoads
from gristmill.store.collections import Collections
from gristmill_schemas import CollectionSpec
from gristmill_schemas.errors import CollectionNotFound, GristmillError
from gristmill_worker.waiting.notices import Notices, Waits

#: How often to look: no index is off for longer than this, and a holder's lease, after the last document is stored.
BULK_PERIOD_S = 15.0


class BulkLoadsOver:
    """A duty, at every worker; a turn in the ledger makes one of them act."""

    def __init__(
        self,
        ledger: Ledger,
        collections: Collections,
        loads: BulkLoads,
        notices: Notices,
        holder: str,
        period_s: float = BULK_PERIOD_S,
    ) -> None:
        self._ledger = ledger
        self._collections = collections
        self._loads = loads
        self._notices = notices
        self._holder = holder
        self._period_s = period_s

    def __call__(self) -> None:
        """One look, if it is this worker's turn."""
        if self._ledger.take_turn("bulk loads", self._holder, lease_s=1.5 * self._period_s):
            for spec in self._collections.list():
                if spec.bulk_since is not None:
                    self._settle(spec)

    def _settle(self, spec: CollectionSpec) -> None:
        cause = ("bulk", spec.physical)
        try:
            self._loads.settle(spec)
            self._notices.drop(cause)
        except CollectionNotFound:
            self._notices.drop(cause)
        except GristmillError as error:
            self._notices.put(
                cause,
                Waits.BULK_LOAD,
                f"the index of {spec.name!r} is off after a bulk load, and cannot be switched on from here ({error}); "
                f"whoever may change collections can: `gristmill collections finish-bulk {spec.name}`",
            )
