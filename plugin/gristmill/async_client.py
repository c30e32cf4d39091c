"""`AsyncClient`: `Client` for asyncio. Every call runs in a thread of the client's own; signatures are taken, not repeated.

The servers' answers are what takes time, and the client is safe to share between threads: a second implementation on
async drivers would double what has to be right, the ledger's scripts above all. The threads are the client's own, and of
two kinds: calls that hand work over may wait at a full queue for hours, and no search may wait behind them.
"""

from __future__ import annotations

import asyncio
import builtins
import functools
import os
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import islice
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, Unpack, cast, overload

from pydantic import BaseModel

from gristmill.client import Client, Item, TenantClient
from gristmill.habits import answers_habits
from gristmill.ingest.jobs import Job, Jobs, TenantJob
from gristmill.maintenance.collection_group import CollectionGroup
from gristmill.maintenance.dead_letters import DeadLetters, RefusedMessages
from gristmill.maintenance.index_group import IndexGroup
from gristmill.maintenance.tenants import TenantGroup
from gristmill.maintenance.webhooks import WebhookGroup
from gristmill.models import Models
from gristmill.options import ClientOptions, EmbeddedOptions, takes
from gristmill.search.filters import Where
from gristmill.search.instructions import InstructionGroup
from gristmill.search.lenses import Lenses
from gristmill.settings import ClientSettings
from gristmill.tenants.groups import TenantDeadLetters, TenantInstructions, TenantJobs
from gristmill_schemas import (
    AuditReport,
    Chunking,
    CollectionSpec,
    DeadLetter,
    Erasure,
    Estimate,
    IndexStatus,
    JobReport,
    Priority,
    Rejection,
    StoredDocument,
)

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")
F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R", bound=BaseModel)
H = TypeVar("H")

#: Items taken from an async iterable at once: one hop between thread and loop for all of them.
_HOP = 64
_THREADS = 32


class _Threads:
    """Threads for calls that answer at once, and others for calls that may wait at a full queue."""

    def __init__(self) -> None:
        self.asking = ThreadPoolExecutor(_THREADS, thread_name_prefix="gristmill-ask")
        self.feeding = ThreadPoolExecutor(_THREADS, thread_name_prefix="gristmill-feed")

    def close(self) -> None:
        """Take no more calls. Those that run end by themselves, since the client under them is closed."""
        self.feeding.shutdown(wait=False, cancel_futures=True)
        self.asking.shutdown(wait=False)


