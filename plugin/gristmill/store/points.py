"""Our record in the payload of points: the one place that reads and writes it.

Its fields, and the paths that filters reach them by: `gristmill_schemas.point`.

payload = {**metadata, <text_key>: chunk text, "_gristmill": PointSystem}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from qdrant_client import QdrantClient, grpc, models
from qdrant_client.conversions.conversion import RestToGrpc, payload_to_grpc
from qdrant_client.qdrant_remote import QdrantRemote
from qdrant_client.uploader.grpc_uploader import convert_vector_struct

from gristmill.store.connection import speaks_grpc, store_errors
from gristmill_schemas import CollectionSpec, Document, PointSystem, point_id
from gristmill_schemas.errors import InvalidInput, NewerFormat
from gristmill_schemas.validation import SYSTEM_KEY

#: Points per request.
PAGE = 1000
#: Bytes that a vector's number takes: as it is, and in JSON (`-0.012345679104328156,`). JSON carries the float32's own
#: value in full, so that Qdrant reads back the very same bits.
_NUMBER_BYTES, _JSON_NUMBER_BYTES = 4, 22


@dataclass(frozen=True, slots=True)
class Foreign:
    """A point whose payload holds no record of ours that can be read: another tool's, or a newer Gristmill's."""

    #: Why it cannot be read.
    problem: str
    #: Where it is a newer Gristmill's.
    newer: NewerFormat | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """One point."""

    id: str
    #: Our part of its payload, or None for a point that is not ours.
    system: PointSystem | None
    #: Why it is not ours.
    problem: str = ""


def read_point(point: models.Record | models.ScoredPoint) -> PointSystem | Foreign:
    """Our part of a point's payload; a point whose part says that it belongs under another id is foreign, too."""
    system = read_system(point.payload)
    if isinstance(system, PointSystem) and point_id(system.id, system.tenant, system.chunk) != str(point.id):
        return Foreign(f"it says that it is chunk {system.chunk} of {system.id!r}, under another id")
    return system


def read_system(payload: Mapping[str, Any] | None) -> PointSystem | Foreign:
    """Our part of a payload; one without it, or with one that cannot be read, is foreign."""
    raw = (payload or {}).get(SYSTEM_KEY)
    if raw is None:
        return Foreign(f"its payload has no {SYSTEM_KEY!r}: something else wrote it")
    try:
        return PointSystem.read(raw)
    except NewerFormat as newer:
        return Foreign(str(newer), newer)
    except InvalidInput as error:
        return Foreign(f"{SYSTEM_KEY}: {error}")


