"""Each form of Redis's address on a real server: the ledger, the queue and a whole worker reach the same one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gristmill import Client, ClientSettings, Document
from gristmill.ingest.broker import CeleryDispatcher, create_celery, queue_name
from gristmill.ingest.transport import redis_transport
from gristmill.ledger import RedisLedger
from gristmill.ledger.connection import connect
from gristmill.settings import variable
from gristmill_schemas.errors import GristmillError, InvalidInput, Unavailable
from services import QdrantServer, RedisServer, WorkerProcess

MakeRedis = Callable[..., RedisServer]
StartWorker = Callable[..., WorkerProcess]

HARD = "p@:/?#%+ ;&ß"
ENCODED = "p%40%3A%2F%3F%23%25%2B%20%3B%26%C3%9F"


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[StartWorker]:
    with contextlib.ExitStack() as closing:

        def start(settings: Mapping[str, Any]) -> WorkerProcess:
            environment = {variable(name): str(value) for name, value in settings.items()}
            return closing.enter_context(WorkerProcess(tmp_path / "worker", environment))

        yield start


@pytest.fixture(scope="module")
def mill_of_forms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server with a difficult password, and a user who has one too."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), password=HARD, databases=16, url_password=ENCODED)
    with server:
        with contextlib.closing(server.client()) as client:
            client.acl_setuser("mi@ller", enabled=True, passwords=[f"+{HARD}"], keys=["*"], commands=["+@all"])
        yield server


def reaches(settings: ClientSettings) -> None:
    """What the ledger's client and Celery write and read is in one database."""
    with contextlib.closing(connect(settings)) as client, contextlib.closing(CeleryDispatcher(settings)) as dispatcher:
        client.flushdb()
        assert RedisLedger(settings, client).open_job("c").job_id
        dispatcher.publish("digest")
        assert client.llen(f"{settings.key_prefix}:{queue_name('digest')}") == 1
        app = create_celery(settings)
        with app.connection_for_read(transport=redis_transport(settings)) as consumer:
            queue = consumer.SimpleQueue(queue_name("digest"))
            assert queue.get(timeout=60).payload[0] == ["digest"]
            queue.close()
        app.close()
        client.flushdb()


@pytest.mark.server
@pytest.mark.parametrize(
    "url",
    [
        "redis://:{password}@127.0.0.1:{port}",
        "redis://:{password}@[::1]:{port}/7/",
        "redis://mi%40ller:{password}@localhost:{port}?db=7",
        "REDIS://default:{password}@127.0.0.1:{port}/7?socket_timeout=60&health_check_interval=5&client_name=mill",
        "redis://127.0.0.1:{port}/7?password={password}&protocol=2",
        "unix://:{password}@{socket}?db=7",
        "unix://{socket}?username=mi%40ller&password={password}",
        "redis+socket://:{password}@{socket}?virtual_host=7",
    ],
)
def test_ledger_and_queue_reach_the_same_redis_in_every_form(url: str, mill_of_forms: RedisServer) -> None:
    server = mill_of_forms
    filled = url.format(port=server.port, socket=server.socket_path, password=ENCODED)
    reaches(ClientSettings(redis_url=filled))


@pytest.mark.parametrize("checks", ["ssl_cert_reqs=none", "ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={ca}"])
def test_ledger_and_queue_speak_tls_alike(checks: str, make_redis: MakeRedis) -> None:
    server = make_redis(tls=True)
    reaches(ClientSettings(redis_url=f"rediss://127.0.0.1:{server.port}/1?{checks.format(ca=server.ca_path)}"))


def refusal(url: str) -> GristmillError:
    """What the ledger and the queue say; both in the same words."""
    # A server without TLS says nothing to who speaks it.
    settings = ClientSettings(redis_url=url, redis_timeout_s=0.5 if url.startswith("rediss:") else 60)
    with contextlib.closing(connect(settings)) as client, pytest.raises(GristmillError) as by_ledger:
        RedisLedger(settings, client).open_job("c")
    with contextlib.closing(CeleryDispatcher(settings)) as dispatcher, pytest.raises(GristmillError) as by_queue:
        dispatcher.publish("digest")
    for refused in (by_ledger.value, by_queue.value):
        assert isinstance(refused, Unavailable), "work waits for a right address"
        assert "GRISTMILL_REDIS_URL" in str(refused)
    return by_ledger.value


@pytest.mark.server
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://:wrong@127.0.0.1:{port}", "refuses the login"),
        ("redis://nobody:wrong@127.0.0.1:{port}", "refuses the login"),
        ("redis://127.0.0.1:{port}", "user:password@"),
        ("redis://:{password}@127.0.0.1:{port}/16", "database"),
        ("unix://:{password}@/no/such/redis.sock", "cannot be used"),
        ("rediss://:{password}@127.0.0.1:{port}", "redis:// where it speaks no TLS"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused_by_its_setting(
    url: str, says: str, mill_of_forms: RedisServer
) -> None:
    refused = refusal(url.format(port=mill_of_forms.port, password=ENCODED))
    assert says in str(refused)
    assert HARD not in str(refused)


def test_a_redis_that_speaks_tls_alone_is_named_so_to_who_does_not(make_redis: MakeRedis) -> None:
    server = make_redis(tls=True)
    refused = refusal(f"redis://127.0.0.1:{server.port}")
    assert "rediss:// where it speaks TLS" in str(refused)


def test_a_replica_is_refused_by_the_setting_that_should_name_the_primary(make_redis: MakeRedis) -> None:
    server = make_redis(options={"replicaof": "127.0.0.1 1"})
    assert "it is a replica" in str(refusal(server.url))


def test_a_certificate_that_is_not_there_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"GRISTMILL_REDIS_URL: .*ssl_ca_certs, got /no/such/ca.pem"):
        Client(redis_url="rediss://localhost?ssl_ca_certs=/no/such/ca.pem")


def test_a_socket_serves_a_whole_worker(
    make_redis: MakeRedis, qdrant_server: QdrantServer, start_worker: StartWorker, collection_name: str
) -> None:
    server = make_redis(password=HARD, url_password=ENCODED)
    settings: dict[str, Any] = {
        "redis_url": f"unix://:{ENCODED}@{server.socket_path}?db=1",
        "qdrant_url": qdrant_server.url,
        "qdrant_grpc_port": qdrant_server.grpc_port,
    }
    worker = start_worker(settings)
    with Client(**settings) as client:
        client.create_collection(collection_name, "hash:16")
        assert client.enqueue(collection_name, [Document(id="a", text="rye")]).wait(60).stored == 1
        assert client.search(collection_name, "rye")[0].id == "a"
    assert ENCODED not in worker.log_path.read_text()
    assert HARD not in worker.log_path.read_text()
