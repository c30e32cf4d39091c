"""Cohere's route for vectors: `/v2/embed`."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import Field

from gristmill_worker.encoder import Vectors
from gristmill_worker.server.asking import Asked
from gristmill_worker.server.bodies import Body, StrictRoute
from gristmill_worker.server.encoding import Embedding
from gristmill_worker.server.errors import json_response
from gristmill_worker.server.inputs import InputType, Instruction, Texts, Truncate, check_count
from gristmill_worker.server.quantizing import QUANTIZED, in_base64
from gristmill_worker.server.service import Service

EmbeddingType = Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]


class EmbedBody(Body):
    """What `/v2/embed` takes."""

    model: Annotated[str, Field(description="As /v1/models names it")]
    texts: Texts
    input_type: Annotated[
        InputType | None,
        Field(description="The side of a search, by which the model's template is chosen; unset: texts as they are"),
    ] = None
    instruction: Annotated[Instruction | None, Field(description="Extension: what the texts are embedded for")] = None
    embedding_types: Annotated[
        list[EmbeddingType] | None, Field(min_length=1, description="Forms of each vector; unset: float")
    ] = None
    output_dimension: Annotated[
        int | None, Field(description="A size that the model declares; unset: its full size")
    ] = None
    truncate: Annotated[
        Truncate | None, Field(description="The end to cut off a text that is too long; unset, as NONE, refuses it")
    ] = None


def cohere_routes(service: Service, embedding: Embedding) -> APIRouter:
    """The route over what is served."""
    router = APIRouter(route_class=StrictRoute, tags=["Cohere"])

    @router.post("/v2/embed")
    async def embed(body: EmbedBody) -> Response:
        """Vectors of texts in one or several forms."""
        served = service.encoder(body.model)
        check_count("texts", body.texts, service.settings.serve_max_inputs)
        asked = Asked(
            "texts",
            body.texts,
            body.input_type,
            body.instruction,
            body.truncate or "NONE",
            body.output_dimension,
            "output_dimension",
        )
        with service.waiting(len(body.texts)):
            found = await embedding.embed(served, asked)
        answer = {
            "id": str(uuid.uuid4()),
            "response_type": "embeddings_by_type",
            "embeddings": {kind: _as(kind, found.vectors) for kind in body.embedding_types or ["float"]},
            "texts": body.texts,
            "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": found.tokens}},
        }
        return json_response(answer | ({"truncated": found.truncated} if found.truncated else {}))

    return router


def _as(kind: EmbeddingType, vectors: Vectors) -> Any:
    if kind == "float":
        return vectors
    return [in_base64(row) for row in vectors] if kind == "base64" else QUANTIZED[kind](vectors)
