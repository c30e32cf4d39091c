"""Indexes over fields of the metadata. What is asked for is checked here, since Qdrant replaces an index in silence."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from qdrant_client import QdrantClient, models

from gristmill.arguments import refuse
from gristmill.store.connection import store_errors
from gristmill.store.paths import payload_path
from gristmill_schemas import CollectionSpec, FieldIndex
from gristmill_schemas.errors import CollectionConflict, InvalidInput
from gristmill_schemas.validation import SYSTEM_KEY, clean_identifier, explain, shown

_PARAMS: dict[str, type[BaseModel]] = {
    "keyword": models.KeywordIndexParams,
    "integer": models.IntegerIndexParams,
    "float": models.FloatIndexParams,
    "bool": models.BoolIndexParams,
    "datetime": models.DatetimeIndexParams,
    "uuid": models.UuidIndexParams,
    "geo": models.GeoIndexParams,
    "text": models.TextIndexParams,
}
#: What others call them.
_ELSEWHERE = {
    **dict.fromkeys(("str", "string", "category", "tag", "enum"), "keyword"),
    **dict.fromkeys(("int", "long", "int64"), "integer"),
    **dict.fromkeys(("number", "double", "decimal", "numeric", "float64"), "float"),
    "boolean": "bool",
    **dict.fromkeys(("date", "time", "timestamp"), "datetime"),
    **dict.fromkeys(("geo_point", "location", "point"), "geo"),
    **dict.fromkeys(("fulltext", "full_text", "full-text"), "text"),
}
_EXPECTED = f"one of {', '.join(_PARAMS)}, or qdrant's {models.TextIndexParams.__name__} and the like for options"

#: Characters of a field's name that a message shows as they are.
_LONGEST_NAMED = 80

#: Path of a field, and its index.
Asked = dict[str, BaseModel]


def asked_indexes(indexes: object) -> Asked:
    """The indexes that a caller asks for: `{"lang": "keyword", "year": "integer"}`.

    Raises:
        InvalidInput: naming the field, what came, what was expected and what to write instead.
    """
    if not isinstance(indexes, Mapping):
        raise refuse("indexes", "a mapping of fields to types, such as {'lang': 'keyword', 'year': 'integer'}", indexes)
    return {field_path(name := _argument(key), key): _params(name, kind) for key, kind in indexes.items()}


def _argument(key: object) -> str:
    plain = isinstance(key, str) and key.isprintable() and len(key) <= _LONGEST_NAMED
    return f"indexes.{key if plain else shown(key)}"


def field_path(argument: str, key: object) -> str:
    """A field as Qdrant reads it; ours are refused."""
    try:
        path = payload_path(clean_identifier(key))
    except ValueError as error:
        raise InvalidInput(f"{argument}: {error}", field=argument) from None
    if path.partition(".")[0] == SYSTEM_KEY:
        raise InvalidInput(
            f"{argument}: {SYSTEM_KEY!r} is Gristmill's own, and has its indexes; name a field of the metadata",
            field=argument,
        )
    return path


def _params(argument: str, kind: Any) -> BaseModel:
    if isinstance(kind, BaseModel) and type(kind) in _PARAMS.values():
        return kind
    if isinstance(kind, models.PayloadSchemaType):
        kind = kind.value
    options = dict(kind) if isinstance(kind, Mapping) else {"type": kind}
    name = options.get("type")
    if not isinstance(name, str) or name not in _PARAMS:
        raise InvalidInput(f"{argument}: expected {_EXPECTED}, got {shown(kind)}{_hint(name)}", field=argument)
    params = _PARAMS[name]
    if unknown := sorted(set(options) - set(params.model_fields)):
        known = ", ".join(each for each in params.model_fields if each != "type")
        raise InvalidInput(f"{argument}: {name} has no option {unknown[0]!r}; expected {known}", field=argument)
    try:
        return params.model_validate(options)
    except ValidationError as error:
        raise InvalidInput(f"{argument}: {explain(error)}", field=argument) from error


def _hint(name: object) -> str:
    if not isinstance(name, str):
        return ""
    close = difflib.get_close_matches(name.lower(), _PARAMS, n=1)
    meant = _ELSEWHERE.get(name.lower()) or (close[0] if close else None)
    return f"; did you mean {meant!r}?" if meant else ""


def list_indexes(store: QdrantClient, spec: CollectionSpec) -> list[FieldIndex]:
    """Indexes over metadata, by field; Gristmill's own are not among them."""
    with store_errors(spec.name):
        schema = store.get_collection(spec.physical).payload_schema
    theirs = {path: info for path, info in schema.items() if path.partition(".")[0] != SYSTEM_KEY}
    return [
        FieldIndex(field=path, type=info.data_type.value, points=info.points, options=_options(info.params))
        for path, info in sorted(theirs.items())
    ]


def _options(params: BaseModel | None) -> dict[str, Any]:
    return {} if params is None else params.model_dump(mode="json", exclude_none=True, exclude={"type"})


def create_indexes(store: QdrantClient, spec: CollectionSpec, asked: Asked, *, wait: bool) -> None:
    """Make the indexes that are missing.

    Raises:
        CollectionConflict: a field has another index; nothing was made.
    """
    there = {each.field: each for each in list_indexes(store, spec)}
    for path, params in asked.items():
        if path in there:
            _require_same(spec, there[path], params)
    for path, params in asked.items():
        if path not in there:
            with store_errors(spec.name):
                store.create_payload_index(spec.physical, path, _bare(params), wait=wait)


def _bare(params: BaseModel) -> Any:
    """Without options the type alone: what an index is then is Qdrant's to say."""
    return params if _options(params) else models.PayloadSchemaType(_type(params))


def _type(params: BaseModel) -> str:
    kind: str = params.model_dump(mode="json")["type"]
    return kind


def _require_same(spec: CollectionSpec, there: FieldIndex, params: BaseModel) -> None:
    """Options that are not given are not compared."""
    wanted = _options(params)
    if there.type == _type(params) and wanted.items() <= there.options.items():
        return
    raise CollectionConflict(
        f"collection {spec.name!r}: {there.field!r} has an index of type {_told(there.type, there.options)}, asked for "
        f"{_told(_type(params), wanted)}; drop it first: `gristmill collections index drop {spec.name} {there.field}`, or "
        "client.indexes.drop",
        field=f"indexes.{there.field}",
        collection=spec.name,
    )


def _told(kind: str, options: Mapping[str, Any]) -> str:
    return f"{kind} {dict(options)}" if options else kind


def drop_index(store: QdrantClient, spec: CollectionSpec, path: str) -> None:
    """Drop one index; filters on the field then read every document again."""
    with store_errors(spec.name):
        store.delete_payload_index(spec.physical, path, wait=True)
