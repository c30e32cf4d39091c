"""Plain mappings become Qdrant filters, and a wrong one says which key and what was expected."""

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import QdrantClient, models

from gristmill import Conditions, InvalidInput, Operators
from gristmill.cli.search import parse_where
from gristmill.search.filters import compile_filter
from gristmill.search.filters.fields import uses
from gristmill.search.filters.grammar import OPERATORS
from gristmill.store.paths import parts_of

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
        (models.FieldCondition(key="n", match=models.MatchValue(value=1)), {1}),
        ({"n": models.Range(gte=3)}, {3}),
        ({"lang": models.MatchAny(any=["de"])}, {2}),
        ({"any": [{"lang": "de"}, models.FieldCondition(key="n", match=models.MatchValue(value=1))]}, {1, 2}),
        ({"lang": {"not": {"not": "zh"}}}, {0, 3}),
        ({"n": {"gte": 1, "not": 2}}, {1, 3}),
        ({"n": {"any": [{"lt": 1}, 2, {"gt": 2}]}}, {0, 2, 3}),
        ({"tags": {"all": ["a", "b"]}}, {0}),
        ({"any": [{"lang": "de"}, {"seen": False, "n": {"lt": 2}}]}, {1, 2}),
        ({"not": {"lang": "zh", "seen": True}}, {1, 2, 3}),
        ({"not": [{"lang": "zh"}, {"n": 1}]}, {2}),
        ({"all": [{"n": {"gte": 1}}, {"n": {"lt": 3}}], "lang": "de"}, {2}),
        ({"gone": {"missing": True}}, {0, 1}),
        ({"gone": {"null": True}}, {2}),
        ({"gone": {"empty": True}}, {0, 1, 2}),
        ({"gone": {"missing": False}}, {2, 3}),
        ({"tags": {"count": 1}}, {1, 3}),
        ({"tags": {"count": {"lt": 2}}}, {1, 2, 3}),
        ({"at": {"lte": "2025-06-01"}}, {0, 1}),
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
        {"a": {"gte": 5, "lt": 5}},
        {"a": {"gt": 5, "lte": 4}},
        {"a": {"gte": "2025-01-01", "lt": "2024-01-01"}},
        {"a": {"gte": True}},
        {"a": {"gte": float("nan")}},
        {"a": {"gte": 2**63}},
        {"a": 2**63},
        {"a": b"bytes"},
        {"a": [{"gte": 1}]},
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
        ("contains", "say 'text' for words of a text, and for an item of a list the item itself"),
        ("$elemMatch", "say 'nested'"),
        ("$exists", "say 'missing', with True or False"),
        ("$size", "say 'count'"),
        ("$regex", "say 'text', which finds words"),
        ("geo_radius", "say 'radius'"),
        ("$or", "say 'any'"),
        ("page", r"a nested key is written with a dot, as in \{'a.page': …\}"),
    ],
)
def test_operators_of_other_libraries_are_answered_with_ours(operator: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=rf"where\.a: expected.*got.*; .*{told}") as refused:
        compile_filter({"a": {operator: 1}})
    assert refused.value.field == "where.a"


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ({"$or": [{"a": 1}, {"b": 2}]}, r"if '\$or' shall join filters, that is 'any' with a list of filters"),
        ({"and": {"a": 1}}, "that is 'all' with a list of filters"),
        ({"must_not": [{"a": 1}]}, "that is 'not' with a filter or a list of them"),
        ({"any": {"a": 1}}, r"where\.any: expected a list of filters, got \{'a': 1\}"),
        (
            {"all": ["a"]},
            r"where\.all\[0\]: expected a mapping .*, got 'a'; .* a key .* called all goes into double quotes",
        ),
        ({"not": 3}, r"where\.not: expected a mapping .*, got 3"),
        ({"any": []}, r"where\.any: expected a list with at least one item"),
        ({"any": [{"a": 1}, {}]}, r"where\.any\[1\]: expected a filter with at least one condition"),
        ({"any": [{"a": 1}, {"b": {"gt": "x"}}]}, r"where\.any\[1\]\.b: expected bounds"),
        ({"not": {"a": {"nested": {"b": {"gt": None}}}}}, r"where\.not\.a\.nested\.b: expected bounds"),
    ],
)
def test_joining_filters_is_explained(where: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        compile_filter(where)


def test_a_filter_in_itself_ends_in_a_sentence() -> None:
    where: dict[str, Any] = {}
    where["not"] = where
    with pytest.raises(InvalidInput, match="expected at most 16 levels"):
        compile_filter(where)
    of_a_field: dict[str, Any] = {}
    of_a_field["not"] = of_a_field
    with pytest.raises(InvalidInput, match="expected at most 16 levels"):
        compile_filter({"a": of_a_field})


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ({"text": ""}, r"where\.a\.text: expected text with at least one word, got ''"),
        ({"phrase": "?!"}, r"where\.a\.phrase: expected text with at least one word, got '\?!'"),
        ({"missing": "yes"}, r"where\.a\.missing: expected True or False, got 'yes'"),
        ({"null": 1}, r"where\.a\.null: expected True or False, got 1"),
        ({"count": -1}, r"where\.a\.count: expected a number of items, or bounds of it .*, got -1"),
        ({"count": {"gt": 2, "lt": 3}}, r"where\.a\.count: expected bounds with a number in between"),
        ({"count": True}, r"where\.a\.count: expected a number of items"),
        (
            {"radius": {"lat": 91, "lon": 0, "meters": 1}},
            r"where\.a\.radius: lat: expected a number from -90 to 90, got 91",
        ),
        ({"radius": {"lat": 1, "lon": 0, "meters": 0}}, r"where\.a\.radius: expected meters above 0, got 0"),
        ({"radius": {"lat": 1, "lon": 0, "km": 1}}, r"where\.a\.radius: expected \{'lat': .*'meters': 500\}, got"),
        ({"box": [1, 2, 3, 4]}, r"where\.a\.box: expected \{'north': .*, got \[1, 2, 3, 4\]"),
        ({"box": {"north": 1, "south": 2, "west": 0, "east": 1}}, r"where\.a\.box: expected north above south"),
        ({"polygon": [{"lat": 1, "lon": 1}]}, r"where\.a\.polygon: expected a list of at least three places"),
        ({"polygon": [(1, 2), (3, 4), (5, 6)]}, r"where\.a\.polygon: \[0\]: .*which of two numbers is the latitude"),
        ({"nested": [1]}, r"where\.a\.nested: expected a mapping"),
        ({"any": 1}, r"where\.a\.any: expected a list of conditions, got 1"),
        ({"not": []}, r"where\.a\.not: expected a list with at least one item"),
    ],
)
def test_a_wrong_operand_is_named_with_its_operator(condition: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        compile_filter({"a": condition})


@pytest.mark.parametrize("key", ["_gristmill", "_gristmill.tenant", '"_gristmill".id', "_gristmill[].id"])
def test_a_key_of_our_own_is_out_of_reach(key: str) -> None:
    for where in ({key: 1}, {"any": [{"a": 1}, {key: {"not": 1}}]}, {"not": {key: None}}):
        with pytest.raises(InvalidInput, match="expected a key of the metadata, got '_gristmill', which is"):
            compile_filter(where)


names = st.text('_gristml."[]0 a', max_size=14) | st.sampled_from(
    ["_gristmill", '"_gristmill"', "a", "all", "any", "not"]
)
anything = st.recursive(
    st.none() | st.integers() | names,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names | st.sampled_from(OPERATORS), inner, max_size=2),
    max_leaves=6,
)


