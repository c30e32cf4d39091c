"""What things take up in Redis beyond their own bytes, so that the high-water mark speaks of memory and not of payload.

Measured with MEMORY USAGE and `used_memory` on Redis 7.0.15 (jemalloc, 64 bits); `tests/integration/test_memory.py` measures
again. A one-document `enqueue` grows Redis by 3.3 kB, whatever its text.
"""

from __future__ import annotations

from dataclasses import dataclass

#: A parcel's hash without its body (560), its place in line (115), its message as Celery writes it (1,370), table entries.
_PARCEL = 2100
#: A document on the roster of a small collection; in a large one 40 to 70. Counted until it is stored: from then on it is
#: what the collection takes up, not the queue.
_ROSTERED = 110
#: A job's hash (300 and its key), its places in two indexes (115 each), table entries.
JOB = 550
#: A dead letter's hash without its body (600), its places in three indexes, table entries.
_LETTER = 1100


@dataclass(frozen=True, slots=True)
class Costs:
    """Bytes of Redis's memory."""

    roster: bool = True

    @property
    def item(self) -> int:
        """One document or deletion of a parcel, beside its part of the body."""
        return _ROSTERED if self.roster else 0

    def parcel(self, body: int, items: int) -> int:
        """A parcel with a body of so many bytes and so many items, and its message."""
        return _PARCEL + _allocated(body) + items * self.item

    @staticmethod
    def letter(body: int) -> int:
        """A dead letter with a body of so many bytes."""
        return _LETTER + _allocated(body)

    def prelude(self) -> str:
        """The same for scripts."""
        return f"local PARCEL_COST, ITEM_COST, JOB_COST, LETTER_COST = {_PARCEL}, {self.item}, {JOB}, {_LETTER}\n"


def _allocated(size: int) -> int:
    """What jemalloc gives for a string: its size classes are an eighth above on average, a quarter at most."""
    return size + size // 8
