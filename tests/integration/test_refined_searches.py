"""What a search can be told besides its query: in local mode and on the real server alike."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from gristmill import Boost, Chunking, Client, Distance, Document, Hits, InvalidInput, Recency, SearchHit
from places import PLACES, place_of

NOW = datetime(2024, 6, 1, tzinfo=UTC)
LONG = " ".join(f"word{n}" for n in range(60))
DOCUMENTS = [
    Document(
        id=f"d{n}",
        text=f"text number {n}",
        metadata={
            "views": n * 10,
            "lang": ["zh", "en"][n % 2],
            "published": (NOW - timedelta(days=n * 10)).isoformat(),
            "author": {"name": f"author {n}", "age": n},
        },
    )
    for n in range(30)
]
C = "refined"


@pytest.fixture(scope="module", params=PLACES)
def mill(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client whose collection holds the documents above."""
    with Client.embedded(**place_of(request), model="hash:16", threads=4) as client:
        client.create_collection(C, chunking=Chunking(size=16, overlap=4))
        client.enqueue(C, [*DOCUMENTS, Document(id="long", text=LONG)]).wait(60).raise_for_failures()
        yield client
        client.collections.delete(C)


def ids(hits: list[SearchHit]) -> list[str]:
    return [hit.id for hit in hits]


ONES: dict[str, Any] = {"where": {"lang": ["zh", "en"]}, "limit": 30}


# pages


def test_equals_have_one_order_so_that_pages_join_up(mill: Client, collection_name: str) -> None:
    mill.create_collection(collection_name)
    keyword = mill.collections.get(collection_name).keyword
    same = [Document(id=str(n), text=f"the same text {n % 3}", metadata={"n": n % 2}) for n in range(40)]
    mill.enqueue(collection_name, same).wait(60)
    boost = Boost(field="n")
    ways: list[dict[str, Any]] = [
        {},
        {"group_by_document": True},
        {"boost": boost},
        {"boost": boost, "group_by_document": True},
    ]
    if keyword:
        ways += [
            {"mode": "keyword"},
            {"mode": "hybrid"},
            {"mode": "hybrid", "fusion": "dbsf", "group_by_document": True},
        ]
    for way in ways:
        whole = mill.search(collection_name, "same text 1", limit=40, **way)
        for size in (1, 7):
            pages = [
                hit
                for offset in range(0, 40, size)
                for hit in mill.search(collection_name, "same text 1", limit=size, offset=offset, **way)
            ]
            assert ids(pages) == ids(whole), way
            assert [hit.text for hit in pages] == [hit.text for hit in whole]
        assert len(set(ids(whole))) == 40
    many = mill.search_many(collection_name, ["same text 1", "same text 2"], limit=7, offset=7)
    assert ids(many[0]) == ids(mill.search(collection_name, "same text 1", limit=40))[7:14]


# scores


def test_a_threshold_keeps_what_is_better_than_it_by_every_distance(mill: Client, collection_name: str) -> None:
    for distance in Distance:
        name = f"{collection_name}-{distance}"
        mill.create_collection(name, distance=distance)
        mill.enqueue(name, DOCUMENTS[:12]).wait(60)
        for how in ({}, {"group_by_document": True}):
            hits = mill.search(name, "text", limit=12, **how)  # type: ignore[arg-type]  # one of the two
            scores = [hit.score for hit in hits]
            assert scores == sorted(scores, reverse=distance is not Distance.EUCLID)
            least = (scores[4] + scores[5]) / 2
            assert ids(mill.search(name, "text", limit=12, score_threshold=least, **how)) == ids(hits)[:5]  # type: ignore[arg-type]  # as above
        boosted = mill.search(name, "text", limit=12, boost={"where": {"lang": "zh"}, "weight": 1000})
        assert [hit.metadata["lang"] for hit in boosted] == ["zh"] * 6 + ["en"] * 6
        plain = [each for each in ids(hits) if each in ids(boosted)[:6]]
        assert ids(boosted)[:6] == plain, "what is nearer stays before what is farther"
        mill.collections.delete(name)


# payload


def test_hits_bring_the_metadata_that_was_asked_for(mill: Client) -> None:
    whole = mill.search(C, "text number 3", **ONES)
    some = mill.search(C, "text number 3", fields=["lang", "author.name"], **ONES)
    assert ids(some) == ids(whole)
    assert some[0].metadata == {
        "lang": whole[0].metadata["lang"],
        "author": {"name": whole[0].metadata["author"]["name"]},
    }
    assert some[0].text == whole[0].text
    assert mill.search(C, "text number 3", fields=[], **ONES)[0].metadata == {}
    bare = mill.search(C, "text number 3", text=False, **ONES)
    assert (ids(bare), bare[0].text, bare[0].span) == (ids(whole), "", (0, 0))
    assert bare[0].metadata == whole[0].metadata
    grouped = mill.search(C, "text number 3", text=False, fields="lang", group_by_document=True, **ONES)
    assert (grouped[0].text, list(grouped[0].metadata)) == ("", ["lang"])


