"""How figures get onto a page, for those who have some and know nothing of Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gristmill_worker.metering.instruments import Counts, Histogram


class Sheet(Protocol):
    """What one look at a process fills. Names and the order of labels are those of the catalogue."""

    def put(self, name: str, value: float, *labels: str) -> None:
        """One value of a counter or a gauge."""

    def counts(self, name: str, counts: Counts, *labels: str) -> None:
        """A counter for each key, which is the last label."""

    def histogram(self, name: str, histogram: Histogram, *labels: str) -> None:
        """A histogram."""


#: Fills a part of a sheet from what is in memory; it must ask nobody, since a scrape must never wait for a server.
Section = Callable[[Sheet], None]
