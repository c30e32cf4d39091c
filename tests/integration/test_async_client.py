"""`AsyncClient` is `Client`, awaited: the same methods with the same parameters, and async iterables besides."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import pytest

from gristmill import AsyncClient, Client, Document, DocumentsRejected, Job, JobState, WaitTimeout
from gristmill.async_client import AsyncCollections, AsyncDeadLetters, AsyncJob, AsyncRefusedMessages
from gristmill.maintenance.dead_letters import DeadLetters, RefusedMessages
from gristmill.store.collections import Collections

T = TypeVar("T")

PAIRS = [
    (Client, AsyncClient),
    (Job, AsyncJob),
    (DeadLetters, AsyncDeadLetters),
    (RefusedMessages, AsyncRefusedMessages),
    (Collections, AsyncCollections),
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


@pytest.mark.parametrize(("sync", "mirror"), PAIRS, ids=lambda cls: cls.__name__)
def test_both_have_the_same_methods(sync: type[Any], mirror: type[Any]) -> None:
    # Attributes that instances get in __init__.
    own = {"collections", "dead"} if sync is Client else {"id", "rejections"} if sync is Job else set()
    assert public(mirror) == public(sync) | own


def test_both_have_the_same_parameters() -> None:
    client = AsyncClient.embedded(model="hash:16")
    mirrors: list[Any] = [client, client.dead, client.refused, client.collections]
    for mirror in mirrors:
        sync = mirror._wrapped
        for name in public(type(mirror)) & public(type(sync)):
            method = getattr(mirror, name)
            if callable(method):
                theirs, ours = inspect.signature(getattr(sync, name)), inspect.signature(method)
                assert list(ours.parameters) == list(theirs.parameters), name
                assert [p.default for p in ours.parameters.values()] == [p.default for p in theirs.parameters.values()]
                assert inspect.getdoc(method), name
    asyncio.run(client.close())


def test_documents_go_in_and_hits_come_out() -> None:
    async def use(client: AsyncClient) -> None:
        job = await client.enqueue("c", [Document(id="a", text="a text to find")])
        report = await job.wait(30)
        assert (report.state, report.stored) == (JobState.DONE, 1)
        assert (await client.job(job.id).report()).stored == 1
        hits = await client.search("c", "a text to find", limit=1)
        assert [hit.id for hit in hits] == ["a"]
        assert (await client.receipt("c", "a")).state == "stored"
        assert [spec.name for spec in await client.collections.specs()] == ["c"]
        assert (await (await client.delete("c", ["a"])).wait(30)).deleted == 1
        assert await client.dead.list() == []

    run(use)


def test_async_iterables_are_taken_by_enqueue_and_audit() -> None:
    async def use(client: AsyncClient) -> None:
        job = await client.enqueue("c", stream(500))
        assert (await job.wait(30)).stored == 500
        report = await client.audit("c", stream(501))
        assert (report.expected, report.missing) == (501, 1)
        assert (await client.audit("c")).gaps == 0

    run(use)


def test_rejected_documents_come_with_a_job_that_can_be_awaited() -> None:
    async def use(client: AsyncClient) -> None:
        with pytest.raises(DocumentsRejected) as rejected:
            await client.enqueue("c", [{"id": "a", "text": "fine"}, {"id": "b", "text": ""}])
        assert (await rejected.value.job.wait(30)).stored == 1

    run(use)


def test_many_calls_at_once_do_not_wait_for_each_other() -> None:
    async def use(client: AsyncClient) -> None:
        jobs = await asyncio.gather(*(client.enqueue("c", [Document(id=f"d{n}", text=f"t {n}")]) for n in range(50)))
        reports = await asyncio.gather(*(job.wait(30) for job in jobs))
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
        (report,) = await client.jobs()
        return (await client.job(report.job_id).wait(30)).accepted

    assert run(use) > 0
