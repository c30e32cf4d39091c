"""`AsyncClient` is `Client`, awaited: the same methods with the same parameters, and async iterables besides."""

import asyncio
import inspect
import pydoc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import pytest

from gristmill import AsyncClient, Client, Document, DocumentsFailed, InvalidInput, Job, JobState, WaitTimeout
from gristmill.async_client import (
    AsyncCollectionGroup,
    AsyncDeadLetters,
    AsyncIndexGroup,
    AsyncInstructionGroup,
    AsyncJob,
    AsyncJobs,
    AsyncModels,
    AsyncRefusedMessages,
)
from gristmill.ingest.jobs import Jobs
from gristmill.maintenance.collection_group import CollectionGroup
from gristmill.maintenance.dead_letters import DeadLetters, RefusedMessages
from gristmill.maintenance.index_group import IndexGroup
from gristmill.models import Models
from gristmill.search.instructions import InstructionGroup

T = TypeVar("T")

PAIRS = [
    (Client, AsyncClient),
    (Job, AsyncJob),
    (DeadLetters, AsyncDeadLetters),
    (InstructionGroup, AsyncInstructionGroup),
    (Jobs, AsyncJobs),
    (Models, AsyncModels),
    (RefusedMessages, AsyncRefusedMessages),
    (CollectionGroup, AsyncCollectionGroup),
    (IndexGroup, AsyncIndexGroup),
]


def public(cls: type[Any]) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def run(with_client: Callable[[AsyncClient], Awaitable[T]]) -> T:
    async def main() -> T:
        async with AsyncClient.embedded(model="hash:16", threads=2) as client:
            await client.create_collection("c")
            return await with_client(client)

    return asyncio.run(main())


async def stream(count: int) -> AsyncIterator[Document]:
    for number in range(count):
        await asyncio.sleep(0)
        yield Document(id=f"d{number}", text=f"text number {number}")


for_each_pair = pytest.mark.parametrize(("sync", "mirror"), PAIRS, ids=lambda cls: cls.__name__)
GROUPS = {"collections", "dead", "indexes", "instructions", "jobs", "models", "refused", "tenants", "webhooks"}


@for_each_pair
def test_both_have_the_same_methods(sync: type[Any], mirror: type[Any]) -> None:
    own = {"id", "rejections"} if sync is Job else set()  # attributes that instances get
    assert public(mirror) == public(sync) | own


def test_both_clients_have_the_same_groups() -> None:
    async def use(client: AsyncClient) -> None:
        for one in (client, client._wrapped):
            groups = {name for name in vars(one) if not name.startswith("_")}
            assert groups == GROUPS
            assert all(callable(getattr(one, group).list) and callable(getattr(one, group).get) for group in groups)

    run(use)


@for_each_pair
def test_both_say_the_same_in_help(sync: type[Any], mirror: type[Any]) -> None:
    """Signatures and docstrings, read from the class as `help()` does, of real coroutine functions."""
    for name in sorted(public(mirror) & public(sync)) + ["__init__"] * (sync is Client):
        ours, theirs = getattr(mirror, name), getattr(sync, name)
        assert inspect.getdoc(ours) == inspect.getdoc(theirs), name
        ours_takes, theirs_takes = inspect.signature(ours).parameters, inspect.signature(theirs).parameters
        assert [(p.name, p.kind, p.default) for p in ours_takes.values()] == [
            (p.name, p.kind, p.default) for p in theirs_takes.values()
        ], name
        if name not in ("__init__", "embedded", "tenant"):
            assert inspect.iscoroutinefunction(ours) or inspect.isasyncgenfunction(inspect.unwrap(ours)), name


def test_help_shows_what_a_search_takes_and_gives() -> None:
    shown = pydoc.render_doc(AsyncClient.search, renderer=pydoc.plaintext)  # type: ignore[attr-defined]  # typeshed lacks it
    assert "async search(self, collection" in shown
    assert "instruction" in shown
    assert "Hits, best first" in shown


def test_documents_go_in_and_hits_come_out() -> None:
    async def use(client: AsyncClient) -> None:
        job = await client.enqueue("c", [Document(id="a", text="a text to find")])
        report = await job.wait(60)
        assert (report.state, report.stored) == (JobState.DONE, 1)
        assert (await (await client.jobs.get(job.id)).report()).stored == 1
        hits = await client.search("c", "a text to find", limit=1)
        assert [hit.id for hit in hits] == ["a"]
        assert (await client.receipt("c", "a")).state == "stored"
        assert [spec.name for spec in await client.collections.list()] == ["c"]
        assert (await (await client.delete("c", "a")).wait(60)).deleted == 1
        assert await client.dead.list() == []

    run(use)


