"""Routes about the server itself: probes, what it serves, how its models tokenize."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Field

from gristmill import __version__
from gristmill_schemas.errors import InvalidInput
from gristmill_worker.encoder.base import ReadsTokens
from gristmill_worker.server.asking import Asked
from gristmill_worker.server.bodies import Body, StrictRoute
from gristmill_worker.server.encoding import Embedding
from gristmill_worker.server.errors import Refused, json_response
from gristmill_worker.server.inputs import InputType, Instruction, TextOrTexts, check_count
from gristmill_worker.server.service import Served, ServedEncoder, Service


class TokenizeBody(Body):
    """What `/tokenize` takes."""

    model: Annotated[str, Field(description="As /v1/models names it")]
    input: Annotated[TextOrTexts | None, Field(description="One text or several")] = None
    prompt: Annotated[TextOrTexts | None, Field(description="vLLM's name for `input`")] = None
    add_special_tokens: Annotated[bool, Field(description="Those that the model adds around each text")] = True
    input_type: InputType | None = None
    instruction: Instruction | None = None


def about_routes(service: Service, embedding: Embedding) -> APIRouter:
    """The routes over what is served."""
    router = APIRouter(route_class=StrictRoute, tags=["server"])

    @router.get("/healthz")
    async def healthz() -> Response:
        """Whether the process lives and its device is well: 503 asks for a restart."""
        if service.sick:
            raise Refused(503, f"a model is sick, and does not get well again in this process: {service.sick}")
        return json_response({"status": "ok"})

    @router.get("/readyz")
    async def readyz() -> Response:
        """Whether requests are taken: models are loaded, and no stop has begun."""
        if not service.ready:
            raise Refused(503, f"not ready: {service.sick or service.phase}", retry_after_s=2)
        return json_response({"status": "ready"})

    @router.post("/tokenize")
    async def tokenize(body: TokenizeBody) -> Response:
        """Token ids as the model reads them; nothing is cut, so that a text's length is seen."""
        served = service.encoder(body.model)
        if (body.input is None) == (body.prompt is None):
            came = "none" if body.input is None else "both"
            raise InvalidInput(f"input: expected either `input` or `prompt`, got {came}", field="input")
        given = body.prompt if body.input is None else body.input
        texts = [given] if isinstance(given, str) else given or []
        check_count("input", texts, service.settings.serve_max_inputs)
        asked = Asked("input", texts, body.input_type, body.instruction)
        ids = await embedding.token_ids(served, asked, special=body.add_special_tokens)
        return json_response(
            {
                "model": served.name,
                "count": sum(map(len, ids)),
                "max_model_len": served.info.max_tokens,
                "tokens": ids[0] if isinstance(given, str) else ids,
            }
        )

    @router.get("/info")
    async def info() -> Response:
        """What is served, and within which limits."""
        limits = {
            name.removeprefix("serve_"): getattr(service.settings, name)
            for name in ("serve_max_inputs", "serve_max_body_bytes", "serve_max_requests", "serve_queue_texts")
        }
        models = [_described(each) for each in service.all]
        return json_response({"server": "gristmill", "version": __version__, "limits": limits, "models": models})

    @router.get("/metrics")
    async def metrics() -> Response:
        """Figures in Prometheus's format."""
        return Response(embedding.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router


def _described(served: Served) -> dict[str, Any]:
    info = served.info.model_dump(mode="json", exclude={"format", "model"})
    if not isinstance(served, ServedEncoder):
        return {"id": served.name, **info, "device": served.reranker.device}
    encoder = served.encoder
    runs = {"device": encoder.device, "dtype": encoder.dtype, "budget_tokens": served.batcher.budget_tokens}
    return {"id": served.name, **info, **runs, "takes_token_ids": isinstance(encoder, ReadsTokens)}