# chunks


def test_documents_come_with_their_best_chunks(mill: Client) -> None:
    chunks = [hit for hit in mill.search(C, "word7 word8", limit=60) if hit.id == "long"]
    assert len(chunks) > 4
    grouped = mill.search(C, "word7 word8", limit=60, group_by_document=True, chunks_per_document=3)
    (long,) = [hit for hit in grouped if hit.id == "long"]
    assert [(each.chunk, each.text, each.span) for each in long.best_chunks] == [
        (hit.chunk, hit.text, hit.span) for hit in chunks[:3]
    ]
    assert (long.chunk, long.score) == (chunks[0].chunk, chunks[0].score)
    assert all(len(hit.best_chunks) == 1 for hit in grouped if hit.id != "long")


def test_neighbours_of_a_chunk_are_joined_as_they_stand_in_the_document(mill: Client) -> None:
    for how in ({}, {"group_by_document": True, "chunks_per_document": 2}, {"text": False}):
        hits = mill.search(C, "word7 word8", limit=60, context_chunks=1, **how)
        for hit in hits:
            assert hit.passage is not None
            assert hit.passage_span is not None
            start, end = hit.passage_span
            if hit.id == "long":
                assert hit.passage == LONG[start:end]
                assert start <= hit.span[0] < hit.span[1] <= end
                assert (end - start > hit.span[1] - hit.span[0]) is (hit.chunks > 1)
                assert all(each.passage == LONG[slice(*(each.passage_span or ()))] for each in hit.best_chunks)
            else:
                assert hit.passage.startswith("text number")
    whole = [hit for hit in mill.search(C, "word7", limit=60, context_chunks=64) if hit.id == "long"]
    assert {hit.passage for hit in whole} == {LONG}
    assert mill.search(C, "word7")[0].passage is None


# diversity


def test_varied_hits_are_less_alike(mill: Client) -> None:
    plain = mill.search(C, "text number 3", limit=8)
    assert ids(mill.search(C, "text number 3", limit=8, diversity=0)) == ids(plain)
    varied = mill.search(C, "text number 3", limit=8, diversity=0.9)
    assert varied[0] == plain[0]

    def alike(hits: list[SearchHit]) -> float:
        vectors = mill.embed([hit.text for hit in hits], kind="document")
        return float((vectors @ vectors.T).sum() - len(hits))

    assert alike(varied) < alike(plain)
    pages = [
        hit for offset in (0, 3, 6) for hit in mill.search(C, "text number 3", limit=3, offset=offset, diversity=0.9)
    ]
    assert ids(pages)[:8] == ids(varied)
    grouped = mill.search(C, "word7 word8", limit=20, diversity=0.5, group_by_document=True)
    assert len(set(ids(grouped))) == len(grouped) == 20
    assert len(mill.similar(C, "d3", diversity=0.5)) == 10


# boosts


def boosted(mill: Client, *boosts: Any, **how: Any) -> dict[str, float]:
    return {hit.id: hit.score for hit in mill.search(C, "text number 3", boost=boosts, **{**ONES, **how})}


