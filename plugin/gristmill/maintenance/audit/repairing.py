"""Repair: bring damaged documents to the point where the normal path stores them again.

The worker's fence looks at chunk 0 alone: a document whose chunk 0 stands at the right version with the right text counts
as stored, whatever became of its other chunks. So what is left of a damaged document is *marked*: one version lower, and
with no text hash. Then the same version passes the fence once more, any older one still does not, the text is encoded
again, and until then what is left stays searchable. (Deleting what is left would lose it if nobody came to replace it; a
flag on the parcel would put a second way past the fence into every worker.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from qdrant_client import QdrantClient, models

from gristmill.maintenance.audit.judging import Problem, chunk_ids
from gristmill.store.connection import store_errors
from gristmill.store.copies import consistency
from gristmill.store.points import Foreign, change, read_content, read_system, span_of
from gristmill_schemas import CollectionSpec, Document, PointSystem, point_id
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.point import ETAG_PATH, VERSION_PATH, etag_of
from gristmill_schemas.validation import SYSTEM_KEY


class Repairer:
    """Changes points, each only if it is still as it was looked at."""

    def __init__(self, store: QdrantClient, spec: CollectionSpec) -> None:
        self._store = store
        self._spec = spec

    def document_for(self, problem: Problem) -> Document | None:
        """The document that closes this gap: the caller's, or what can be put together from its points."""
        given, held = problem.subject.document, problem.held
        if given is not None and (held is None or given.version is None or given.version >= held.version):
            return given
        wanted = problem.subject.version
        if held is None or (wanted is not None and held.version < wanted):
            return None
        return self._recover(held)

    def _recover(self, held: PointSystem) -> Document | None:
        """Put a document together from the texts of its chunks; None unless the result is the text that was hashed."""
        with store_errors(self._spec.physical):
            points = self._store.retrieve(
                self._spec.physical, ids=chunk_ids(held), with_payload=True, consistency=consistency(self._spec)
            )
        text = ""
        metadata: dict[str, Any] = {}
        for (start, end), payload in sorted(self._parts(points), key=lambda part: part[0]):
            part, metadata = read_content(self._spec, payload)
            if start <= len(text) < end:
                text += part[len(text) - start :]
        try:
            found = Document(id=held.id, tenant=held.tenant, text=text, metadata=metadata, version=held.version)
        except InvalidInput:
            return None
        key = point_id(held.id, held.tenant)
        # The etag and not the text hash, which an earlier, interrupted repair may have taken away.
        return found if etag_of(key, found.text_hash, found.metadata_hash) == held.etag else None

    def _parts(self, points: Iterable[models.Record]) -> Iterator[tuple[tuple[int, int], Mapping[str, Any]]]:
        """Characters that each chunk covers, and its payload; what is not ours belongs to no document."""
        for point in points:
            payload = point.payload or {}
            system = read_system(payload)
            if not isinstance(system, Foreign):
                yield span_of(self._spec, system.span, payload), payload

    def make_way(self, problems: Iterable[Problem]) -> None:
        """Let the same version of these documents pass the fence once more."""
        operations: list[models.UpdateOperation] = []
        damaged = [problem.held for problem in problems if problem.held is not None]
        for (version, chunks), group in groupby(sorted(damaged, key=_alike), key=_alike):
            ids = [each for held in group for each in chunk_ids(held)]
            # A single chunk says nothing of its number; where one does, it is read in full, and not taken for unchanged.
            mark = {"version": version - 1, "text_hash": "", "chunks": chunks}
            chosen = _still(ids, _version_is(version))
            operations.append(
                models.SetPayloadOperation(set_payload=models.SetPayload(payload=mark, key=SYSTEM_KEY, filter=chosen))
            )
        squatters: list[str] = [problem.subject.key for problem in problems if problem.squatted]
        if squatters:
            # Under an id of ours and without a version: the fence would neither overwrite nor understand it.
            chosen = _still(squatters, models.IsEmptyCondition(is_empty=models.PayloadField(key=VERSION_PATH)))
            operations.append(models.DeleteOperation(delete=models.FilterSelector(filter=chosen)))
        self._apply(operations)

    def delete_points(self, points: Mapping[str, PointSystem]) -> None:
        """Delete points that should not be there."""
        operations: list[models.UpdateOperation] = []
        for each, system in points.items():
            etag = models.FieldCondition(key=ETAG_PATH, match=models.MatchValue(value=system.etag))
            chosen = _still([each], _version_is(system.version), etag)
            operations.append(models.DeleteOperation(delete=models.FilterSelector(filter=chosen)))
        self._apply(operations)

    def _apply(self, operations: list[models.UpdateOperation]) -> None:
        if operations:
            with store_errors(self._spec.physical):
                change(self._store, self._spec, operations)


def _alike(held: PointSystem) -> tuple[int, int]:
    return held.version, held.chunks


def _still(ids: Sequence[str], *conditions: models.Condition) -> models.Filter:
    return models.Filter(must=[models.HasIdCondition(has_id=list(ids)), *conditions])


def _version_is(version: int) -> models.FieldCondition:
    # As a range: that is what the index on versions serves.
    return models.FieldCondition(key=VERSION_PATH, range=models.Range(gte=version, lte=version))
