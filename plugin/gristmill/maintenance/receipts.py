"""Receipts: where one document stands, from what Qdrant holds and what the ledger remembers."""

from __future__ import annotations

from typing import Any

from qdrant_client import QdrantClient

from gristmill.ledger import Ledger
from gristmill.ledger.reading import Evidence
from gristmill.maintenance.audit.judging import chunk_ids
from gristmill.maintenance.dead_letters import way_back
from gristmill.store.points import look_up
from gristmill_schemas import CollectionSpec, DeadLetter, Parcel, PointSystem, Receipt, ReceiptState, point_id

_NOWHERE = "accepted, but neither pending nor dead nor stored: run `gristmill audit`, with --repair to restore it"


def find_receipt(
    store: QdrantClient, ledger: Ledger, evidence: Evidence, spec: CollectionSpec, document_id: str, tenant: str | None
) -> Receipt:
    """See `Client.receipt`. The state is that of the newest version that anything is known about.

    Costs four look-ups; the pending parcels are read only where there are any.
    """
    key = point_id(document_id, tenant)
    # First, since what is pending now may be stored a moment later, but never the other way round.
    parcel = _pending(ledger, evidence, spec, key, document_id, tenant)
    seen = look_up(store, spec, [key]).get(key)
    held = seen.system if seen else None
    letters = evidence.letters_of(spec.key, document_id, tenant)
    letter = max(letters, key=lambda each: each.version, default=None)
    known = {
        ReceiptState.STORED: held.version if held else -1,
        ReceiptState.DELETED: ledger.tombstones(spec.key, [key]).get(key, -1),
        ReceiptState.DEAD: letter.version if letter else -1,
    }
    state = max(known, key=lambda each: known[each])
    version = known[state]
    details: dict[str, Any] = _stored(held, spec) if held else {}
    accepted = evidence.rostered(spec.key, document_id, tenant)
    if parcel is not None and parcel[1] > version:
        state, version = ReceiptState.PENDING, parcel[1]
        details |= {"job_id": parcel[0].job_id, "enqueued_at": parcel[0].enqueued_at}
    elif accepted is not None and accepted > version:
        state, version = ReceiptState.LOST, accepted
        details |= {"reason": f"there is a point in its place: {seen.problem}" if seen and not held else _NOWHERE}
    elif version < 0:
        state = ReceiptState.UNKNOWN
    elif state is ReceiptState.DEAD and letter is not None:
        details |= _dead(letter)
    return Receipt(
        collection=spec.name,
        id=document_id,
        tenant=tenant,
        state=state,
        version=None if version < 0 else version,
        stored_version=held.version if held else None,
        **details,
    )


def _pending(
    ledger: Ledger, evidence: Evidence, spec: CollectionSpec, key: str, document_id: str, tenant: str | None
) -> tuple[Parcel, int] | None:
    """The pending parcel with the newest version of a document, and that version."""
    if not ledger.load().parcels:
        return None
    found: tuple[Parcel, int] | None = None
    for parcel in evidence.pending(spec.space.model_digest):
        if not spec.is_meant_by(parcel.collection, parcel.collection_key):
            continue
        for item in parcel.items:
            if (item.id, item.tenant) == (document_id, tenant):
                version = parcel.version_of(item)
                found = (parcel, version) if found is None or version > found[1] else found
    return found


def _stored(held: PointSystem, spec: CollectionSpec) -> dict[str, Any]:
    return {
        "fingerprint": held.space,
        "truncated": held.truncated,
        "chunks": held.chunks,
        "tokens": held.tokens,
        # Under what one of other lenses was encoded, nobody knows any more.
        "lenses": {lens.name: lens.document for lens in spec.lenses} if held.space == spec.fingerprint else {},
        "attempts": held.attempts,
        "job_id": held.job,
        "stored_at": held.stored_at,
        "point_ids": tuple(chunk_ids(held)),
    }


def _dead(letter: DeadLetter) -> dict[str, Any]:
    return {
        "attempts": letter.attempts,
        "job_id": letter.job_id,
        "enqueued_at": letter.enqueued_at,
        "reason": f"{letter.error}: {letter.reason}; once the cause is removed: {way_back(letter)}",
    }
