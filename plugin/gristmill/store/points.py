"""Our record in the payload of points: the one place that reads and writes it.

Its fields, and the paths that filters reach them by: `gristmill_schemas.point`.

payload = {**metadata, <text_key>: chunk text, "_gristmill": PointSystem}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from qdrant_client import QdrantClient, grpc, models
from qdrant_client.conversions.conversion import RestToGrpc, grpc_to_payload
from qdrant_client.qdrant_remote import QdrantRemote

from gristmill.store.connection import is_server, speaks_grpc, store_errors
from gristmill.store.copies import consistency, grpc_consistency, grpc_ordering, ordering
from gristmill.store.keywords import KEYWORDS, Words, keywords_of, weighed_here, with_words
from gristmill.store.wire import get_request, point_ids, upsert_request
from gristmill_schemas import CollectionSpec, Document, PointSystem, point_id
from gristmill_schemas.errors import InvalidInput, NewerFormat
from gristmill_schemas.point import ETAG_PATH, VERSION_PATH
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


def read_point(point: models.Record) -> PointSystem | Foreign:
    """Our part of a point's payload; a point whose part says that it belongs under another id is foreign, too."""
    system = read_system(point.payload)
    if isinstance(system, PointSystem):
        return foreign_id(system.id, system.tenant, system.chunk, str(point.id)) or system
    return system


def foreign_id(document_id: str, tenant: str | None, chunk: int, key: str) -> Foreign | None:
    """Why a point under this id is not what its record says that it is; None where it is."""
    if point_id(document_id, tenant, chunk) == key:
        return None
    return Foreign(f"it says that it is chunk {chunk} of {document_id!r}, under another id")


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


def span_of(spec: CollectionSpec, span: tuple[int, int] | None, payload: Mapping[str, Any]) -> tuple[int, int]:
    """Characters [start, end) of its document's text that a chunk covers, by what its record has."""
    return span or (0, len(str(payload.get(spec.text_key) or "")))