class _Threaded(Generic[S]):
    """A sync object, called in threads."""

    def __init__(self, threads: _Threads, wrapped: S) -> None:
        self._threads = threads
        self._wrapped = wrapped

    def __repr__(self) -> str:
        return repr(self._wrapped).replace(f"<{type(self._wrapped).__name__}", f"<{type(self).__name__}", 1)

    async def _ask(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await _in(self._threads.asking, function, *args, **kwargs)

    async def _feed(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await _in(self._threads.feeding, function, *args, **kwargs)

    async def _paused(self, looks: Generator[float, None, R]) -> R:
        """What a generator of pauses returns. Holds no thread while it waits, and can be cancelled; the work goes on."""
        while not isinstance(pause := await self._ask(_next, looks), BaseModel):
            await asyncio.sleep(pause)
        return pause


async def _in(pool: ThreadPoolExecutor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        future = asyncio.get_running_loop().run_in_executor(pool, functools.partial(function, *args, **kwargs))
    except RuntimeError:  # the pool is shut down: the client is closed, and says so itself
        return function(*args, **kwargs)
    return await future


def _awaited(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """A method of the sync class as a coroutine function: same name, parameters, docstring and result."""

    @functools.wraps(method)
    async def call(self: _Threaded[Any], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._ask(functools.partial(method, self._wrapped), *args, **kwargs)

    return cast("Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]", call)


def _feeding(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """As `_awaited`, for methods that may hand work over, and so wait at a full queue."""

    @functools.wraps(method)
    async def call(self: _Threaded[Any], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._feed(functools.partial(method, self._wrapped), *args, **kwargs)

    return cast("Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]", call)


def _awaited_job(
    method: Callable[Concatenate[Any, P], Job],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, AsyncJob]]:
    """As `_awaited`, for methods that hand work over and give its job."""

    @functools.wraps(method)
    async def call(self: _Threaded[Any], *args: P.args, **kwargs: P.kwargs) -> AsyncJob:
        return AsyncJob(self._threads, await self._feed(functools.partial(method, self._wrapped), *args, **kwargs))

    return cast("Callable[Concatenate[Any, P], Coroutine[Any, Any, AsyncJob]]", call)


def _as(method: Callable[..., Any]) -> Callable[[F], F]:
    """The docstring of the sync method, for coroutine functions that are written out."""

    def describe(function: F) -> F:
        function.__doc__ = method.__doc__
        return function

    return describe


@answers_habits
class AsyncJob(_Threaded[Job]):
    """`Job`, awaited."""

    report = _awaited(Job.report)
    ahead = _awaited(Job.ahead)
    pause = _awaited(Job.pause)
    resume = _awaited(Job.resume)
    cancel = _awaited(Job.cancel)

    @property
    def id(self) -> str:
        """See `Job.id`."""
        return self._wrapped.id

    @property
    def rejections(self) -> tuple[Rejection, ...]:
        """See `Job.rejections`."""
        return self._wrapped.rejections

    @_as(Job.wait)
    async def wait(
        self, timeout_s: float | None = None, *, progress: Callable[[JobReport], None] | None = None
    ) -> JobReport:
        """See `Job.wait`."""
        return await self._paused(self._wrapped._looks(timeout_s, progress))


def _next(looks: Generator[float, None, R]) -> float | R:
    try:
        return next(looks)
    except StopIteration as done:  # may not cross into a coroutine
        record: R = done.value
        return record


@answers_habits
class AsyncJobs(_Threaded[Jobs]):
    """`client.jobs`, awaited."""

    list = _awaited(Jobs.list)

    @_as(Jobs.get)
    async def get(self, job_id: str, *, tenant: str | None = None) -> AsyncJob:
        """See `Jobs.get`."""
        return AsyncJob(self._threads, await self._ask(self._wrapped.get, job_id, tenant=tenant))


@answers_habits
class AsyncDeadLetters(_Threaded[DeadLetters]):
    """`client.dead`, awaited."""

    list = _awaited(DeadLetters.list)
    get = _awaited(DeadLetters.get)
    summary = _awaited(DeadLetters.summary)
    drop = _awaited(DeadLetters.drop)

    @_as(DeadLetters.scroll)
    async def scroll(
        self,
        collection: str | None = None,
        *,
        job: str | None = None,
        error: str | None = None,
        tenant: str | None = None,
    ) -> AsyncIterator[DeadLetter]:
        """See `DeadLetters.scroll`."""
        letters = await self._ask(self._wrapped.scroll, collection, job=job, error=error, tenant=tenant)
        while page := await self._ask(_some, letters):
            for letter in page:
                yield letter

    @_as(DeadLetters.replay)
    async def replay(
        self,
        letter_ids: str | Iterable[str] | None = None,
        *,
        collection: str | None = None,
        job: str | None = None,
        error: str | None = None,
        tenant: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> builtins.list[AsyncJob]:
        """See `DeadLetters.replay`."""
        chosen = {"collection": collection, "job": job, "error": error, "tenant": tenant}
        jobs = await self._feed(self._wrapped.replay, letter_ids, **chosen, progress=progress)
        return [AsyncJob(self._threads, job) for job in jobs]


def _some(items: Iterator[T]) -> builtins.list[T]:
    return builtins.list(islice(items, _HOP))


@answers_habits
class AsyncRefusedMessages(_Threaded[RefusedMessages]):
    """`client.refused`, awaited."""

    list = _awaited(RefusedMessages.list)
    get = _awaited(RefusedMessages.get)
    unreadable = _awaited(RefusedMessages.unreadable)
    drop = _awaited(RefusedMessages.drop)


@answers_habits
class AsyncWebhookGroup(_Threaded[WebhookGroup]):
    """`client.webhooks`, awaited."""

    list = _awaited(WebhookGroup.list)
    get = _awaited(WebhookGroup.get)
    resend = _awaited(WebhookGroup.resend)
    drop = _awaited(WebhookGroup.drop)


@answers_habits
class AsyncTenantGroup(_Threaded[TenantGroup]):
    """`client.tenants`, awaited."""

    list = _awaited(TenantGroup.list)
    get = _awaited(TenantGroup.get)
    limit = _awaited(TenantGroup.limit)
    unlimit = _awaited(TenantGroup.unlimit)


@answers_habits
class AsyncCollectionGroup(_Threaded[CollectionGroup]):
    """`client.collections`, awaited."""

    list = _awaited(CollectionGroup.list)
    get = _awaited(CollectionGroup.get)
    count = _awaited(CollectionGroup.count)
    delete = _awaited(CollectionGroup.delete)
    index_status = _awaited(CollectionGroup.index_status)

    @_as(CollectionGroup.wait_for_index)
    async def wait_for_index(
        self, name: str, *, timeout_s: float | None = None, progress: Callable[[IndexStatus], None] | None = None
    ) -> IndexStatus:
        """See `CollectionGroup.wait_for_index`."""
        return await self._paused(self._wrapped._looks(name, timeout_s, progress))


@answers_habits
class AsyncIndexGroup(_Threaded[IndexGroup]):
    """`client.indexes`, awaited."""

    create = _awaited(IndexGroup.create)
    list = _awaited(IndexGroup.list)
    get = _awaited(IndexGroup.get)
    drop = _awaited(IndexGroup.drop)


@answers_habits
class AsyncInstructionGroup(_Threaded[InstructionGroup]):
    """`client.instructions`, awaited."""

    register = _awaited(InstructionGroup.register)
    list = _awaited(InstructionGroup.list)
    show = _awaited(InstructionGroup.show)
    get = _awaited(InstructionGroup.get)
    retire = _awaited(InstructionGroup.retire)
    presets = _awaited(InstructionGroup.presets)


@answers_habits
class AsyncModels(_Threaded[Models]):
    """`client.models`, awaited."""

    list = _awaited(Models.list)
    get = _awaited(Models.get)
    served = _awaited(Models.served)
    reranker = _awaited(Models.reranker)


@answers_habits
class AsyncClient(_Threaded[Client]):
    """`Client` for asyncio, method by method. Callbacks such as `progress` are called in a thread.

    Where `Client` takes documents or ids, async iterables are taken too. A cancelled `enqueue` stops at the next document
    that it would take, or at the full queue that it waits for; what was accepted stays accepted.
    """

    @takes(ClientOptions)
    def __init__(self, settings: ClientSettings | None = None, **options: Unpack[ClientOptions]) -> None:
        super().__init__(_Threads(), Client(settings, **options))
        self._group()

    __init__.__doc__ = Client.__init__.__doc__

    @classmethod
    @takes(EmbeddedOptions)
    def embedded(
        cls,
        path: str | os.PathLike[str] = ":memory:",
        *,
        progress: bool | None = None,
        **options: Unpack[EmbeddedOptions],
    ) -> AsyncClient:
        """See `Client.embedded`. Takes as long as loading the model does."""
        client = cls.__new__(cls)
        _Threaded.__init__(client, _Threads(), Client.embedded(path, progress=progress, **options))
        client._group()
        return client

    cast("Any", embedded).__func__.__doc__ = Client.embedded.__doc__

    def _group(self) -> None:
        self.collections = AsyncCollectionGroup(self._threads, self._wrapped.collections)
        self.dead = AsyncDeadLetters(self._threads, self._wrapped.dead)
        self.indexes = AsyncIndexGroup(self._threads, self._wrapped.indexes)
        self.instructions = AsyncInstructionGroup(self._threads, self._wrapped.instructions)
        self.jobs = AsyncJobs(self._threads, self._wrapped.jobs)
        self.models = AsyncModels(self._threads, self._wrapped.models)
        self.refused = AsyncRefusedMessages(self._threads, self._wrapped.refused)
        self.tenants = AsyncTenantGroup(self._threads, self._wrapped.tenants)
        self.webhooks = AsyncWebhookGroup(self._threads, self._wrapped.webhooks)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @_as(Client.close)
    async def close(self) -> None:
        """See `Client.close`."""
        await self._ask(self._wrapped.close)
        self._threads.close()

    @_as(Client.tenant)
    def tenant(self, name: str) -> AsyncTenantClient:
        """See `Client.tenant`."""
        return AsyncTenantClient(self._threads, self._wrapped.tenant(name))

    begin_bulk = _awaited(Client.begin_bulk)
    cluster = _feeding(Client.cluster)
    confirm_erased = _awaited(Client.confirm_erased)
    count = _awaited(Client.count)
    create_collection = _awaited(Client.create_collection)
    delete_where = _awaited_job(Client.delete_where)
    embed = _awaited(Client.embed)
    query_cache_info = _awaited(Client.query_cache_info)
    queue = _awaited(Client.queue)
    facets = _awaited(Client.facets)
    receipt = _awaited(Client.receipt)
    recommend = _awaited(Client.recommend)
    rerank = _awaited(Client.rerank)
    scroll = _awaited(Client.scroll)
    search = _awaited(Client.search)
    search_by_vector = _awaited(Client.search_by_vector)
    search_many = _awaited(Client.search_many)
    similar = _awaited(Client.similar)

    @_as(Client.documents)
    async def documents(
        self,
        collection: str,
        where: Where | None = None,
        *,
        tenant: str | None = None,
        order_by: str | None = None,
    ) -> AsyncIterator[StoredDocument]:
        """See `Client.documents`."""
        found = await self._ask(self._wrapped.documents, collection, where, tenant=tenant, order_by=order_by)
        while page := await self._ask(_some, found):
            for document in page:
                yield document

    @_as(Client.erase_tenant)
    async def erase_tenant(self, collection: str, tenant: str, *, wait_s: float = 30.0) -> Erasure:
        """See `Client.erase_tenant`."""
        return await self._paused(self._wrapped._erasing(collection, tenant, wait_s))

    @_as(Client.bulk)
    @asynccontextmanager
    async def bulk(self, collection: str) -> AsyncIterator[CollectionSpec]:
        """See `Client.bulk`."""
        load = self._wrapped.bulk(collection)
        spec = await self._ask(load.__enter__)
        try:
            yield spec
        finally:
            await asyncio.shield(self._ask(load.__exit__, None, None, None))

    @_as(Client.finish_bulk)
    async def finish_bulk(
        self,
        collection: str,
        *,
        wait: bool = True,
        force: bool = False,
        timeout_s: float | None = None,
        progress: Callable[[IndexStatus], None] | None = None,
    ) -> IndexStatus:
        """See `Client.finish_bulk`."""
        return await self._paused(self._wrapped._finishing(collection, wait, force, timeout_s, progress))

    @overload
    async def get(  # type: ignore[overload-overlap]  # a string is an iterable of strings, and meant as one id
        self, collection: str, ids: str, *, tenant: str | None = None
    ) -> StoredDocument | None: ...
    @overload
    async def get(self, collection: str, ids: Iterable[str], *, tenant: str | None = None) -> list[StoredDocument]: ...
    @_as(Client.get)
    async def get(
        self, collection: str, ids: str | Iterable[str], *, tenant: str | None = None
    ) -> StoredDocument | list[StoredDocument] | None:
        """See `Client.get`."""
        return await self._ask(self._wrapped.get, collection, ids, tenant=tenant)

    @_as(Client.enqueue)
    async def enqueue(
        self,
        collection: str,
        documents: Item | Iterable[Item] | AsyncIterable[Item],
        *,
        tenant: str | None = None,
        block: bool = True,
        timeout_s: float | None = None,
        progress: Callable[[int], None] | None = None,
        notify: str | None = None,
        priority: Priority | str = Priority.NORMAL,
    ) -> AsyncJob:
        """See `Client.enqueue`."""
        how = {"tenant": tenant, "block": block, "timeout_s": timeout_s, "notify": notify, "priority": priority}
        return await self._hand_over(self._wrapped.enqueue, documents, progress, collection, **how)

    @_as(Client.estimate)
    async def estimate(
        self,
        collection: str,
        documents: Item | Iterable[Item] | AsyncIterable[Item],
        *,
        tenant: str | None = None,
        model: str | None = None,
        chunking: Chunking | Mapping[str, Any] | None = None,
        lenses: Lenses | None = None,
        keyword: bool | None = None,
        tokens_per_s: float | None = None,
        measure: bool | None = None,
        progress: Callable[[Estimate], None] | None = None,
    ) -> Estimate:
        """See `Client.estimate`."""
        new: dict[str, Any] = {"model": model, "chunking": chunking, "lenses": lenses, "keyword": keyword}
        how = {"tenant": tenant, **new, "tokens_per_s": tokens_per_s, "measure": measure}
        return await _fed(self, self._wrapped.estimate, documents, progress, collection, **how)

    @_as(Client.update_metadata)
    async def update_metadata(
        self,
        collection: str,
        ids: str | Iterable[str] | AsyncIterable[str],
        changes: Mapping[str, Any],
        *,
        tenant: str | None = None,
        progress: Callable[[int], None] | None = None,
        notify: str | None = None,
    ) -> AsyncJob:
        """See `Client.update_metadata`."""

        def update(name: str, taken: Any, **how: Any) -> Job:
            return self._wrapped.update_metadata(name, taken, changes, **how)

        return await self._hand_over(update, ids, progress, collection, tenant=tenant, notify=notify)

    @_as(Client.delete)
    async def delete(
        self,
        collection: str,
        ids: str | Iterable[str] | AsyncIterable[str],
        *,
        tenant: str | None = None,
        version: int | None = None,
        progress: Callable[[int], None] | None = None,
        notify: str | None = None,
    ) -> AsyncJob:
        """See `Client.delete`."""
        how = {"tenant": tenant, "version": version, "notify": notify}
        return await self._hand_over(self._wrapped.delete, ids, progress, collection, **how)

    @_as(Client.audit)
    async def audit(
        self,
        collection: str,
        expected: Item | Iterable[Item] | AsyncIterable[Item] | None = None,
        *,
        tenant: str | None = None,
        repair: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> AuditReport:
        """See `Client.audit`."""
        with _Bridge(expected, progress) as bridge:
            how: dict[str, Any] = {"tenant": tenant, "repair": repair, "progress": bridge.progress}
            return await self._feed(self._wrapped.audit, collection, bridge.items, **how)

    async def _hand_over(
        self,
        method: Callable[..., Job],
        items: Any,
        progress: Callable[[int], None] | None,
        collection: str,
        **how: Any,
    ) -> AsyncJob:
        return AsyncJob(self._threads, await _fed(self, method, items, progress, collection, **how))


async def _fed(
    client: _Threaded[Any],
    method: Callable[..., H],
    items: Any,
    progress: Callable[[Any], None] | None,
    collection: str,
    **how: Any,
) -> H:
    with _Bridge(items, progress) as bridge:
        return await client._feed(method, collection, bridge.items, progress=bridge.progress, **how)


def _borrowed(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """A method of an async class for its twin of a tenant, below which the sync object is the tenant's."""
    return method


def _likewise(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, AsyncJob]],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, AsyncTenantJob]]:
    """A coroutine function of `AsyncClient` that hands work over, for a tenant's client, whose job it gives."""
    return cast("Callable[Concatenate[Any, P], Coroutine[Any, Any, AsyncTenantJob]]", method)


@answers_habits
class AsyncTenantJob(_Threaded[TenantJob]):
    """`TenantJob`, awaited."""

    report = _awaited(TenantJob.report)
    pause = _awaited(TenantJob.pause)
    resume = _awaited(TenantJob.resume)
    cancel = _awaited(TenantJob.cancel)

    @property
    def id(self) -> str:
        """See `Job.id`."""
        return self._wrapped.id

    @property
    def rejections(self) -> tuple[Rejection, ...]:
        """See `Job.rejections`."""
        return self._wrapped.rejections

    @_as(Job.wait)
    async def wait(
        self, timeout_s: float | None = None, *, progress: Callable[[JobReport], None] | None = None
    ) -> JobReport:
        """See `Job.wait`."""
        return await self._paused(self._wrapped._looks(timeout_s, progress))


@answers_habits
class AsyncTenantJobs(_Threaded[TenantJobs]):
    """`client.jobs` of a tenant, awaited."""

    list = _awaited(TenantJobs.list)

    @_as(Jobs.get)
    async def get(self, job_id: str, *, tenant: str | None = None) -> AsyncTenantJob:
        """See `Jobs.get`."""
        return AsyncTenantJob(self._threads, await self._ask(self._wrapped.get, job_id, tenant=tenant))


@answers_habits
class AsyncTenantDeadLetters(_Threaded[TenantDeadLetters]):
    """`client.dead` of a tenant, awaited."""

    list = _awaited(TenantDeadLetters.list)
    get = _awaited(TenantDeadLetters.get)
    summary = _awaited(TenantDeadLetters.summary)
    drop = _awaited(TenantDeadLetters.drop)
    scroll = _borrowed(AsyncDeadLetters.scroll)

    @_as(DeadLetters.replay)
    async def replay(
        self,
        letter_ids: str | Iterable[str] | None = None,
        *,
        collection: str | None = None,
        job: str | None = None,
        error: str | None = None,
        tenant: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> builtins.list[AsyncTenantJob]:
        """See `DeadLetters.replay`."""
        chosen = {"collection": collection, "job": job, "error": error, "tenant": tenant}
        jobs = await self._feed(self._wrapped.replay, letter_ids, **chosen, progress=progress)
        return [AsyncTenantJob(self._threads, job) for job in jobs]


@answers_habits
class AsyncTenantInstructions(_Threaded[TenantInstructions]):
    """`client.instructions` of a tenant, awaited."""

    list = _awaited(TenantInstructions.list)
    show = _awaited(TenantInstructions.show)
    get = _awaited(TenantInstructions.get)
    presets = _awaited(TenantInstructions.presets)


@answers_habits
class AsyncTenantClient(_Threaded[TenantClient]):
    """`TenantClient` for asyncio: `client.tenant("acme")` of an `AsyncClient`."""

    def __init__(self, threads: _Threads, client: TenantClient) -> None:
        super().__init__(threads, client)
        self.jobs = AsyncTenantJobs(threads, client.jobs)
        self.dead = AsyncTenantDeadLetters(threads, client.dead)
        self.instructions = AsyncTenantInstructions(threads, client.instructions)

    @property
    def name(self) -> str:
        """See `TenantClient.name`."""
        return self._wrapped.name

    cluster = _feeding(TenantClient.cluster)
    count = _awaited(TenantClient.count)
    embed = _awaited(TenantClient.embed)
    rerank = _awaited(TenantClient.rerank)
    facets = _awaited(TenantClient.facets)
    queue = _awaited(TenantClient.queue)
    receipt = _awaited(TenantClient.receipt)
    recommend = _awaited(TenantClient.recommend)
    scroll = _awaited(TenantClient.scroll)
    search = _awaited(TenantClient.search)
    search_by_vector = _awaited(TenantClient.search_by_vector)
    search_many = _awaited(TenantClient.search_many)
    similar = _awaited(TenantClient.similar)
    audit = _borrowed(AsyncClient.audit)
    documents = _borrowed(AsyncClient.documents)
    delete = _likewise(AsyncClient.delete)
    enqueue = _likewise(AsyncClient.enqueue)
    estimate = _borrowed(AsyncClient.estimate)
    update_metadata = _likewise(AsyncClient.update_metadata)

    @overload
    async def get(  # type: ignore[overload-overlap]  # as in `Client.get`
        self, collection: str, ids: str, *, tenant: str | None = None
    ) -> StoredDocument | None: ...
    @overload
    async def get(self, collection: str, ids: Iterable[str], *, tenant: str | None = None) -> list[StoredDocument]: ...
    @_as(Client.get)
    async def get(
        self, collection: str, ids: str | Iterable[str], *, tenant: str | None = None
    ) -> StoredDocument | list[StoredDocument] | None:
        """See `Client.get`."""
        return await self._ask(self._wrapped.get, collection, ids, tenant=tenant)

    @_as(Client.delete_where)
    async def delete_where(
        self,
        collection: str,
        where: Where | None = None,
        *,
        tenant: str | None = None,
        job: str | None = None,
        notify: str | None = None,
    ) -> AsyncTenantJob:
        """See `Client.delete_where`."""
        how = {"tenant": tenant, "job": job, "notify": notify}
        found = await self._feed(self._wrapped.delete_where, collection, where, **how)
        return AsyncTenantJob(self._threads, found)

    async def _hand_over(
        self,
        method: Callable[..., TenantJob],
        items: Any,
        progress: Callable[[int], None] | None,
        collection: str,
        **how: Any,
    ) -> AsyncTenantJob:
        return AsyncTenantJob(self._threads, await _fed(self, method, items, progress, collection, **how))


@overload
def twin_of(client: Client) -> AsyncClient: ...
@overload
def twin_of(client: TenantClient) -> AsyncTenantClient: ...
def twin_of(client: Client | TenantClient) -> AsyncClient | AsyncTenantClient:
    """The same client for asyncio: on its connections, in threads of its own. It ends with the client."""
    if isinstance(client, TenantClient):
        return AsyncTenantClient(_Threads(), client)
    twin = AsyncClient.__new__(AsyncClient)
    _Threaded.__init__(twin, _Threads(), client)
    twin._group()
    return twin


class _Bridge:
    """Items of the caller's loop for a thread; ends with an error there once the caller has left."""

    def __init__(self, items: Any, progress: Callable[[Any], None] | None) -> None:
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._left = threading.Event()
        #: What the sync client gets: one item, None and what is no iterable at all go through as they are.
        self.items = self._iterate(items) if self._is_stream(items) else items

    @staticmethod
    def _is_stream(items: Any) -> bool:
        if isinstance(items, AsyncIterable):
            return True
        return isinstance(items, Iterable) and not isinstance(items, str | bytes | bytearray | Mapping | BaseModel)

    def __enter__(self) -> _Bridge:
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()

    def progress(self, so_far: Any) -> None:
        """Also called while the queue is full: what makes a cancelled call let go of its thread."""
        self._check()
        if self._progress is not None:
            self._progress(so_far)

    def _check(self) -> None:
        if self._left.is_set():
            raise asyncio.CancelledError("the caller was cancelled")

    def _iterate(self, items: Any) -> Iterator[Any]:
        for item in self._hops(aiter(items)) if isinstance(items, AsyncIterable) else items:
            self._check()
            yield item

    def _hops(self, iterator: AsyncIterator[Any]) -> Iterator[Any]:
        while hop := asyncio.run_coroutine_threadsafe(_take(iterator), self._loop).result():
            yield from hop


async def _take(iterator: AsyncIterator[Any]) -> list[Any]:
    taken: list[Any] = []
    async for item in iterator:
        taken.append(item)
        if len(taken) == _HOP:
            break
    return taken
