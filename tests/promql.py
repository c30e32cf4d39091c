"""What a PromQL query asks for, held against the catalogue of metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator

import promql_parser as promql

from gristmill_worker.process.metrics.catalogue import METRICS

#: Series of a histogram, by its name.
_SERIES = {f"{name}{end}": metric for name, metric in METRICS.items() for end in ("", "_count", "_sum", "_bucket")}
#: Labels that Prometheus itself puts to a series, and that of a histogram's buckets.
_ANYWHERE = {"instance", "job", "le"}
#: Metrics that Prometheus makes itself.
_MADE = {"up"}


def faults_of(query: str) -> list[str]:
    """What the query asks for and nobody exports: metrics, labels, values of labels.

    Raises:
        ValueError: It is no PromQL.
    """
    expression = promql.parse(query)
    asked = list(_selectors(expression))
    faults = [fault for selector in asked for fault in _faults(selector)]
    known = _ANYWHERE.union(*(_SERIES[str(each.name)].labels for each in asked if each.name in _SERIES))
    return faults + [
        f"no metric of {query} has the label {label}" for label in _grouped(expression) if label not in known
    ]


def _selectors(expression: promql.Expr) -> Iterator[promql.VectorSelector]:
    found: list[promql.VectorSelector] = []

    def visit(node: promql.Expr) -> bool:
        if isinstance(node, promql.VectorSelector):
            found.append(node)
        elif isinstance(node, promql.MatrixSelector):
            found.append(node.vector_selector)
        return True

    promql.walk(expression, visit)
    # A matrix selector's own vector may be visited beside it.
    return iter({str(each): each for each in found}.values())


def _grouped(expression: promql.Expr) -> set[str]:
    """Labels of `by`, `without`, `on`, `ignoring`."""
    labels: set[str] = set()

    def visit(node: promql.Expr) -> bool:
        if isinstance(node, promql.AggregateExpr) and node.modifier:
            labels.update(node.modifier.labels)
        elif isinstance(node, promql.BinaryExpr) and node.modifier and node.modifier.matching:
            labels.update(node.modifier.matching.labels)
        return True

    promql.walk(expression, visit)
    return labels


def _faults(selector: promql.VectorSelector) -> Iterator[str]:
    name = str(selector.name)
    metric = _SERIES.get(name)
    if metric is None:
        if name not in _MADE:
            yield f"no such metric: {name}"
        return
    for matcher in selector.matchers.matchers:
        if matcher.name in _ANYWHERE:
            continue
        if matcher.name not in metric.labels:
            yield f"{name} has no label {matcher.name}"
        # Values of ours are words that the catalogue explains; a variable of a dashboard is none.
        elif not matcher.value.startswith("$"):
            words = set(re.findall(r"\w+", metric.meaning))
            yield from (f"{name} has no {matcher.name} {one}" for one in matcher.value.split("|") if one not in words)
