"""A filter that finds nothing says why, once: the key that is not there, the value of another type."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models

from gristmill import Client, Document

Run = Callable[..., tuple[int, str, str]]

METADATA: dict[str, Any] = {
    "year": "2024", "n": 7, "lang": "zh", "author": {"name": "Li"}, "a.b": 1, "Published Date": "2024-02-29", "tags": ["x"],
}  # fmt: skip


@pytest.fixture
def filled(client: Client, collection_name: str) -> Client:
    documents = [
        Document(id="a", text="ta", metadata=METADATA),
        Document(id="b", text="tb", metadata={"lang": "en", "only_b": 1}, tenant="acme"),
    ]
    client.enqueue(collection_name, documents).wait(60).raise_for_failures()
    return client


def said(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [record.getMessage() for record in caplog.records if "unmatched" in record.name and record.levelno >= level]


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ({"metadata.year": 2024}, "where.metadata.year: no document has this key; did you mean 'year'?"),
        ({"metadata.yaer": 2024}, "where.metadata.yaer: no document has this key; did you mean 'year'?"),
        ({"Lang": "zh"}, "where.Lang: no document has this key; did you mean 'lang'?"),
        ({"published_date": "x"}, "where.published_date: no document has this key; did you mean 'Published Date'?"),
        ({"name": "Li"}, "where.name: no document has this key; did you mean 'author.name'?"),
        ({"a.b": 1}, "where.a.b: no document has this key; did you mean '\"a.b\"'?"),
        ({"id": "a"}, "where.id: no document has this key; ids of documents are not among their metadata"),
        ({"tenant": "acme"}, "where.tenant: no document has this key; tenants are not among the metadata"),
        ({"qqq": 1}, "where.qqq: no document has this key; among those there are: "),
        ({"qqq": 1, "lang": "zh"}, "where.qqq: no document has this key"),
        ({"year": 2024}, "where.year: it asks for numbers, but documents have text there; ask for text, or store numbers"),
        ({"year": {"gte": 2020}}, "where.year: it asks for numbers, but documents have text there"),
        ({"n": "7"}, "where.n: it asks for text, but documents have numbers there"),
        ({"n": ["7", "8"]}, "where.n: it asks for text, but documents have numbers there"),
        ({"author": "Li"}, "where.author: expected a key inside of it, such as 'author.name'"),
        (models.Filter(must=[models.FieldCondition(key="metadata.n", match=models.MatchValue(value=7))]),
         "where.metadata.n: no document has this key; did you mean 'n'?"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_filter_is_named_once(
    filled: Client, collection_name: str, where: Any, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        assert filled.search(collection_name, "t", where=where) == []
        assert filled.count(collection_name, where) == 0
    (sentence,) = said(caplog)
    assert sentence.startswith(f"collection {collection_name!r}: {told}")


def test_deleting_what_no_filter_finds_says_why(
    filled: Client, collection_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert filled.delete_where(collection_name, {"metadata.lang": "zh"}).wait(60).accepted == 0
    assert "did you mean 'lang'?" in said(caplog)[0]


@pytest.mark.parametrize(
    "where",
    [{"lang": "fr"}, {"lang": "zh", "only_b": 1}, {"n": {"gt": 7}}, {"lang": None}, {"n": {"not": 7}, "year": "2024"}],
)
def test_a_filter_that_is_right_and_finds_nothing_warns_nobody(
    filled: Client, collection_name: str, where: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert filled.search(collection_name, "t", where=where) == []
    assert said(caplog) == []


def test_what_there_is_instead_is_said_to_who_wants_to_know(
    filled: Client, collection_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gristmill.search.unmatched")
    assert filled.search(collection_name, "t", where={"lang": "fr"}) == []
    assert filled.search(collection_name, "t", where={"only_b": 1, "year": "2024"}) == []
    assert filled.search(collection_name, "t", where={"lang": "zh"}, tenant="nobody") == []
    values, together, nobody = said(caplog, logging.INFO)
    assert (
        "where.lang: no document has what is asked for here; among what there is: 'zh', 'en'" in values
        or "'en', 'zh'" in values
    )
    assert together.endswith("each condition of where finds documents, all of them together none")
    assert nobody.endswith("it holds no documents of the tenant 'nobody'")


def test_keys_of_other_tenants_are_not_told(
    filled: Client, collection_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert filled.search(collection_name, "t", where={"yaer": 1}, tenant="acme") == []
    assert "year" not in said(caplog)[0].replace("yaer", "")


def test_hits_that_a_threshold_took_away_are_not_the_filters_fault(
    filled: Client, collection_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gristmill.search.unmatched")
    assert filled.search(collection_name, "t", where={"lang": "zh"}, score_threshold=5.0) == []
    assert said(caplog, logging.INFO) == []


def test_the_command_says_it_too(embedded: Path, run: Run) -> None:
    (embedded / "d.jsonl").write_text(
        json.dumps({"id": "a", "text": "t", "year": "2024", "n": 7, "at": "2024-02-29T08:00:00Z"})
    )
    assert run("ingest", "d.jsonl", "-c", "c")[0] == 0
    _, out, err = run("search", "c", "t", "-w", "metadata.year=2024")
    assert ("no hits" in out, "where.metadata.year: no document has this key; did you mean 'year'?" in err) == (
        True,
        True,
    )
    _, out, _ = run("search", "c", "t", "-w", "lang=zh", "--json")
    (note,) = json.loads(out)["notes"]
    assert "where.lang: no document has this key; among those there are: " in note
    for condition in (
        "year=2024",
        "n=7",
        "n!=8",
        "n>=7",
        "n<8",
        'year="2024"',
        "n=[7, 8]",
        "at=2024-02-29",
        "at>2024-01-01",
    ):
        _, out, err = run("search", "c", "t", "-w", condition, "--json")
        assert [hit["id"] for hit in json.loads(out)["hits"]] == ["a"], (condition, err)
    for condition in ("n=8", "n!=7", "n>7", 'n="7"', "at=2024-03-01", "year!=2024"):
        _, out, err = run("search", "c", "t", "-w", condition, "--json")
        assert json.loads(out)["hits"] == [], (condition, err)


@pytest.mark.parametrize("conditions", [["year"], ["=1"], ["n=1", "n=2"], ["n>1", "n>2"]])
def test_a_condition_that_says_nothing_or_says_it_twice_is_refused(
    embedded: Path, run: Run, conditions: list[str]
) -> None:
    code, _, err = run("search", "c", "t", *[part for each in conditions for part in ("-w", each)])
    assert (code, "InvalidInput: where" in err, "expected" in err) == (2, True, True)
