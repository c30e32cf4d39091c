"""What a report's plots are made of, out of a collection and labelled questions."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gristmill.client import Client
from gristmill.evaluation.labelled import Question
from gristmill.evaluation.likeness.clusters import of_unit_length
from gristmill.evaluation.report import plots
from gristmill.evaluation.report.page import Plot
from gristmill.evaluation.retrieval import Evaluation
from gristmill.evaluation.stored_vectors import StoredVectors, stored_vectors
from gristmill.search.filters import Where
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.validation import shown

#: Documents on the heat map and on the map, at most; and questions whose searches are timed.
_HEAT, _MAP, _TIMED = 40, 3_000, 60
#: Hits per question whose scores are shown.
_SCORED = 10
#: What colours the map unless somebody says it; otherwise a field with at most so many values.
_USUAL_FIELD, _MOST_COLOURS = "category", 12
_SEED = 20_260_301
#: How much of the graph is looked at, for recall against latency.
_EFS = (16, 64, 256)


def plots_of_collection(
    client: Client,
    collection: str,
    field: str | None = None,
    *,
    lens: str | None = None,
    where: Where | None = None,
    tenant: str | None = None,
) -> Iterator[Plot]:
    """The heat map and the map: of a sample, where there are more documents than can be seen.

    Args:
        client: an open one.
        collection: its name.
        field: of the metadata, whose values colour the map; None takes `category`, or what divides the documents best.
        lens: whose vectors; None: those without one.
        where: only points whose metadata is so.
        tenant: only this tenant's.

    Raises:
        InvalidInput: the collection has fewer than three documents, or none with this field.
        CollectionNotFound, StoreUnavailable, StoreRefused.
    """
    stored = stored_vectors(client, collection, lens=lens, where=where, tenant=tenant, payload=True)
    first = [row for row, chunk in enumerate(stored.chunks) if chunk == 0]
    if len(first) < 3:
        raise InvalidInput(f"collection: expected three documents or more in {collection!r} to draw, got {len(first)}")
    by = _dividing(stored, first) if field is None else field
    values = [None if by is None else _value(stored, row, by) for row in first]
    if field is not None and all(value is None for value in values):
        told = ", ".join(_fields(stored)[:10]) or "none"
        raise InvalidInput(
            f"color: expected a field of the metadata, got {shown(field)}, which no document has; there are: {told}",
            field="color",
        )
    vectors = of_unit_length(stored.vectors[first], len(first))
    texts = [str(stored.payloads[row].get(stored.spec.text_key, "")) for row in first]
    heat = sorted(_sample(len(first), _HEAT), key=lambda row: str(values[row]))
    yield plots.similarities(vectors[heat], [texts[row] for row in heat])
    some = _sample(len(first), _MAP)
    yield plots.map_of(vectors[some], [texts[row] for row in some], [values[row] for row in some], by)


def _fields(stored: StoredVectors) -> list[str]:
    return sorted({key for payload in stored.payloads for key in payload} - {stored.spec.text_key})


def _dividing(stored: StoredVectors, rows: Sequence[int]) -> str | None:
    """The usual field, where documents have it; else of those with two to a dozen values the one that most have."""
    having: dict[str, int] = {}
    for field in _fields(stored):
        there = [str(value) for row in rows if (value := _value(stored, row, field)) is not None]
        if field == _USUAL_FIELD and there:
            return field
        if 2 <= len(set(there)) <= _MOST_COLOURS:
            having[field] = len(there)
    return max(having, key=having.__getitem__, default=None)


def _value(stored: StoredVectors, row: int, field: str) -> object:
    return stored.payloads[row].get(field)


def _sample(count: int, most: int) -> list[int]:
    if count <= most:
        return list(range(count))
    return sorted(np.random.default_rng(_SEED).choice(count, most, replace=False).tolist())


def gains_plot(one: Evaluation, other: Evaluation, names: tuple[str, str]) -> Plot:
    """Per question what one evaluation has more of 1 / rank than another."""
    ranks = zip(one.questions, one.ranks, other.ranks, strict=True)
    changes = {q.query: (1 / a if a else 0) - (1 / b if b else 0) for q, a, b in ranks if a != b}
    return plots.gains(changes, names)


def scores_plot(client: Client, collection: str, questions: Sequence[Question], options: Mapping[str, Any]) -> Plot:
    """Scores of the first ten hits of each question, those that are expected apart."""
    queries = [each.query for each in questions]
    found = client.search_many(collection, queries, **{**options, "limit": _SCORED, "text": False})
    judged = [(hit.score, hit.id in q.expected) for q, hits in zip(questions, found, strict=True) for hit in hits]
    return plots.score_distributions([s for s, right in judged if right], [s for s, right in judged if not right])


def latency_plot(client: Client, collection: str, questions: Sequence[Question], options: Mapping[str, Any]) -> Plot:
    """Recall@10 and median time of a search by vectors, by how much of the graph is looked at; no query is encoded."""
    some = [questions[row] for row in _sample(len(questions), _TIMED)]
    lens, queries = options.get("lens"), [each.query for each in some]
    vectors = client.embed(queries, collection=collection, lens=lens, instruction=options.get("instruction"))
    of = {name: options[name] for name in ("lens", "tenant", "where") if options.get(name) is not None}
    ways: dict[str, dict[str, Any]] = {f"ef={ef}": {"ef": ef} for ef in _EFS} | {"exact": {"exact": True}}
    points = {name: _timed(client, collection, some, vectors, {**of, **way}) for name, way in ways.items()}
    return plots.recall_against_latency(points)


def _timed(
    client: Client, collection: str, questions: Sequence[Question], vectors: Any, options: Mapping[str, Any]
) -> tuple[float, float]:
    how: Any = {**options, "limit": 10, "text": False, "fields": ()}
    took, right = [], 0
    for each, vector in zip(questions, vectors, strict=True):
        started = time.perf_counter()
        hits = client.search_by_vector(collection, vector, **how)
        took.append((time.perf_counter() - started) * 1000)
        right += any(hit.id in each.expected for hit in hits)
    return statistics.median(took), right / len(questions)
