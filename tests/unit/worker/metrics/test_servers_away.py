"""What a page says of a worker whose servers are away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from gristmill.ledger import MemoryLedger
from gristmill.settings import load_settings
from gristmill.store.collections import Collections
from gristmill.store.connection import open_store
from gristmill_worker.batching.idle_clock import IdleClock, Stage
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.pipeline.engine import Engine
from gristmill_worker.process.host import Host
from gristmill_worker.settings import WorkerSettings
from gristmill_worker.waiting.notices import Waits
from services import free_port
from unit.ledger.parcels import ROOMY, parcel_of
from waiting import eventually


class RemoteHashEncoder(HashEncoder):
    """One whose vectors come from a server."""

    device = "remote"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Of a worker whose Qdrant is away; it pauses for longer than any test takes."""
    for name in ("_FIRST_S", "_LONGEST_S"):
        monkeypatch.setattr(f"gristmill_worker.waiting.pause.{name}", 3600.0)
    settings = load_settings(
        WorkerSettings, qdrant_url=f"http://127.0.0.1:{free_port()}", qdrant_prefer_grpc=False, server_wait_s=0.01
    )
    with ExitStack() as stack:
        store = open_store(settings)
        stack.callback(store.close)
        host = Host(settings, MemoryLedger(), store, Collections(store), lambda model, count: None)
        stack.callback(host.close)
        yield host


def charged(clock: IdleClock) -> set[str]:
    """Causes to which idle time goes from now on."""
    before = clock.seconds()
    return {cause for cause, seconds in clock.seconds().items() if seconds > before[cause]}


def refuse(host: Host, engine: Engine) -> None:
    """A parcel finds no Qdrant, and goes back."""
    ticket = host.ledger.open_job("c")
    host.ledger.accept(parcel_of(ticket, model=engine.digest), 0, ROOMY)
    engine.process()
    assert not host.leases.held


def test_a_store_that_is_away_has_the_idle_time_of_those_who_pause_for_it(host: Host) -> None:
    engine = host.add(HashEncoder(4))
    assert eventually(lambda: charged(engine.idle)) == {"no_work"}
    refuse(host, engine)
    assert charged(engine.idle) == {"store"}


def test_asking_what_a_collection_is_counts_as_a_failed_request(host: Host) -> None:
    engine = host.add(HashEncoder(4))
    refuse(host, engine)
    assert engine.meter.store_errors.all()["StoreUnavailable"] >= 1


def test_a_model_server_that_is_away_has_the_idle_time_of_its_own_model(host: Host) -> None:
    local, remote = host.add(HashEncoder(4)), host.add(RemoteHashEncoder(8))
    eventually(lambda: charged(local.idle) == charged(remote.idle) == {"no_work"})
    host.notices.put("a call", Waits.MODEL_SERVER, "the model server is away")
    assert (charged(local.idle), charged(remote.idle)) == ({"no_work"}, {"model_server"})
    host.notices.drop("a call")
    assert charged(remote.idle) == {"no_work"}


def test_threads_that_are_at_work_say_more_than_what_is_away() -> None:
    clock = IdleClock(lambda: "broker")
    clock.set_idle(True)
    assert charged(clock) == {"broker"}
    with clock.stage(Stage.TOKENS):
        assert charged(clock) == {"tokens"}
