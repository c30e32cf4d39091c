"""Every filter finds what it says, on local mode and on the real server: compared with a reference in plain Python."""

from __future__ import annotations

import datetime
import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from filter_reference import matches
from gristmill import Client, Document, InvalidInput

_runs = itertools.count()

scalars = st.sampled_from(["a", "b", "", "2024-02-29", "2024-02-29T08:30:00+08:00", "2024-03-01T00:00:00+00:00"])
numbers = st.sampled_from([0, 1, 2, 3, -1, 0.5, 1.5, 0.1, 2**62])
dates = st.sampled_from(
    [
        datetime.date(2024, 2, 29),
        datetime.date(2024, 3, 1),
        datetime.datetime(2024, 2, 29, 0, 30),
        datetime.datetime(2024, 2, 29, 0, 30, tzinfo=datetime.UTC),
        datetime.datetime(2024, 2, 29, 8, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=8))),
    ]
)
values = scalars | numbers | st.booleans()
held = values | st.none() | st.lists(values | st.none(), max_size=3) | st.just({"k": 1})
places = st.builds(
    lambda lat, lon: {"lat": lat, "lon": lon}, st.integers(-2, 2), st.sampled_from([-179, -1, 0, 1, 2, 179])
)
texts = st.lists(st.sampled_from(["red", "Red", "green", "blue"]), min_size=1, max_size=3).map(" ".join)
objects = st.fixed_dictionaries({}, optional={"k": held, "n": numbers})
payloads = st.fixed_dictionaries(
    {},
    optional={
        "a": held,
        "b": held,
        "o": objects,
        "l": st.lists(objects | values, max_size=3),
        "p": places | st.lists(places, max_size=2) | st.just("nowhere"),
        "t": texts | st.none(),
    },
)

BOUND_KEYS = ("gt", "gte", "lt", "lte")
keys = st.sampled_from(["a", "b", "o.k", "o.n"])
small = st.sampled_from([-1, 0, 0.5, 1, 2, 2.5])
moments = dates | st.sampled_from(["2024-02-29", "2024-02-29T00:30:00Z", "2024-03-01"])


def in_order(bounds: dict[str, Any]) -> bool:
    """Whether something may be within the bounds; others are refused."""
    if len(bounds) == 1:
        return True
    try:
        low, high = (
            {_sortable(bounds[name]) for name in names if name in bounds} for names in (("gt", "gte"), ("lt", "lte"))
        )
    except TypeError:
        return False
    return not low or not high or max(low) < min(high)


def _sortable(bound: Any) -> Any:
    return (
        bound
        if isinstance(bound, int | float)
        else f"{bound:%Y-%m-%d}"
        if isinstance(bound, datetime.date)
        else bound[:10]
    )


