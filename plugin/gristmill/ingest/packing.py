"""Documents into parcels: pure functions, streaming, in bounded memory.

In: any iterable of documents or mappings. Out: groups that each fit one parcel, and a rejection for whatever is no
document. A bad one costs nobody else anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from gristmill_schemas import Deletion, Document, Rejection
from gristmill_schemas.limits import MAX_PARCEL_BYTES, MAX_PARCEL_DOCUMENTS
from gristmill_schemas.validation import explain

Item = TypeVar("Item", Document, Deletion)


def parse(items: Iterable[Document | Rejection | Mapping[str, Any]]) -> Iterator[Document | Rejection]:
    """Validate each item, and refuse the second of two with the same tenant and id.

    Two documents of one call with one id would share one version, so which of them wins would depend on luck.
    """
    seen = SeenKeys()
    for position, item in enumerate(items):
        document = _document(item, position)
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


class SeenKeys:
    """A set of strings at 8 bytes each, for streams of millions: 64-bit hashes in one sorted array and a small buffer.

    Two different keys collide with probability n²/2⁶⁵: for a million documents, 3 in a hundred million.
    """

    _BUFFER = 65_536

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._sorted: npt.NDArray[np.uint64] = np.empty(0, dtype=np.uint64)

    def add(self, key: str) -> bool:
        """Remember the key; false if it was there already."""
        digest = _digest(key)
        if digest in self._recent or self._in_sorted(digest):
            return False
        self._recent.add(digest)
        if len(self._recent) >= self._BUFFER:
            recent = np.fromiter(self._recent, dtype=np.uint64, count=len(self._recent))
            self._sorted = np.union1d(self._sorted, recent)
            self._recent.clear()
        return True

    def __contains__(self, key: str) -> bool:
        digest = _digest(key)
        return digest in self._recent or self._in_sorted(digest)

    def _in_sorted(self, digest: int) -> bool:
        value = np.uint64(digest)
        at = int(np.searchsorted(self._sorted, value))
        return at < len(self._sorted) and self._sorted[at] == value


def _digest(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")
