"""One server's live page: its client, what is watched, and its routes; or none, where there is nothing to watch."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter

from gristmill import Client, ClientSettings
from gristmill_worker.server.live.access import Access
from gristmill_worker.server.live.api import Calls, api_routes
from gristmill_worker.server.live.page import page_routes
from gristmill_worker.server.live.watching import Watch
from gristmill_worker.server.service import Service
from gristmill_worker.settings import ServerSettings

#: Somebody waits in front of the page: for no answer longer than this, seconds.
_REDIS_S, _QDRANT_S, _QUERY_S = 2.0, 5, 10.0


class Live:
    """Opened with its server and closed with it."""

    def __init__(self, service: Service) -> None:
        """Nothing is asked yet; Redis and Qdrant need not be there."""
        self._service = service
        self._client = Client(_impatient(service.settings))
        self._watch, self._calls = Watch(self._client), Calls()

    @staticmethod
    def is_wanted(settings: ServerSettings, *, mill: bool) -> bool:
        """Whether there is a page: by `serve_live`, and where that is `auto`, in a mill.

        Args:
            settings: of the server.
            mill: whether its process works for Redis and Qdrant anyway.
        """
        if settings.serve_live == "auto":
            return mill or "redis_url" in settings.model_fields_set
        return settings.serve_live != "off"

    def routes(self) -> Iterator[APIRouter]:
        """What the application includes."""
        # Before the page's, whose files have any name.
        yield api_routes(self._client, self._watch, self._calls, Access(self._service))
        yield page_routes(self._service)

    def start(self) -> None:
        """Begin to look."""
        self._watch.start()

    def close(self) -> None:
        """Look no more, and give the connections back."""
        self._watch.close()
        self._calls.close()
        self._client.close()


def _impatient(settings: ServerSettings) -> ClientSettings:
    """The same servers, waited for no longer than people wait."""
    limits = {
        "redis_timeout_s": min(settings.redis_timeout_s, _REDIS_S),
        "qdrant_timeout_s": min(settings.qdrant_timeout_s, _QDRANT_S),
        "query_timeout_s": min(settings.query_timeout_s, _QUERY_S),
        "embedded_path": None,
    }
    return settings.model_copy(update=limits)