def payload_of(spec: CollectionSpec, document: Document, system: PointSystem) -> dict[str, Any]:
    """The whole payload of one chunk: metadata at the top, the chunk's text, and our part under its own key."""
    text = document.text if system.span is None else document.text[slice(*system.span)]
    return {
        **document.metadata,
        spec.text_key: text,
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


def read_systems(
    store: QdrantClient, spec: CollectionSpec, ids: Sequence[str], expected: Mapping[str, PointSystem] | None = None
) -> dict[str, PointSystem | Foreign]:
    """Our part of the payload of the given points, by id; absent points are absent. No vectors, no texts: cheap.

    Over gRPC on the client's own stub: its conversion (protobuf to pydantic to mapping) costs three times the read itself.

    Args:
        store: server or local mode.
        spec: the collection.
        ids: of the points.
        expected: what points most likely hold, by id. Where one does, that is what is returned, instead of a copy which
            costs several times as much as the comparison.
    """
    if not speaks_grpc(store):
        points = store.retrieve(
            spec.physical,
            ids=list(ids),
            with_payload=[SYSTEM_KEY],
            with_vectors=False,
            consistency=consistency(spec),
        )
        return {str(point.id): read_system(point.payload) for point in points}
    found: dict[str, PointSystem | Foreign] = {}
    if expected:
        there = _get(store, spec, ids, _COMPARED)
        found = {each.id.uuid: expected[each.id.uuid] for each in there if _holds(each, expected.get(each.id.uuid))}
        ids = [each.id.uuid for each in there if each.id.uuid not in found]
    if ids:
        whole = _get(store, spec, ids, [SYSTEM_KEY])
        found |= {each.id.uuid: read_system(grpc_to_payload(each.payload)) for each in whole}
    return found


def read_unchanged(
    store: QdrantClient, spec: CollectionSpec, wanted: Mapping[str, tuple[str, int]], space: str
) -> tuple[dict[str, int], list[str]]:
    """Which documents are there as they are wanted, only older: the question whose answer is mostly all, or mostly none.

    Args:
        store: server or local mode.
        spec: the collection.
        wanted: etag and version of documents, by the ids of their first points.
        space: fingerprint that their points should have.

    Returns:
        The versions of those documents that have one chunk, with this etag and space, and an older version; and the ids of
        the other points that are there, whatever they are.
    """
    if not speaks_grpc(store):
        return {}, list(wanted)
    versions: dict[str, int] = {}
    others: list[str] = []
    for point in _get(store, spec, list(wanted), _DECIDING):
        (etag, newer), held = wanted[point.id.uuid], point.payload[SYSTEM_KEY].struct_value.fields
        version = held["version"].integer_value
        same = held["etag"].string_value == etag and held["space"].string_value == space
        if same and 0 < version < newer and "chunks" not in held and "format" not in held:
            versions[point.id.uuid] = version
        else:
            others.append(point.id.uuid)
    return versions, others


def _get(
    store: QdrantClient, spec: CollectionSpec, ids: Sequence[str], fields: Sequence[str]
) -> list[grpc.RetrievedPoint]:
    """Points with some fields of their payload, as they come over the wire."""
    request = get_request(spec.physical, ids, fields, grpc_consistency(spec))
    remote = cast("QdrantRemote", store._client)
    return list(remote.grpc_points.Get(request, timeout=remote._timeout).result)


def _holds(point: grpc.RetrievedPoint, system: PointSystem | None) -> bool:
    """Whether a point has this very record, by all its fields that two writes of one document may differ in."""
    if system is None:
        return False
    held = point.payload[SYSTEM_KEY].struct_value.fields  # one that is absent reads as empty, as everywhere in protobuf
    return (
        held["version"].integer_value == system.version
        and held["etag"].string_value == system.etag
        and held["space"].string_value == system.space
        and held["job"].string_value == system.job
        and held["tokens"].integer_value == system.tokens
        and (held["chunks"].integer_value or 1) == system.chunks
        and "format" not in held
    )


#: What `_holds` compares, and what tells whether a document is unchanged: a third of a record, and of the cost of its way.
_COMPARED = [f"{SYSTEM_KEY}.{name}" for name in ("version", "etag", "space", "job", "tokens", "chunks", "format")]
_DECIDING = [f"{SYSTEM_KEY}.{name}" for name in ("version", "etag", "space", "chunks", "format")]


def look_up(store: QdrantClient, spec: CollectionSpec, ids: Sequence[str]) -> dict[str, Seen]:
    """The given points; absent ones are absent."""
    found: dict[str, Seen] = {}
    for start in range(0, len(ids), PAGE):
        with store_errors(spec.physical):
            points = store.retrieve(
                spec.physical,
                ids=list(ids[start : start + PAGE]),
                with_payload=[SYSTEM_KEY],
                with_vectors=False,
                consistency=consistency(spec),
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
    spec: CollectionSpec,
    points: Sequence[tuple[str, npt.NDArray[np.float32], dict[str, Any]]],
    update_filter: models.Filter,
) -> None:
    """One request, applied when this returns; points that are there and do not match the filter stay as they are.

    Not `upload_collection`: that sleeps for as long as a rate limit asks, inside the client, and opens a channel per call.
    Over gRPC the arrays' bytes go into the message as they are.

    Args:
        store: server or local mode.
        spec: the collection.
        points: id, vectors float32 (V, D), one for each of `spec.vectors`, or (D,) of a sole one, payload.
        update_filter: what a point must match to be replaced. An absent one is inserted.
    """
    if not speaks_grpc(store):
        words = keywords_of if is_server(store) else weighed_here
        batch = [
            models.PointStruct(id=each, vector=_vectors(spec, vectors, payload, words), payload=payload)
            for each, vectors, payload in points
        ]
        store.upsert(spec.physical, batch, wait=True, update_filter=update_filter, ordering=ordering(spec))
        return
    remote = cast("QdrantRemote", store._client)
    fence = RestToGrpc.convert_filter(update_filter)
    keywords_from = spec.text_key if spec.keyword else None
    request = upsert_request(spec.physical, points, fence, keywords_from, grpc_ordering(spec), spec.vectors)
    _upsert_of_bytes(remote)(request, timeout=remote._timeout)


def _vectors(
    spec: CollectionSpec, vectors: npt.NDArray[np.float32], payload: Mapping[str, Any], words: Words
) -> models.VectorStruct:
    by_name: dict[str, Any] = dict(zip(spec.vectors, np.atleast_2d(vectors).tolist(), strict=True))
    if spec.keyword:
        by_name[KEYWORDS] = words(with_words(payload, spec.text_key))
    return by_name if len(by_name) > 1 else by_name[""]


def raise_versions(
    store: QdrantClient, spec: CollectionSpec, ids: Sequence[str], etags: Sequence[str], version: int
) -> None:
    """One request: give points that are older than `version` this version, if they still hold one of these contents.

    Without the etags a document that is overwritten after it was looked at would get our version on its new text.
    """
    if not speaks_grpc(store):
        store.set_payload(
            spec.physical,
            payload={"version": version},
            key=SYSTEM_KEY,
            points=models.Filter(
                must=[
                    models.HasIdCondition(has_id=list(ids)),
                    models.FieldCondition(key=ETAG_PATH, match=models.MatchAny(any=list(etags))),
                    models.FieldCondition(key=VERSION_PATH, range=models.Range(lt=version)),
                ]
            ),
            wait=True,
            ordering=ordering(spec),
        )
        return
    chosen = grpc.Filter(
        must=[
            grpc.Condition(has_id=grpc.HasIdCondition.FromString(point_ids(ids))),
            grpc.Condition(
                field=grpc.FieldCondition(
                    key=ETAG_PATH, match=grpc.Match(keywords=grpc.RepeatedStrings(strings=list(etags)))
                )
            ),
            grpc.Condition(field=grpc.FieldCondition(key=VERSION_PATH, range=grpc.Range(lt=version))),
        ]
    )
    request = grpc.SetPayloadPoints(
        collection_name=spec.physical,
        wait=True,
        ordering=grpc_ordering(spec),
        payload={"version": grpc.Value(integer_value=version)},
        key=SYSTEM_KEY,
        points_selector=grpc.PointsSelector(filter=chosen),
    )
    remote = cast("QdrantRemote", store._client)
    remote.grpc_points.SetPayload(request, timeout=remote._timeout)


def change(store: QdrantClient, spec: CollectionSpec, operations: Sequence[models.UpdateOperation]) -> None:
    """One request of several changes, applied one after the other when this returns."""
    store.batch_update_points(spec.physical, list(operations), wait=True, ordering=ordering(spec))


def _upsert_of_bytes(remote: QdrantRemote) -> Callable[..., grpc.PointsOperationResponse]:
    """`Points/Upsert` of what is serialized already, on a channel of the client's own, with its headers."""
    if not remote._grpc_channel_pool:
        remote._init_grpc_channel()
    channel = remote._grpc_channel_pool[remote._next_grpc_client()]
    call = channel.unary_unary("/qdrant.Points/Upsert", response_deserializer=grpc.PointsOperationResponse.FromString)
    return cast("Callable[..., grpc.PointsOperationResponse]", call)


def number_bytes(store: QdrantClient) -> int:
    """Bytes that one number of a vector takes in a request of this client."""
    return _NUMBER_BYTES if speaks_grpc(store) else _JSON_NUMBER_BYTES
