"""Points that a query has found: of our record what hits are made of, and what else was asked for of the payload.

Over gRPC the record is read where it lies, without the mapping and the model that everything else reads it by, which cost a
search half of what it costs its client. Only one that is whole and holds nothing unknown is read so: all others, a newer
Gristmill's and other tools' among them, are judged as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import grpc_to_payload, value_to_json

from gristmill.store.points import Foreign, foreign_id, read_system
from gristmill_schemas.validation import SYSTEM_KEY


class Origin(NamedTuple):
    """Where a point comes from: fields of `PointSystem`."""

    id: str
    tenant: str | None
    version: int
    chunk: int
    chunks: int
    span: tuple[int, int] | None
    context: str
    etag: str
    space: str


class FoundPoint(NamedTuple):
    """A point that a query has found."""

    #: As Qdrant has it: ours are UUIDs, other tools' may be numbers.
    id: models.ExtendedPointId
    score: float
    origin: Origin | Foreign
    #: What was asked for of it beside our record.
    payload: Mapping[str, Any]


#: Texts, and all that each record has: with its number, its place and its time.
_TEXTS: Final = ("id", "etag", "space", "text_hash", "job")
_EACH_HAS: Final = len(_TEXTS) + 3
#: What one has where it is not at its default, by its kind on the wire.
_OPTIONAL: Final = {
    "tokens": "integer_value",
    "chunks": "integer_value",
    "span": "list_value",
    "context": "string_value",
    "tenant": "string_value",
    "attempts": "integer_value",
    "truncated": "bool_value",
}
_ABSENT: Final = grpc.Value()


def of_record(point: models.ScoredPoint) -> FoundPoint:
    """What the client's own record holds."""
    return found_point(point.id, point.score, point.payload or {})


def of_message(point: grpc.ScoredPoint) -> FoundPoint:
    """What came over gRPC."""
    key, payload = point.id.uuid or point.id.num, point.payload
    origin = _origin(payload[SYSTEM_KEY].struct_value.fields) if SYSTEM_KEY in payload else None
    if origin is None:
        return found_point(key, point.score, grpc_to_payload(payload))
    rest = {name: value_to_json(payload[name]) for name in payload if name != SYSTEM_KEY}
    return FoundPoint(key, point.score, _under_its_id(origin, key), rest)


def found_point(key: models.ExtendedPointId, score: float, payload: Mapping[str, Any]) -> FoundPoint:
    """A point of this whole payload, our record included."""
    system = read_system(payload)
    rest = {name: value for name, value in payload.items() if name != SYSTEM_KEY}
    if isinstance(system, Foreign):
        return FoundPoint(key, score, system, rest)
    origin = Origin._make(getattr(system, name) for name in Origin._fields)
    return FoundPoint(key, score, _under_its_id(origin, key), rest)


def _under_its_id(origin: Origin, key: models.ExtendedPointId) -> Origin | Foreign:
    return foreign_id(origin.id, origin.tenant, origin.chunk, str(key)) or origin


def _origin(fields: Mapping[str, grpc.Value]) -> Origin | None:
    """A record as it is written here; None for any other, whatever it is."""
    document_id, etag, space, text_hash, job = [fields.get(name, _ABSENT).string_value for name in _TEXTS]
    version, chunk = fields.get("version", _ABSENT).integer_value, fields.get("chunk", _ABSENT)
    stored_at = fields.get("stored_at", _ABSENT).double_value
    more = _optional(fields)
    whole = document_id and etag and space and text_hash and job and version and chunk.HasField("integer_value")
    if not whole or not stored_at > 0 or more is None:
        return None
    tenant, context = more.get("tenant"), more.get("context", "")
    chunks, span = more.get("chunks", 1), more.get("span")
    return Origin(document_id, tenant, version, chunk.integer_value, chunks, span, context, etag, space)


def _optional(fields: Mapping[str, grpc.Value]) -> dict[str, Any] | None:
    """The optional ones; None where there is something else than these, or of another kind."""
    found: dict[str, Any] = {}
    for name, kind in _OPTIONAL.items():
        if name in fields:
            if (value := fields[name]).WhichOneof("kind") != kind:
                return None
            found[name] = _span(value) if name == "span" else getattr(value, kind)
    return found if len(fields) == _EACH_HAS + len(found) and found.get("span", ()) is not None else None


def _span(value: grpc.Value) -> tuple[int, int] | None:
    ends = value.list_value.values
    if len(ends) != 2 or not all(each.HasField("integer_value") for each in ends):
        return None
    return ends[0].integer_value, ends[1].integer_value
