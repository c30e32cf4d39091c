"""OpenAI's routes: `/v1/embeddings`, `/v1/models`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import Field

from gristmill_worker.encoder import Vectors
from gristmill_worker.server.asking import Asked
from gristmill_worker.server.bodies import Body, StrictRoute
from gristmill_worker.server.encoding import Embedding
from gristmill_worker.server.errors import json_response
from gristmill_worker.server.inputs import Given, InputType, Instruction, OpenAIInput, Truncate, check_count
from gristmill_worker.server.quantizing import in_base64
from gristmill_worker.server.service import Served, Service


class EmbeddingsBody(Body):
    """What `/v1/embeddings` takes."""

    input: OpenAIInput
    model: Annotated[str, Field(description="As /v1/models names it")]
    dimensions: Annotated[int | None, Field(description="A size that the model declares; unset: its full size")] = None
    encoding_format: Annotated[
        Literal["float", "base64"] | None, Field(description="base64: of little-endian float32")
    ] = None
    user: Annotated[str | None, Field(description="Accepted, since clients send it, and not used")] = None
    input_type: Annotated[
        InputType | None,
        Field(
            description="Extension: the side of a search, by which the model's template is chosen; unset: no template"
        ),
    ] = None
    instruction: Annotated[Instruction | None, Field(description="Extension: what the texts are embedded for")] = None
    truncate: Annotated[
        Truncate | None, Field(description="Extension: the end to cut off a text that is too long; unset refuses it")
    ] = None


def openai_routes(service: Service, embedding: Embedding) -> APIRouter:
    """The routes over what is served."""
    router = APIRouter(route_class=StrictRoute, tags=["OpenAI"])

    @router.post("/v1/embeddings")
    async def embeddings(body: EmbeddingsBody) -> Response:
        """Vectors of texts, as they are given unless `input_type` or `instruction` asks for the model's template."""
        served = service.encoder(body.model)
        given: Given = body.input
        check_count("input", given.texts, service.settings.serve_max_inputs)
        asked = Asked(
            "input",
            given.texts,
            body.input_type,
            body.instruction,
            body.truncate or "NONE",
            body.dimensions,
            bare=given.bare,
        )
        with service.waiting(len(given.texts)):
            found = await embedding.embed(served, asked)
        answer = {
            "object": "list",
            "data": _items(found.vectors, body.encoding_format, set(found.truncated)),
            "model": served.name,
            "usage": {"prompt_tokens": found.tokens, "total_tokens": found.tokens},
        }
        return json_response(answer | ({"truncated": found.truncated} if found.truncated else {}))

    @router.get("/v1/models")
    async def models() -> Response:
        """What is served."""
        return json_response({"object": "list", "data": [_model(each, service) for each in service.all]})

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        """One of them."""
        return json_response(_model(service.find(name), service))

    return router


def _items(vectors: Vectors, encoding_format: str | None, truncated: set[int]) -> list[dict[str, Any]]:
    shape = in_base64 if encoding_format == "base64" else (lambda row: row)
    return [
        {"object": "embedding", "index": index, "embedding": shape(row)}
        | ({"truncated": True} if index in truncated else {})
        for index, row in enumerate(vectors)
    ]


def _model(served: Served, service: Service) -> dict[str, Any]:
    return {
        "id": served.name,
        "object": "model",
        "created": service.created,
        "owned_by": "gristmill",
        "task": served.info.task,
    }