def bounds_of(edges: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """One or two bounds."""
    return st.dictionaries(st.sampled_from(BOUND_KEYS), edges, min_size=1, max_size=2).filter(in_order)


counts = st.integers(0, 3) | st.dictionaries(st.sampled_from(BOUND_KEYS), st.integers(1, 2), min_size=1, max_size=1)
operators = st.one_of(
    bounds_of(small).map(lambda it: {"between": it}),
    bounds_of(moments).map(lambda it: {"between": it}),
    st.sampled_from(["missing", "null", "empty"]).flatmap(lambda name: st.booleans().map(lambda asked: {name: asked})),
    counts.map(lambda asked: {"count": asked}),
)
plain = values | st.none() | dates | st.lists(values | st.none() | dates, min_size=1, max_size=3)
conditions: st.SearchStrategy[Any] = st.recursive(
    plain | operators,
    lambda inner: st.one_of(
        inner.map(lambda it: {"not": it}),
        st.lists(inner, min_size=1, max_size=2).flatmap(lambda it: st.sampled_from([{"any": it}, {"all": it}])),
        st.tuples(operators, inner).map(lambda both: {**both[0], "not": both[1]}),
    ),
    max_leaves=3,
)
around = st.builds(
    lambda at, meters: {"radius": {**at, "meters": meters}}, places, st.sampled_from([50_000, 180_000, 400_000])
)
boxes = st.sampled_from(
    [
        {"north": 1.5, "south": -0.5, "west": -0.5, "east": 1.5},
        {"north": 2.5, "south": -2.5, "west": 178.5, "east": -178.5},
    ]
).map(lambda box: {"box": box})
SQUARE = [{"lat": lat, "lon": lon} for lat, lon in ((-1.5, -1.5), (-1.5, 2.5), (2.5, 2.5), (2.5, -1.5))]
HOLE = [{"lat": lat, "lon": lon} for lat, lon in ((-0.5, -0.5), (-0.5, 0.5), (0.5, 0.5), (0.5, -0.5))]
polygons = st.sampled_from([{"polygon": SQUARE}, {"polygon": {"exterior": SQUARE, "interiors": [HOLE]}}])
located = around | boxes | polygons
said = st.sampled_from(["text", "text_any", "phrase"]).flatmap(lambda name: texts.map(lambda words: {name: words}))


def joined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Filters of filters."""
    several = st.lists(inner, min_size=1, max_size=2)
    return st.one_of(
        several.map(lambda it: {"any": it}),
        several.map(lambda it: {"all": it}),
        (inner | several).map(lambda it: {"not": it}),
        st.tuples(inner, inner).map(lambda both: {**both[0], **both[1]}),
    )


elements = st.dictionaries(st.sampled_from(["k", "n"]), conditions, min_size=1, max_size=2)
filters: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.one_of(
        st.dictionaries(keys, conditions, min_size=1, max_size=2),
        located.map(lambda it: {"p": it}),
        said.map(lambda it: {"t": it}),
        elements.map(lambda it: {"l": {"nested": it}}),
        st.builds(lambda it: {"l": {"not": {"nested": it}}}, elements),
    ),
    joined,
    max_leaves=3,
)


def written(where: Any) -> Any:
    """As applications write it: bounds stand among the operators."""
    if isinstance(where, list):
        return [written(each) for each in where]
    if not isinstance(where, dict):
        return where
    told = {key: written(value) for key, value in where.items() if key != "between"}
    return told | where.get("between", {})


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(payloads, min_size=15, max_size=25), st.lists(filters, min_size=20, max_size=30))
def test_a_filter_finds_what_the_reference_finds(
    client: Client, indexed: str, metadata: list[dict[str, Any]], asked: list[dict[str, Any]]
) -> None:
    run = next(_runs)
    documents = [Document(id=f"{run}-{n}", text="t", metadata={**each, "run": run}) for n, each in enumerate(metadata)]
    client.enqueue(indexed, documents).wait(60).raise_for_failures()
    for where in asked:
        expected = {each.id for each in documents if matches(where, each.metadata)}
        found = client.search(indexed, "t", where={"all": [{"run": run}, written(where)]}, limit=100)
        assert {hit.id for hit in found} == expected, written(where)


def test_the_deepest_filter_that_is_taken_is_answered(client: Client, collection_name: str) -> None:
    client.enqueue(collection_name, Document(id="a", text="t", metadata={"l": [{"n": 1}]})).wait(
        30
    ).raise_for_failures()
    conditions: Any = 1
    for _ in range(14):
        conditions = {"not": conditions}
    where: Any = {"l": {"nested": {"n": conditions}}}
    assert client.count(collection_name, where) == 1
    nested: Any = {"n": 1}
    for _ in range(15):
        nested = {"l": {"nested": nested}}
    assert client.count(collection_name, nested) == 0
    with pytest.raises(InvalidInput, match="expected at most 16 levels"):
        client.count(collection_name, {"not": nested})


@pytest.fixture
def indexed(client: Client, collection_name: str) -> str:
    """A collection with an index of words: without one each server has a meaning of its own for `text`."""
    client.indexes.create(
        collection_name, {"t": {"type": "text", "tokenizer": "word", "phrase_matching": True}, "b": "keyword"}
    )
    return collection_name
