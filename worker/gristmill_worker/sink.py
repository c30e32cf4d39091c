"""The sink: reads what Qdrant holds and writes points, fenced, in bounded requests, waiting while the server is away.

Every write is conditional on `stored version < mine`, in Qdrant itself, and returns only when Qdrant has applied it
(`wait=True`). Arrays travel as they are: gRPC and `upload_collection` are the one path that never makes Python floats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from qdrant_client import QdrantClient, models

from gristmill.store import store_errors
from gristmill_schemas import CollectionSpec, Deletion, PointSystem, point_id
from gristmill_schemas.document import canonical_json
from gristmill_schemas.errors import StoreRefused
from gristmill_schemas.point import ID_PATH, TENANT_PATH, VERSION_PATH
from gristmill_schemas.validation import SYSTEM_KEY
from gristmill_worker.fence import Task
from gristmill_worker.idle import IdleClock, Stage
from gristmill_worker.patience import Patience

T = TypeVar("T")

#: Bounds of one request. Qdrant is fastest at 64-256 points, and its clients report larger bodies as time-outs.
MAX_REQUEST_POINTS = 256
MAX_REQUEST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Point:
    """One chunk, ready to be written."""

    id: str
    vector: npt.NDArray[np.float32]
    payload: dict[str, Any]
    version: int
    #: Chunk number; chunk 0 is written last.
    chunk: int


class Sink:
    """Reads from and writes to one Qdrant. Shared by all task threads."""

    def __init__(self, store: QdrantClient, patience: Patience, idle: IdleClock) -> None:
        self._store = store
        self._patience = patience
        self._idle = idle

    def _ask(self, spec: CollectionSpec, call: Callable[[], T]) -> T:
        def translated() -> T:
            with store_errors(spec.name):
                return call()

        with self._idle.stage(Stage.STORE):
            return self._patience.call(translated)

    # reading

    def stored(self, spec: CollectionSpec, ids: Sequence[str]) -> dict[str, PointSystem]:
        """System payloads of the given points; absent points are absent. No vectors, no texts: cheap."""
        points = self._ask(
            spec,
            lambda: self._store.retrieve(spec.name, ids=list(ids), with_payload=[SYSTEM_KEY], with_vectors=False),
        )
        return {str(point.id): PointSystem.model_validate((point.payload or {})[SYSTEM_KEY]) for point in points}

    # writing

    def write(self, spec: CollectionSpec, points: Sequence[Point]) -> dict[str, str]:
        """Write points unless something as new is there; returns the reason per refused point id.

        Later chunks go before chunk 0, so that chunk 0 at a version says that the version is complete.
        """
        refused: dict[str, str] = {}
        for first in (False, True):
            wave = [point for point in points if (point.chunk == 0) == first]
            for version, group in groupby(sorted(wave, key=_version), key=_version):
                for request in slices(list(group), _size_of):
                    refused |= self._upload(spec, request, version)
        return refused

    def _upload(self, spec: CollectionSpec, points: Sequence[Point], version: int) -> dict[str, str]:
        """One request; a refused one is halved until the culprit is alone."""
        try:
            self._ask(
                spec,
                lambda: self._store.upload_collection(
                    spec.name,
                    vectors=np.stack([point.vector for point in points]),
                    payload=[point.payload for point in points],
                    ids=[point.id for point in points],
                    batch_size=len(points),
                    wait=True,
                    max_retries=0,
                    update_filter=older_than(version),
                ),
            )
        except (StoreRefused, ValueError) as error:  # ValueError: the client could not put it on the wire
            if len(points) == 1:
                return {points[0].id: str(error)}
            half = len(points) // 2
            return self._upload(spec, points[:half], version) | self._upload(spec, points[half:], version)
        return {}

    def touch(self, spec: CollectionSpec, tasks: Sequence[Task], before: dict[str, PointSystem]) -> None:
        """Move the version of unchanged documents up, if they are still unchanged."""
        operations: list[models.UpdateOperation] = [
            models.SetPayloadOperation(
                set_payload=models.SetPayload(
                    payload={"version": version}, key=SYSTEM_KEY, filter=_unchanged(list(group), version, before)
                )
            )
            for version, group in groupby(sorted(tasks, key=_version), key=_version)
        ]
        self._update(spec, operations)

    def replace_metadata(self, spec: CollectionSpec, task: Task, before: PointSystem) -> None:
        """Give a document's points new metadata; vectors and texts stay as they are, if they still are as before."""
        ids = [point_id(before.id, before.tenant, chunk) for chunk in range(before.chunks)]
        operations: list[models.UpdateOperation] = []
        for system in self.stored(spec, ids).values():
            payload = payload_of(
                spec,
                task,
                system.model_copy(
                    update={
                        "version": task.version,
                        "metadata_hash": task.document.metadata_hash,
                        "job": task.job_id,
                    }
                ),
            )
            unchanged = _unchanged([task], task.version, {task.key: before})
            this_one = models.HasIdCondition(has_id=[point_id(before.id, before.tenant, system.chunk)])
            operations.append(
                models.OverwritePayloadOperation(
                    overwrite_payload=models.SetPayload(
                        payload=payload, filter=models.Filter(must=[this_one, unchanged])
                    )
                )
            )
        self._update(spec, operations)

    def delete_older(self, spec: CollectionSpec, targets: Iterable[Deletion]) -> None:
        """Delete every point of the given documents that is older than the target's version."""
        self._delete(spec, [(target, older_than(_settled(target))) for target in targets])

    def delete_through(self, spec: CollectionSpec, targets: Iterable[Deletion]) -> None:
        """Delete every point of the given documents up to and including the target's version."""
        self._delete(spec, [(target, older_than(_settled(target) + 1)) for target in targets])

    def _delete(self, spec: CollectionSpec, doomed: Sequence[tuple[Deletion, models.Filter]]) -> None:
        key = _tenant_and_version
        operations: list[models.UpdateOperation] = []
        for _, group in groupby(sorted(doomed, key=lambda pair: key(pair[0])), key=lambda pair: key(pair[0])):
            pairs = list(group)
            theirs = models.FieldCondition(key=ID_PATH, match=models.MatchAny(any=[target.id for target, _ in pairs]))
            conditions = [theirs, tenant_is(pairs[0][0].tenant), pairs[0][1]]
            operations.append(
                models.DeleteOperation(delete=models.FilterSelector(filter=models.Filter(must=conditions)))
            )
        self._update(spec, operations)

    def _update(self, spec: CollectionSpec, operations: list[models.UpdateOperation]) -> None:
        if operations:
            self._ask(spec, lambda: self._store.batch_update_points(spec.name, operations, wait=True))


