"""What a server did, for Prometheus: `/metrics`.

Waiting and encoding are told apart, since the cure differs: more servers against the one, a faster device against the other.
Beside a worker the page is the worker's, with these sections on it: its models are the same.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from gristmill_worker.metering.instruments import histograms
from gristmill_worker.metering.meter import Source
from gristmill_worker.metering.sections import Section, Sheet
from gristmill_worker.process.metrics.models import show_info, show_model
from gristmill_worker.process.metrics.sheet import text_of
from gristmill_worker.server.service import ServedEncoder, ServedReranker, Service

#: Paths that have a label of their own; whatever else is asked for shares one, since callers choose it.
_PATHS: Final = ("/v1/embeddings", "/v1/models", "/v2/embed", "/v1/rerank", "/v2/rerank", "/tokenize", "/info")


class Metrics:
    """The figures of one server."""

    def __init__(self, service: Service) -> None:
        self._service = service
        #: By path and status; the event loop alone counts.
        self._requests: Counter[tuple[str, str]] = Counter()
        self._seconds = histograms(*_PATHS, "other")
        #: The page; `join` makes it a worker's.
        self._sections: list[Section] = [self._show_requests, self._show_models]

    def join(self, sections: list[Section]) -> None:
        """Be on the page of a worker, whose models these are."""
        sections.append(self._show_requests)
        self._sections = sections

    def answered(self, path: str, status: int, seconds: float) -> None:
        """One request."""
        label = path if path in _PATHS else "other"
        self._requests[label, str(status)] += 1
        self._seconds[label].observe(seconds)

    def text(self) -> bytes:
        """In Prometheus's format."""
        return text_of(self._sections)

    def _show_requests(self, sheet: Sheet) -> None:
        for (path, status), count in list(self._requests.items()):
            sheet.put("gristmill_requests_total", count, path, status)
        for path, seconds in self._seconds.items():
            sheet.histogram("gristmill_request_seconds", seconds, path)
        for served in self._service.all:
            if isinstance(served, ServedReranker):
                sheet.put("gristmill_texts_total", served.scored, served.info.model, Source.HTTP)
        sheet.put("gristmill_requests_in_flight", self._service.requests)
        sheet.put("gristmill_texts_waiting", self._service.texts)

    def _show_models(self, sheet: Sheet) -> None:
        for served in self._service.all:
            if isinstance(served, ServedEncoder):
                show_model(sheet, served)
            else:
                show_info(sheet, served.info, served.reranker.device, str(served.reranker.status()["dtype"]))
