"""Fixtures for every test: a scrubbed environment, real servers, and a fresh namespace in them for each test."""

import functools
import gc
import itertools
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import hypothesis
import pytest
from redis.backoff import NoBackoff

from gristmill_schemas.redaction import texts
from key_leaks import leaks
from services import QdrantServer, RedisServer, Server, ServiceMissing
from services.folders import server_folder
from services.redis import DATABASES
from services.sentinel import SentinelServer

# Read once, when the hub's client is imported; the workers that tests start inherit it. No test needs the real hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Modules, and what pytest keeps of thousands of tests, are no garbage to look for.
gc.set_threshold(50_000, 20, 50)

# Whatever Hypothesis is set to here or in CI, less its two looks at the clock.
hypothesis.settings.register_profile(
    "any machine", hypothesis.settings(), deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
# `make check` draws fewer where a test asks for no number of its own; `make test` draws them all.
hypothesis.settings.register_profile("quick", hypothesis.settings.get_profile("any machine"), max_examples=25)
hypothesis.settings.load_profile("any machine")

SERVER_FIXTURES = {"redis_server", "qdrant_server", "make_redis", "make_qdrant", "make_sentinel"}
S = TypeVar("S", bound=Server)
_databases = itertools.cycle(range(1, DATABASES))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the chaos suite. They live here, since pytest reads options from the root only."""
    group = parser.getgroup("chaos", "the failure suite, see docs/explanation/chaos.md")
    group.addoption("--chaos-seed", default=os.environ.get("CHAOS_SEED", "1"), help="seed of all random choices")
    group.addoption("--chaos-redis-url", default=None, help="a Redis of yours, instead of one that the test starts")
    group.addoption("--chaos-qdrant-url", default="http://localhost:6333", help="its Qdrant")
    group.addoption("--chaos-qdrant-grpc-port", default="6334", help="its Qdrant's gRPC port")
    group.addoption("--chaos-restart-redis", default=None, help="command that restarts your Redis")
    group.addoption("--chaos-restart-qdrant", default=None, help="command that restarts your Qdrant")


def pytest_configure() -> None:
    """A child would inherit what is ignored: SIGHUP under nohup, SIGINT of a shell's background jobs. Tests send both."""
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _parameters(item: pytest.Item) -> list[object]:
    """Strings among an item's parameters. A fixture with a parameter of `places` asks for a server only while it runs."""
    callspec = getattr(item, "callspec", None)
    return [each for each in callspec.params.values() if isinstance(each, str)] if callspec else []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark as `server` whatever asks for one, so that the marker cannot be forgotten; leave what is long to `-m`."""
    for item in items:
        if SERVER_FIXTURES.intersection(getattr(item, "fixturenames", ())) or {"server", "rest"}.intersection(
            map(str, _parameters(item))
        ):
            item.add_marker(pytest.mark.server)
    if not config.option.markexpr:
        long = [item for item in items if item.get_closest_marker("soak") or item.get_closest_marker("release")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


def pytest_collection_finish() -> None:
    """Where tests run, less of what each of them would pay for anew."""
    from qdrant_client.embed import schema_parser, type_inspector  # not where xdist only hands them out

    # Each client copies the schema of every request, ten milliseconds of the few that most tests take: one copy does.
    vars(type_inspector)["ModelSchemaParser"] = functools.cache(schema_parser.ModelSchemaParser)
    # What was collected and imported stays to the end: nobody need look through it for garbage again and again.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the developer's own settings: variables by name, and a `.env` file by working in an empty folder."""
    for name in [name for name in os.environ if name.startswith("GRISTMILL_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test gave as a password is a word like any other to the next."""
    monkeypatch.setattr(texts, "_known", texts._Known())


@pytest.fixture
def hasty_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that is away is tried as often as ever, without the pauses between."""
    monkeypatch.setattr("gristmill.ledger.connection.ExponentialWithJitterBackoff", lambda **_: NoBackoff())


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis for the whole run. Never stop or pause it: `make_redis` gives a test a server of its own."""
    with _factory(RedisServer) as make:
        yield make()


@pytest.fixture(scope="session")
def qdrant_server() -> Iterator[QdrantServer]:
    """One Qdrant for the whole run. Never stop or pause it: `make_qdrant` gives a test a server of its own."""
    with _factory(QdrantServer) as make:
        # By default a segment for each core: a collection of a few documents is made in half the time with one.
        yield make(settings={"QDRANT__STORAGE__OPTIMIZERS__DEFAULT_SEGMENT_NUMBER": "1"})


@pytest.fixture
def make_redis() -> Iterator[Callable[..., RedisServer]]:
    """Start Redis servers with the options of `RedisServer`, to be killed at will; all end with the test."""
    with _factory(RedisServer) as make:
        yield make


@pytest.fixture
def make_qdrant() -> Iterator[Callable[..., QdrantServer]]:
    """Start Qdrant servers with the options of `QdrantServer`, to be killed at will; all end with the test."""
    with _factory(QdrantServer) as make:
        yield make


@pytest.fixture
def make_sentinel() -> Iterator[Callable[..., SentinelServer]]:
    """Start Sentinels with the options of `SentinelServer`; all end with the test."""
    with _factory(SentinelServer) as make:
        yield make


@pytest.fixture
def redis_url(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[str]:
    """URL of an empty database that no other test uses; the test fails if it leaves keys there that nobody will remove."""
    database = next(_databases)
    redis_server.flush(database)
    yield redis_server.url_of(database)
    with closing(redis_server.client(database)) as client:
        left = [] if request.node.get_closest_marker("vandal") else leaks(client)
    redis_server.flush(database)
    assert not left


@pytest.fixture
def collection_name(request: pytest.FixtureRequest) -> Iterator[str]:
    """A collection name that no other test uses; what starts with it is deleted from `qdrant_server` afterwards."""
    name = f"t-{uuid.uuid4().hex[:12]}"
    yield name
    if "qdrant_server" in request.fixturenames:
        request.getfixturevalue("qdrant_server").drop_collections(name)


@contextmanager
def _factory(kind: Callable[..., S]) -> Iterator[Callable[..., S]]:
    with ExitStack() as cleanup:

        def make(**options: Any) -> S:
            data_dir = Path(cleanup.enter_context(server_folder()))
            try:
                server = kind(data_dir, **options)
            except ServiceMissing as missing:
                _unavailable(str(missing))
            cleanup.enter_context(server)
            return server

        yield make


def _unavailable(reason: str) -> NoReturn:
    """A developer without a server goes on without its tests; CI must never be green because it ran none."""
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(reason)
    pytest.skip(reason)
