"""The application: routes behind the door, and every error in the shape of the API that was asked."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from gristmill import __version__
from gristmill_schemas.errors import GristmillError
from gristmill_worker.server.door import Door
from gristmill_worker.server.encoding import Embedding
from gristmill_worker.server.errors import answer, told
from gristmill_worker.server.live.live import Live
from gristmill_worker.server.routes.about import about_routes
from gristmill_worker.server.routes.cohere import cohere_routes
from gristmill_worker.server.routes.openai import openai_routes
from gristmill_worker.server.routes.page import describe, page_routes
from gristmill_worker.server.routes.rerank import rerank_routes
from gristmill_worker.server.routes.scale import scale_routes
from gristmill_worker.server.service import Service


def create_app(service: Service, embedding: Embedding, live: Live | None = None) -> Door:
    """Everything, as one ASGI application.

    Args:
        service: what is served.
        embedding: its threads; whoever made it closes it.
        live: the live page, where there is one; whoever made it closes it.
    """
    app = FastAPI(
        title="Gristmill", version=__version__, redirect_slashes=False, docs_url=None, redoc_url=None, openapi_url=None
    )
    for error in (HTTPException, RequestValidationError, GristmillError, Exception):
        app.add_exception_handler(error, _answer)
    for routes in (openai_routes, cohere_routes, rerank_routes, about_routes, scale_routes):
        app.include_router(routes(service, embedding))
    app.include_router(page_routes(describe(app), live=live is not None))
    for routes_ in live.routes() if live else ():
        app.include_router(routes_)
    return Door(app, service, embedding.metrics)


async def _answer(request: Request, error: Exception) -> Response:
    return answer(request.url.path, told(error))