def payload_of(spec: CollectionSpec, task: Task, system: PointSystem) -> dict[str, Any]:
    """The whole payload of one chunk: metadata at the top, the chunk's text, and our part under its own key."""
    start, end = system.span
    return {
        **task.document.metadata,
        spec.text_key: task.document.text[start:end],
        SYSTEM_KEY: system.model_dump(mode="json", exclude_none=True),
    }


def slices(items: Sequence[T], size_of: Callable[[T], int]) -> Iterable[Sequence[T]]:
    """Cut a sequence into requests within both bounds; an item that is larger alone goes alone."""
    start, size = 0, 0
    for position, item in enumerate(items):
        cost = size_of(item)
        if position > start and (position - start == MAX_REQUEST_POINTS or size + cost > MAX_REQUEST_BYTES):
            yield items[start:position]
            start, size = position, 0
        size += cost
    if start < len(items):
        yield items[start:]


def older_than(version: int) -> models.Filter:
    """The fence itself, as Qdrant checks it."""
    return models.Filter(must=[models.FieldCondition(key=VERSION_PATH, range=models.Range(lt=version))])


def tenant_is(tenant: str | None) -> models.Condition:
    """Points of one tenant; None means those without one."""
    if tenant is None:
        return models.IsEmptyCondition(is_empty=models.PayloadField(key=TENANT_PATH))
    return models.FieldCondition(key=TENANT_PATH, match=models.MatchValue(value=tenant))


def _unchanged(tasks: Sequence[Task], version: int, before: dict[str, PointSystem]) -> models.Filter:
    """Points of these documents that are older and still hold the text that was looked at.

    Without the hash a document that is overwritten between the look and this write would get our version on its text.
    """
    alternatives: list[models.Condition] = []
    for task in tasks:
        held = before[task.key]
        ids: list[Any] = [point_id(held.id, held.tenant, chunk) for chunk in range(held.chunks)]
        alternatives.append(
            models.Filter(
                must=[
                    models.HasIdCondition(has_id=ids),
                    models.FieldCondition(
                        key=f"{SYSTEM_KEY}.text_hash", match=models.MatchValue(value=held.text_hash)
                    ),
                    models.FieldCondition(
                        key=f"{SYSTEM_KEY}.metadata_hash", match=models.MatchValue(value=held.metadata_hash)
                    ),
                ]
            )
        )
    return models.Filter(must=[older_than(version), models.Filter(should=alternatives)])


def _size_of(point: Point) -> int:
    return point.vector.nbytes + len(canonical_json(point.payload)) + 64


def _version(item: Point | Task) -> int:
    return item.version


def _settled(target: Deletion) -> int:
    if target.version is None:
        raise ValueError(f"deletion of {target.id!r}: expected a settled version")
    return target.version


def _tenant_and_version(target: Deletion) -> tuple[str, bool, int]:
    return target.tenant or "", target.tenant is None, _settled(target)