@given(st.dictionaries(names, anything, max_size=2))
def test_no_mapping_reaches_a_key_of_our_own(where: dict[str, Any]) -> None:
    try:
        compiled = compile_filter(where)
    except InvalidInput:
        return
    assert [use.field for use in uses(compiled) if parts_of(use.field)[:1] == ["_gristmill"]] == []


def test_an_empty_filter_of_qdrants_is_no_condition() -> None:
    assert compile_filter(models.Filter()) is None
    assert compile_filter(models.Filter(must=[models.Filter(should=[])])) is None


def test_a_key_that_no_filter_can_name_is_refused() -> None:
    with pytest.raises(InvalidInput, match="expected a key that Qdrant can name, got one with double quotes"):
        compile_filter({'say "hi" now': 1})


def test_a_filter_that_is_written_out_is_checked_by_type_checkers() -> None:
    where: Conditions = {
        "lang": ["zh", "en"],
        "year": {"gte": 2020, "not": {"any": [2021, {"gt": datetime.date(2024, 2, 29)}]}},
        "any": [{"tag": {"all": ["a", "b"]}}, {"shop": {"radius": {"lat": 52.5, "lon": 13.4, "meters": 500}}}],
        "authors": {"nested": {"name": "Li", "age": {"lt": 50}}},
    }
    assert compile_filter(where) is not None
    operators: Operators = {"grater": 1}  # type: ignore[typeddict-unknown-key]  # the mistake under test
    with pytest.raises(InvalidInput, match="instead of 'grater' say"):
        compile_filter({"year": operators})


@pytest.mark.parametrize(
    ("written", "where"),
    [
        (['{"any": [{"lang": "zh"}, {"n": 1}]}'], {"all": [{"any": [{"lang": "zh"}, {"n": 1}]}]}),
        (['{"lang": "zh"}', "seen=x", "n>=1"], {"all": [{"lang": "zh"}, {"seen": "x", "n": {"gte": 1}}]}),
        (['any=[{"lang": "zh"}]', 'tags={"all": ["a"]}'], {"any": [{"lang": "zh"}], "tags": {"all": ["a"]}}),
        (["n>=1", "n<3"], {"n": {"gte": 1, "lt": 3}}),
        ([], None),
    ],
)
def test_the_command_line_takes_conditions_and_whole_filters(written: list[str], where: Any) -> None:
    assert parse_where(written) == where


def test_a_filter_that_is_no_json_is_shown_with_where_it_breaks() -> None:
    with pytest.raises(InvalidInput, match=r"where: expected a filter as JSON, got '\{\"a\": zh\}': Expecting value"):
        parse_where(['{"a": zh}'])
