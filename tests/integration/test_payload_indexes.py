"""Indexes over the user's own metadata: made with the collection and later, used by filters; wrong ones are refused."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import models

import fuzzing
from gristmill import Client, CollectionConflict, GristmillError, InvalidInput, StoreRefused
from gristmill.store.indexes import asked_indexes
from places import ways_to
from services import QdrantServer

Run = Callable[..., tuple[int, str, str]]
#: A field of each type, with a value of it.
EVERY: dict[str, Any] = {
    "keyword": "zh",
    "integer": 2024,
    "float": 1.5,
    "bool": True,
    "datetime": "2024-02-29T08:30:00Z",
    "uuid": str(uuid.UUID(int=7)),
    "geo": {"lon": 8.5, "lat": 47.4},
    "text": "words of a text",
}


@pytest.fixture
def mill(qdrant_server: QdrantServer) -> Iterator[Client]:
    with Client.embedded(qdrant_server.url, **ways_to(qdrant_server), model="hash:16", threads=2) as client:
        yield client


def told(client: Client, name: str) -> dict[str, tuple[str, int]]:
    return {each.field: (each.type, each.points) for each in client.indexes.list(name)}


def test_every_type_is_made_with_the_collection_and_indexes_what_is_stored(mill: Client, collection_name: str) -> None:
    mill.create_collection(collection_name, indexes={f"a_{kind}": kind for kind in EVERY})
    document = {"id": "1", "text": "t", "metadata": {f"a_{kind}": value for kind, value in EVERY.items()}}
    mill.enqueue(collection_name, document).wait(60).raise_for_failures()
    assert told(mill, collection_name) == {f"a_{kind}": (kind, 1) for kind in sorted(EVERY)}
    info = mill._parts.store.get_collection(collection_name)
    assert {path: index.data_type.value for path, index in info.payload_schema.items() if path[0] == "a"} == {
        f"a_{kind}": kind for kind in EVERY
    }


def test_filters_use_them_which_a_server_in_strict_mode_requires(mill: Client, collection_name: str) -> None:
    mill.create_collection(collection_name, indexes={"lang": "keyword"})
    metadata = {"lang": "zh", "author": {"name": "Li"}, "No.": 1, "published on": "2024-02-29"}
    mill.enqueue(collection_name, {"id": "1", "text": "t", "metadata": metadata}).wait(60)
    strict = models.StrictModeConfig(enabled=True, unindexed_filtering_retrieve=False)
    mill._parts.store.update_collection(collection_name, strict_mode_config=strict)
    assert mill.count(collection_name, {"lang": "zh"}) == 1
    later = {"author.name": "keyword", "No.": "integer", "published on": "datetime"}
    wheres: list[dict[str, Any]] = [{"author.name": "Li"}, {"No.": {"gte": 1}}, {"published on": {"gte": "2024-01-01"}}]
    for where in wheres:
        with pytest.raises((GristmillError, StoreRefused), match=r"[Ii]ndex"):
            mill.count(collection_name, where)
    mill.indexes.create(collection_name, later)
    assert [mill.count(collection_name, where) for where in wheres] == [1, 1, 1]
    assert [hit.id for hit in mill.search(collection_name, "t", where={"author.name": "Li"})] == ["1"]


def test_options_are_given_as_a_mapping_or_as_qdrants_own_models(mill: Client, collection_name: str) -> None:
    text = models.TextIndexParams(type=models.TextIndexType.TEXT, tokenizer=models.TokenizerType.MULTILINGUAL)
    mill.create_collection(
        collection_name, indexes={"body": text, "year": {"type": "integer", "range": True, "lookup": False}}
    )
    body, year = mill.indexes.get(collection_name, "body"), mill.indexes.get(collection_name, "year")
    assert (body.type, body.options["tokenizer"]) == ("text", "multilingual")
    assert (year.type, year.options) == ("integer", {"range": True, "lookup": False})
    assert len(mill.indexes.create(collection_name, {"body": text, "year": "integer"})) == 2, (
        "as they are: nothing to do"
    )


def test_another_index_on_the_same_field_is_a_conflict_and_replaces_nothing(mill: Client, collection_name: str) -> None:
    mill.create_collection(collection_name, indexes={"year": "integer"})
    for make in (
        lambda: mill.indexes.create(collection_name, {"new": "keyword", "year": "keyword"}),
        lambda: mill.create_collection(collection_name, indexes={"new": "keyword", "year": "keyword"}),
    ):
        with pytest.raises(CollectionConflict, match=r"type integer, asked for keyword; drop it first") as refused:
            make()
        assert refused.value.field == "indexes.year"
    assert told(mill, collection_name) == {"year": ("integer", 0)}
    assert mill.indexes.drop(collection_name, "year") == 1
    mill.indexes.create(collection_name, {"year": "keyword"})
    assert told(mill, collection_name) == {"year": ("keyword", 0)}


def test_those_that_are_missing_are_made_in_an_existing_collection(mill: Client, collection_name: str) -> None:
    mill.create_collection(collection_name, indexes={"lang": "keyword"})
    mill.create_collection(collection_name, indexes={"lang": "keyword", "year": "integer"})
    assert set(told(mill, collection_name)) == {"lang", "year"}


def test_one_that_is_not_there_is_named_beside_those_that_are(mill: Client, collection_name: str) -> None:
    mill.create_collection(collection_name, indexes={"lang": "keyword"})
    with pytest.raises(InvalidInput, match=r"'year' has no index .* those that have: lang"):
        mill.indexes.get(collection_name, "year")
    assert mill.indexes.drop(collection_name, ["year", "lang", "lang"]) == 1
    assert told(mill, collection_name) == {}


@pytest.mark.server
def test_the_command_line_makes_lists_and_drops_them(
    run: Run, qdrant_server: QdrantServer, collection_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRISTMILL_EMBEDDED_PATH", qdrant_server.url)
    monkeypatch.setenv("GRISTMILL_QDRANT_GRPC_PORT", str(qdrant_server.grpc_port))
    monkeypatch.setenv("GRISTMILL_MODEL", "hash:16")
    assert run("collections", "create", collection_name, "--index", "lang=keyword", "--json")[0] == 0
    code, out, _ = run("collections", "index", "create", collection_name, "year=integer", "a=b=bool", "--json")
    assert code == 0
    assert {each["field"]: each["type"] for each in json.loads(out)["indexes"]} == {
        "lang": "keyword",
        "year": "integer",
        '"a=b"': "bool",
    }
    code, out, _ = run("collections", "index", "list", collection_name)
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [
        ['"a=b"', "bool"],
        ["lang", "keyword"],
        ["year", "integer"],
    ]
    code, out, _ = run("collections", "index", "drop", collection_name, "year", "lang", "--json")
    assert (code, json.loads(out)["dropped"]) == (0, 2)
    code, _, err = run("collections", "index", "create", collection_name, "lang")
    assert (code, "expected FIELD=TYPE, such as lang=keyword, got 'lang'" in err) == (2, True)


def test_local_mode_says_that_it_has_none(caplog: pytest.LogCaptureFixture) -> None:
    with Client.embedded(model="hash:16") as client, caplog.at_level(logging.WARNING):
        client.create_collection("c", indexes={"lang": "keyword"})
        assert client.indexes.create("c", {"year": "integer"}) == []
        assert client.indexes.drop("c", "year") == 0
        with pytest.raises(InvalidInput, match="those that have: none"):
            client.indexes.get("c", "year")
    assert "local mode has no indexes" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"year": "int"}, r"indexes\.year: expected one of keyword, integer.* got 'int'; did you mean 'integer'\?"),
        ({"year": "intger"}, r"did you mean 'integer'\?"),
        ({"lang": "string"}, r"did you mean 'keyword'\?"),
        ({"year": 5}, "got 5"),
        ({"year": None}, "got None"),
        ({"year": {"tokenizer": "word"}}, r"indexes\.year: expected one of"),
        (
            {"year": {"type": "integer", "tokenizer": "word"}},
            "integer has no option 'tokenizer'; expected lookup, range",
        ),
        ({"body": {"type": "text", "tokenizer": "chinese"}}, r"indexes\.body: tokenizer"),
        ({"_gristmill.id": "keyword"}, "Gristmill's own"),
        ({"": "keyword"}, "non-empty"),
        ({'a"b': "keyword"}, "double quotes"),
        ({7.5: "keyword"}, "7.5"),
        ("lang", r"indexes: expected a mapping of fields to types, such as"),
        (["lang"], r"indexes: expected a mapping"),
    ],
)
def test_what_is_no_index_is_refused_by_a_sentence_before_anything_is_made(wrong: Any, sentence: str) -> None:
    with Client.embedded(model="hash:16") as client:
        with pytest.raises(InvalidInput, match=sentence) as refused:
            client.create_collection("c", indexes=wrong)
        assert (refused.value.field or "").startswith("indexes")
        assert client.collections.list() == []


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=12) | st.integers(),
        st.none()
        | st.integers()
        | st.text(max_size=8)
        | st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=2),
        max_size=3,
    )
)
def test_whatever_is_asked_for_is_taken_or_refused_by_a_sentence(indexes: dict[Any, Any]) -> None:
    said = "taken"
    try:
        asked_indexes(indexes)
    except InvalidInput as refused:
        said = str(refused)
    assert said == "taken" or fuzzing.not_a_sentence(said) is None
