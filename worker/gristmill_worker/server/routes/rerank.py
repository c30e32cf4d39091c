"""`/v1/rerank`, which Cohere and SGLang agree on, and Cohere's `/v2/rerank`: the same here."""

from __future__ import annotations

import asyncio
import threading
import uuid
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import Field

from gristmill.search.instructions import resolve_instruction
from gristmill_schemas.errors import InvalidInput
from gristmill_worker.reranker.base import Scores
from gristmill_worker.server.bodies import Body, StrictRoute
from gristmill_worker.server.encoding import Embedding
from gristmill_worker.server.errors import json_response
from gristmill_worker.server.inputs import Documents, Instruction, Query, check_count
from gristmill_worker.server.service import ServedReranker, Service


class RerankBody(Body):
    """What `/v1/rerank` takes."""

    query: Query
    documents: Documents
    model: Annotated[str | None, Field(description="As /v1/models names it; unset: the one reranker there is")] = None
    top_n: Annotated[int | None, Field(ge=1, description="The best so many; unset: all")] = None
    return_documents: Annotated[bool | None, Field(description="Repeat the documents in the answer")] = None
    instruct: Annotated[Instruction | None, Field(description="Extension, as SGLang's: what the search is for")] = None
    truncate: Annotated[
        Literal["NONE", "END"] | None,
        Field(description="Extension: END cuts a document that is too long; unset, as NONE, refuses it"),
    ] = None


def rerank_routes(service: Service, embedding: Embedding) -> APIRouter:
    """The routes over what is served."""
    router = APIRouter(route_class=StrictRoute, tags=["rerank"])

    @router.post("/v1/rerank")
    @router.post("/v2/rerank")
    async def rerank(body: RerankBody) -> Response:
        """How well each document answers the query, the best first."""
        served = service.reranker(body.model)
        check_count("documents", body.documents, service.settings.serve_max_inputs)
        with service.waiting(len(body.documents)):
            scores = await _scores(embedding, served, body, _instruction(served, body.instruct))
        served.scored += len(scores)
        if body.truncate != "END":
            _check_whole(served, scores)
        return json_response(
            {
                "id": str(uuid.uuid4()),
                "model": served.name,
                "results": _results(body, scores),
                "meta": {
                    "api_version": {"version": "2"},
                    "billed_units": {"search_units": 1},
                    "instruction_aware": served.info.instruction_aware,
                },
            }
        )

    return router


def _instruction(served: ServedReranker, given: str | None) -> str | None:
    if given is not None and not served.info.instruction_aware:
        raise InvalidInput(
            f"instruct: expected none, since {served.name} takes no instruction, got {given!r}; leave it out",
            field="instruct",
        )
    return resolve_instruction(None, given, "instruct").text


async def _scores(embedding: Embedding, served: ServedReranker, body: RerankBody, instruction: str | None) -> Scores:
    gone = threading.Event()
    score = partial(served.reranker.score, body.query, body.documents, instruction, expired=gone.is_set)
    try:
        return await asyncio.get_running_loop().run_in_executor(embedding.scoring, score)
    finally:
        gone.set()  # who is cancelled wants nothing more


def _check_whole(served: ServedReranker, scores: Scores) -> None:
    cut = next((place for place, whole in enumerate(scores[:, 1]) if not whole), None)
    if cut is not None:
        window = served.info.max_tokens
        raise InvalidInput(
            f"documents[{cut}]: expected a document that fits beside the query into {window} tokens, got a longer one: "
            f'this model\'s maximum context length is {window} tokens; shorten it, or send "truncate": "END"',
            field=f"documents[{cut}]",
        )


def _results(body: RerankBody, scores: Scores) -> list[dict[str, Any]]:
    order = sorted(range(len(scores)), key=lambda index: (-scores[index, 0], index))
    return [
        {"index": index, "relevance_score": scores[index, 0]}
        | ({} if scores[index, 1] else {"truncated": True})
        | ({"document": {"text": body.documents[index]}} if body.return_documents else {})
        for index in order[: body.top_n]
    ]
