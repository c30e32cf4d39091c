"""A tenant's client: whatever it is asked, it answers as if there were no other tenant, and leaves the others alone."""

import asyncio
import inspect
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from qdrant_client import models

from gristmill import (
    AsyncClient,
    AsyncTenantClient,
    AuditReport,
    Chunking,
    Client,
    DeadLetter,
    Document,
    GristmillError,
    InvalidInput,
    LongTexts,
    QueueFull,
    SearchHit,
    TenantClient,
    TenantJob,
)
from gristmill.tenants.confining import confined
from gristmill_schemas import point_id

#: What a tenant has, told its tenant.
CONFINED = {
    "audit", "count", "delete", "delete_where", "enqueue", "facets", "get", "receipt", "recommend", "scroll", "search",
    "search_many", "similar", "update_metadata",
    "dead.drop", "dead.get", "dead.list", "dead.replay", "dead.scroll", "dead.summary",
    "jobs.get", "jobs.list",
}  # fmt: skip
#: What a tenant has as it is: nothing in it depends on anybody's documents.
PASSED = {
    "embed", "rerank", "instructions.get", "instructions.list", "instructions.presets", "instructions.show",
    "job.report", "job.wait",
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
    "job.behind",
}  # fmt: skip

SHARED, OPEN = "shared", "open"
SECRET = "xyzzy"
LONG = "word " * 9000


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


class World:
    """A mill that two share, or that one has alone."""

    def __init__(self, client: Client, *tenants: str) -> None:
        self.client = client
        self.mine = client.tenant("acme")
        self.jobs: dict[str, str] = {}
        for name, apart in ((SHARED, True), (OPEN, False)):
            client.create_collection(name, tenants=apart, chunking=Chunking(long_texts=LongTexts.REFUSE))
            for tenant in tenants:
                self.fill(name, tenant)

    def fill(self, collection: str, tenant: str) -> None:
        secret = SECRET if tenant == "evil" else "plain"
        documents = [
            Document(
                id=id, tenant=tenant, version=7, text=f"{secret} plans {id}", metadata={"k": int(id), secret: secret}
            )
            for id in ("1", "2") + (("3",) if tenant == "evil" else ())
        ]
        long = Document(id="long", tenant=tenant, version=7, text=f"{secret} {LONG}")
        job = self.client.enqueue(collection, [*documents, long])
        job.wait(30)
        self.client.delete(collection, "4", tenant=tenant, version=9).wait(30)
        self.jobs[tenant] = job.id

    def others(self) -> Any:
        """All that is known of the other tenant."""
        found: list[Any] = [self.client.jobs.list(1000, tenant="evil"), self.client.dead.list(tenant="evil")]
        for name in (SHARED, OPEN):
            found += [self.client.scroll(name, tenant="evil"), self.client.audit(name, tenant="evil")]
            found += [self.client.receipt(name, id, tenant="evil") for id in ("1", "2", "3", "4", "long")]
        return plain(found)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Client.embedded(model="hash:16", threads=2) as client:
        yield World(client, "evil", "acme")


@pytest.fixture
def worlds() -> Iterator[tuple[World, World]]:
    """One with another tenant in it, and one without."""
    with Client.embedded(model="hash:16", threads=2) as first, Client.embedded(model="hash:16", threads=2) as second:
        yield World(first, "evil", "acme"), World(second, "acme")


#: What differs between any two runs.
_PASSING = {"created_at", "seconds", "died_at", "newest_died_at", "enqueued_at", "stored_at", "cursor", "bytes"}


def plain(answer: Any) -> Any:
    """An answer as far as two worlds may be compared by it."""
    if isinstance(answer, TenantJob):
        return plain([answer.wait(30), answer.rejections])
    if isinstance(answer, BaseModel):
        return {name: plain(value) for name, value in answer if name not in _PASSING and name != "version"}
    if isinstance(answer, dict):
        return {key: plain(value) for key, value in answer.items()}
    if isinstance(answer, float):
        return round(answer, 5)  # which rows lie beside one another moves a product's last digits
    if isinstance(answer, str):
        return re.sub(r"\b[0-9a-f]{16}\b", "<job or version>", answer)
    if isinstance(answer, int) and answer > 2**40:
        return "<version>"
    if isinstance(answer, Iterator | list | tuple | set):
        items = list(answer)
        if items and isinstance(items[0], SearchHit):  # of like scores
            items.sort(key=lambda hit: (-round(hit.score, 5), hit.id))
        if items and isinstance(items[0], DeadLetter):  # of jobs that ran side by side
            items.sort(key=lambda letter: (letter.collection, *map(str, letter.identity), letter.version))
        return [plain(each) for each in items]
    return answer


