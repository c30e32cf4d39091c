"""What a collection really holds after a pass, by looking at every point."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from qdrant_client import QdrantClient

from gristmill.store.points import scroll


@dataclass(frozen=True, slots=True)
class Inspection:
    """Documents and points of one collection against what was expected."""

    #: Expected documents that are there.
    stored: int
    #: Expected documents that are not.
    lost: int
    #: Points that should not be there: a chunk once more, of another document, or none of ours.
    duplicates: int


def inspect(store: QdrantClient, collection: str, expected: Collection[str]) -> Inspection:
    """Look at every point of a collection.

    Args:
        store: where it is.
        collection: physical name.
        expected: ids of the documents that were handed over, without a tenant.
    """
    seen = Counter(
        None if (system := point.system) is None else (system.id, system.chunk)
        for page in scroll(store, collection)
        for point in page
    )
    wanted = set(expected)
    good = {each for each in seen if each is not None and each[0] in wanted}
    stored = sum(chunk == 0 for _, chunk in good)
    return Inspection(stored, len(wanted) - stored, seen.total() - len(good))
