"""All vectors of a collection at once, for what looks at every one of them: exact rankings, groups, maps.

Memory: 4 bytes per dimension and point, so 100,000 points of 1,024 dimensions take 400 MB.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gristmill.client import Client
from gristmill.search.filters import Where, compile_filter
from gristmill.search.lenses import find_lens
from gristmill.store.points import Foreign, read_point
from gristmill.store.tenancy import require_tenant
from gristmill.store.vectors import scroll_vectors, vector_of
from gristmill_schemas import CollectionSpec
from gristmill_schemas.validation import SYSTEM_KEY


@dataclass(frozen=True, slots=True)
class StoredVectors:
    """Points of a collection: the arrays' rows and the lists' entries belong together."""

    spec: CollectionSpec
    #: Id of each point's document; one in several chunks occurs as often.
    ids: list[str]
    #: float32 (points, dimensions), as they are stored: normalised where the collection's space is.
    vectors: npt.NDArray[np.float32]
    #: Number of each point's chunk within its document.
    chunks: list[int]
    #: Each point's payload without our own record: text and metadata; empty mappings where none was asked for.
    payloads: list[dict[str, Any]]


def stored_vectors(
    client: Client,
    collection: str,
    *,
    lens: str | None = None,
    where: Where | None = None,
    tenant: str | None = None,
    payload: bool = False,
) -> StoredVectors:
    """Read every vector of a collection, in the order of its points' ids.

    Args:
        client: an open one.
        collection: its name.
        lens: whose vectors; None: those without one.
        where: only points whose metadata is so, as in a search.
        tenant: only this tenant's.
        payload: bring texts and metadata, too.

    Returns:
        The points that are ours; those that lack this vector are left out.

    Raises:
        InvalidInput: an argument is wrong.
        CollectionNotFound, StoreUnavailable, StoreRefused.
    """
    spec = client.collections.get(collection)
    require_tenant(spec, tenant)
    name = "" if find_lens(spec, lens) is None else str(lens)
    found = StoredVectors(spec, [], np.empty((0, spec.space.dimensions), np.float32), [], [])
    rows: list[Any] = []
    fields: list[str] | bool = True if payload else [SYSTEM_KEY]
    for point in scroll_vectors(client._parts.store, spec, name, compile_filter(where, tenant), fields):
        system, vector = read_point(point), vector_of(point, name)
        if isinstance(system, Foreign) or vector is None:
            continue
        found.ids.append(system.id)
        found.chunks.append(system.chunk)
        found.payloads.append({key: value for key, value in (point.payload or {}).items() if key != SYSTEM_KEY})
        rows.append(np.asarray(vector, np.float32))
    return replace(found, vectors=np.stack(rows)) if rows else found
