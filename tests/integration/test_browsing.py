"""Whole documents page by page, and the values of a field: in local mode and on the real server alike."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import Iterator
from typing import Any

import pytest

from gristmill import AsyncClient, Chunking, Client, Document, Facet, InvalidInput
from places import PLACES, place_of

YEARS: list[Any] = [2021, 2019, 2021, 2021, 2020, [2018, 2022], None, "soon", 2021, 2019]
LONG = " ".join(f"word{n}" for n in range(60))
DOCUMENTS = [
    Document(
        id=f"d{n}",
        text=LONG if n == 3 else f"text {n}",
        metadata={
            "year": year,
            "score": n % 3 + 0.1,
            "day": f"2024-01-{n % 4 + 1:02}T12:00:00.25Z",
            "lang": ["zh", "en", "de"][n % 3],
            "tags": ["all", f"t{n % 2}"],
        },
    )
    for n, year in enumerate(YEARS)
]
INDEXES = {"year": "integer", "score": "float", "day": "datetime", "lang": "keyword", "tags": "keyword"}


@pytest.fixture(scope="module", params=PLACES)
def mill(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client whose collection "browsed" holds the documents above, and two of a tenant's."""
    with Client.embedded(**place_of(request), model="hash:16", threads=4) as client:
        client.create_collection("browsed", chunking=Chunking(size=16, overlap=4), indexes=INDEXES)
        others = [Document(id=f"d{n}", text="other", metadata={"lang": "fr"}, tenant="acme") for n in range(2)]
        client.enqueue("browsed", [*DOCUMENTS, *others]).wait(60).raise_for_failures()
        yield client
        client.collections.delete("browsed")


def pages(client: Client, **how: Any) -> list[list[str]]:
    """Ids page by page."""
    found, cursor = [], None
    while True:
        page = client.scroll("browsed", cursor=cursor, **how)
        found.append([each.id for each in page.documents])
        if (cursor := page.cursor) is None:
            return found


def ids(client: Client, **how: Any) -> list[str]:
    return [each for page in pages(client, **how) for each in page]


MINE = {"lang": ["zh", "en", "de"]}


def test_all_documents_come_one_after_the_other_each_once(mill: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gristmill.search.browsing.browser._PAGE", 3)
    assert sorted(each.id for each in mill.documents("browsed", MINE)) == sorted(each.id for each in DOCUMENTS)
    assert [each.id for each in mill.documents("browsed", MINE, order_by="-day")] == ids(
        mill, where=MINE, order_by="-day"
    )
    assert {each.text for each in mill.documents("browsed", tenant="acme")} == {"other"}
    with pytest.raises(InvalidInput, match="where: expected a mapping"):
        mill.documents("browsed", "lang = zh")  # type: ignore[arg-type]  # at the call, before the first document


def test_asyncio_goes_through_all_documents() -> None:
    async def ids_of(count: int) -> list[str]:
        async with AsyncClient.embedded(model="hash:16", threads=2) as client:
            await client.create_collection("c")
            await (await client.enqueue("c", [Document(id=str(n), text="t") for n in range(count)])).wait(60)
            return [each.id async for each in client.documents("c")]

    assert sorted(map(int, asyncio.run(ids_of(130)))) == list(range(130))


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_pages_hold_each_document_once_and_whole(mill: Client, limit: int) -> None:
    found = pages(mill, where=MINE, limit=limit)
    assert sorted(each for page in found for each in page) == sorted(each.id for each in DOCUMENTS)
    assert all(len(page) <= limit for page in found)
    assert [each for page in found for each in page] == ids(mill, where=MINE, limit=100)
    whole = mill.scroll("browsed", {"year": 2021}, limit=4).documents
    assert {each.id: each.text for each in whole}["d3"] == LONG
    assert all(each.whole for each in whole)


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        ("year", [{"d5"}, {"d1", "d9"}, {"d4"}, {"d0", "d2", "d3", "d8"}, {"d6", "d7"}]),
        ("-year", [{"d5"}, {"d0", "d2", "d3", "d8"}, {"d4"}, {"d1", "d9"}, {"d6", "d7"}]),
        ("score", [{"d0", "d3", "d6", "d9"}, {"d1", "d4", "d7"}, {"d2", "d5", "d8"}]),
        ("-day", [{"d3", "d7"}, {"d2", "d6"}, {"d1", "d5", "d9"}, {"d0", "d4", "d8"}]),
    ],
)
def test_a_fields_values_order_the_pages_and_what_has_none_comes_last(
    mill: Client, order_by: str, expected: list[set[str]], limit: int
) -> None:
    found = ids(mill, where=MINE, order_by=order_by, limit=limit)
    assert len(found) == len(DOCUMENTS)
    start = 0
    for group in expected:
        assert set(found[start : start + len(group)]) == group
        start += len(group)
    assert found == ids(mill, where=MINE, order_by=order_by, limit=4), "ties have one order, whatever the pages"


def test_filters_and_tenants_hold_on_every_page(mill: Client) -> None:
    assert sorted(ids(mill, where={"lang": "zh"}, order_by="-year", limit=1)) == ["d0", "d3", "d6", "d9"]
    assert sorted(ids(mill, tenant="acme", limit=1)) == ["d0", "d1"]
    assert sorted(ids(mill, tenant="acme", order_by="year", limit=1)) == ["d0", "d1"]
    assert ids(mill, tenant="nobody") == []
    assert [each.tenant for each in mill.scroll("browsed", tenant="acme").documents] == ["acme", "acme"]


