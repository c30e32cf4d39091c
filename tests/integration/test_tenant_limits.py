"""How much one tenant may have waiting: set by settings, client and command line, and kept to on real servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gristmill import AsyncClient, Client, Document, InvalidInput, QueueFull
from gristmill.settings import variable
from gristmill_schemas import EncoderInfo, Pooling

Run = Callable[..., tuple[int, str, str]]
#: A model that nobody serves, so that what is enqueued waits.
ENCODER = EncoderInfo(
    model="nobody's", digest="none", pooling=Pooling.MEAN, dimensions=8, min_dimensions=1, max_tokens=512
)


@pytest.fixture
def client(settings: dict[str, Any], collection_name: str) -> Iterator[Client]:
    """Every tenant may have 100 documents waiting."""
    with Client(**settings, tenant_max_documents=100) as client:
        client.create_collection(collection_name, space=ENCODER.space(), tenants=True)
        yield client


def texts(count: int, tenant: str) -> list[Document]:
    return [Document(id=f"{tenant}-{n}", text="some text", tenant=tenant) for n in range(count)]


def test_a_tenant_at_its_limit_waits_for_its_own_work_and_nobody_waits_for_it(
    client: Client, collection_name: str
) -> None:
    first = client.enqueue(collection_name, texts(60, "acme"))
    with pytest.raises(QueueFull, match=r"tenant 'acme': 100 of its documents wait .* it may have 100") as full:
        client.enqueue(collection_name, texts(60, "acme"), block=False)
    assert full.value.tenant == "acme"
    with pytest.raises(QueueFull):
        client.enqueue(collection_name, texts(1, "acme"), timeout_s=0.0)
    assert client.enqueue(collection_name, texts(100, "bolt"), block=False).report().accepted == 100
    assert [(it.tenant, it.documents, it.max_documents) for it in client.tenants.list()] == [
        ("acme", 100, 100),
        ("bolt", 100, 100),
    ]
    assert client.queue().limited == client.queue(tenant="acme").limited == ("acme",)
    assert client.queue(tenant="bolt").limited == ()

    waiting = threading.Event()
    ended: list[int] = []

    def hand_over() -> None:
        job = client.enqueue(collection_name, texts(50, "acme"), progress=lambda _: waiting.set(), timeout_s=60)
        ended.append(job.report().accepted)

    blocked = threading.Thread(target=hand_over)
    blocked.start()
    assert waiting.wait(60)
    first.cancel()
    blocked.join(60)
    assert ended == [50]
    assert client.tenants.get("acme").documents == 40 + 50


def test_many_producers_together_hand_over_exactly_what_a_tenant_may(client: Client, collection_name: str) -> None:
    def hand_over(number: int) -> None:
        documents = [Document(id=f"{number}-{n}", text="t", tenant="acme") for n in range(40)]
        with contextlib.suppress(QueueFull):
            client.enqueue(collection_name, documents, block=False)

    producers = [threading.Thread(target=hand_over, args=(number,)) for number in range(6)]
    for each in producers:
        each.start()
    for each in producers:
        each.join()
    assert client.tenants.get("acme").documents == 100


def test_limits_of_one_tenant_are_kept_for_every_producer_until_they_are_taken_back(
    client: Client, settings: dict[str, Any], collection_name: str
) -> None:
    told = client.tenants.limit("acme", documents="unlimited", tokens=50)
    assert (told.max_documents, told.max_tokens, told.max_bytes, told.own) == (None, 50, None, ("documents", "tokens"))
    with Client(**settings) as another:
        with pytest.raises(QueueFull, match=r"50 of its tokens wait .* it may have 50"):
            another.enqueue(collection_name, texts(120, "acme"), block=False)
        assert another.tenants.limit("acme", tokens=4000, documents=100).max_tokens == 4000
    assert client.enqueue(collection_name, texts(75, "acme"), block=False).report().accepted == 75
    assert client.tenants.unlimit("acme").own == ()
    assert client.tenants.get("acme").max_documents == 100
    assert client.tenants.get("nobody").documents == 0


def test_a_tenants_own_client_is_told_of_its_own_limit(client: Client, collection_name: str) -> None:
    mine = client.tenant("acme")
    mine.enqueue(collection_name, texts(100, "acme"))
    with pytest.raises(QueueFull, match="tenant 'acme': 100 of its documents wait") as full:
        mine.enqueue(collection_name, texts(1, "acme"), block=False)
    assert any("jobs watch" in note for note in full.value.__notes__)
    assert not hasattr(mine, "tenants")


def test_an_erased_tenant_has_nothing_waiting_and_its_limit_stays_until_it_is_taken_back(
    client: Client, collection_name: str
) -> None:
    client.enqueue(collection_name, [*texts(30, "acme"), *texts(30, "bolt")])
    client.tenants.limit("acme", documents=30)
    client.erase_tenant(collection_name, "acme", wait_s=0)
    assert {it.tenant: it.documents for it in client.tenants.list()} == {"bolt": 30, "acme": 0}
    client.tenants.unlimit("acme")
    assert [it.tenant for it in client.tenants.list()] == ["bolt"]


def test_the_async_client_waits_and_is_refused_likewise(
    client: Client, settings: dict[str, Any], collection_name: str
) -> None:
    async def use() -> None:
        async with AsyncClient(**settings) as mill:
            await mill.tenants.limit("acme", documents=10)
            with pytest.raises(QueueFull, match="10 of its documents") as full:
                await mill.enqueue(collection_name, texts(20, "acme"), block=False)
            assert full.value.tenant == "acme"
            (told,) = await mill.tenants.list()
            assert (told.documents, told.max_documents) == (10, 10)
            assert (await mill.tenants.unlimit("acme")).own == ()

    asyncio.run(use())


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({}, "documents, tokens, bytes: expected a limit for at least one"),
        ({"documents": -1}, "documents: expected an integer from 0"),
        ({"tokens": "many"}, "tokens: expected an integer .* or 'unlimited', got 'many'"),
        ({"bytes": 1.5}, "bytes: expected an integer"),
        ({"tenant": "", "documents": 1}, "tenant: "),
    ],
)
def test_what_is_no_limit_is_refused(client: Client, wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        client.tenants.limit(**{"tenant": "acme", **wrong})


def test_the_command_line_sets_shows_and_forgets_limits(
    client: Client, settings: dict[str, Any], collection_name: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(variable(name), str(value))
    client.enqueue(collection_name, texts(3, "acme"))
    code, out, _ = run("tenants", "limit", "acme", "--documents", "3", "--bytes", "unlimited", "--json")
    (told,) = json.loads(out)["tenants"]
    assert (code, told["documents"], told["max_documents"], told["own"]) == (0, 3, 3, ["documents", "bytes"])
    with pytest.raises(QueueFull):
        client.enqueue(collection_name, texts(1, "acme"), block=False)
    code, out, _ = run("tenants", "list")
    assert (code, "3 of 3*" in out, "at its limit" in out) == (0, True, True)
    code, out, err = run("queue")
    assert "at their limits: acme" in err
    code, out, _ = run("tenants", "limit", "acme", "--default", "--json")
    assert json.loads(out)["tenants"][0]["own"] == []
    code, _, err = run("tenants", "limit", "acme", "--documents", "few")
    assert (code, "documents: expected an integer" in err) == (2, True)
