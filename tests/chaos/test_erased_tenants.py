"""A tenant is erased under load, while workers are frozen and killed: nothing of it comes back, and others lose nothing."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chaos.mill import Conclude, MakeMill, Mill, persist
from chaos.verdict import add_up, judge, settled
from gristmill import Chunking, Client, Document
from waiting import eventually

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
SHORT_OR_LONG = [pytest.param(1, id="short"), pytest.param(10, id="long", marks=pytest.mark.soak)]
#: Documents of a call, of both tenants, so that parcels hold those of either.
_CALL = 50


@pytest.mark.parametrize("scale", SHORT_OR_LONG)
def test_an_erased_tenant_stays_away_and_its_neighbours_lose_nothing(
    scale: int, mill: MakeMill, conclude: Conclude
) -> None:
    made = mill(workers=2 if scale == 1 else 4)
    started, jobs = time.monotonic(), []  # type: tuple[float, list[str]]
    expected: dict[str, str | None] = {}
    with made.running(), made.client() as client:
        client.create_collection("c", made.model, tenants=True, chunking=Chunking(size=16, overlap=2), wait_s=60)
        poison = Document(id="acme-poison", text="POISON-RAISE", tenant="acme")
        jobs.append(client.enqueue("c", poison).id)
        settled(client, jobs, deadline_s=60)
        with _hands(made, ["kill_worker"] * (2 * scale)):
            both = range(0, 300 * scale, _CALL)
            jobs += [_send(made, client, start, ("acme", "other"), expected) for start in both]
            jobs += [_delete(client, tenant, expected) for tenant in ("acme", "other")]
        # Frozen in whatever they do, with more on its way, while others go on to load; most of the frozen are killed.
        made.signal_all(signal.SIGSTOP)
        jobs.append(_send(made, client, 500_000, ("acme", "other"), expected))
        with _hands(made, ["kill_worker"] * (3 * scale)):
            proof = persist(lambda: client.erase_tenant("c", "acme", wait_s=2))
            others = range(1_000_000, 1_000_000 + 300 * scale, _CALL)
            jobs += [_send(made, client, start, ("other",), expected) for start in others]
        made.signal_all(signal.SIGCONT)
        assert proof.dead_letters.erased == 1
        reports = settled(client, jobs, deadline_s=240)
        # What a killed worker may have written late is found by one that lives.
        eventually(lambda: client.confirm_erased("c", "acme").is_complete, 60)
        assert client.tenant("acme").count("c") == 0
        assert (client.tenant("acme").jobs.list(), client.tenant("acme").dead.list()) == ([], [])
        expected |= {each: None for each in expected if each.startswith("acme")}
        verdict = judge(client, "c", expected)
        assert client.audit("c", tenant="other").gaps == 0
        client.collections.delete("c")
    assert sum(report.gone for report in reports) == proof.pending.erased
    conclude(add_up(verdict, reports, made.done, started))


@contextmanager
def _hands(mill: Mill, events: list[str]) -> Iterator[None]:
    """These events while the block runs, and until all of them have come."""
    thread = threading.Thread(target=mill.wreak, args=(events, (0.2, 0.8)))
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _send(mill: Mill, client: Client, start: int, tenants: tuple[str, ...], expected: dict[str, str | None]) -> str:
    documents = []
    for number in range(start, start + _CALL):
        tenant = tenants[number % len(tenants)]
        words = mill.random.choice([3, 10, 40, 90])  # one chunk or several
        document = Document(
            id=f"{tenant}-{number}", tenant=tenant, text=" ".join(f"d{number}w{n}" for n in range(words))
        )
        documents.append(document)
        expected[document.id] = document.text
    return persist(lambda: client.enqueue("c", documents)).id


def _delete(client: Client, tenant: str, expected: dict[str, str | None]) -> str:
    ids = [each for each in sorted(expected) if each.startswith(tenant)][:20]
    job = persist(lambda: client.delete("c", ids, tenant=tenant))
    expected |= dict.fromkeys(ids)
    return job.id
