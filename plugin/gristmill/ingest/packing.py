"""Documents into parcels: functions of their input (and, for slow streams, of the clock), streaming, in bounded memory.

In: any iterable of documents or mappings. Out: groups that each fit one parcel, and a rejection for whatever is no
document. A bad one costs nobody else anything.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from gristmill.seen_keys import TWICE, SeenKeys
from gristmill_schemas import Deletion, Document, Rejection
from gristmill_schemas.limits import FIRST_PARCEL_DOCUMENTS, MAX_PARCEL_BYTES, MAX_PARCEL_DOCUMENTS
from gristmill_schemas.validation import explain

Item = TypeVar("Item", Document, Deletion)

#: Groups of a stream that are kept small, so that the workers of a short job have something each.
FIRST_GROUPS = 16
#: Bytes from which a group of `FIRST_PARCEL_DOCUMENTS` items or more is large enough: so many ordinary texts have them, too.
_ENOUGH_BYTES = 64 * 1024
#: Seconds after which it is, so that a slow stream is not kept waiting for company.
_ENOUGH_S = 1.0


def parse(
    items: Iterable[Document | Rejection | Mapping[str, Any]], tenant: str | None = None
) -> Iterator[Document | Rejection]:
    """Validate each item, and refuse the second of two with the same tenant and id.

    Where a tenant is named, documents that name none are given to it, and those of another are refused.

    Two documents of one call with one id would share one version, so which of them wins would depend on luck.
    """
    seen = SeenKeys()
    for position, item in enumerate(items):
        document = _owned(_document(item, position), position, tenant)
        if isinstance(document, Document) and not seen.add(f"{document.tenant or ''}\0{document.id}"):
            yield Rejection(position=position, id=document.id, reason=TWICE)
        else:
            yield document


def _document(item: Document | Rejection | Mapping[str, Any], position: int) -> Document | Rejection:
    if isinstance(item, Document | Rejection):
        return item
    try:
        return Document.model_validate(item)
    except ValidationError as error:
        raw = item.get("id") if isinstance(item, Mapping) else None
        return Rejection(position=position, id=printable(raw), reason=explain(error))


def _owned(document: Document | Rejection, position: int, tenant: str | None) -> Document | Rejection:
    if tenant is None or isinstance(document, Rejection) or document.tenant == tenant:
        return document
    if document.tenant is None:
        return document.model_copy(update={"tenant": tenant})
    reason = f"tenant: expected {tenant!r}, whose documents these are, or none, got {document.tenant!r}"
    return Rejection(position=position, id=document.id, reason=reason)


def printable(raw: object) -> str | None:
    """An id as far as it can be shown: records refuse lone surrogates, and the offender may hold one."""
    return None if raw is None else str(raw)[:80].encode("utf-8", "replace").decode().replace("\0", "\\0")


def group(items: Iterable[Item]) -> Iterator[tuple[Item, ...]]:
    """Cut a stream into groups of at most 256 items and 256 KiB, the first ones of at most 64; a larger item travels alone.

    After the first groups those of short items grow: to 256 of them, or until they are as much work as 64 ordinary ones:
    what a parcel costs, eight requests to Redis and Qdrant, it costs whatever it holds.
    """
    batch: list[Item] = []
    size, number, until = 0, 0, 0.0
    for item in items:
        cost = item.size
        if batch and (_is_enough(len(batch), size, number, until) or size + cost > MAX_PARCEL_BYTES):
            yield tuple(batch)
            batch, size, number = [], 0, number + 1
        if not batch:
            until = time.monotonic() + _ENOUGH_S
        batch.append(item)
        size += cost
    if batch:
        yield tuple(batch)


def _is_enough(items: int, size: int, number: int, until: float) -> bool:
    """Whether a group, the `number`th from 0, takes no more."""
    if items < FIRST_PARCEL_DOCUMENTS:
        return False
    is_large = items == MAX_PARCEL_DOCUMENTS or size >= _ENOUGH_BYTES
    return number < FIRST_GROUPS or is_large or time.monotonic() >= until
