"""One process, several models: each has its own queue and query lane, and none costs another anything."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import redis

from gristmill import Client, GristmillError, InvalidInput
from gristmill.search.query_channel import QueryChannel, new_token, query_queue
from gristmill.settings import load_settings, variable
from gristmill_schemas import QueryRequest
from gristmill_schemas.query import unpack_answer
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.process.supervisor import placements
from gristmill_worker.settings import WorkerSettings, of_each_model
from services.model_server import ModelServer
from waiting import eventually

SMALL, LARGE = "hash:32", "hash:64"


@pytest.fixture
def client(settings: dict[str, Any]) -> Iterator[Client]:
    with Client(**settings) as client:
        yield client


@pytest.fixture
def worker(settings: dict[str, Any], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`gristmill worker --model hash:64 --model hash:32`."""
    chosen = {"reconcile_every_s": 0.5, **settings}
    environment = {**os.environ, **{variable(name): str(value) for name, value in chosen.items()}}
    command = [sys.executable, "-m", "gristmill", "worker", "--no-supervise", "--threads", "4"]
    with (tmp_path / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--model", LARGE, "--model", SMALL], env=environment, stdout=log, stderr=log
        )
        yield process
        process.terminate()
        process.wait(timeout=60)


def documents(count: int, word: str) -> list[dict[str, str]]:
    return [{"id": str(n), "text": f"{word} {n}"} for n in range(count)]


@pytest.mark.usefixtures("worker")
def test_one_process_fills_and_searches_the_collections_of_two_models(client: Client, collection_name: str) -> None:
    names = {model: f"{collection_name}-{model[5:]}" for model in (SMALL, LARGE)}
    for model, name in names.items():
        assert client.create_collection(name, model, wait_s=60).space.dimensions == int(model[5:])
    jobs = [client.enqueue(name, documents(1_000, model)) for model, name in names.items()]
    assert [job.wait(60).stored for job in jobs] == [1_000, 1_000]
    for model, name in names.items():
        assert [hit.id for hit in client.search(name, f"{model} 7", limit=1)] == ["7"]
    eventually(lambda: encoded(client) == {LARGE: 1_001, SMALL: 1_001})


def encoded(client: Client) -> dict[str, int]:
    """Texts that each engine of the one worker has encoded, by its last heartbeat."""
    (status,) = client._parts.ledger.workers().values()
    engines: Any = status["engines"]
    return {each["model"]: each["texts"] for each in engines}


@pytest.mark.usefixtures("worker")
def test_a_query_in_another_models_lane_is_refused_and_says_why(
    client: Client, settings: dict[str, Any], collection_name: str
) -> None:
    space = client.create_collection(collection_name, LARGE, wait_s=60).space
    request = QueryRequest(
        token=new_token(),
        model_digest=space.model_digest,
        dimensions=16,
        texts=("which mill?",),
        deadline_us=int((client._parts.ledger.now() + 60) * 1e6),
    )
    with closing(redis.Redis.from_url(settings["redis_url"])) as broker:
        broker.lpush(query_queue(settings["key_prefix"], HashEncoder(32).info.digest), request.model_dump_json())
        answer = QueryChannel(settings["key_prefix"], broker).fetch(request.token, 60)
    assert answer is not None
    with pytest.raises(GristmillError, match="came to the lane of hash:32"):
        unpack_answer(answer)


def test_one_model_named_twice_is_refused_before_anything_is_taken(settings: dict[str, Any]) -> None:
    environment = {**os.environ, **{variable(name): str(value) for name, value in settings.items()}}
    command = [sys.executable, "-m", "gristmill", "worker", "--no-supervise", "--model", SMALL, "--model", SMALL]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False, text=True)
    assert done.returncode == 2
    assert "are the same model; name each once" in " ".join(done.stderr.split())


def test_what_describes_one_model_is_refused_for_several() -> None:
    with pytest.raises(InvalidInput, match="max_tokens: expected to be unset with several models"):
        of_each_model(load_settings(WorkerSettings, max_tokens=64), [SMALL, LARGE])


@pytest.mark.parametrize(
    ("device", "models", "processes", "expected"),
    [
        ("auto", ["m"], None, ["0", "1"]),
        ("auto", ["m"], 3, ["0", "1", "0"]),
        ("cuda:1", ["m"], None, [None]),
        ("cpu", ["m"], None, [None]),
        ("cpu", ["m"], 2, [None, None]),
        ("auto", ["http://host/v1#m"], None, [None]),
        ("auto", ["hash:16", "https://host/v1"], None, [None]),
        ("auto", ["hash:16", "m"], None, ["0", "1"]),
    ],
)
def test_a_device_that_is_named_is_meant_and_remote_models_need_none(
    monkeypatch: pytest.MonkeyPatch, device: str, models: list[str], processes: int | None, expected: list[str | None]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert placements(device, models, processes) == expected


def test_a_model_whose_server_is_away_at_the_start_holds_up_no_other_and_joins_when_it_comes(
    client: Client, settings: dict[str, Any], collection_name: str, tmp_path: Path
) -> None:
    def encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        encoder = HashEncoder(24)
        return encoder.encode(encoder.tokenize(texts))

    with ModelServer(encode) as server:
        server.leave()
        environment = {**os.environ, **{variable(name): str(value) for name, value in settings.items()}}
        command = [sys.executable, "-m", "gristmill", "worker", "--model", SMALL, "--model", server.url]
        with (tmp_path / "worker.log").open("ab") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            client.create_collection(f"{collection_name}-small", SMALL, wait_s=60)
            assert client.enqueue(f"{collection_name}-small", documents(10, "small")).wait(60).stored == 10
            eventually(lambda: any("is not served here" in notice for notice in notices(client)), 60)
            server.come_back()
            client.create_collection(f"{collection_name}-remote", server.url, wait_s=90)
            assert client.models.get("mill-tiny") == client.models.get(server.url.partition("#")[0] + "/")
            assert client.enqueue(f"{collection_name}-remote", documents(10, "remote")).wait(60).stored == 10
            assert client.enqueue(f"{collection_name}-small", documents(20, "small")).wait(60).stored == 10
        finally:
            process.terminate()
            process.wait(timeout=60)


def notices(client: Client) -> list[str]:
    """What living workers say that they wait for."""
    found: list[Any] = [status.get("notices") or [] for status in client._parts.ledger.workers().values()]
    return [notice for each in found for notice in each]
