"""A worker or a command that is started before its servers waits for them, says so, and for no longer than it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gristmill import Client, Document
from gristmill.settings import variable
from services import QdrantServer, RedisServer, WorkerProcess, free_port
from services.process import changed
from waiting import eventually

# Whole processes: too slow for `make check`.
pytestmark = pytest.mark.server
MakeRedis = Callable[..., RedisServer]
MakeQdrant = Callable[..., QdrantServer]


def environment_of(settings: dict[str, Any]) -> dict[str, str]:
    return {variable(name): str(value) for name, value in settings.items()}


def nowhere(**more: Any) -> dict[str, Any]:
    """Addresses where nothing listens."""
    return {
        "redis_url": f"redis://127.0.0.1:{free_port()}/0",
        "qdrant_url": f"http://127.0.0.1:{free_port()}",
        "qdrant_grpc_port": free_port(),
        **more,
    }


def test_a_worker_waits_for_both_servers_and_then_works(
    make_redis: MakeRedis, make_qdrant: MakeQdrant, tmp_path: Path, collection_name: str
) -> None:
    redis, qdrant = make_redis(), make_qdrant()
    settings = {"redis_url": redis.url, "qdrant_url": qdrant.url, "qdrant_grpc_port": qdrant.grpc_port}
    redis.stop()
    qdrant.stop()
    worker = WorkerProcess(tmp_path / "worker", environment_of(settings))
    worker.launch()
    try:
        eventually(lambda: "waiting for Redis at redis://127.0.0.1" in worker.log_tail())
        redis.start()
        eventually(lambda: "waiting for Qdrant at http://127.0.0.1" in worker.log_tail())
        qdrant.start()
        worker.wait_ready()
        with Client(**settings) as client:  # type: ignore[arg-type]  # by name
            client.create_collection(collection_name, "hash:16")
            assert client.enqueue(collection_name, [Document(id="a", text="rye")]).wait(60).stored == 1
    finally:
        worker.stop()
    assert "Traceback" not in worker.log_tail(1000)


def test_a_worker_whose_servers_do_not_come_ends_with_a_sentence(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "gristmill", "worker", "--no-supervise", "--model", "hash:16"],
        env={**os.environ, **environment_of(nowhere(start_wait_s=0.3))},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    for word in ("BrokerUnavailable", "GRISTMILL_REDIS_URL", "0.3 s at most (GRISTMILL_START_WAIT_S)"):
        assert word in last
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_worker_that_waits_ends_when_it_is_asked_to(sent: signal.Signals, code: int, tmp_path: Path) -> None:
    worker = WorkerProcess(tmp_path / "worker", environment_of(nowhere()))
    worker.launch()
    try:
        eventually(lambda: "waiting for Redis" in worker.log_tail())
        os.kill(worker.pid, sent)
        assert worker._process is not None
        assert worker._process.wait(60) == code
        assert "Traceback" not in worker.log_tail(1000)
    finally:
        worker.kill()


#: A server of a busy machine may take longer to start than a person waits.
PATIENT = "from gristmill import startup; startup._COMMAND_S = 60"


def command(settings: dict[str, Any], *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        changed(PATIENT, [sys.executable, "-m", "gristmill", *words]),
        env={**os.environ, **environment_of(settings)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_command_waits_for_the_server_that_it_needs(make_redis: MakeRedis) -> None:
    redis = make_redis()
    redis.stop()
    # Qdrant stays away, and is not needed.
    with command(nowhere(redis_url=redis.url, start_wait_s=60), "jobs", "list", "--json") as asked:
        assert asked.stderr is not None
        assert "waiting for Redis, 60 s at most" in asked.stderr.readline()
        redis.start()
        out, _ = asked.communicate(timeout=60)
    assert (asked.returncode, json.loads(out)) == (0, {"jobs": []})


def test_a_command_that_has_waited_for_nothing_says_what_it_lacks(tmp_path: Path) -> None:
    with command(nowhere(start_wait_s=0.2), "jobs", "list", "--json") as asked:
        out, err = asked.communicate(timeout=60)
    assert asked.returncode == 1
    assert "GRISTMILL_REDIS_URL" in json.loads(out)["message"]
    assert "Traceback" not in err