def test_async_iterables_are_taken_by_enqueue_and_audit() -> None:
    async def use(client: AsyncClient) -> None:
        job = await client.enqueue("c", stream(500))
        assert (await job.wait(60)).stored == 500
        report = await client.audit("c", stream(501))
        assert (report.expected, report.missing) == (501, 1)
        assert (await client.audit("c")).gaps == 0

    run(use)


def test_rejected_documents_are_on_the_job_and_raise_where_asked() -> None:
    async def use(client: AsyncClient) -> None:
        job = await client.enqueue("c", [{"id": "a", "text": "fine"}, {"id": "b", "text": ""}])
        assert [each.id for each in job.rejections] == ["b"]
        report = await job.wait(60)
        assert report.stored == 1
        with pytest.raises(DocumentsFailed, match="1 rejected"):
            report.raise_for_failures()

    run(use)


def test_one_document_and_one_id_are_taken_as_one_and_async_iterables_of_ids_as_many() -> None:
    async def ids() -> AsyncIterator[str]:
        for number in range(3):
            yield f"d{number}"

    async def use(client: AsyncClient) -> None:
        assert (await (await client.enqueue("c", {"id": "42", "text": "one"})).wait(60)).stored == 1
        assert (await (await client.enqueue("c", stream(3))).wait(60)).stored == 3
        found = await client.get("c", "42")
        assert found is not None
        assert (found.text, await client.get("c", "4")) == ("one", None)
        assert (await (await client.update_metadata("c", ids(), {"seen": True})).wait(60)).stored == 3
        assert await client.count("c", {"seen": True}) == 3
        assert (await (await client.delete("c", ids())).wait(60)).deleted == 3
        assert (await client.embed(["a", "b"], collection="c")).shape == (2, 16)

    run(use)


def test_forty_enqueues_that_wait_at_a_full_queue_do_not_hold_up_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with AsyncClient.embedded(model="hash:16", threads=2, queue_max_documents=1) as client:
            await client.create_collection("c")
            await (await client.enqueue("c", Document(id="a", text="a text to find"))).wait(60)
            monkeypatch.setattr(client._wrapped._parts.dispatcher, "publish", lambda *_: None, raising=False)
            await client.enqueue("c", Document(id="stuck", text="nobody will work on this"))
            waiting = threading.Semaphore(0)
            waits = [
                asyncio.create_task(
                    client.enqueue("c", Document(id=str(n), text="t"), progress=lambda _: waiting.release())
                )
                for n in range(40)
            ]
            # As many as there are threads for them wait at the queue by now; the rest waits for a thread.
            for _ in range(32):
                await asyncio.to_thread(waiting.acquire)
            hits = await asyncio.wait_for(client.search("c", "a text to find", limit=1), 60)
            assert [hit.id for hit in hits] == ["a"]
            assert not any(task.done() for task in waits)
            for task in waits:
                task.cancel()
            ended = await asyncio.gather(*waits, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in ended)

    asyncio.run(main())


def test_a_closed_client_says_so() -> None:
    async def main() -> None:
        client = AsyncClient.embedded(model="hash:16")
        jobs = client.jobs
        await client.close()
        for call in (client.search("c", "q"), client.collections.list(), jobs.list(), client.enqueue("c", [])):
            with pytest.raises(InvalidInput, match="was closed"):
                await call
        await client.close()

    asyncio.run(main())


def test_many_calls_at_once_do_not_wait_for_each_other() -> None:
    async def use(client: AsyncClient) -> None:
        jobs = await asyncio.gather(*(client.enqueue("c", [Document(id=f"d{n}", text=f"t {n}")]) for n in range(50)))
        reports = await asyncio.gather(*(job.wait(60) for job in jobs))
        assert sum(report.stored for report in reports) == 50

    run(use)


def test_a_wait_ends_with_its_time_limit_and_with_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(client: AsyncClient) -> None:
        monkeypatch.setattr(client._wrapped._parts.dispatcher, "publish", lambda *_: None)
        job = await client.enqueue("c", stream(1))
        with pytest.raises(WaitTimeout):
            await job.wait(0.05)
        waiting = asyncio.create_task(job.wait())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(use)


def test_a_cancelled_enqueue_stops_taking_documents() -> None:
    async def use(client: AsyncClient) -> int:
        taken = 0
        enough = asyncio.Event()

        async def endless() -> AsyncIterator[Document]:
            nonlocal taken
            while True:
                taken += 1
                if taken == 200:
                    enough.set()
                await asyncio.sleep(0)
                yield Document(id=str(taken), text="t")

        task = asyncio.create_task(client.enqueue("c", endless()))
        await enough.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # Only a closed job comes to its end: the producer has let go of it.
        (report,) = await client.jobs.list()
        job = await client.jobs.get(report.job_id)
        return (await job.wait(60)).accepted

    assert run(use) > 0