def read_content(spec: CollectionSpec, payload: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A point's text and metadata; an empty text where somebody took it away."""
    rest = {key: value for key, value in payload.items() if key not in (SYSTEM_KEY, spec.text_key)}
    return str(payload.get(spec.text_key) or ""), rest


def span_of(spec: CollectionSpec, system: PointSystem, payload: Mapping[str, Any]) -> tuple[int, int]:
    """Characters [start, end) of its document's text that a chunk covers."""
    return system.span or (0, len(str(payload.get(spec.text_key) or "")))


def payload_of(spec: CollectionSpec, document: Document, system: PointSystem) -> dict[str, Any]:
    """The whole payload of one chunk: metadata at the top, the chunk's text, and our part under its own key."""
    start, end = system.span or (0, len(document.text))
    return {
        **document.metadata,
        spec.text_key: document.text[start:end],
        SYSTEM_KEY: system.model_dump(mode="json", exclude_defaults=True),
    }


def scroll(store: QdrantClient, collection: str, where: models.Filter | None = None) -> Iterator[list[Seen]]:
    """Every point, page by page, ordered by id; points that come and go meanwhile may or may not be seen."""
    page: Any = None
    while True:
        with store_errors(collection):
            points, page = store.scroll(
                collection, scroll_filter=where, limit=PAGE, offset=page, with_payload=[SYSTEM_KEY], with_vectors=False
            )
        yield [_seen(point) for point in points]
        if page is None:
            return


def read_systems(store: QdrantClient, collection: str, ids: Sequence[str]) -> dict[str, PointSystem | Foreign]:
    """Our part of the payload of the given points, by id; absent points are absent. No vectors, no texts: cheap.

    Over gRPC on the client's own stub: its conversion (protobuf to pydantic to mapping) costs three times the read itself.
    """
    if not speaks_grpc(store):
        points = store.retrieve(collection, ids=list(ids), with_payload=[SYSTEM_KEY], with_vectors=False)
        return {str(point.id): read_system(point.payload) for point in points}
    request = grpc.GetPoints(
        collection_name=collection,
        ids=[grpc.PointId(uuid=each) for each in ids],
        with_payload=grpc.WithPayloadSelector(include=grpc.PayloadIncludeSelector(fields=[SYSTEM_KEY])),
        with_vectors=grpc.WithVectorsSelector(enable=False),
    )
    remote = cast("QdrantRemote", store._client)
    answer = remote.grpc_points.Get(request, timeout=remote._timeout)
    return {point.id.uuid: read_system(_plain(point.payload)) for point in answer.result}


def _plain(fields: Mapping[str, grpc.Value]) -> dict[str, Any]:
    return {name: _plain_value(value) for name, value in fields.items()}


def _plain_value(value: grpc.Value) -> Any:
    match kind := value.WhichOneof("kind"):
        case "struct_value":
            return _plain(value.struct_value.fields)
        case "list_value":
            return [_plain_value(each) for each in value.list_value.values]
        case None | "null_value":
            return None
    return getattr(value, kind)


def look_up(store: QdrantClient, collection: str, ids: Sequence[str]) -> dict[str, Seen]:
    """The given points; absent ones are absent."""
    found: dict[str, Seen] = {}
    for start in range(0, len(ids), PAGE):
        with store_errors(collection):
            points = store.retrieve(
                collection, ids=list(ids[start : start + PAGE]), with_payload=[SYSTEM_KEY], with_vectors=False
            )
        found |= {str(point.id): _seen(point) for point in points}
    return found


def _seen(point: models.Record) -> Seen:
    system = read_point(point)
    if isinstance(system, Foreign):
        return Seen(str(point.id), None, system.problem)
    return Seen(str(point.id), system)


def upsert(
    store: QdrantClient,
    collection: str,
    points: Sequence[tuple[str, npt.NDArray[np.float32], dict[str, Any]]],
    update_filter: models.Filter,
) -> None:
    """One request, applied when this returns; points that are there and do not match the filter stay as they are.

    Not `upload_collection`: that sleeps for as long as a rate limit asks, inside the client, and opens a channel per call.
    Over gRPC the arrays' bytes go into the message as they are.

    Args:
        store: server or local mode.
        collection: physical name.
        points: id, vector float32 (D,), payload.
        update_filter: what a point must match to be replaced. An absent one is inserted.
    """
    if not speaks_grpc(store):
        batch = [
            models.PointStruct(id=each, vector=vector.tolist(), payload=payload) for each, vector, payload in points
        ]
        store.upsert(collection, batch, wait=True, update_filter=update_filter)
        return
    request = grpc.UpsertPoints(
        collection_name=collection,
        points=[
            grpc.PointStruct(
                id=grpc.PointId(uuid=each), vectors=convert_vector_struct(vector), payload=payload_to_grpc(payload)
            )
            for each, vector, payload in points
        ],
        wait=True,
        update_filter=RestToGrpc.convert_filter(update_filter),
    )
    remote = cast("QdrantRemote", store._client)
    remote.grpc_points.Upsert(request, timeout=remote._timeout)


def number_bytes(store: QdrantClient) -> int:
    """Bytes that one number of a vector takes in a request of this client."""
    return _NUMBER_BYTES if speaks_grpc(store) else _JSON_NUMBER_BYTES
