"""The roster: id and highest accepted version of every document, per collection. What a collection should hold.

The version before it is kept, too: where the highest is taken back (its job is cancelled, its dead letter dropped), the
document is expected as it was before.

Written by `accept` itself, in the same atomic step that counts the documents: an audit must not rest on what workers say
about their own work. Small hashes, because Redis packs those: a bucket stays below its limit of 128 entries up to some
16 million documents per collection.
"""

from __future__ import annotations

import functools
import json
import operator
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gristmill_schemas import DeadLetter, Deletion, Document, Parcel

#: Buckets per collection: one bit each in the collection's bitmap of used buckets (16 KiB).
BUCKETS = 1 << 17
#: Versions of a document that are kept; `write_entry` has it too.
_KEPT = 2


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
    """The parcel's documents as `enrol_each` takes them, in JSON: as a script's arguments they cost more than all else a
    client does for a document.
    """
    return _entries(parcel, parcel.documents)


def listing(entries: Iterable[Rostered]) -> str:
    """Documents in the same form."""
    return json.dumps([part for each in entries for part in _entry(each, each.version)])


def struck(parcel: Parcel, letters: Iterable[DeadLetter] = ()) -> str:
    """Its deletions that are done, which are those without a letter, as `strike_each` takes them."""
    return _entries(parcel, done(parcel, letters))


def done(parcel: Parcel, letters: Iterable[DeadLetter]) -> list[Deletion]:
    """Deletions of a parcel without a letter."""
    dead = {letter.identity for letter in letters}
    return [deletion for deletion in parcel.deletions if (deletion.id, deletion.tenant) not in dead]


def _entries(parcel: Parcel, items: Iterable[Document | Deletion]) -> str:
    return json.dumps([part for item in items for part in _entry(item, parcel.version_of(item))])


def _entry(item: Document | Deletion | Rostered, version: int) -> tuple[int, str, str]:
    """Bucket, name, version. To Lua a number of 16 digits is not one of integers."""
    name = name_of(item.id, item.tenant)
    return bucket_of(name), name, str(version)


def newest(entry: bytes) -> int:
    """The version that is expected, of an entry in Redis."""
    return int(entry.partition(b" ")[0])


class MemoryRoster:
    """The same law in this process."""

    def __init__(self) -> None:
        #: Of each collection the names, and versions of each, the newest first.
        self._collections: dict[str, dict[str, list[int]]] = {}

    def enrol(self, parcel: Parcel, key: str) -> None:
        """Note what a parcel brings to the collection of this key."""
        for document in parcel.documents:
            self._enrol_one(key, name_of(document.id, document.tenant), parcel.version_of(document))

    def strike(self, parcel: Parcel, key: str, letters: Iterable[DeadLetter] = ()) -> None:
        """Forget what the deletions of a parcel, those without a letter, have deleted."""
        for deletion in done(parcel, letters):
            stays = functools.partial(operator.lt, parcel.version_of(deletion))
            self._keep(key, name_of(deletion.id, deletion.tenant), stays)

    def enlist(self, key: str, entries: Sequence[Rostered], *, looking: bool) -> list[Rostered]:
        """Note documents; returns those that were not known, or of an older version."""
        names = {name_of(each.id, each.tenant): each for each in entries}
        known = {name: version for name in names if (version := self.version(key, name)) is not None}
        unknown = {name: each for name, each in names.items() if each.version > known.get(name, -1)}
        if not looking:
            for name, each in unknown.items():
                self._enrol_one(key, name, each.version)
        return list(unknown.values())

    def _enrol_one(self, key: str, name: str, version: int) -> None:
        known = self._collections.setdefault(key, {})
        known[name] = sorted({version, *known.get(name, [])}, reverse=True)[:_KEPT]

    def follow(self, parcel: Parcel, key: str) -> None:
        """Move what a parcel brings from the collection that it was accepted for to another."""
        self.withdraw(parcel)
        self.enrol(parcel, key)
        self.strike(parcel, key)

    def withdraw(self, parcel: Parcel) -> None:
        """The documents of a parcel are not to come after all."""
        for document in parcel.documents:
            version = parcel.version_of(document)
            self.withdraw_one(parcel.collection_key, document.id, document.tenant, version)

    def withdraw_one(self, collection: str, document_id: str, tenant: str | None, taken_back: int) -> None:
        """This version of a document is not to come."""
        self._keep(collection, name_of(document_id, tenant), lambda version: version != taken_back)

    def _keep(self, collection: str, name: str, stays: Callable[[int], bool]) -> None:
        known = self._collections.get(collection, {})
        if left := [version for version in known.get(name, []) if stays(version)]:
            known[name] = left
        else:
            known.pop(name, None)

    def drop(self, collection: str, name: str) -> None:
        """Forget a name, whatever its version."""
        self._collections.get(collection, {}).pop(name, None)

    def version(self, collection: str, name: str) -> int | None:
        """The version that is expected under a name."""
        return next(iter(self._collections.get(collection, {}).get(name, ())), None)

    def versions(self, collection: str) -> Mapping[str, int]:
        """Name to version."""
        return {name: versions[0] for name, versions in self._collections.get(collection, {}).items()}

    def forget(self, collection: str) -> None:
        """Forget a whole collection."""
        self._collections.pop(collection, None)
