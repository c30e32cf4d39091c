"""The page that Prometheus reads: sections fill a sheet, and `prometheus_client` writes it down.

Prometheus's multiprocess mode is not used. It keeps files per process that somebody must clean up, and adds gauges of
processes that have ended. A worker's processes each have a port, and Prometheus adds their series itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gristmill_worker.metering.instruments import Counts, Histogram
from gristmill_worker.metering.sections import Section
from gristmill_worker.process.metrics.catalogue import METRICS

log = logging.getLogger(__name__)

_FAMILIES: Final = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}


class Families:
    """Those of one look: see `metering.sections.Sheet`."""

    def __init__(self) -> None:
        self._families: dict[str, CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily] = {}

    def put(self, name: str, value: float, *labels: str) -> None:
        """See `Sheet`."""
        family = self._family(name)
        assert not isinstance(family, HistogramMetricFamily)
        family.add_metric(labels, value)

    def counts(self, name: str, counts: Counts, *labels: str) -> None:
        """See `Sheet`."""
        for key, value in counts.all().items():
            self.put(name, value, *labels, key)

    def histogram(self, name: str, histogram: Histogram, *labels: str) -> None:
        """See `Sheet`."""
        family = self._family(name)
        assert isinstance(family, HistogramMetricFamily)
        buckets, total = histogram.read()
        family.add_metric(labels, buckets, total)

    def all(self) -> Iterable[Metric]:
        """All that were put here."""
        return self._families.values()

    def _family(self, name: str) -> CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily:
        if name not in self._families:
            known = METRICS[name]
            self._families[name] = _FAMILIES[known.kind](name, known.meaning, labels=known.labels)
        return self._families[name]


class _Sections(Collector):
    def __init__(self, sections: Sequence[Section]) -> None:
        self._sections = sections

    def collect(self) -> Iterable[Metric]:
        sheet = Families()
        for section in self._sections:
            try:
                section(sheet)
            except Exception:  # the others are the better half of a page
                log.exception("a section of the metrics cannot be read")
        return sheet.all()


def registry_of(sections: Sequence[Section]) -> CollectorRegistry:
    """These sections, as they are at each look, and what Prometheus's exporters say of a process."""
    registry = CollectorRegistry()
    registry.register(_Sections(sections))
    ProcessCollector(registry=registry)
    return registry


def text_of(sections: Sequence[Section]) -> bytes:
    """The page, in Prometheus's format."""
    return generate_latest(registry_of(sections))
