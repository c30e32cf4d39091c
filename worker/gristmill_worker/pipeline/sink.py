"""The sink: reads what Qdrant holds and writes points, fenced, in bounded requests, waiting while the server is away.

Every write is conditional on `stored version < mine`, in Qdrant itself, and returns only when Qdrant has applied it
(`wait=True`). Arrays travel as they are over gRPC, and never become Python floats; over REST they become JSON.
"""

from __future__ import annotations

import functools
import itertools
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Error as ProtobufError
from qdrant_client import QdrantClient, models

from gristmill.store.connection import store_errors
from gristmill.store.points import (
    Foreign,
    change,
    number_bytes,
    payload_of,
    raise_versions,
    read_systems,
    read_unchanged,
    upsert,
)
from gristmill.store.tenancy import retracting
from gristmill_schemas import CollectionSpec, PointSystem, Retraction, point_id
from gristmill_schemas.errors import RequestTooLarge, StoreRefused, StoreUnfit
from gristmill_schemas.point import ETAG_PATH, ID_PATH, POINT_NAMESPACE, TENANT_PATH, VERSION_PATH
from gristmill_schemas.validation import SYSTEM_KEY
from gristmill_worker.batching.idle_clock import IdleClock, Stage
from gristmill_worker.metering.meter import ModelMeter, StoreCall
from gristmill_worker.pipeline.fence import Task, Unchanged
from gristmill_worker.waiting.patience import Patience

log = logging.getLogger(__name__)
T = TypeVar("T")
K = TypeVar("K")
#: What is read of a point.
_Found = PointSystem | Unchanged | Foreign
#: Id and tenant of a document.
_Name = tuple[str, str | None]

#: Bounds of one request. Qdrant is fastest at 64-256 points, and its clients report larger bodies as time-outs.
MAX_REQUEST_POINTS = 256
MAX_REQUEST_BYTES = 4 * 1024 * 1024
#: Requests do not become smaller than this, however small a proxy wants them.
_LEAST_REQUEST_BYTES = 16 * 1024
#: Bytes of a point beside its vector and the user's part of its payload: our part, and the names of fields.
_POINT_BYTES = 512
#: Bytes that name one point in a filter: its id, quoted, and its content's tag.
_NAME_BYTES = 80
#: Bound of one read of system payloads: about half a megabyte of answer.
_READ_POINTS = 1024


#: The point by which a store shows that it takes points; no document has this id.
_PROBE_ID = str(uuid.uuid5(POINT_NAMESPACE, "probe"))


@dataclass(slots=True)
class Sighting:
    """What Qdrant holds of one document."""

    #: Chunk 0, where there is one, and those of its other chunks that exist.
    stored: PointSystem | Unchanged | None
    others: tuple[PointSystem, ...]
    #: Why a point under one of its ids is not ours, where there is such a point.
    squatter: str | None


@dataclass(slots=True)
class Point:
    """One chunk, ready to be written."""

    id: str
    #: (V, D): one for each of the collection's `vectors`.
    vectors: npt.NDArray[np.float32]
    payload: dict[str, Any]
    version: int
    #: Chunk number; chunk 0 is written last.
    chunk: int
    #: Of the user's part of the payload, text and metadata.
    content_bytes: int

    @property
    def etag(self) -> str:
        """Document and content that this is a chunk of."""
        return str(self.payload[SYSTEM_KEY]["etag"])


