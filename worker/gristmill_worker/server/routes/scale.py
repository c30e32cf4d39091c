"""The route for autoscalers: `/scale`, the seconds of work that wait for each model in the queue of the settings."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from gristmill.ingest.scaling import looked_up
from gristmill_worker.server.encoding import Embedding
from gristmill_worker.server.errors import Refused, json_response
from gristmill_worker.server.service import Service


def scale_routes(service: Service, embedding: Embedding) -> APIRouter:
    """The route. It speaks to Redis only when it is asked, a few times a minute: the server itself needs none."""
    router, settings = APIRouter(tags=["server"]), service.settings

    @router.get("/scale")
    def scale(
        model: Annotated[str | None, Query(description="Name or digest; unset: all, and their sum")] = None,
    ) -> Response:
        """Seconds of work, as one worker would need them: what KEDA's metrics-api scaler reads at `seconds`."""
        status, told = looked_up(settings, model)
        if "error" in told:
            raise Refused(status, str(told["error"]), param="model" if status == 404 else None)
        return json_response(dict(told))

    return router
