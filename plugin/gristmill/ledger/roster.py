"""The roster: id and highest accepted version of every document, per collection. What a collection should hold.

Written by `accept` itself, in the same atomic step that counts the documents: an audit must not rest on what workers say
about their own work. Small hashes, because Redis packs those: a bucket stays below its limit of 128 entries up to some
16 million documents per collection.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gristmill_schemas import Deletion, Document, Parcel

#: Buckets per collection: one bit each in the collection's bitmap of used buckets (16 KiB).
BUCKETS = 1 << 17


@dataclass(frozen=True, slots=True)
class Rostered:
    """One document that a collection should hold."""

    id: str
    tenant: str | None
    version: int


def name_of(document_id: str, tenant: str | None) -> str:
    """A document's name on the roster; the tenant's length goes first, so that no two documents share one."""
    return f"{len(tenant or '')}:{tenant or ''}{document_id}"


def parse_name(name: str) -> tuple[str, str | None]:
    """Document id and tenant of a name."""
    length, _, rest = name.partition(":")
    return rest[int(length) :], rest[: int(length)] or None


def graves_of(collection: str, tenant: str) -> str:
    """What the deleted documents of a tenant are listed under; its length goes first, so that no two share one."""
    return f"{len(tenant)}:{tenant}{collection}"


def bucket_of(name: str) -> int:
    """The bucket that a name lies in."""
    return zlib.crc32(name.encode()) % BUCKETS


def used_buckets(bitmap: bytes) -> Iterator[int]:
    """Numbers of the bits that are set, as Redis counts them: the first bit is the first byte's highest."""
    for position, byte in enumerate(bitmap):
        if byte:
            yield from (position * 8 + bit for bit in range(8) if byte & (0x80 >> bit))


def enrolment(parcel: Parcel) -> str:
    """The parcel's items as `enrol_each` takes them, in JSON: as a script's arguments they cost more than all else a client
    does for a document.
    """
    return json.dumps([part for item in parcel.items for part in _entry(item, parcel.version_of(item))])


def _entry(item: Document | Deletion, version: int) -> tuple[int, str, str, int]:
    """Bucket, name, version, 1 for a document or 0 for a deletion. To Lua a number of 16 digits is not one of integers."""
    name = name_of(item.id, item.tenant)
    return bucket_of(name), name, str(version), int(isinstance(item, Document))


class MemoryRoster:
    """The same law in this process."""

    def __init__(self) -> None:
        self._collections: dict[str, dict[str, int]] = {}

    def enrol(self, parcel: Parcel, key: str) -> None:
        """Note what a parcel brings to and takes from the collection of this key."""
        known = self._collections.setdefault(key, {})
        for document in parcel.documents:
            name = name_of(document.id, document.tenant)
            known[name] = max(parcel.version_of(document), known.get(name, -1))
        for deletion in parcel.deletions:
            self.strike(key, deletion.id, deletion.tenant, parcel.version_of(deletion))

    def follow(self, parcel: Parcel, key: str) -> None:
        """Move what a parcel brings from the collection that it was accepted for to another."""
        for item in parcel.items:
            self.strike(parcel.collection_key, item.id, item.tenant, parcel.version_of(item))
        self.enrol(parcel, key)

    def strike(self, collection: str, document_id: str, tenant: str | None, through: int) -> None:
        """Forget a document, unless a version above `through` was accepted."""
        known = self._collections.get(collection, {})
        name = name_of(document_id, tenant)
        if known.get(name, through + 1) <= through:
            del known[name]

    def drop(self, collection: str, name: str) -> None:
        """Forget a name, whatever its version."""
        self._collections.get(collection, {}).pop(name, None)

    def versions(self, collection: str) -> Mapping[str, int]:
        """Name to version."""
        return self._collections.get(collection, {})

    def forget(self, collection: str) -> None:
        """Forget a whole collection."""
        self._collections.pop(collection, None)