def test_boosts_are_added_to_the_score_or_are_parts_of_it(mill: Client) -> None:
    plain = {hit.id: hit.score for hit in mill.search(C, "text number 3", **ONES)}
    number = {f"d{n}": n for n in range(30)}
    cases: list[tuple[Any, Any]] = [
        (Boost(field="views", weight=0.1), lambda s, n: s + 0.1 * n * 10),
        (Boost(field="author.age", weight=-0.5), lambda s, n: s - 0.5 * n),
        (Boost(field="absent"), lambda s, n: s),
        (Boost(field="views", log=True), lambda s, n: s + math.log(1 + n * 10)),
        (Boost(where={"lang": "en"}, weight=0.3, how="multiply"), lambda s, n: s + abs(s) * 0.3 * (n % 2)),
        (Recency(field="published", half_life=timedelta(days=30), now=NOW), lambda s, n: s + 0.5 ** (n / 3)),
        ({"field": "published", "half_life": "P30D", "now": NOW, "decay": "linear", "weight": 2.0},
         lambda s, n: s + 2 * max(0, 1 - n / 6)),
    ]  # fmt: skip
    for boost, expected in cases:
        found = boosted(mill, boost)
        assert found == pytest.approx({each: expected(score, number[each]) for each, score in plain.items()}, abs=1e-4)
        assert list(found.values()) == sorted(found.values(), reverse=True)
    both = boosted(mill, Boost(field="views", weight=0.1), Boost(where={"lang": "en"}))
    assert both["d7"] == pytest.approx(plain["d7"] + 7 + 1, abs=1e-4)
    hit = mill.search(C, "text", boost=Boost(field="views"), limit=1)[0]
    assert (hit.id, hit.score_kind) == ("d29", "boosted")
    assert ids(mill.similar(C, "d3", boost=Boost(field="views"), limit=2)) == ["d29", "d28"]
    assert ids(mill.recommend(C, "d3", "d4", boost=Boost(field="views"), limit=1, group_by_document=True)) == ["d29"]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"boost": Boost(field="lang")}, r"boost.field: expected a field that holds numbers, got 'lang'.*Boost\(where="),
        ({"boost": [Boost(field="views"), Recency(field="lang", half_life=timedelta(1))]},
         r"boost\[1\].field: expected a field that holds dates .*'lang'"),
        ({"boost": Recency(field="views", half_life=timedelta(1))},
         r"boost.field: expected a field that holds dates .*'views'"),
        ({"boost": [Boost(field="published"), Recency(field="published", half_life=timedelta(1))]}, "and not both"),
        ({"boost": "recent"}, "boost: expected a Boost, a Recency"),
        ({"boost": {"field": "views", "weigth": 2}}, "boost: weigth: expected no field"),
        ({"boost": {"weight": 2}}, "expected field= or where=, one of the two"),
        ({"boost": {"field": "views", "weight": 0}}, "weight: expected another number than 0"),
        ({"boost": {"where": {}}}, "boost.where: expected a filter with at least one condition"),
        ({"boost": {"field": "published", "half_life": -5}}, "half_life: expected"),
        ({"boost": {"field": "published", "half_life": "soon"}}, "half_life: expected"),
        ({"boost": {"field": "_gristmill.version"}}, "is Gristmill's own"),
        ({"diversity": 1.5}, "diversity: expected a number from 0 .* to 1 .*got 1.5"),
        ({"diversity": "much"}, "diversity: expected a number"),
        ({"diversity": 0.5, "mode": "hybrid"}, "diversity: expected None with mode='hybrid'"),
        ({"diversity": 0.5, "mode": "keyword"}, "diversity: expected None with mode='keyword'"),
        ({"diversity": 0.5, "boost": Boost(field="views")}, "diversity: expected None with boost="),
        ({"exact": "yes"}, "exact: expected True or False"),
        ({"exact": True, "ef": 10}, "ef: expected None with exact=True"),
        ({"ef": 0}, "ef: expected an integer from 1"),
        ({"ef": 9, "mode": "keyword"}, "ef: expected None with mode='keyword'"),
        ({"fields": 5}, "fields: expected names of metadata fields"),
        ({"fields": ["_gristmill"]}, r"fields\[0\]: '_gristmill' is Gristmill's own"),
        ({"chunks_per_document": 2}, "chunks_per_document: expected None without group_by_document=True"),
        ({"chunks_per_document": 0, "group_by_document": True}, "chunks_per_document: expected an integer from 1"),
        ({"context_chunks": -1}, "context_chunks: expected an integer from 0"),
        ({"candidates": 50}, "candidates: expected None with mode='dense'"),
        ({"candidates": 5, "diversity": 0.5}, "candidates: expected at least limit"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(mill: Client, how: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        mill.search(C, "text", **how)


# how hard it looks, and what it says of itself


def test_an_exact_search_and_one_with_another_ef_find_the_nearest(mill: Client) -> None:
    query = mill.embed("text number 3", collection=C)
    vectors = mill.embed([each.text for each in DOCUMENTS], collection=C, kind="document")
    nearest = [f"d{n}" for n in np.argsort(-(vectors @ query))]
    for how in ({"exact": True}, {"ef": 512}):
        assert ids(mill.search(C, "text number 3", **ONES, **how)) == nearest


def test_a_search_explains_itself(mill: Client) -> None:
    assert mill.search(C, "text").explanation is None
    hits = mill.search(
        C,
        "text",
        instruction="Find the text",
        where={"lang": "zh"},
        tenant="acme",
        exact=True,
        boost=Boost(field="views"),
        explain=True,
    )
    assert isinstance(hits, Hits)
    told = hits.explanation
    assert hits == []
    assert told is not None
    assert (told.collection, told.mode, told.score_kind, told.candidates) == (C, "dense", "boosted", 200)
    assert told.instruction_text == "Find the text"
    assert "{text}" in str(told.template)
    assert "acme" in str(told.filter)
    local = mill._parts.local
    assert told.query.get("params") == (None if local else {"exact": True})
    assert told.query["prefetch"]["query"][-1] == "… 16 numbers"
    assert set(told.took_ms) == {"encode", "qdrant", "total"}
    assert (told.server_ms is None) is local
    many = mill.search_many(C, ["text", "another"], explain=True, limit=2)
    assert [each.explanation is not None for each in many] == [True, True]
    like = mill.similar(C, "d3", explain=True, context_chunks=1).explanation
    assert like is not None
    assert set(like.took_ms) == {"qdrant", "passages", "total"}
    assert "d3" in str(like.filter)
    assert told.model_dump(mode="json")["mode"] == "dense"
