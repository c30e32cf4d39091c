"""Reading metrics as Prometheus does."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families

#: A series by its name and labels.
Series = tuple[str, frozenset[tuple[str, str]]]


def figures(text: str) -> dict[Series, float]:
    """Every series of a page."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(address: str) -> dict[Series, float]:
    """Every series of a process."""
    return figures(httpx.get(f"{address}/metrics", timeout=60).raise_for_status().text)


def by_label(page: Mapping[Series, float], name: str, label: str) -> dict[str, float]:
    """The values of a metric that are not 0, by one of its labels, whatever the others are."""
    found: dict[str, float] = {}
    for (series, labels), value in page.items():
        if series == name and value:
            key = dict(labels)[label]
            found[key] = found.get(key, 0) + value
    return found


def total(page: Mapping[Series, float], name: str, **labels: str) -> float:
    """The sum of a metric's values that have these labels."""
    wanted = labels.items()
    return sum(value for (series, has), value in page.items() if series == name and wanted <= has)