class Sink:
    """Reads from and writes to one Qdrant. Shared by all task threads."""

    def __init__(
        self,
        store: QdrantClient,
        patience: Patience,
        idle: IdleClock,
        wait_s: float,
        meter: ModelMeter | None = None,
    ) -> None:
        """`wait_s`: longest wait of a task thread for one answer; what takes longer frees the thread, and comes back."""
        self._wait_s = wait_s
        self._meter = meter or ModelMeter()
        self._store = store
        self._patience = patience
        self._idle = idle
        self._number_bytes = number_bytes(store)
        #: Bound of one request; lower once a proxy has refused one of this size.
        self._request_bytes = MAX_REQUEST_BYTES

    def _ask(self, spec: CollectionSpec, kind: StoreCall, call: Callable[[], T]) -> T:
        def translated() -> T:
            with self._meter.asking_store(), self._meter.store[kind].timing(), store_errors(spec.name):
                return call()

        with self._idle.stage(Stage.STORE):
            return self._patience.call(translated, at_most_s=self._wait_s)

    # reading

    def stored(self, spec: CollectionSpec, ids: Sequence[str]) -> dict[str, PointSystem]:
        """System payloads of those of the given points that are ours."""
        read = self._read(spec, ids)
        return {each: system for each, system in read.items() if isinstance(system, PointSystem)}

    def _read(
        self, spec: CollectionSpec, ids: Sequence[str], expected: Mapping[str, PointSystem] | None = None
    ) -> dict[str, _Found]:
        """System payloads of the given points; absent points are absent. No vectors, no texts: cheap.

        Raises:
            NewerFormat: one of them is a newer Gristmill's, so this one cannot judge what to do with its document.
        """
        found: dict[str, _Found] = {}
        for start in range(0, len(ids), _READ_POINTS):
            page = list(ids[start : start + _READ_POINTS])
            found |= self._ask(spec, StoreCall.READ, functools.partial(read_systems, self._store, spec, page, expected))
        for system in found.values():
            if isinstance(system, Foreign) and system.newer is not None:
                raise system.newer
        return found

    def look(
        self,
        spec: CollectionSpec,
        tasks: Sequence[Task],
        *,
        leftovers: bool,
        expected: Mapping[str, PointSystem] | None = None,
        unchanged: Mapping[str, int] | None = None,
    ) -> list[Sighting]:
        """What is there of each document: chunk 0, and those of its other chunks that exist.

        One read for documents of one chunk; a second one for the further chunks of longer documents.

        Args:
            spec: the collection.
            tasks: at most a parcel's.
            leftovers: look one chunk beyond each document's end as well; whatever is there belongs to no version that
                is in force.
            expected: see `read_systems`.
            unchanged: keys of documents that are likely there already, older than a version: no more is read of those than
                it takes to see that.
        """
        # Most documents have one chunk, so the one beyond it is read along.
        others = {task.key: [task.point_id(1)] if leftovers else [] for task in tasks}
        found, there = self._glance(spec, tasks, unchanged or {})
        keys = [key for key in others if key not in (unchanged or {})]
        found |= self._read(spec, [*keys, *there, *itertools.chain.from_iterable(others.values())], expected)
        further: list[str] = []
        for task in tasks:
            first = found.get(task.key)
            if isinstance(first, PointSystem) and first.chunks > 1:
                more = [task.point_id(chunk) for chunk in range(1 + leftovers, first.chunks + leftovers)]
                others[task.key] += more
                further += more
        found |= self._read(spec, further)
        return [_sighting(found.get(key), [found.get(each) for each in rest]) for key, rest in others.items()]

    def _glance(
        self, spec: CollectionSpec, tasks: Sequence[Task], below: Mapping[str, int]
    ) -> tuple[dict[str, _Found], list[str]]:
        """Those of the given documents that are unchanged, and the ids of the others that are there."""
        wanted = {task.key: (task.etag, below[task.key]) for task in tasks if task.key in below}
        if not wanted:
            return {}, []
        space = spec.fingerprint
        versions, there = self._ask(
            spec, StoreCall.READ, functools.partial(read_unchanged, self._store, spec, wanted, space)
        )
        same = (task for task in tasks if task.key in versions)
        return {task.key: Unchanged.of(task, versions[task.key], space) for task in same}, there

    # writing

    def write(self, spec: CollectionSpec, points: Sequence[Point]) -> dict[str, str]:
        """Write points unless something as new is there; returns the reason per refused point id.

        Later chunks go before chunk 0, so that chunk 0 at a version says that the version is complete; it is not written
        where one of them was refused.
        """
        refused: dict[str, str] = {}
        for first in (False, True):
            broken = {point.etag for point in points if point.id in refused} if refused else ()
            wave = [point for point in points if (point.chunk == 0) == first and not (broken and point.etag in broken)]
            for version, group in _grouped(wave, lambda point: point.version):
                for request in slices(group, self._size_of, self._request_bytes):
                    refused |= self._upload(spec, request, version)
        return refused

    def _upload(self, spec: CollectionSpec, points: Sequence[Point], version: int) -> dict[str, str]:
        """One request; a refused one is halved until the culprit is alone."""
        try:
            self._ask(
                spec,
                StoreCall.WRITE,
                lambda: upsert(
                    self._store,
                    spec,
                    [(point.id, point.vectors, point.payload) for point in points],
                    _writable(spec, points, version),
                ),
            )
        except (StoreRefused, ProtobufError) as error:  # the latter: it does not even fit on the wire
            if len(points) == 1:
                return {points[0].id: str(error)}
            if isinstance(error, RequestTooLarge):
                self._send_less_than(sum(map(self._size_of, points)))
            half = len(points) // 2
            return self._upload(spec, points[:half], version) | self._upload(spec, points[half:], version)
        return {}

    def _size_of(self, point: Point) -> int:
        return point.vectors.size * self._number_bytes + point.content_bytes + _POINT_BYTES

    def _send_less_than(self, refused_bytes: int) -> None:
        """From now on: what was refused for its size would be refused again."""
        bound = max(refused_bytes // 2, _LEAST_REQUEST_BYTES)
        if bound < self._request_bytes:
            self._request_bytes = bound
            log.warning(
                "Qdrant, or a proxy before it, takes no request of %d bytes: sending %d at most from now on. More at once "
                "would be faster (nginx: client_max_body_size)",
                refused_bytes,
                bound,
            )

    def require_fit(self, spec: CollectionSpec) -> None:
        """Return if the store takes a plain point of this collection's kind, which is then deleted again.

        Raises:
            StoreUnfit: it refuses even that, so it is not the documents that are at fault.
        """
        dimensions = spec.space.dimensions
        vectors = np.full((len(spec.vectors), dimensions), dimensions**-0.5, dtype=np.float32)
        probe = Point(
            _PROBE_ID,
            vectors,
            {spec.text_key: "probe", SYSTEM_KEY: {"etag": "probe"}},
            version=0,
            chunk=0,
            content_bytes=0,
        )
        if reason := self._upload(spec, [probe], version=0).get(_PROBE_ID):
            raise StoreUnfit(
                f"Qdrant refuses even a plain point in collection {spec.name!r} ({reason}): were its vectors or its "
                "strict mode changed? Restore them; until then its documents wait"
            )
        probes = models.PointIdsList(points=[_PROBE_ID])
        self._update(spec, [models.DeleteOperation(delete=probes)])

    def touch(self, spec: CollectionSpec, unchanged: Sequence[tuple[Task, PointSystem | Unchanged]]) -> None:
        """Move the version of unchanged documents up, if they are still as they were looked at."""
        for version, group in _grouped(unchanged, lambda pair: pair[0].version):
            for part in slices(group, lambda pair: pair[1].chunks * _NAME_BYTES, self._request_bytes):
                ids = [task.point_id(chunk) for task, held in part for chunk in range(held.chunks)]
                etags = [held.etag for _, held in part]
                self._ask(
                    spec, StoreCall.CHANGE, functools.partial(raise_versions, self._store, spec, ids, etags, version)
                )

    def replace_metadata(self, spec: CollectionSpec, task: Task, before: PointSystem) -> None:
        """Give a document's points new metadata, if its text is still as it was looked at. Vectors stay."""
        ids = [point_id(before.id, before.tenant, chunk) for chunk in range(before.chunks)]
        new = {
            "version": task.version,
            "etag": task.etag,
            "job": task.job_id,
            "tokens": 0,
        }
        # The etag as well: a document that is overwritten after it was looked at must not get our metadata on its new text.
        same = models.FieldCondition(key=ETAG_PATH, match=models.MatchValue(value=before.etag))
        older = models.FieldCondition(key=VERSION_PATH, range=models.Range(lt=task.version))
        operations: list[models.UpdateOperation] = []
        # Chunk 0 last, as in `write`: its version says that all others are done.
        for chunk_id, system in sorted(self.stored(spec, ids).items(), key=lambda pair: -pair[1].chunk):
            chosen = models.Filter(must=[models.HasIdCondition(has_id=[chunk_id]), same, older])
            payload = payload_of(spec, task.document, system.model_copy(update=new))
            operations.append(
                models.OverwritePayloadOperation(overwrite_payload=models.SetPayload(payload=payload, filter=chosen))
            )
        self._update(spec, operations)

    def delete_leftovers(self, spec: CollectionSpec, winners: Sequence[PointSystem | Unchanged]) -> None:
        """Delete points of the winners' documents that are no newer and hold other content than the winner."""
        self._update(spec, deleting_leftovers(winners))

    def withdraw(self, spec: CollectionSpec, tasks: Sequence[Task]) -> None:
        """Delete what was written of documents that were refused in part: of this very version and content."""
        for task in tasks:
            document = task.document
            content = models.FieldCondition(key=ETAG_PATH, match=models.MatchValue(value=task.etag))
            version = models.FieldCondition(key=VERSION_PATH, range=models.Range(gte=task.version, lte=task.version))
            chosen = models.Filter(must=[documents([document.id]), tenant_is(document.tenant), content, version])
            self._update(spec, [models.DeleteOperation(delete=models.FilterSelector(filter=chosen))])

    def retract(self, spec: CollectionSpec, retraction: Retraction) -> None:
        """Delete what was written of a tenant that has been erased, unless the collection is another by now."""
        if spec.key == retraction.key:
            self._update(spec, retracting(retraction))

    def delete_through(self, spec: CollectionSpec, doomed: Sequence[tuple[str, str | None, int]]) -> None:
        """Delete every point of the given (id, tenant)s up to and including the given version."""
        self._update(spec, deleting_through(doomed))

    def _update(self, spec: CollectionSpec, operations: Sequence[models.UpdateOperation]) -> None:
        """Apply operations in their order, in requests within the bounds."""
        for request in slices(operations, _size_of_operation, self._request_bytes):
            self._apply(spec, request)

    def _apply(self, spec: CollectionSpec, operations: Sequence[models.UpdateOperation]) -> None:
        """One request; one that is too large is halved, down to a single operation."""
        try:
            self._ask(spec, StoreCall.CHANGE, lambda: change(self._store, spec, operations))
        except RequestTooLarge:
            if len(operations) == 1:
                raise
            self._send_less_than(sum(map(_size_of_operation, operations)))
            half = len(operations) // 2
            self._apply(spec, operations[:half])
            self._apply(spec, operations[half:])


def deleting_leftovers(winners: Sequence[PointSystem | Unchanged]) -> list[models.UpdateOperation]:
    """Operations of `Sink.delete_leftovers`.

    No newer rather than older: of two contents under one version, whoever lost chunk 0 must lose its other chunks.
    """
    operations: list[models.UpdateOperation] = []
    for (tenant, version), group in _grouped(winners, lambda held: (held.tenant, held.version)):
        chosen = models.Filter(
            must=[documents([held.id for held in group]), tenant_is(tenant), older_than(version + 1)],
            must_not=[models.FieldCondition(key=ETAG_PATH, match=models.MatchAny(any=[held.etag for held in group]))],
        )
        operations.append(models.DeleteOperation(delete=models.FilterSelector(filter=chosen)))
    return operations


def deleting_through(doomed: Sequence[tuple[str, str | None, int]]) -> list[models.UpdateOperation]:
    """Operations of `Sink.delete_through`."""
    operations: list[models.UpdateOperation] = []
    for (tenant, version), group in _grouped(doomed, lambda each: each[1:]):
        chosen = models.Filter(
            must=[documents([each[0] for each in group]), tenant_is(tenant), older_than(version + 1)]
        )
        operations.append(models.DeleteOperation(delete=models.FilterSelector(filter=chosen)))
    return operations


def _sighting(first: _Found | None, rest: Sequence[_Found | None]) -> Sighting:
    if not isinstance(first, Foreign) and not any(rest):
        return Sighting(first, (), None)
    squatter = next((each.problem for each in (first, *rest) if isinstance(each, Foreign)), None)
    if first is None or isinstance(first, Foreign):
        return Sighting(None, (), squatter)
    return Sighting(first, tuple(each for each in rest if isinstance(each, PointSystem)), squatter)


def slices(
    items: Sequence[T], size_of: Callable[[T], int], most_bytes: int = MAX_REQUEST_BYTES
) -> Iterable[Sequence[T]]:
    """Cut a sequence into requests within both bounds; an item that is larger alone goes alone."""
    start, size = 0, 0
    for position, item in enumerate(items):
        cost = size_of(item)
        if position > start and (position - start == MAX_REQUEST_POINTS or size + cost > most_bytes):
            yield items[start:position]
            start, size = position, 0
        size += cost
    if start < len(items):
        yield items[start:]


def _writable(spec: CollectionSpec, points: Sequence[Point], version: int) -> models.Filter:
    """The fence of a write; where there are several copies, those that have it already take it once more.

    A node that died midway leaves some copies with the write and some without. Written again it would reach the latter only,
    with another time of storing, and copies that differ count as no copy at all (`store.copies`).
    """
    if spec.replicas == 1:
        return older_than(version)
    same = models.Filter(
        must=[
            models.FieldCondition(key=VERSION_PATH, range=models.Range(gte=version, lte=version)),
            models.FieldCondition(key=ETAG_PATH, match=models.MatchAny(any=sorted({point.etag for point in points}))),
        ]
    )
    return models.Filter(should=[older_than(version), same])


def older_than(version: int) -> models.Filter:
    """The fence itself, as Qdrant checks it."""
    return models.Filter(must=[models.FieldCondition(key=VERSION_PATH, range=models.Range(lt=version))])


def tenant_is(tenant: str | None) -> models.Condition:
    """Points of one tenant; None means those without one."""
    if tenant is None:
        return models.IsEmptyCondition(is_empty=models.PayloadField(key=TENANT_PATH))
    return models.FieldCondition(key=TENANT_PATH, match=models.MatchValue(value=tenant))


def _size_of_operation(operation: models.UpdateOperation) -> int:
    return len(operation.model_dump_json(exclude_none=True))


def documents(ids: Sequence[str]) -> models.FieldCondition:
    """Points of the documents with these ids, of any tenant."""
    return models.FieldCondition(key=ID_PATH, match=models.MatchAny(any=list(ids)))


def _grouped(items: Iterable[T], key: Callable[[T], K]) -> Iterable[tuple[K, list[T]]]:
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups.items()
