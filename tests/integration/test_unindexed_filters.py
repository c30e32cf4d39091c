"""A filter on a field without an index says so once, with the command that makes it; strict mode's refusal is a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from qdrant_client import models

from gristmill import Client, InvalidInput
from gristmill.search.unindexed import MANY_POINTS
from places import ways_to
from services import QdrantServer
from wrong_inputs import STRICT_SAID


@pytest.fixture
def mill(request: pytest.FixtureRequest, qdrant_server: QdrantServer) -> Iterator[Client]:
    """A client of the server: over gRPC, or as a test's parameter says."""
    way = ways_to(qdrant_server, getattr(request, "param", "server"))
    with Client.embedded(qdrant_server.url, **way, model="hash:16", threads=2) as client:
        yield client


@pytest.fixture
def small(mill: Client, collection_name: str) -> str:
    """A collection with one document and an index of each kind that is tried."""
    mill.create_collection(collection_name, indexes={"lang": "keyword", "words": "text", "my key": "integer"})
    metadata = {
        "lang": "zh",
        "year": 2024,
        "my key": 1,
        "words": "red green",
        "l": [{"k": 1}],
        "p": {"lat": 1, "lon": 2},
    }
    mill.enqueue(collection_name, {"id": "1", "text": "t", "metadata": metadata}).wait(60).raise_for_failures()
    return collection_name


@pytest.fixture
def large(mill: Client, small: str) -> str:
    """The same with so many points that reading all of them is worth a word."""
    points = [models.PointStruct(id=n, vector=[0.0] * 16, payload={}) for n in range(MANY_POINTS)]
    mill._parts.store.upload_points(small, points, batch_size=MANY_POINTS, wait=True)
    return small


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "gristmill.search.unindexed"]


#: Filters, each on a field of its own, and what makes the index that is missing.
WITHOUT: list[tuple[Any, str]] = [
    ({"year": {"gte": 2020}}, "create {name} year=integer"),
    ({"price": {"gte": 9.5}}, "create {name} price=float"),
    ({"cost": 9.5}, "create {name} cost=float"),
    ({"code": "2024"}, "create {name} code=keyword"),
    ({"seen": True}, "create {name} seen=bool"),
    ({"at": {"gte": "2024-01-01"}}, "create {name} at=datetime"),
    ({"p": {"radius": {"lat": 1, "lon": 2, "meters": 3}}}, "create {name} p=geo"),
    ({"l": {"nested": {"k": 1}}}, "create {name} 'l[].k=integer'"),
    ({"gone": {"missing": True}}, "create {name} gone=keyword"),
    ({"not": {"any": [{"lang": "zh"}, {"n": [1, 2]}]}}, "create {name} n=integer"),
    (models.Filter(should=models.FieldCondition(key="m", range=models.Range(lt=1))), "create {name} m=integer"),
    ({"lang": {"gt": 1}}, "drop {name} lang`, then `gristmill collections index create {name} lang=integer"),
]


def test_a_field_without_a_fitting_index_is_named_once_with_the_command_that_makes_it(
    mill: Client, large: str, caplog: pytest.LogCaptureFixture
) -> None:
    for where, command in WITHOUT:
        caplog.clear()
        mill.count(large, where)
        mill.search(large, "t", where=where)
        (sentence,) = said(caplog)
        assert f"`gristmill collections index {command.format(name=large)}`" in sentence
        assert f"{MANY_POINTS + 1:,} points" in sentence
    caplog.clear()
    for where in (*(where for where, _ in WITHOUT), {"year": 2020.5}, {"lang": True}):
        mill.count(large, where)
    assert said(caplog) == []


def test_a_field_with_the_index_that_a_filter_needs_is_not_named(
    mill: Client, large: str, caplog: pytest.LogCaptureFixture
) -> None:
    mill.indexes.create(large, {"year": "integer", "l[].k": "integer"})
    for where in (
        {"year": {"gte": 1}},
        {"year": 2024},
        {"l": {"nested": {"k": 1}}},
        {"lang": ["zh", "en"]},
        {"my key": 1},
    ):
        mill.count(large, where, tenant="x")
    mill.count(large, {"words": {"text_any": "red blue"}})
    assert said(caplog) == []


def test_a_small_collection_needs_no_index(mill: Client, small: str, caplog: pytest.LogCaptureFixture) -> None:
    mill.count(small, {"year": {"gte": 1}})
    assert said(caplog) == []


def test_words_without_an_index_of_words_are_told_at_any_size(
    mill: Client, small: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert mill.count(small, {"lang": {"text": "zh"}}) == 1
    assert mill.count(small, {"words": {"phrase": "red green"}}) == 0
    without, no_phrases = said(caplog)
    assert "where.lang: words are found by an index of type text" in without
    assert "`phrase` finds nothing by a text index without phrase_matching" in no_phrases
    mill.indexes.drop(small, "words")
    mill.indexes.create(small, {"words": {"type": "text", "phrase_matching": True}})
    assert mill.count(small, {"words": {"phrase": "red green"}}) == 1


@pytest.mark.parametrize("mill", ["server", "rest"], indirect=True)
def test_what_strict_mode_refuses_is_a_wrong_input_with_a_way_out(mill: Client, small: str) -> None:
    strict = models.StrictModeConfig(enabled=True, unindexed_filtering_retrieve=False, filter_max_conditions=5)
    mill._parts.store.update_collection(small, strict_mode_config=strict)
    calls = (
        lambda where: mill.count(small, where),
        lambda where: mill.search(small, "t", where=where),
        lambda where: mill.search_many(small, ["t", "u"], where=where, group_by_document=True),
        lambda where: mill.delete_where(small, where),
    )
    for call in calls:
        with pytest.raises(
            InvalidInput, match=rf"where\.year: .*strict mode, .*`gristmill .* create {small} year=integer`"
        ) as no:
            call({"year": {"gte": 2020}})
        assert (no.value.field, no.value.collection) == ("where.year", small)
        assert f"InvalidInput: {no.value}".replace(small, "docs") == STRICT_SAID
        with pytest.raises(InvalidInput, match="where: expected fewer conditions"):
            call({"all": [{"lang": {"not": str(n)}} for n in range(9)]})
        call({"lang": ["zh", "en"]})


def test_local_mode_has_no_indexes_and_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with Client.embedded(model="hash:16", threads=2) as client:
        client.create_collection("c")
        client.count("c", {"year": {"text": "x"}})
    assert said(caplog) == []
