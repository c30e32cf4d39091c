"""`AsyncClient`: `Client` for asyncio. Every call runs in a thread of the client's own; signatures are taken, not repeated.

The servers' answers are what takes time, and the client is safe to share between threads: a second implementation on
async drivers would double what has to be right, the ledger's scripts above all. The threads are the client's own, so that
the application's default executor is never filled by calls that wait at a full queue.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeVar

from gristmill.client import Client
from gristmill.ingest.jobs import Job
from gristmill.maintenance.dead_letters import DeadLetters, RefusedMessages
from gristmill.settings import ClientSettings
from gristmill.store.collections import Collections
from gristmill_schemas import AuditReport, CollectionSpec, Document, JobReport, Rejection
from gristmill_schemas.errors import DocumentsRejected

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")

#: Items taken from an async iterable at once: one hop between thread and loop for all of them.
_HOP = 64
_THREADS = 32

Item = Document | Rejection | Mapping[str, Any]


class _Threaded(Generic[S]):
    """A sync object, called in threads."""

    def __init__(self, pool: ThreadPoolExecutor, wrapped: S) -> None:
        self._pool = pool
        self._wrapped = wrapped

    async def _call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, functools.partial(function, *args, **kwargs))


class _Method(Generic[P, T]):
    """A method of the sync class as a coroutine: same name, parameters, docstring and result."""

    def __init__(self, method: Callable[Concatenate[Any, P], T]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, instance: _Threaded[Any], owner: type[Any]) -> Callable[P, Coroutine[Any, Any, T]]:
        bound: Callable[P, T] = getattr(instance._wrapped, self._method.__name__)

        @functools.wraps(bound)
        async def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return await instance._call(bound, *args, **kwargs)

        return call


class _JobMethod(Generic[P]):
    """As `_Method`, for methods whose result is a job."""

    def __init__(self, method: Callable[Concatenate[Any, P], Job]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, instance: _Threaded[Any], owner: type[Any]) -> Callable[P, Coroutine[Any, Any, AsyncJob]]:
        bound: Callable[P, Job] = getattr(instance._wrapped, self._method.__name__)

        @functools.wraps(bound)
        async def call(*args: P.args, **kwargs: P.kwargs) -> AsyncJob:
            return AsyncJob(instance._pool, await instance._call(bound, *args, **kwargs))

        return call


class AsyncJob(_Threaded[Job]):
    """`Job`, awaited."""

    report = _Method(Job.report)

    @property
    def id(self) -> str:
        """See `Job.id`."""
        return self._wrapped.id

    @property
    def rejections(self) -> tuple[Rejection, ...]:
        """See `Job.rejections`."""
        return self._wrapped.rejections

    async def wait(
        self, timeout_s: float | None = None, *, progress: Callable[[JobReport], None] | None = None
    ) -> JobReport:
        """See `Job.wait`. Holds no thread while it waits, and can be cancelled; the work itself goes on."""
        looks = self._wrapped._looks(timeout_s, progress)
        while True:
            pause = await self._call(_next, looks)
            if isinstance(pause, JobReport):
                return pause
            await asyncio.sleep(pause)


def _next(looks: Generator[float, None, JobReport]) -> float | JobReport:
    try:
        return next(looks)
    except StopIteration as done:  # may not cross into a coroutine
        report: JobReport = done.value
        return report


class AsyncDeadLetters(_Threaded[DeadLetters]):
    """`client.dead`, awaited."""

    list = _Method(DeadLetters.list)
    get = _Method(DeadLetters.get)
    drop = _Method(DeadLetters.drop)

    async def replay(self, letter_ids: Iterable[str]) -> tuple[AsyncJob, ...]:
        """See `DeadLetters.replay`."""
        jobs = await self._call(self._wrapped.replay, letter_ids)
        return tuple(AsyncJob(self._pool, job) for job in jobs)


class AsyncRefusedMessages(_Threaded[RefusedMessages]):
    """`client.refused`, awaited."""

    list = _Method(RefusedMessages.list)
    unreadable = _Method(RefusedMessages.unreadable)
    drop = _Method(RefusedMessages.drop)


class AsyncCollections(_Threaded[Collections]):
    """`client.collections`, awaited."""

    create = _Method(Collections.create)
    get = _Method(Collections.get)
    names = _Method(Collections.names)
    count = _Method(Collections.count)
    delete = _Method(Collections.delete)

    async def specs(self) -> tuple[CollectionSpec, ...]:
        """See `Collections.specs`."""
        return await self._call(lambda: tuple(self._wrapped.specs()))


class AsyncClient(_Threaded[Client]):
    """`Client` for asyncio. Callbacks such as `progress` are called in a thread."""

    def __init__(self, settings: ClientSettings | None = None, **overrides: Any) -> None:
        """See `Client`. Nothing is sent yet; embedded mode loads its model here."""
        super().__init__(ThreadPoolExecutor(_THREADS, thread_name_prefix="gristmill"), Client(settings, **overrides))

    @classmethod
    def embedded(cls, path: str = ":memory:", *, model: str | None = None, **overrides: Any) -> AsyncClient:
        """See `Client.embedded`. Takes as long as loading the model does."""
        return cls(embedded_path=path, model=model, **overrides)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """See `Client.close`."""
        await self._call(self._wrapped.close)
        self._pool.shutdown(wait=False)

    @property
    def collections(self) -> AsyncCollections:
        """See `Client.collections`."""
        return AsyncCollections(self._pool, self._wrapped.collections)

    @property
    def dead(self) -> AsyncDeadLetters:
        """See `Client.dead`."""
        return AsyncDeadLetters(self._pool, self._wrapped.dead)

    @property
    def refused(self) -> AsyncRefusedMessages:
        """See `Client.refused`."""
        return AsyncRefusedMessages(self._pool, self._wrapped.refused)

    announced_models = _Method(Client.announced_models)
    create_collection = _Method(Client.create_collection)
    delete = _JobMethod(Client.delete)
    delete_job = _JobMethod(Client.delete_job)
    delete_where = _JobMethod(Client.delete_where)
    jobs = _Method(Client.jobs)
    receipt = _Method(Client.receipt)
    search = _Method(Client.search)

    def job(self, job_id: str) -> AsyncJob:
        """See `Client.job`."""
        return AsyncJob(self._pool, self._wrapped.job(job_id))

    async def enqueue(
        self,
        collection: str,
        documents: Iterable[Item] | AsyncIterable[Item],
        *,
        on_rejected: Literal["raise", "report"] = "raise",
        block: bool = True,
        timeout_s: float | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> AsyncJob:
        """See `Client.enqueue`. Takes async iterables too. Cancelled, it stops at the next document it would take."""
        with _Bridge(documents) as taken:
            try:
                job = await self._call(
                    self._wrapped.enqueue,
                    collection,
                    taken,
                    on_rejected=on_rejected,
                    block=block,
                    timeout_s=timeout_s,
                    progress=progress,
                )
            except DocumentsRejected as rejected:
                rejected.job = AsyncJob(self._pool, rejected.job)
                raise
        return AsyncJob(self._pool, job)

    async def audit(
        self,
        collection: str,
        expected: Iterable[Item] | AsyncIterable[Item] | None = None,
        *,
        repair: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> AuditReport:
        """See `Client.audit`. Takes async iterables too."""
        if expected is None:
            return await self._call(self._wrapped.audit, collection, repair=repair, progress=progress)
        with _Bridge(expected) as taken:
            return await self._call(self._wrapped.audit, collection, taken, repair=repair, progress=progress)


class _Bridge:
    """Items of the caller's loop, iterated over in a thread; ends with an error once the caller has left."""

    def __init__(self, items: Iterable[Item] | AsyncIterable[Item]) -> None:
        self._items = items
        self._loop = asyncio.get_running_loop()
        self._left = threading.Event()

    def __enter__(self) -> Iterator[Item]:
        return self._iterate()

    def __exit__(self, *_: object) -> None:
        self._left.set()

    def _iterate(self) -> Iterator[Item]:
        items = self._items
        for item in self._hops(aiter(items)) if isinstance(items, AsyncIterable) else items:
            if self._left.is_set():
                raise asyncio.CancelledError("the caller was cancelled")
            yield item

    def _hops(self, iterator: AsyncIterator[Item]) -> Iterator[Item]:
        while hop := asyncio.run_coroutine_threadsafe(_take(iterator), self._loop).result():
            yield from hop


async def _take(iterator: AsyncIterator[Item]) -> list[Item]:
    taken: list[Item] = []
    async for item in iterator:
        taken.append(item)
        if len(taken) == _HOP:
            break
    return taken
