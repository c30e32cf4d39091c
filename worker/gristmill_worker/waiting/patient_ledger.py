"""The ledger as a stage sees it: a call returns when Redis has answered, however long that takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gristmill.ledger import Begun, Claim, Holding, Ledger, Verdict
from gristmill_schemas import Intent, Parcel, Retraction
from gristmill_worker.waiting.patience import Patience


class PatientLedger:
    """What a parcel's way needs of the ledger; every call may raise `ShuttingDown` while Redis is away."""

    def __init__(self, ledger: Ledger, patience: Patience) -> None:
        self._ledger = ledger
        self._patience = patience

    def claim(self, model_digest: str, lease_s: float, holding: Holding) -> Claim | None:
        """See `Ledger.claim`."""
        return self._patience.call(lambda: self._ledger.claim(model_digest, lease_s, holding))

    def begin(self, claim: Claim) -> Begun:
        """See `Ledger.begin`."""
        return self._patience.call(lambda: self._ledger.begin(claim))

    def note_found(self, claim: Claim, keys: Iterable[str]) -> bool:
        """See `Ledger.note_found`."""
        return self._patience.call(lambda: self._ledger.note_found(claim, keys))

    def finish(self, claim: Claim, verdict: Verdict) -> bool:
        """See `Ledger.finish`."""
        return self._patience.call(lambda: self._ledger.finish(claim, verdict))

    def split(self, claim: Claim, parts: Sequence[Parcel], attempts: int) -> bool:
        """See `Ledger.split`."""
        return self._patience.call(lambda: self._ledger.split(claim, parts, attempts))

    def follow(self, parcel: Parcel, key: str) -> None:
        """See `Ledger.follow`."""
        self._patience.call(lambda: self._ledger.follow(parcel, key))

    def intend(self, intent: Intent) -> bool:
        """See `Ledger.intend`."""
        return self._patience.call(lambda: self._ledger.intend(intent))

    def reroute(self, claim: Claim, parcel: Parcel) -> bool:
        """See `Ledger.reroute`."""
        return self._patience.call(lambda: self._ledger.reroute(claim, parcel))

    def bury(self, collection: str, versions: Mapping[str, int], owners: Mapping[str, str], claim: Claim) -> bool:
        """See `Ledger.bury`."""
        return self._patience.call(lambda: self._ledger.bury(collection, versions, owners, claim))

    def retractions(self) -> list[Retraction]:
        """See `Ledger.retractions`."""
        return self._patience.call(self._ledger.retractions)

    def lift(self, retraction_id: str) -> None:
        """See `Ledger.lift`."""
        self._patience.call(lambda: self._ledger.lift(retraction_id))

    def tombstones(self, collection: str, point_ids: Sequence[str]) -> dict[str, int]:
        """See `Ledger.tombstones`."""
        return self._patience.call(lambda: self._ledger.tombstones(collection, point_ids))
