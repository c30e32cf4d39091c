"""A write's bytes, and a query, are what the client's own classes make of the same."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from google.protobuf.message import Error as ProtobufError
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import RestToGrpc, payload_to_grpc
from qdrant_client.uploader.grpc_uploader import convert_vector_struct

from gristmill.store.keywords import KEYWORDS, keywords_of
from gristmill.store.wire import query_message, upsert_request
from gristmill_schemas import point_id

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()
json = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
points = st.lists(st.tuples(st.integers(1, 400), st.dictionaries(st.text(), json)), max_size=4)


@given(points, st.integers(0, 2**53))
def test_the_bytes_read_as_the_clients_own_message(drawn: list[tuple[int, dict[str, object]]], version: int) -> None:
    fence = grpc.Filter(must=[grpc.Condition(field=grpc.FieldCondition(key="v", range=grpc.Range(lt=version)))])
    written = [(point_id(str(at), None), _vector(size), payload) for at, (size, payload) in enumerate(drawn)]
    own = grpc.UpsertPoints(
        collection_name="docs",
        wait=True,
        points=[
            grpc.PointStruct(
                id=grpc.PointId(uuid=each), vectors=convert_vector_struct(vector), payload=payload_to_grpc(payload)
            )
            for each, vector, payload in written
        ],
        update_filter=fence,
    )
    assert grpc.UpsertPoints.FromString(upsert_request("docs", written, fence)) == own


@given(points, st.text())
def test_words_beside_the_vector_are_the_clients_own_named_vectors(
    drawn: list[tuple[int, dict[str, object]]], text: str
) -> None:
    written = [
        (point_id(str(at), None), _vector(size), {**payload, "text": text}) for at, (size, payload) in enumerate(drawn)
    ]
    own = [
        grpc.PointStruct(
            id=grpc.PointId(uuid=each),
            vectors=convert_vector_struct({"": vector.tolist(), KEYWORDS: keywords_of(text)}),
            payload=payload_to_grpc(payload),
        )
        for each, vector, payload in written
    ]
    assert list(grpc.UpsertPoints.FromString(upsert_request("docs", written, grpc.Filter(), "text")).points) == own


@given(
    points, st.booleans(), st.lists(st.text(max_size=70), unique=True, max_size=4).filter(lambda names: "" not in names)
)
def test_vectors_by_name_are_the_clients_own(
    drawn: list[tuple[int, dict[str, object]]], words: bool, lenses: list[str]
) -> None:
    names = ["", *(name for name in lenses if name != KEYWORDS)]
    written = [
        (point_id(str(at), None), _vector(size * len(names)).reshape(len(names), size), {**payload, "text": "words"})
        for at, (size, payload) in enumerate(drawn)
    ]
    beside = {KEYWORDS: keywords_of("words")} if words else {}
    own = [
        grpc.PointStruct(
            id=grpc.PointId(uuid=each),
            vectors=convert_vector_struct(
                {**dict(zip(names, vectors.tolist(), strict=True)), **beside} if words or len(names) > 1 else vectors[0]
            ),
            payload=payload_to_grpc(payload),
        )
        for each, vectors, payload in written
    ]
    request = upsert_request("docs", written, grpc.Filter(), "text" if words else None, names=names)
    assert list(grpc.UpsertPoints.FromString(request).points) == own


@pytest.mark.parametrize("size", [1, 31, 32, 127, 1024, 65_536])
def test_every_size_of_vector_arrives_bit_by_bit(size: int) -> None:
    vector = _vector(size)
    (point,) = grpc.UpsertPoints.FromString(upsert_request("docs", [("id", vector, {})], grpc.Filter())).points
    assert np.array_equal(np.array(point.vectors.vector.dense.data, dtype=np.float32), vector)


def test_what_is_nested_too_deeply_is_refused_here_and_not_by_the_server_as_a_fault_of_its_own() -> None:
    deepest = [depth for depth in range(1, 120) if _serializes(depth)]
    assert deepest == list(range(1, len(deepest) + 1)), "up to some depth, all"
    upsert_request("docs", [("id", _vector(4), _nested(len(deepest)))], grpc.Filter())
    with pytest.raises(ProtobufError):
        upsert_request("docs", [("id", _vector(4), _nested(len(deepest) + 1))], grpc.Filter())


requests = st.fixed_dictionaries(
    {"limit": st.integers(1, 99), "offset": st.integers(0, 9)},
    optional={
        "using": st.sampled_from([None, "legal"]),
        "with_payload": st.sampled_from([True, models.PayloadSelectorExclude(exclude=["text"])]),
        "filter": st.just(models.Filter(must=models.HasIdCondition(has_id=[1]))),
        "score_threshold": st.none() | st.floats(-1, 1, width=32),
        "params": st.just(models.SearchParams(exact=True)),
    },
)


@given(st.integers(1, 400), requests)
def test_a_query_reads_as_the_clients_own_message(size: int, request: dict[str, Any]) -> None:
    vector = _vector(size)
    own = RestToGrpc.convert_query_request(models.QueryRequest(query=vector.tolist(), **request), "docs")
    assert query_message("docs", {"query": vector, **request}) == own


def test_what_is_no_vector_goes_through_the_clients_own_classes() -> None:
    request: dict[str, Any] = {
        "prefetch": models.Prefetch(query=[0.5, 0.25], limit=9),
        "query": models.FusionQuery(fusion=models.Fusion.RRF),
    }
    own = RestToGrpc.convert_query_request(models.QueryRequest(**request), "docs")
    assert query_message("docs", request) == own


def _nested(depth: int) -> dict[str, object]:
    payload: dict[str, object] = {}
    for _ in range(depth):
        payload = {"deeper": payload}
    return payload


def _serializes(depth: int) -> bool:
    try:
        point = grpc.PointStruct(payload=payload_to_grpc(_nested(depth)))
        grpc.UpsertPoints(points=[point]).SerializeToString()
    except ProtobufError:
        return False
    return True


def _vector(size: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(size).standard_normal(size).astype(np.float32)
