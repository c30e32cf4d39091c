"""A small HTTP service before Gristmill, on FastAPI: take documents, say what became of them, search.

    uvicorn --app-dir examples document_service:app --port 8080

For programs in any language (docs/howto/other-languages.md), and as an example of `AsyncClient` in an application
(docs/howto/fastapi.md). It needs `pip install gristmill fastapi uvicorn` and the same GRISTMILL_* variables as the workers;
no torch. It lets everybody in: listen on 127.0.0.1, or put what checks callers before it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from gristmill import (
    AsyncClient,
    BrokerUnavailable,
    CollectionNotFound,
    GristmillError,
    InvalidInput,
    JobReport,
    NoWorker,
    QueueFull,
    SearchHit,
    StoreUnavailable,
    WaitTimeout,
)

#: Errors that are no fault of the request: the same one, sent later, may well do.
LATER = (QueueFull, BrokerUnavailable, StoreUnavailable, NoWorker, WaitTimeout)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client for the process, made in it: it speaks to no server before it is first used."""
    async with AsyncClient() as client:
        app.state.client = client
        yield


app = FastAPI(title="Documents", lifespan=lifespan)


def _client(request: Request) -> AsyncClient:
    client: AsyncClient = request.app.state.client
    return client


Mill = Annotated[AsyncClient, Depends(_client)]


@app.exception_handler(GristmillError)
async def refused(_: Request, error: GristmillError) -> Response:
    """What Gristmill says, with the status that tells a client whether to send it again."""
    status = {InvalidInput: 422, CollectionNotFound: 404}
    later = isinstance(error, LATER)
    code = 503 if later else next((code for kind, code in status.items() if isinstance(error, kind)), 500)
    answer = {"error": type(error).__name__, "message": str(error), "field": error.field}
    return JSONResponse(answer, code, {"retry-after": "5"} if later else None)


@app.put("/collections/{collection}/documents", status_code=202)
async def put_documents(collection: str, documents: list[dict[str, Any]], client: Mill) -> dict[str, Any]:
    """Take documents: each as `Document` of the JSON Schema says. What is none is told, and costs its neighbours nothing."""
    # Without waiting at a full queue: the caller is told to, and keeps its documents meanwhile.
    job = await client.enqueue(collection, documents, block=False)
    return {"job": job.id, "rejected": [rejection.model_dump(mode="json") for rejection in job.rejections]}


@app.delete("/collections/{collection}/documents/{document_id}", status_code=202)
async def delete_document(
    collection: str, document_id: str, client: Mill, version: int | None = None
) -> dict[str, Any]:
    """Delete one; with `version`, as documents that carry versions of their own need it."""
    job = await client.delete(collection, document_id, version=version)
    return {"job": job.id, "rejected": []}


@app.get("/jobs/{job_id}")
async def job_report(job_id: str, client: Mill) -> JobReport:
    """Counters of a job; its `state` is `done` once every document has come to its end."""
    return await (await client.jobs.get(job_id)).report()


@app.get("/collections/{collection}/search")
async def search(
    collection: str, q: str, client: Mill, instruction: str | None = None, limit: int = 10
) -> list[SearchHit]:
    """The nearest documents."""
    return list(await client.search(collection, q, instruction=instruction, limit=limit))