def told(world: World, name: str, **how: Any) -> Any:
    """What a call answers, or how it refuses; whatever it has begun is over then."""
    try:
        answer = call_of(world.mine, name)(**how)
        if isinstance(answer, AuditReport) and answer.job_id is not None:
            world.mine.jobs.get(answer.job_id).wait(30)
        return plain(answer)
    except GristmillError as error:
        return [type(error).__name__, plain(str(error)), plain(list(getattr(error, "__notes__", [])))]


_EVIL = models.FieldCondition(key="_gristmill.tenant", match=models.MatchValue(value="evil"))
_MINE = models.FieldCondition(key="_gristmill.tenant", match=models.MatchValue(value="acme"))
_NONE = models.IsEmptyCondition(is_empty=models.PayloadField(key="_gristmill.tenant"))
_POINTS = models.HasIdCondition(has_id=[point_id(id, "evil") for id in ("1", "2", "3")])
_LEAVES = st.sampled_from([_EVIL, _MINE, _NONE, _POINTS, models.FieldCondition(key="k", range=models.Range(gte=0))])
_FILTERS = st.recursive(
    _LEAVES,
    lambda inner: st.builds(
        models.Filter,
        must=st.lists(inner, max_size=2),
        should=st.lists(inner, max_size=2),
        must_not=st.lists(inner, max_size=2),
        min_should=st.none()
        | st.builds(models.MinShould, conditions=st.lists(inner, min_size=1, max_size=2), min_count=st.just(0)),
    ),
    max_leaves=4,
)
_MAPPINGS: st.SearchStrategy[Any] = st.sampled_from(
    [
        {}, {"k": 1}, {SECRET: SECRET}, {"not": {"k": 1}}, {"any": [{"k": 1}, {SECRET: SECRET}]}, {"k": {"missing": True}},
        {"_gristmill.tenant": "evil"}, {"_gristmill": {"nested": {"tenant": "evil"}}}, {"_gristmill.id": "3"},
        {"tenant": "evil"}, {"not": {"_gristmill.tenant": "acme"}},
    ]
)  # fmt: skip
WHERE = st.none() | _MAPPINGS | _FILTERS
NAMES = st.sampled_from([SHARED, OPEN])
IDS = st.sampled_from(["1", "2", "3", "4", "long", point_id("1", "evil"), "0:1", "4:evil1", "evil1"])
TENANT = st.sampled_from([{}, {}, {}, {"tenant": "acme"}, {"tenant": "evil"}])


def arguments(strange: Sequence[str]) -> dict[str, st.SearchStrategy[dict[str, Any]]]:
    """For each call of a tenant, all that may lead out; `strange` are ids of the other's jobs and letters."""
    of, where, some = {"collection": NAMES}, {"where": WHERE}, st.sampled_from(strange)
    choice: dict[str, Any] = {"collection": NAMES, "job": some, "error": st.sampled_from(["TextTooLong", "x"])}
    fields = st.sampled_from(["k", SECRET, "_gristmill.tenant"])
    documents = st.lists(
        st.fixed_dictionaries(
            {"id": IDS, "text": st.sampled_from(["new plans", LONG])},
            optional={"tenant": st.sampled_from(["acme", "evil"])},
        ),
        max_size=3,
    )
    letters = st.fixed_dictionaries({"letter_ids": st.lists(some, min_size=1, max_size=2)})
    chosen = st.fixed_dictionaries({}, optional=choice)
    with_ids = st.fixed_dictionaries({**of, "ids": st.lists(IDS, min_size=1, max_size=3)})
    examples = st.lists(IDS, min_size=1, max_size=2)
    how: dict[str, Any] = {**where, "group_by_document": st.booleans()}
    return {
        "audit": st.fixed_dictionaries(of, optional={"expected": documents, "repair": st.booleans()}),
        "count": st.fixed_dictionaries(of, optional=where),
        "delete": with_ids,
        "delete_where": st.fixed_dictionaries(of, optional={**where, "job": some}),
        "enqueue": st.fixed_dictionaries({**of, "documents": documents}),
        "facets": st.fixed_dictionaries({**of, "field": fields}, optional=where),
        "get": with_ids,
        "receipt": st.fixed_dictionaries({**of, "document_id": IDS}),
        "recommend": st.fixed_dictionaries({**of, "positive": examples}, optional={"negative": examples, **where}),
        "scroll": st.fixed_dictionaries({**of, "limit": st.sampled_from([1, 100])}, optional=where),
        "search": st.fixed_dictionaries({**of, "query": st.just(f"{SECRET} plans")}, optional=how),
        "search_many": st.fixed_dictionaries({**of, "queries": st.just([f"{SECRET} plans", "new"])}, optional=how),
        "similar": st.fixed_dictionaries({**of, "document_id": IDS}, optional=where),
        "update_metadata": with_ids.map(lambda it: {**it, "changes": {"k": 5}}),
        "dead.drop": letters | chosen,
        "dead.get": st.fixed_dictionaries({"letter_id": some}),
        "dead.list": chosen,
        "dead.replay": letters | chosen,
        "dead.scroll": chosen,
        "dead.summary": st.fixed_dictionaries({}, optional={"collection": NAMES}),
        "jobs.get": st.fixed_dictionaries({"job_id": some}),
        "jobs.list": st.just({"limit": 1000}),
    }  # fmt: skip


