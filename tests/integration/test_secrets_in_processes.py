"""What programs print and log of the secrets that they were given: nothing, whether their servers are there or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from gristmill import Client, Document, GristmillError
from gristmill.settings import variable
from secrets_planted import logged, shown_by, traces
from services import QdrantServer, RedisServer, WorkerProcess
from services.process import free_port

Run = Callable[..., tuple[int, str, str]]

PASSWORD = "p@ss/w:rd#9?%&x Zü"
REDIS_PASSWORD = "rye:9Zx73lmWkk11"
KEY = "sk-q9Zx73lmWkk11"


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch, hasty_redis: None) -> None:
    """Settings with secrets, of servers that are not there."""
    login = f"app:{quote(PASSWORD, safe='')}"
    values = {
        "redis_url": f"redis://{login}@127.0.0.1:{free_port()}/0",
        "redis_timeout_s": "0.5",
        "qdrant_url": f"http://{login}@127.0.0.1:{free_port()}",
        "qdrant_grpc_port": str(free_port()),
        "qdrant_timeout_s": "1",
        "remote_api_key": KEY,
        "remote_wait_s": "0.1",
        "start_wait_s": "0.3",
        "model": f"http://{login}@127.0.0.1:{free_port()}/v1#m",
    }
    for name, value in values.items():
        monkeypatch.setenv(variable(name), value)


@pytest.mark.parametrize(
    "command",
    [
        ["collections", "list"],
        ["ingest", "texts.txt", "-c", "c"],
        ["jobs", "list"],
        ["search", "c", "query", "--json"],
        ["doctor"],
        ["doctor", "--json"],
        ["worker", "--no-supervise", "--log-level", "debug"],
    ],
    ids=" ".join,
)
def test_a_command_whose_servers_are_away_tells_no_secret(
    run: Run, away: None, tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "texts.txt").write_text("text")
    with logged() as lines:
        code, out, err = run(*command)
    assert code == 1
    seen = "\n".join([out, err, *lines])
    assert "127.0.0.1" in seen
    assert traces(PASSWORD, seen) + traces(KEY, seen) == []


@pytest.fixture
def servers(make_redis: Callable[..., RedisServer], make_qdrant: Callable[..., QdrantServer]) -> dict[str, Any]:
    """Servers that ask for a password and a key."""
    redis = make_redis(password=REDIS_PASSWORD)
    qdrant = make_qdrant(api_key=KEY)
    return {
        "redis_url": f"redis://:{quote(redis.password or '', safe='')}@127.0.0.1:{redis.port}/0",
        "qdrant_url": qdrant.url,
        "qdrant_grpc_port": qdrant.grpc_port,
        "qdrant_api_key": KEY,
    }


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_a_worker_and_a_client_at_work_tell_no_secret_at_any_level(servers: dict[str, Any], tmp_path: Path) -> None:
    environment = {variable(name): str(value) for name, value in servers.items()} | {"KOMBU_LOG_DEBUG": "1"}
    with WorkerProcess(tmp_path / "worker", environment, log_level="debug") as worker, logged() as lines:
        with Client(**servers) as client:
            client.create_collection("c", "hash:16")
            assert client.enqueue("c", [Document(id="a", text="text")]).wait(60).stored == 1
            assert client.search("c", "text")
            lines.append(repr(client))
        with Client(**{**servers, "redis_url": servers["redis_url"].replace("@", "x@")}) as stranger:
            with pytest.raises(GristmillError) as refused:
                stranger.jobs.list()
            lines.append(shown_by(refused.value))
        with Client(**{**servers, "qdrant_api_key": f"{KEY}x"}) as stranger:
            with pytest.raises(GristmillError) as refused:
                stranger.collections.list()
            lines.append(shown_by(refused.value))
        seen = "\n".join([*lines, worker.log_path.read_text()])
    assert "kombu" in seen
    assert traces(REDIS_PASSWORD, seen) + traces(KEY, seen) == []
