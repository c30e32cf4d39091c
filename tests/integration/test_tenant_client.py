"""A tenant's client: whatever it is asked, it answers as if there were no other tenant, and leaves the others alone."""

import asyncio
import inspect
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gristmill import AsyncClient, AsyncTenantClient, Client, Document, InvalidInput, QueueFull
from gristmill.search.options import RecommendOptions, SearchOptions, SimilarOptions
from gristmill.settings import variable
from gristmill.tenants.confining import confined
from gristmill_schemas import point_id
from places import ways_to
from services import QdrantServer, WorkerProcess
from tenant_worlds import OPEN, SECRET, SHARED, World, arguments, call_of, refinements, told

#: What a tenant has, told its tenant.
CONFINED = {
    "audit", "cluster", "count", "delete", "delete_where", "documents", "enqueue", "estimate", "facets", "get", "queue",
    "receipt", "recommend", "scroll",
    "search", "search_by_vector", "search_many", "similar", "update_metadata",
    "dead.drop", "dead.get", "dead.list", "dead.replay", "dead.scroll", "dead.summary",
    "jobs.get", "jobs.list",
}  # fmt: skip
#: What a tenant has as it is: nothing in it depends on anybody's documents.
PASSED = {
    "embed", "rerank", "instructions.get", "instructions.list", "instructions.presets", "instructions.show",
    "job.cancel", "job.pause", "job.report", "job.resume", "job.wait",
}  # fmt: skip
#: What is not one tenant's.
ABSENT = {
    "begin_bulk", "bulk", "close", "confirm_erased", "create_collection", "embedded", "erase_tenant", "finish_bulk",
    "query_cache_info", "tenant",
    "collections.count", "collections.delete", "collections.get", "collections.index_status", "collections.list",
    "collections.wait_for_index",
    "indexes.create", "indexes.drop", "indexes.get", "indexes.list",
    "instructions.register", "instructions.retire",
    "models.get", "models.list", "models.reranker", "models.served",
    "refused.drop", "refused.get", "refused.list", "refused.unreadable",
    "tenants.get", "tenants.limit", "tenants.list", "tenants.unlimit",
    "webhooks.drop", "webhooks.get", "webhooks.list", "webhooks.resend",
    "job.ahead",
}  # fmt: skip


OPTIONS = {
    "search": SearchOptions,
    "search_by_vector": SimilarOptions,
    "similar": SimilarOptions,
    "recommend": RecommendOptions,
}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Client.embedded(model="hash:16", threads=2) as client:
        yield World(client, "evil", "acme")


@pytest.fixture
def worlds() -> Iterator[tuple[World, World]]:
    """One with another tenant in it, and one without."""
    with ExitStack() as closing:
        first, second = (
            closing.enter_context(Client.embedded(model="hash:16", reranker="overlap:64", threads=2)) for _ in range(2)
        )
        yield World(first, "evil", "acme"), World(second, "acme")


@pytest.fixture
def served_worlds(
    redis_url: str, qdrant_server: QdrantServer, collection_name: str, tmp_path: Path
) -> Iterator[tuple[World, World]]:
    """The same on one Redis and one Qdrant, each with a worker process of its own."""
    servers = {"redis_url": redis_url, "qdrant_url": qdrant_server.url, **ways_to(qdrant_server)}
    with ExitStack() as closing:

        def open_client(name: str) -> Client:
            options: dict[str, Any] = {**servers, "key_prefix": name, "reranker": "overlap:64"}
            (folder := tmp_path / name).mkdir()
            worker = WorkerProcess(folder, {variable(each): str(value) for each, value in options.items()})
            closing.enter_context(worker)
            return closing.enter_context(Client(**options, model="hash:16"))

        with ThreadPoolExecutor() as pool:
            first, second = pool.map(open_client, ("first", "second"))
        yield (
            World(first, "evil", "acme", prefix=f"{collection_name}-a-"),
            World(second, "acme", prefix=f"{collection_name}-b-"),
        )