def test_a_call_of_the_client_that_nobody_has_thought_of_fails_here(world: World) -> None:
    job = world.client.enqueue(OPEN, [])
    assert names_of(world.client) | jobs_calls(job) == CONFINED | PASSED | ABSENT
    mine = world.mine
    assert names_of(mine) | jobs_calls(mine.enqueue(OPEN, [])) == CONFINED | PASSED
    assert CONFINED.isdisjoint(PASSED | ABSENT)
    assert PASSED.isdisjoint(ABSENT)
    assert arguments(["x"]).keys() == CONFINED, "the property below goes through every confined call"


def test_the_async_client_of_a_tenant_has_the_same_calls() -> None:
    async def look() -> tuple[set[str], set[str]]:
        async with AsyncClient.embedded(model="hash:16") as client:
            await client.create_collection(SHARED, tenants=True)
            mine = client.tenant("acme")
            assert isinstance(mine, AsyncTenantClient)
            job = await mine.enqueue(SHARED, {"id": "1", "text": "t"})
            assert (await job.wait(30)).stored == 1
            (hit,) = await mine.search(SHARED, "t")
            assert hit.tenant == mine.name == "acme"
            assert await (await mine.jobs.get(job.id)).report() == await job.report()
            assert [each async for each in mine.dead.scroll()] == []
            assert await mine.dead.replay() == []
            assert (await (await mine.delete_where(SHARED, {"k": 1})).wait(30)).accepted == 0
            with pytest.raises(InvalidInput, match="this client is of 'acme' alone, got 'evil'"):
                await mine.get(SHARED, "1", tenant="evil")
            return names_of(mine), jobs_calls(job)

    calls, of_jobs = asyncio.run(look())
    assert calls | of_jobs == CONFINED | PASSED


@pytest.mark.slow
def test_whatever_a_tenant_asks_is_answered_as_if_there_were_no_other(worlds: tuple[World, World]) -> None:
    world, _ = worlds
    letters = [each.id for each in world.client.dead.list(tenant="evil")]
    assert letters, "and there is somebody's letter"
    before = world.others()
    assert SECRET in json.dumps(before, default=str), "there is something to be seen"
    calls = arguments([world.jobs["evil"], *letters, "absent"])

    @settings(max_examples=200, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(sorted(calls)).flatmap(lambda name: st.tuples(st.just(name), calls[name], TENANT)))
    def holds(drawn: tuple[str, dict[str, Any], dict[str, str]]) -> None:
        name, how, owner = drawn
        first, second = (told(each, name, **how, **owner) for each in worlds)
        assert first == second, (name, how)
        assert world.others() == before, (name, how)

    holds()


def call_of(client: TenantClient, name: str) -> Callable[..., Any]:
    place: Any = client
    for part in name.split("."):
        place = getattr(place, part)
    return place  # type: ignore[no-any-return]  # any call


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
    assert job.wait(30).stored == 1
    assert ["got this one a second time" in each.reason or "got 'evil'" in each.reason for each in job.rejections] == [
        True
    ] * 2
    assert [each.tenant for each in world.mine.get(SHARED, ["n"])] == ["acme"]
    world.mine.delete(SHARED, "n").wait(30)


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

    with pytest.raises(QueueFull, match=r"^the queue is full: try again later$"):
        confined(full)(world.mine)


def test_what_takes_no_tenant_cannot_be_confined() -> None:
    with pytest.raises(TypeError, match=r"close takes no tenant, so it cannot be confined to one"):
        confined(Client.close)
