"""The page's own routes, `/live/api/…`. Not for other programs: no version, no promise; those have the client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Final, Literal, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from gristmill import Client, Job
from gristmill.search.instructions.presets import PRESETS
from gristmill_schemas.errors import WaitTimeout
from gristmill_worker.server.bodies import Body, StrictRoute
from gristmill_worker.server.errors import Refused, json_response
from gristmill_worker.server.live import telling
from gristmill_worker.server.live.access import Access
from gristmill_worker.server.live.watching import Watch

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Calls that run at once, and that wait for their turn: a server that hangs must not hold more threads than these.
_THREADS, _MOST_CALLS = 4, 16
#: Longest wait for an answer of Redis or Qdrant, seconds; what was begun goes on.
_ANSWER_S: Final = 12.0
_NO_STORE: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
#: What can be done with a job.
JobAction = Literal["cancel", "pause", "resume"]


class ReplayBody(Body):
    """Which dead letters are tried again: one, or all of an error in a collection."""

    letter: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    collection: Annotated[str | None, Field(min_length=1, max_length=1024)] = None
    error: Annotated[str | None, Field(min_length=1, max_length=1024)] = None


class SearchBody(Body):
    """What the search box says."""

    collection: Annotated[str, Field(min_length=1, max_length=1024)]
    query: Annotated[str, Field(min_length=1, max_length=32_768)]
    instruction: Annotated[str | None, Field(max_length=2_000)] = None
    lens: Annotated[str | None, Field(max_length=200)] = None
    tenant: Annotated[str | None, Field(max_length=1024)] = None
    mode: Literal["dense", "keyword", "hybrid"] = "dense"
    limit: Annotated[int, Field(ge=1, le=100)] = 10
    explain: bool = False


class Calls:
    """Calls of the client, on a few threads of their own, each waited for no longer than people wait."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="gristmill-live-call")
        self._under_way = 0

    async def run(self, call: Callable[[], T]) -> T:
        """What the call returns.

        Raises:
            Refused: 429, too many wait already.
            WaitTimeout: it takes too long, and goes on.
            GristmillError: of the call.
        """
        if self._under_way >= _MOST_CALLS:
            raise Refused(429, f"expected at most {_MOST_CALLS} calls at once; try again in a moment", retry_after_s=2)
        self._under_way += 1
        work = asyncio.get_running_loop().run_in_executor(self._pool, call)
        work.add_done_callback(self._done)
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await asyncio.shield(work)
        except TimeoutError:
            raise WaitTimeout(f"no answer within {_ANSWER_S:g} s; what was begun goes on") from None

    def _done(self, work: asyncio.Future[Any]) -> None:
        self._under_way -= 1
        if not work.cancelled():
            work.exception()  # whoever waited has it, or has gone

    def close(self) -> None:
        """Take no more; what runs ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def api_routes(client: Client, watch: Watch, calls: Calls, access: Access) -> APIRouter:
    """The routes over one client and what is watched of its servers."""
    router = APIRouter(prefix="/live/api", include_in_schema=False, route_class=StrictRoute)
    looks, posts, changes = Depends(access.check_look), Depends(access.check_post), Depends(access.check_change)

    @router.get("/overview", dependencies=[looks])
    async def overview(since: Annotated[float, Query(ge=0)] = 0.0) -> Response:
        told = telling.overview(watch, since)
        return _answer({**told, "read_only": access.read_only, "job_actions": _job_actions()})

    @router.get("/collections", dependencies=[looks])
    async def collections() -> Response:
        known = watch.store.said.collections if watch.store.said else ()
        presets = [{"reference": each.reference, "text": each.text, "language": each.language} for each in PRESETS]
        return _answer({"collections": [telling.collection(each) for each in known], "presets": presets})

    @router.get("/dead", dependencies=[looks])
    async def dead(
        collection: str | None = None,
        error: str | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> Response:
        letters = await calls.run(lambda: client.dead.list(collection or None, error=error or None, limit=limit))
        now = watch.observed().at
        return _answer({"letters": [telling.letter(each, now) for each in letters]})

    @router.post("/dead/replay", dependencies=[changes])
    async def replay(body: ReplayBody) -> Response:
        if body.model_dump(exclude_none=True).keys() not in ({"letter"}, {"collection", "error"}):
            raise Refused(400, "letter: expected either one letter, or a collection and an error", param="letter")
        jobs = await calls.run(lambda: _replayed(client, body))
        log.info("replayed from the live page: %s", [each.id for each in jobs])
        stay = [rejection.reason for each in jobs for rejection in each.rejections]
        return _answer({"jobs": [each.id for each in jobs], "stay": stay[:20], "all_stay": len(stay)})

    @router.post("/jobs/{job_id}/{action}", dependencies=[changes])
    async def change_job(job_id: str, action: JobAction, request: Request) -> Response:
        if action not in _job_actions():
            raise Refused(501, f"{action}: this Gristmill cannot do that with a job")
        await calls.run(lambda: getattr(client.jobs.get(job_id), action)())
        log.info("%s of job %s from the live page", action, job_id)
        return _answer({"job": telling.job(await calls.run(lambda: client.jobs.get(job_id).report()))})

    @router.post("/search", dependencies=[posts])
    async def search(body: SearchBody) -> Response:
        options = body.model_dump(exclude={"collection", "query"}, exclude_none=True)
        asked = {name: value for name, value in options.items() if value != ""}
        hits = await calls.run(lambda: client.search(body.collection, body.query, **asked))
        return _answer(telling.found(body.query, hits))

    return router


def _replayed(client: Client, body: ReplayBody) -> list[Job]:
    if body.letter is not None:
        return client.dead.replay(body.letter)
    return client.dead.replay(collection=body.collection, error=body.error)


def _job_actions() -> list[str]:
    return [name for name in ("cancel", "pause", "resume") if hasattr(Job, name)]


def _answer(body: dict[str, Any]) -> Response:
    return json_response(body, headers=_NO_STORE)
