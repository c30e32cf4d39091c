"""How Qdrant keeps a collection: quantization, disk, shards, replicas, the graph. Given once, at creation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from qdrant_client import QdrantClient, models

from gristmill.arguments import flag, integer, refuse
from gristmill.store.bulk import read_bulk
from gristmill.store.connection import store_errors
from gristmill_schemas import CollectionSpec
from gristmill_schemas.errors import CollectionConflict, InvalidInput
from gristmill_schemas.validation import explain, shown

_KINDS: dict[str, Mapping[str, Any]] = {
    "int8": {"scalar": {"type": "int8"}},
    "binary": {"binary": {}},
    "1.5bit": {"binary": {"encoding": "one_and_half_bits"}},
    "2bit": {"binary": {"encoding": "two_bits"}},
    "product": {"product": {"compression": "x16"}},
}
_MODELS: dict[str, type[BaseModel]] = {
    "scalar": models.ScalarQuantization,
    "binary": models.BinaryQuantization,
    "product": models.ProductQuantization,
}
_EXPECTED = f"one of {', '.join(_KINDS)}, or qdrant's models such as ScalarQuantization for options"
#: How near two numbers are the same: Qdrant keeps them as float32.
_NEAR = 1e-5

#: Settings by our names.
Layout = Mapping[str, Any]


def asked_layout(
    *,
    quantization: object,
    hnsw: object,
    on_disk: object,
    on_disk_payload: object,
    shards: object,
    replicas: object,
    write_consistency: object,
) -> Layout:
    """The settings that were given, checked. Raises InvalidInput, naming the argument."""
    given: dict[str, Any] = {}
    if quantization is not None:
        given["quantization"] = _quantization(quantization)
    if hnsw is not None:
        given["hnsw"] = _model("hnsw", "a mapping such as {'m': 32, 'ef_construct': 200}", models.HnswConfigDiff, hnsw)
    given |= {
        name: flag(name, value)
        for name, value in {"on_disk": on_disk, "on_disk_payload": on_disk_payload}.items()
        if value is not None
    }
    counts = {"shards": shards, "replicas": replicas, "write_consistency": write_consistency}
    given |= {name: integer(name, value, 1, 10_000) for name, value in counts.items() if value is not None}
    if given.get("write_consistency", 1) > given.get("replicas", math.inf):
        raise refuse("write_consistency", f"at most the {given['replicas']} replicas", given["write_consistency"])
    return given


def _quantization(value: object) -> BaseModel:
    if isinstance(value, BaseModel) and type(value) in _MODELS.values():
        return value
    form = _KINDS.get(value) if isinstance(value, str) else value
    if not isinstance(form, Mapping) or len(form) != 1 or (kind := next(iter(form))) not in _MODELS:
        hint = "; did you mean 'int8'?" if value in ("scalar", "int", 8) else ""
        raise InvalidInput(f"quantization: expected {_EXPECTED}, got {shown(value)}{hint}", field="quantization")
    return _model("quantization", _EXPECTED, _MODELS[kind], form)


def _model(argument: str, expected: str, kind: type[BaseModel], value: object) -> BaseModel:
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise refuse(argument, expected, value)
    if unknown := sorted(set(map(str, value)) - set(kind.model_fields)):
        known = ", ".join(kind.model_fields)
        raise InvalidInput(f"{argument}: expected {known}, got {unknown[0]!r}", field=argument)
    try:
        return kind.model_validate(dict(value))
    except ValidationError as error:
        raise InvalidInput(f"{argument}: {explain(error)}", field=argument) from error


def creating(layout: Layout) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments for Qdrant: of the vectors, and of the collection."""
    vectors = {"on_disk": layout["on_disk"]} if "on_disk" in layout else {}
    names = {
        "quantization": "quantization_config",
        "hnsw": "hnsw_config",
        "on_disk_payload": "on_disk_payload",
        "shards": "shard_number",
        "replicas": "replication_factor",
        "write_consistency": "write_consistency_factor",
    }
    return vectors, {theirs: layout[ours] for ours, theirs in names.items() if ours in layout}


def require_layout(store: QdrantClient, spec: CollectionSpec, layout: Layout) -> None:
    """Raise CollectionConflict where an existing collection is kept otherwise; what is not given is not compared."""
    if not layout:
        return
    with store_errors(spec.name):
        there = _there(store.get_collection(spec.physical))
    differing = {name: value for name, value in layout.items() if not _within(_plain(value), there[name])}
    if not differing:
        return
    told = "; ".join(f"{name} is {there[name]}, asked for {_plain(value)}" for name, value in differing.items())
    raise CollectionConflict(
        f"collection {spec.name!r} is kept otherwise: {told}; leave them out to take it as it is, create another, or change "
        "in Qdrant itself what it lets change (update_collection)",
        field=", ".join(differing),
        collection=spec.name,
    )


def _there(info: models.CollectionInfo) -> dict[str, Any]:
    params, vectors = info.config.params, info.config.params.vectors
    unnamed = vectors if isinstance(vectors, models.VectorParams) else (vectors or {}).get("")
    hnsw, load = _plain(info.config.hnsw_config), read_bulk(info)
    if load is not None and load.before.m is not None:
        hnsw["m"] = load.before.m  # put off, not given up
    return {
        "quantization": _plain(info.config.quantization_config),
        "hnsw": hnsw,
        "on_disk": bool(unnamed and unnamed.on_disk),
        "on_disk_payload": bool(params.on_disk_payload),
        "shards": params.shard_number or 1,
        "replicas": params.replication_factor or 1,
        "write_consistency": params.write_consistency_factor or 1,
    }


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json", exclude_none=True) if isinstance(value, BaseModel) else value


def _within(asked: Any, there: Any) -> bool:
    """Whether everything that is asked for is there."""
    if isinstance(asked, Mapping):
        return isinstance(there, Mapping) and all(name in there and _within(asked[name], there[name]) for name in asked)
    if isinstance(asked, float) and isinstance(there, float):
        return math.isclose(asked, there, abs_tol=_NEAR)
    return bool(asked == there)