def names_of(client: Any) -> set[str]:
    """Every public call, and those of its groups and jobs."""
    groups = {f"{name}.": getattr(client, name) for name in vars(client) if not name.startswith("_")}
    return {
        f"{prefix}{name}"
        for prefix, place in {"": client, **groups}.items()
        for name in dir(place)
        if not name.startswith("_") and inspect.isroutine(getattr(place, name))
    }


def jobs_calls(job: Any) -> set[str]:
    return {f"job.{name}" for name in dir(job) if not name.startswith("_") and inspect.isroutine(getattr(job, name))}


def test_a_call_of_the_client_that_nobody_has_thought_of_fails_here(world: World) -> None:
    job = world.client.enqueue(OPEN, [])
    assert names_of(world.client) | jobs_calls(job) == CONFINED | PASSED | ABSENT
    mine = world.mine
    assert names_of(mine) | jobs_calls(mine.enqueue(OPEN, [])) == CONFINED | PASSED
    assert CONFINED.isdisjoint(PASSED | ABSENT)
    assert PASSED.isdisjoint(ABSENT)
    assert arguments(["x"]).keys() | jobs_calls(mine.enqueue(OPEN, [])) == CONFINED | PASSED, (
        "the property below makes every call"
    )


def test_the_async_client_of_a_tenant_has_the_same_calls() -> None:
    async def look() -> tuple[set[str], set[str]]:
        async with AsyncClient.embedded(model="hash:16") as client:
            await client.create_collection(SHARED, tenants=True)
            mine = client.tenant("acme")
            assert isinstance(mine, AsyncTenantClient)
            job = await mine.enqueue(SHARED, {"id": "1", "text": "t"})
            assert (await job.wait(60)).stored == 1
            (hit,) = await mine.search(SHARED, "t")
            assert hit.tenant == mine.name == "acme"
            assert await (await mine.jobs.get(job.id)).report() == await job.report()
            assert [each async for each in mine.dead.scroll()] == []
            assert await mine.dead.replay() == []
            assert (await (await mine.delete_where(SHARED, {"k": 1})).wait(60)).accepted == 0
            with pytest.raises(InvalidInput, match="this client is of 'acme' alone, got 'evil'"):
                await mine.get(SHARED, "1", tenant="evil")
            return names_of(mine), jobs_calls(job)

    calls, of_jobs = asyncio.run(look())
    assert calls | of_jobs == CONFINED | PASSED


@pytest.mark.slow
def test_whatever_a_tenant_asks_is_answered_as_if_there_were_no_other(worlds: tuple[World, World]) -> None:
    nothing_leads_out(*worlds, examples=200)


@pytest.mark.slow
@pytest.mark.server
def test_nothing_leads_out_on_servers_either(served_worlds: tuple[World, World]) -> None:
    nothing_leads_out(*served_worlds, examples=40)


def nothing_leads_out(world: World, alone: World, *, examples: int) -> None:
    letters = [each.id for each in world.client.dead.list(tenant="evil")]
    assert letters, "and there is somebody's letter"
    before = world.others()
    assert SECRET in json.dumps(before, default=str), "there is something to be seen"
    calls = arguments([world.jobs["evil"], *letters, "absent"])
    tenant = st.sampled_from([{}, {}, {}, {"tenant": "acme"}, {"tenant": "evil"}])

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.sampled_from(sorted(calls)).flatmap(lambda name: st.tuples(st.just(name), calls[name], tenant)))
    def holds(drawn: tuple[str, dict[str, Any], dict[str, str]]) -> None:
        name, how, owner = drawn
        if name in PASSED:
            owner = {}
        first, second = (told(each, name, **how, **owner) for each in (world, alone))
        assert first == second, (name, how)
        assert world.others() == before, (name, how)

    holds()


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_every_option_of_a_search_is_drawn(name: str) -> None:
    drawn = {option for each in refinements(name) for option in each}
    assert drawn == OPTIONS[name].__annotations__.keys() - {"tenant", "where"}, "the property above draws all of them"


