"""What things take up in Redis beyond their own bytes, so that the high-water mark speaks of memory and not of payload.

Measured with MEMORY USAGE and `used_memory` on Redis 7.0.15 (jemalloc, 64 bits); `tests/integration/test_memory.py` measures
again. A one-document `enqueue` grows Redis by 3.2 kB, whatever its text.
"""

from __future__ import annotations

from dataclasses import dataclass

from gristmill.ledger.roster import name_of
from gristmill_schemas import Document, Parcel

#: A parcel's hash without its body (560), its place in line (115), table entries.
_PARCEL = 850
#: A message as Celery writes it.
_MESSAGE = 1400
#: A document on the roster of a small collection, beside its name; in a large one half of it. Counted until it is stored:
#: from then on it is what the collection takes up, not the queue. A deletion takes up none.
_ROSTERED = 120
#: What a name adds that is longer than Redis packs (`hash-max-listpack-value`).
_UNPACKED, _LONGEST_PACKED = 150, 64
#: What of a parcel is one tenant's, and what this has in all, beside its name in both.
_SHARE = 130
#: A job's hash (300 and its key), its places in two indexes (115 each), table entries.
JOB = 550
#: A webhook with a URL of some 150 characters: its hash (1,300), its places in two indexes, table entries.
WEBHOOK = 1650
#: A dead letter's hash without its body (600), its places in three indexes, table entries.
_LETTER = 1100


@dataclass(frozen=True, slots=True)
class Costs:
    """Bytes of Redis's memory."""

    roster: bool = True

    def parcel(self, body: int, parcel: Parcel, messages: int = 0) -> int:
        """A parcel whose body has so many bytes, and the messages that are sent for it."""
        rostered = sum(map(_rostered, parcel.documents)) if self.roster else 0
        return _PARCEL + _MESSAGE * messages + _allocated(body) + rostered + _shared(parcel)

    @staticmethod
    def letter(body: int) -> int:
        """A dead letter with a body of so many bytes."""
        return _LETTER + _allocated(body)

    @staticmethod
    def prelude() -> str:
        """What scripts have to know of it."""
        return f"local JOB_COST, WEBHOOK_COST, LETTER_COST = {JOB}, {WEBHOOK}, {_LETTER}\n"


def _rostered(document: Document) -> int:
    name = len(name_of(document.id, document.tenant).encode())
    return _ROSTERED + name + (_UNPACKED if name > _LONGEST_PACKED else 0)


def _shared(parcel: Parcel) -> int:
    tenants = {item.tenant for item in parcel.items if item.tenant is not None}
    return sum(_SHARE + 2 * len(tenant.encode()) for tenant in tenants)


def _allocated(size: int) -> int:
    """What jemalloc gives for a string: its size classes are an eighth above on average, a quarter at most."""
    return size + size // 8