def test_a_cursor_goes_on_in_another_process_and_not_in_another_order(mill: Client) -> None:
    first = mill.scroll("browsed", MINE, limit=3, order_by="year")
    again = json.loads(json.dumps(first.cursor))
    assert [each.id for each in mill.scroll("browsed", MINE, limit=3, order_by="year", cursor=again).documents] == ids(
        mill, where=MINE, order_by="year"
    )[3:6]
    with pytest.raises(InvalidInput, match=r"cursor: expected one of a page with order_by='-year'.*'year'"):
        mill.scroll("browsed", order_by="-year", cursor=first.cursor)
    for nonsense in ("nonsense", "", "bnVsbA==", 5, "WyJ5ZWFyIiwiYXQiLDFlOTk5OTksbnVsbF0="):
        with pytest.raises(InvalidInput, match="cursor: expected"):
            mill.scroll("browsed", order_by="year", cursor=nonsense)  # type: ignore[arg-type]  # that is the point


def test_what_cannot_order_is_refused_with_the_way_out(mill: Client) -> None:
    for wrong in ("", "-", 5, ["year"], "_gristmill.version", 'a"b'):
        with pytest.raises(InvalidInput, match="order_by: ") as refused:
            mill.scroll("browsed", order_by=wrong)  # type: ignore[arg-type]  # that is the point
        assert refused.value.field == "order_by"
    with pytest.raises(InvalidInput, match="limit"):
        mill.scroll("browsed", limit=0)
    if mill.indexes.list("browsed"):
        for field, what in {"lang": "index is of type keyword", "none": "has none"}.items():
            with pytest.raises(InvalidInput, match=rf"order_by: .*{what}.*index create browsed {field}=integer"):
                mill.scroll("browsed", order_by=field)


def test_facets_count_documents_and_not_their_chunks(mill: Client) -> None:
    assert mill.collections.count("browsed") > len(DOCUMENTS) + 2
    assert mill.facets("browsed", "lang") == [
        Facet(value="zh", count=4),
        Facet(value="de", count=3),
        Facet(value="en", count=3),
        Facet(value="fr", count=2),
    ]
    assert mill.facets("browsed", "tags", limit=1) == [Facet(value="all", count=10)]
    assert mill.facets("browsed", "year", {"lang": "zh"}) == [Facet(value=2021, count=2), Facet(value=2019, count=1)]


def test_facets_stay_within_filter_and_tenant(mill: Client) -> None:
    assert mill.facets("browsed", "lang", tenant="acme") == [Facet(value="fr", count=2)]
    assert mill.facets("browsed", "lang", {"year": 2020}) == [Facet(value="en", count=1)]
    assert mill.facets("browsed", "lang", tenant="nobody") == []


def test_a_field_that_nothing_counts_is_refused_with_the_way_out(mill: Client) -> None:
    with pytest.raises(InvalidInput, match="field: '_gristmill' is Gristmill's own"):
        mill.facets("browsed", "_gristmill.tenant")
    with pytest.raises(InvalidInput, match="limit"):
        mill.facets("browsed", "lang", limit=0)
    if mill.indexes.list("browsed"):
        for field in ("score", "day", "none"):
            with pytest.raises(
                InvalidInput, match=rf"field: .*keyword.*index create browsed {field}=keyword"
            ) as refused:
                mill.facets("browsed", field)
            assert refused.value.field == "field"


def test_documents_that_come_and_go_meanwhile_leave_the_others_in_their_place(
    mill: Client, collection_name: str
) -> None:
    mill.create_collection(collection_name, indexes={"n": "integer"})
    mill.enqueue(
        collection_name, [Document(id=str(n), text=f"text {n}", metadata={"n": n // 2}) for n in range(8)]
    ).wait(60)
    page = mill.scroll(collection_name, limit=3, order_by="n")
    mill.delete(collection_name, page.documents[0].id).wait(60)
    mill.enqueue(collection_name, Document(id="new", text="text", metadata={"n": -1})).wait(60)
    rest = mill.scroll(collection_name, limit=9, order_by="n", cursor=page.cursor)
    assert {each.id for each in (*page.documents, *rest.documents)} == {str(n) for n in range(8)}
    assert len(rest.documents) == 5


def test_the_async_client_looks_through_a_collection_too() -> None:
    async def asked() -> tuple[int, list[Facet]]:
        async with AsyncClient.embedded(model="hash:16") as client:
            await client.create_collection("made")
            job = await client.enqueue("made", [Document(id=str(n), text="t", metadata={"k": n}) for n in range(3)])
            await job.wait(60)
            return len((await client.scroll("made", order_by="k")).documents), await client.facets("made", "k", limit=1)

    assert asyncio.run(asked()) == (3, [Facet(value=0, count=1)])


def test_dates_of_python_order_like_their_text(mill: Client, collection_name: str) -> None:
    mill.create_collection(collection_name, indexes={"on": "datetime"})
    days = [datetime.date(2024, 1, 3), datetime.datetime(2024, 1, 2, 5, tzinfo=datetime.UTC), "2024-01-01"]
    mill.enqueue(
        collection_name, [Document(id=str(n), text=f"t{n}", metadata={"on": day}) for n, day in enumerate(days)]
    ).wait(60)
    page = mill.scroll(collection_name, limit=2, order_by="on")
    assert [each.id for each in page.documents] == ["2", "1"]
    assert [each.id for each in mill.scroll(collection_name, order_by="on", cursor=page.cursor).documents] == ["0"]


def test_where_tenants_are_kept_apart_pages_and_facets_name_one(mill: Client, collection_name: str) -> None:
    mill.create_collection(collection_name, tenants=True, indexes={"k": "keyword"})
    for call in (lambda: mill.scroll(collection_name), lambda: mill.facets(collection_name, "k")):
        with pytest.raises(InvalidInput, match="tenant: expected one"):
            call()
    assert mill.facets(collection_name, "k", tenant="acme") == []
