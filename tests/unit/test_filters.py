"""Plain mappings become Qdrant filters, and a wrong one says which key and what was expected."""

from typing import Any

import pytest
from qdrant_client import QdrantClient, models

from gristmill.search.filters import compile_filter
from gristmill_schemas.errors import InvalidInput

POINTS: list[dict[str, Any]] = [
    {"n": 0, "lang": "zh", "tags": ["a", "b"], "seen": True, "at": "2024-01-01", "nested": {"k": 1}, "x": 0.5},
    {"n": 1, "lang": "en", "tags": ["b"], "seen": False, "at": "2025-06-01", "nested": {"k": 2}, "x": 1.5},
    {"n": 2, "lang": "de", "tags": [], "seen": True, "at": "2026-01-01", "nested": {}, "x": 2.5, "gone": None},
    {"n": 3, "lang": "zh", "tags": ["c"], "seen": False, "at": "2026-11-01", "x": 3.5, "gone": "no"},
]


@pytest.fixture(scope="module")
def store() -> QdrantClient:
    client = QdrantClient(":memory:")
    client.create_collection("c", vectors_config=models.VectorParams(size=1, distance=models.Distance.DOT))
    client.upsert("c", [models.PointStruct(id=p["n"], vector=[1.0], payload=p) for p in POINTS])
    return client


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"lang": "zh"}, {0, 3}),
        ({"lang": ["zh", "de"]}, {0, 2, 3}),
        ({"lang": {"not": "zh"}}, {1, 2}),
        ({"lang": {"not": ["zh", "en"]}}, {2}),
        ({"n": 2}, {2}),
        ({"n": {"gte": 1, "lt": 3}}, {1, 2}),
        ({"x": {"gt": 1.5}}, {2, 3}),
        ({"x": 1.5}, {1}),
        ({"x": [0.5, 2.5]}, {0, 2}),
        ({"gone": ["no", None]}, {0, 1, 2, 3}),
        ({"seen": True}, {0, 2}),
        ({"tags": "b"}, {0, 1}),
        ({"nested.k": 2}, {1}),
        ({"at": {"gte": "2025-06-01", "lt": "2026-06-01"}}, {1, 2}),
        ({"gone": None}, {0, 1, 2}),
        ({"lang": "zh", "seen": False}, {3}),
        ({"lang": ["zh", 7]}, {0, 3}),
        ({}, {0, 1, 2, 3}),
        (None, {0, 1, 2, 3}),
        (models.Filter(must=[models.FieldCondition(key="n", match=models.MatchValue(value=1))]), {1}),
    ],
)
def test_a_mapping_selects_what_it_says(store: QdrantClient, where: Any, expected: set[int]) -> None:
    points, _ = store.scroll("c", scroll_filter=compile_filter(where), limit=10)
    assert {int(point.id) for point in points} == expected


@pytest.mark.parametrize(
    "where",
    [
        {"a": []},
        {"a": {"gte": 1, "lt": "x"}},
        {"a": {"around": 1}},
        {"a": [[1]]},
        {"a": {"gte": "2020"}},
        {"a": {"gte": float("inf")}},
        {"a": {"gte": None}},
        {"a": {"not": {"not": 1}}},
        {"a": (each for each in "ab")},
        {"a": object()},
        {"a": {}},
    ],
)
def test_a_wrong_condition_names_its_key(where: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"where\.a: expected"):
        compile_filter(where)


def test_a_filter_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidInput, match="expected a mapping or a qdrant Filter, got list"):
        compile_filter(["lang=zh"])  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.parametrize(
    ("operator", "told"),
    [
        ("$gte", "instead of '\\$gte' say 'gte'"),
        (">=", "instead of '>=' say 'gte'"),
        ("gtee", "instead of 'gtee' say 'gte'"),
        ("$in", "say a list, without an operator"),
        ("ne", "instead of 'ne' say 'not'"),
        ("eq", "say the value itself"),
        ("between", "say 'gte' and 'lte' together"),
        ("contains", "say a qdrant_client.models.Filter"),
        ("page", r"a nested key is written with a dot, as in \{'a.page': …\}"),
    ],
)
def test_operators_of_other_libraries_are_answered_with_ours(operator: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=rf"where\.a: expected.*got.*; .*{told}") as refused:
        compile_filter({"a": {operator: 1}})
    assert refused.value.field == "where.a"


@pytest.mark.parametrize("where", [{"$or": [{"a": 1}, {"b": 2}]}, {"and": {"a": 1}}])
def test_joining_conditions_is_explained(where: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"a mapping means all of its keys.*qdrant_client\.models\.Filter"):
        compile_filter(where)


def test_a_key_that_no_filter_can_name_is_refused() -> None:
    with pytest.raises(InvalidInput, match="expected a key that Qdrant can name, got one with double quotes"):
        compile_filter({'say "hi" now': 1})
