"""An application that has a Celery of its own, in its environment, in its folder and in its process."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery, _state, current_app

from gristmill import Client, Document
from gristmill.ingest import hearing
from gristmill.settings import variable
from gristmill_schemas import EncoderInfo, Pooling
from services import QdrantServer, RedisServer, WorkerProcess
from waiting import eventually

MODEL = EncoderInfo(model="m", digest="m", pooling=Pooling.MEAN, dimensions=8, min_dimensions=1, max_tokens=9)


def environment_of_another(url: str) -> dict[str, str]:
    """All that Celery and kombu would take from the environment."""
    return {
        "CELERY_BROKER_URL": url,
        "CELERY_BROKER_READ_URL": url,
        "CELERY_BROKER_WRITE_URL": url,
        "CELERY_RESULT_BACKEND": "db+sqlite:///results.sqlite",
        "CELERY_CACHE_BACKEND": "memory",
        "CELERY_CONFIG_MODULE": "celeryconfig",
        "CELERY_LOADER": "default",
        "CELERY_CUSTOM_WORKER_POOL": "nowhere:Pool",
        "CELERY_TRACE_APP": "1",
        "C_STRICT_APP": "1",
        "C_FORCE_ROOT": "",
        "DJANGO_SETTINGS_MODULE": "site.settings",
        "KOMBU_LOG_DEBUG": "1",
    }


@pytest.fixture
def foreign(make_redis: Callable[..., RedisServer]) -> RedisServer:
    return make_redis()


@pytest.fixture
def settings(redis_url: str, qdrant_server: QdrantServer) -> dict[str, Any]:
    return {"redis_url": redis_url, "qdrant_url": qdrant_server.url, "qdrant_grpc_port": qdrant_server.grpc_port}


@pytest.fixture
def environment(foreign: RedisServer, settings: dict[str, Any], tmp_path: Path) -> dict[str, str]:
    """Another application's, with our settings in it; its configuration lies in the working folder."""
    own = {variable(name): str(value) for name, value in settings.items()}
    config = f"broker_url = broker_read_url = broker_write_url = {foreign.url!r}\ntask_default_queue = 'theirs'\n"
    for folder in (tmp_path, tmp_path / "worker"):
        folder.mkdir(exist_ok=True)
        (folder / "celeryconfig.py").write_text(config + "task_serializer = 'pickle'\n")
    paths = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    return environment_of_another(foreign.url) | own | {"PYTHONPATH": paths}


def gristmill(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gristmill", *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def test_another_applications_environment_moves_neither_producer_nor_worker(
    environment: dict[str, str], settings: dict[str, Any], foreign: RedisServer, collection_name: str, tmp_path: Path
) -> None:
    (tmp_path / "texts.jsonl").write_text("".join(f'{{"id": "{n}", "text": "text {n}"}}\n' for n in range(200)))
    with WorkerProcess(tmp_path / "worker", environment), Client(**settings) as client:
        client.create_collection(collection_name, "hash:16")
        ran = gristmill(environment, "ingest", "texts.jsonl", "-c", collection_name, "--json")
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert client.count(collection_name) == 200
        # It takes a worker that is slow to take its message for one that does not.
        eventually(lambda: json.loads(gristmill(environment, "doctor", "--json").stdout)["ok"])
    with contextlib.closing(foreign.client()) as other:
        assert other.dbsize() == 0


def test_an_applications_own_celery_in_the_same_process_is_not_touched(
    settings: dict[str, Any],
    foreign: RedisServer,
    collection_name: str,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_state._tls, "current_app", None)
    theirs = Celery("theirs", broker=foreign.url)
    theirs.conf.update(task_always_eager=True, task_serializer="yaml", task_default_queue="theirs")
    before = dict(theirs.conf)
    with Client(**settings) as client, contextlib.closing(redis.Redis.from_url(redis_url)) as ours:
        client._parts.ledger.announce(MODEL)
        client.create_collection(collection_name, "m")
        client.enqueue(collection_name, Document(id="a", text="t"))
        assert ours.llen("gristmill:bulk.m") == 1
        assert current_app._get_current_object() is theirs
        assert dict(theirs.conf) == before
    with contextlib.closing(foreign.client()) as other, theirs:
        assert other.dbsize() == 0
        theirs.conf.update(task_always_eager=False, task_serializer="json")
        theirs.send_task("their.task")
        assert [key for key in other.scan_iter() if not key.startswith(b"_kombu")] == [b"theirs"]


def test_doctor_does_not_say_ok_of_a_worker_that_takes_nothing(
    settings: dict[str, Any], run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearing, "TAKEN_WITHIN_S", 0.5)
    for name, value in settings.items():
        monkeypatch.setenv(variable(name), str(value))
    with Client(**settings) as client:
        client._parts.ledger.announce(MODEL)
        engine = {"model": "m", "model_digest": "m", "device": "cpu"}
        client._parts.ledger.heartbeat("deaf", {"parcels": 0, "notices": [], "engines": [engine]}, ttl_s=60)
        code, told, _ = run("doctor", "--json")
    checks = {each["name"]: each for each in json.loads(told)["checks"]}
    assert code == 1
    assert checks["workers"]["ok"]
    assert not checks["broker"]["ok"]
    assert "the workers of m are alive but took no message" in checks["broker"]["detail"]