def test_every_confined_call_refuses_another_tenant(world: World) -> None:
    for name in CONFINED:
        call = call_of(world.mine, name)
        needed = [
            each.name
            for each in inspect.signature(call).parameters.values()
            if each.default is each.empty and each.kind is not each.VAR_KEYWORD
        ]
        with pytest.raises(InvalidInput, match="this client is of 'acme' alone, got 'evil'; leave it out") as refused:
            call(**dict.fromkeys(needed, SHARED), tenant="evil")
        assert refused.value.field == "tenant"


def test_documents_are_given_to_the_tenant_and_those_of_another_refused(world: World) -> None:
    items = [
        {"id": "n", "text": "mine"},
        {"id": "n", "text": "twice", "tenant": "acme"},
        {"id": "e", "text": "t", "tenant": "evil"},
    ]
    job = world.mine.enqueue(SHARED, items)
    assert job.wait(60).stored == 1
    assert ["got this one a second time" in each.reason or "got 'evil'" in each.reason for each in job.rejections] == [
        True
    ] * 2
    assert [each.tenant for each in world.mine.get(SHARED, ["n"])] == ["acme"]
    world.mine.delete(SHARED, "n").wait(60)


def test_a_job_is_seen_by_the_tenant_of_all_that_is_in_it(world: World) -> None:
    pair = [Document(id="j", text="t", tenant=each, metadata={"k": 9}) for each in ("acme", "evil")]
    mixed, mine = world.client.enqueue(OPEN, pair), world.client.enqueue(OPEN, pair[:1])
    none = world.mine.enqueue(OPEN, [{"id": ""}])
    known = [report.job_id for report in world.mine.jobs.list(2)]
    assert known == [none.id, mine.id]
    assert (world.client.jobs.get(mixed.id).report().tenant, world.mine.jobs.get(mine.id).report().tenant) == (
        None,
        "acme",
    )
    with pytest.raises(InvalidInput) as hidden:
        world.mine.jobs.get(mixed.id)
    with pytest.raises(InvalidInput) as unknown:
        world.mine.jobs.get("absent")
    assert str(hidden.value).replace(mixed.id, "absent") == str(unknown.value)


def test_a_full_queue_says_nothing_of_what_others_wait_for(world: World) -> None:

    def full(self: object, tenant: str | None = None) -> None:
        raise QueueFull("the queue holds 12 documents", collection=SHARED)

    with pytest.raises(QueueFull, match=r"^the queue is full: try again later$") as refused:
        confined(full)(world.mine)
    assert (refused.value.collection, refused.value.__cause__, refused.value.__context__) == (SHARED, None, None)


def test_what_takes_no_tenant_cannot_be_confined() -> None:
    with pytest.raises(TypeError, match=r"close takes no tenant, so it cannot be confined to one"):
        confined(Client.close)


def test_an_audit_of_a_tenant_sees_and_mends_missing_vectors_of_its_own_alone(world: World) -> None:
    store, everybody = world.client._parts.store, world.client
    lost: list[Any] = [point_id("1", tenant) for tenant in ("acme", "evil")]
    store.delete_vectors(SHARED, ["legal"], lost, wait=True)
    assert everybody.audit(SHARED).vectorless == 2
    report = world.mine.audit(SHARED, repair=True)
    assert (report.vectorless, report.repaired, [each.tenant for each in report.findings]) == (1, 1, ["acme"])
    world.mine.jobs.get(report.job_id or "").wait(60).raise_for_failures()
    assert (world.mine.audit(SHARED).gaps, everybody.audit(SHARED, tenant="evil").vectorless) == (0, 1)


def test_pages_in_order_go_by_a_tenants_own_values(world: World) -> None:
    """Another has dates where it has numbers."""
    more = [Document(id=f"at-{n}", text="t", metadata={"at": n}) for n in range(7)]
    world.mine.enqueue(SHARED, more).wait(60).raise_for_failures()
    page = world.mine.scroll(SHARED, {"at": {"missing": False}}, order_by="-at", limit=2)
    found = [*page.documents]
    while page.cursor:
        page = world.mine.scroll(SHARED, {"at": {"missing": False}}, order_by="-at", limit=2, cursor=page.cursor)
        found += page.documents
    assert [document.metadata["at"] for document in found] == [6, 5, 4, 3, 2, 2, 1, 1, 0]
