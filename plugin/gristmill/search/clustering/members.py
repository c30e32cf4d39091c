"""What is grouped: a collection's documents, each by one vector of unit length, the mean of its chunks' vectors.

Read page by page, in the order of point ids, which follow from documents' ids: the same documents come in the same order.
Memory: N · D float32 and the ids; 100,000 documents of 1,024 numbers are 400 MB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from qdrant_client import QdrantClient, models

from gristmill.store.points import read_point
from gristmill.store.vectors import scroll_vectors, vector_of
from gristmill_schemas import CollectionSpec, PointSystem
from gristmill_schemas.validation import SYSTEM_KEY

Matrix = npt.NDArray[np.float32]

#: Rows that there is room for at first; and so often somebody is told how many were read.
_FIRST_ROWS = _TOLD = 1024


@dataclass(frozen=True, slots=True)
class Members:
    """Documents and their vectors, row by row."""

    #: Tenant and id of each.
    names: list[tuple[str | None, str]]
    #: Float32 (N, D), of unit length.
    vectors: Matrix
    #: Documents that have no such vector, and are not among these.
    vectorless: int = 0


@dataclass(slots=True)
class _Sums:
    """Sums of chunks' vectors, by document."""

    dimensions: int
    rows: dict[tuple[str | None, str], int] = field(default_factory=dict)
    versions: list[int] = field(default_factory=list)
    vectors: Matrix = field(init=False)

    def __post_init__(self) -> None:
        self.vectors = np.zeros((_FIRST_ROWS, self.dimensions), np.float32)

    def add(self, of: PointSystem, vector: object) -> None:
        """One chunk. While a document is replaced there are chunks of two versions, of which the newer counts."""
        row = self.rows.setdefault((of.tenant, of.id), len(self.rows))
        if row == len(self.versions):
            self.versions.append(of.version)
            if row == len(self.vectors):  # in place: a copy of all that was read so far would double what this takes
                self.vectors.resize((2 * row, self.dimensions), refcheck=False)
        if of.version > self.versions[row]:
            self.versions[row] = of.version
            self.vectors[row] = 0
        if of.version == self.versions[row]:
            self.vectors[row] += np.asarray(vector, np.float32)

    def of_unit_length(self) -> Matrix:
        """The means' directions; a vector of nothing but zeros, which has none, stays."""
        found = self.vectors[: len(self.rows)]
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        found /= np.where(lengths > 0, lengths, 1)
        return found


def read_members(
    store: QdrantClient,
    spec: CollectionSpec,
    name: str,
    where: models.Filter | None,
    progress: Callable[[int], object],
) -> Members:
    """The documents that match, by the vector of this name; the empty one is the collection's own.

    Args:
        store: server or local mode.
        spec: the collection.
        name: of the vector.
        where: a filter.
        progress: called with the number of documents read so far.
    """
    sums, without = _Sums(spec.space.dimensions), set[tuple[str | None, str]]()
    for point in scroll_vectors(store, spec, name, where, [SYSTEM_KEY]):
        system = read_point(point)
        if not isinstance(system, PointSystem):
            continue  # another tool's
        if (vector := vector_of(point, name)) is None:
            without.add((system.tenant, system.id))
            continue
        sums.add(system, vector)
        if len(sums.rows) % _TOLD == 0:
            progress(len(sums.rows))
    progress(len(sums.rows))
    return Members(list(sums.rows), sums.of_unit_length(), len(without - sums.rows.keys()))
