"""Documents into parcels: pure functions, streaming, in bounded memory.

In: any iterable of documents or mappings. Out: groups that each fit one parcel, and a rejection for whatever is no
document. A bad one costs nobody else anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from gristmill.seen_keys import SeenKeys
from gristmill_schemas import Deletion, Document, Rejection
from gristmill_schemas.limits import MAX_PARCEL_BYTES, MAX_PARCEL_DOCUMENTS
from gristmill_schemas.validation import explain

Item = TypeVar("Item", Document, Deletion)


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
            yield Rejection(
                position=position,
                id=document.id,
                reason="id: expected each id once per call, got this one a second time; the first was accepted",
            )
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
    """Cut a stream into groups of at most 64 items or 256 KiB; a larger item travels alone."""
    batch: list[Item] = []
    size = 0
    for item in items:
        cost = _bytes(item)
        if batch and (len(batch) == MAX_PARCEL_DOCUMENTS or size + cost > MAX_PARCEL_BYTES):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(item)
        size += cost
    if batch:
        yield tuple(batch)


def _bytes(item: Document | Deletion) -> int:
    # The JSON of metadata is counted by its Python text: close enough to bound a parcel, and it costs next to nothing.
    return len(item.text.encode()) + len(str(item.metadata)) + 64 if isinstance(item, Document) else 64
