"""How Qdrant keeps a collection: every option reaches it, a collection that is kept otherwise is a conflict."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from qdrant_client import models

from gristmill import Client, CollectionConflict, InvalidInput
from places import ways_to
from services import QdrantServer

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mill(qdrant_server: QdrantServer) -> Iterator[Client]:
    with Client.embedded(qdrant_server.url, **ways_to(qdrant_server), model="hash:16", threads=2) as client:
        yield client


def test_every_option_reaches_qdrant(mill: Client, collection_name: str) -> None:
    asked: dict[str, Any] = {
        "hnsw": {"m": 32, "ef_construct": 200},
        "on_disk": True,
        "on_disk_payload": True,
        "shards": 3,
        "replicas": 2,
        "write_consistency": 2,
        "quantization": models.ScalarQuantization(
            scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
        ),
    }
    mill.create_collection(collection_name, **asked)
    config = mill._parts.store.get_collection(collection_name).config
    params = config.params
    assert (config.hnsw_config.m, config.hnsw_config.ef_construct) == (32, 200)
    assert isinstance(params.vectors, models.VectorParams)
    assert (params.vectors.on_disk, params.on_disk_payload) == (True, True)
    assert (params.shard_number, params.replication_factor, params.write_consistency_factor) == (3, 2, 2)
    assert isinstance(config.quantization_config, models.ScalarQuantization)
    mill.create_collection(collection_name, **asked)
    assert mill.create_collection(collection_name, bulk=True, **asked).bulk_since, "in bulk it is kept as it was, too"
    mill.create_collection(collection_name, **asked)


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        ("int8", {"scalar": {"type": "int8"}}),
        ("binary", {"binary": {}}),
        ("1.5bit", {"binary": {"encoding": "one_and_half_bits"}}),
        ("2bit", {"binary": {"encoding": "two_bits"}}),
        ("product", {"product": {"compression": "x16"}}),
        ({"product": {"compression": "x32"}}, {"product": {"compression": "x32"}}),
    ],
)
def test_vectors_are_quantized_as_asked(mill: Client, collection_name: str, kind: Any, kept: dict[str, Any]) -> None:
    mill.create_collection(collection_name, quantization=kind)
    config = mill._parts.store.get_collection(collection_name).config.quantization_config
    assert config is not None
    assert config.model_dump(mode="json", exclude_none=True) == kept
    mill.enqueue(collection_name, {"id": "1", "text": "t"}).wait(60).raise_for_failures()
    assert [hit.id for hit in mill.search(collection_name, "t")] == ["1"]


def test_one_that_is_kept_otherwise_is_a_conflict_that_says_both(mill: Client, collection_name: str) -> None:
    mill.create_collection(collection_name, quantization="int8")
    wrongs: list[dict[str, Any]] = [{"quantization": "binary"}, {"replicas": 2}, {"on_disk": True}, {"hnsw": {"m": 5}}]
    for wrong in wrongs:
        with pytest.raises(CollectionConflict, match=r"is kept otherwise: .* is .*, asked for") as refused:
            mill.create_collection(collection_name, **wrong)
        assert refused.value.field == next(iter(wrong))
    mill.create_collection(collection_name)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"quantization": "int4"}, "quantization: expected one of int8, binary, 1.5bit, 2bit, product.* got 'int4'"),
        ({"quantization": "scalar"}, "did you mean 'int8'"),
        ({"quantization": {"scalar": {"type": "int4"}}}, "quantization: "),
        ({"quantization": 8}, "got 8; did you mean 'int8'"),
        ({"hnsw": 16}, "hnsw: expected a mapping such as"),
        ({"hnsw": {"M": 16}}, "hnsw: expected m, ef_construct.* got 'M'"),
        ({"hnsw": {"m": "many"}}, "hnsw: "),
        ({"on_disk": 1}, "on_disk: expected True or False, got 1"),
        ({"on_disk_payload": "yes"}, "on_disk_payload"),
        ({"shards": 0}, "shards: expected an integer from 1"),
        ({"replicas": 2.5}, "replicas: expected an integer"),
        ({"replicas": 2, "write_consistency": 3}, "write_consistency: expected at most the 2 replicas, got 3"),
    ],
)
def test_what_is_no_option_is_refused_by_name_before_anything_is_made(wrong: dict[str, Any], sentence: str) -> None:
    with Client.embedded(model="hash:16") as client:
        with pytest.raises(InvalidInput, match=sentence) as refused:
            client.create_collection("c", **wrong)
        assert refused.value.field in wrong
        assert client.collections.list() == []


def test_local_mode_says_what_says_nothing_there(caplog: pytest.LogCaptureFixture) -> None:
    with Client.embedded(model="hash:16") as client, caplog.at_level(logging.WARNING):
        client.create_collection("c", quantization="int8", shards=2, hnsw={"m": 4}, on_disk=True)
        assert client.enqueue("c", {"id": "1", "text": "t"}).wait(60).stored == 1
    assert "quantization, hnsw, on_disk, shards say nothing there" in caplog.text


def test_the_command_line_has_them_too(
    run: Run, qdrant_server: QdrantServer, collection_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRISTMILL_EMBEDDED_PATH", qdrant_server.url)
    monkeypatch.setenv("GRISTMILL_QDRANT_GRPC_PORT", str(qdrant_server.grpc_port))
    monkeypatch.setenv("GRISTMILL_MODEL", "hash:16")
    graph = ("--hnsw-m", "8", "--quantization", "int8", "--on-disk", "--shards", "2", "--replicas", "1")
    assert run("collections", "create", collection_name, *graph, "--json")[0] == 0
    code, _, err = run("collections", "create", collection_name, "--hnsw-m", "9")
    assert (code, "asked for {'m': 9}" in err) == (2, True)
