"""Searches by examples, stored documents and texts: in local mode and on the real server alike."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gristmill import AsyncClient, Chunking, Client, Distance, Document, InvalidInput, SearchHit, Strategy
from places import PLACES, place_of

LONG = " ".join(f"word{n}" for n in range(60))
TEXTS = {f"d{n}": f"text number {n}" for n in range(30)}
DOCUMENTS = [
    *[Document(id=id, text=text, metadata={"even": int(id[1:]) % 2 == 0}) for id, text in TEXTS.items()],
    Document(id="long", text=LONG, metadata={"even": True}),
]
C = "examples"


@pytest.fixture(scope="module", params=PLACES)
def mill(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client whose collection holds the documents above, and some of a tenant's with the same ids."""
    with Client.embedded(**place_of(request), model="hash:16", threads=4) as client:
        client.create_collection(C, chunking=Chunking(size=16, overlap=4))
        theirs = [Document(id=f"d{n}", text=f"plan {n}", tenant="acme") for n in range(5)]
        client.enqueue(C, [*DOCUMENTS, *theirs]).wait(60).raise_for_failures()
        yield client
        client.collections.delete(C)


def ids(hits: list[SearchHit]) -> list[str]:
    return [hit.id for hit in hits]


def vectors(client: Client) -> dict[str, Any]:
    found = client.embed(list(TEXTS.values()), collection=C, kind="document")
    return dict(zip(TEXTS, found, strict=True))


def ranked(scores: dict[str, float], *without: str) -> list[str]:
    return sorted((each for each in scores if each not in without), key=lambda each: -scores[each])


ONES: dict[str, Any] = {"where": {"even": [True, False]}, "group_by_document": True}


def test_documents_like_a_stored_one_are_those_nearest_to_its_vector(mill: Client) -> None:
    known = vectors(mill)
    scores = {each: float(known["d3"] @ vector) for each, vector in known.items()}
    hits = [hit for hit in mill.similar(C, "d3", limit=40, **ONES) if hit.id != "long"]
    assert ids(hits) == ranked(scores, "d3")
    assert hits[0].score == pytest.approx(scores[hits[0].id], abs=1e-5)
    assert (hits[0].mode, hits[0].score_kind, hits[0].instruction) == ("dense", "cosine", None)


def test_a_document_in_chunks_is_the_mean_of_them_and_comes_in_none_of_its_own_hits(mill: Client) -> None:
    chunks = mill._parts.store.retrieve(C, mill.receipt(C, "long").point_ids, with_vectors=[""])
    own = [each.vector.get("") if isinstance(each.vector, dict) else each.vector for each in chunks]
    mean = np.mean(np.array(own, dtype=np.float32), axis=0)
    scores = {each: float(mean / np.linalg.norm(mean) @ vector) for each, vector in vectors(mill).items()}
    hits = mill.similar(C, "long", where={"even": [True, False]}, limit=50)
    assert ids(hits) == ranked(scores)
    assert hits[0].score == pytest.approx(max(scores.values()), abs=1e-5)


def test_a_querys_vector_finds_what_its_query_finds(mill: Client) -> None:
    for query in ("text number 3", "plan"):
        vector = mill.embed(query, collection=C)
        found = mill.search(C, query, limit=5, **ONES)
        for given in (vector, vector.tolist(), vector.astype(np.float64)):
            by_vector = mill.search_by_vector(C, given, limit=5, **ONES)
            assert ids(by_vector) == ids(found)
            assert [hit.score for hit in by_vector] == pytest.approx([hit.score for hit in found], abs=1e-6)
    assert mill.tenant("acme").search_by_vector(C, mill.embed("plan 1", collection=C), limit=1)[0].tenant == "acme"


@pytest.mark.parametrize(
    ("vector", "refusal"),
    [
        ([1.0] * 15, "vector: expected 16 numbers, as vectors of collection 'examples' have .* got 15"),
        ([0.0] * 16, "vector: expected a sequence of finite numbers that are not all zero"),
        ([float("nan")] * 16, "vector: expected a sequence of finite numbers"),
        ([1e300] * 16, "vector: expected a sequence of finite numbers"),
        ([[1.0] * 16], "vector: expected a sequence of finite numbers"),
        ("text", "vector: expected a sequence of finite numbers"),
    ],
)
def test_what_can_be_no_vector_of_the_collection_is_refused(mill: Client, vector: Any, refusal: str) -> None:
    with pytest.raises(InvalidInput, match=refusal):
        mill.search_by_vector(C, vector)


def test_similar_keeps_to_filter_limit_offset_threshold_and_documents(mill: Client) -> None:
    every = mill.similar(C, "d3", limit=50, where={"even": True})
    assert all(hit.metadata["even"] for hit in every)
    assert mill.similar(C, "d3", limit=4, offset=3, where={"even": True}) == every[3:7]
    least = every[4].score
    assert [hit.score for hit in mill.similar(C, "d3", where={"even": True}, score_threshold=least - 1e-6)] == [
        hit.score for hit in every[:5]
    ]
    assert ids(every).count("long") > 1
    grouped = mill.similar(C, "d3", limit=50, where={"even": True}, group_by_document=True)
    assert ids(grouped) == list(dict.fromkeys(ids(every)))
    evens: dict[str, Any] = {"where": {"even": True}, "group_by_document": True, "limit": 3}
    pages = [hit for offset in range(0, 20, 3) for hit in mill.similar(C, "d3", offset=offset, **evens)]
    assert ids(pages) == ids(grouped)


def test_a_tenants_examples_are_its_own_and_so_are_the_hits(mill: Client) -> None:
    assert sorted(ids(mill.similar(C, "d1", tenant="acme"))) == ["d0", "d2", "d3", "d4"]
    assert {hit.tenant for hit in mill.recommend(C, ["d1"], ["d2"], tenant="acme")} == {"acme"}
    everywhere = mill.similar(C, "d1", limit=100, group_by_document=True)
    assert ("acme", "d1") in [(hit.tenant, hit.id) for hit in everywhere], "another document of the same id"
    assert (None, "d1") not in [(hit.tenant, hit.id) for hit in everywhere]


@pytest.mark.parametrize(
    ("document_id", "tenant"),
    [("nobody", None), ("d7", "acme"), ("d7", "nobody")],
    ids=["absent", "anothers", "no tenant"],
)
def test_an_example_that_is_not_there_is_named_and_nothing_is_told_of_other_tenants(
    mill: Client, document_id: str, tenant: str | None
) -> None:
    whose = f" of tenant '{tenant}'" if tenant else ""
    told = rf"document_id: expected ids of documents{whose} that collection 'examples' holds, .*not hold: .*'{document_id}';"
    with pytest.raises(InvalidInput, match=told) as refused:
        mill.similar(C, document_id, tenant=tenant)
    assert (refused.value.field, refused.value.collection) == ("document_id", C)
    with pytest.raises(InvalidInput, match=rf"positive\[1\]: '{document_id}', negative: 'x';"):
        mill.recommend(C, ["d1", document_id], "x", tenant=tenant)


def test_examples_are_weighed_by_each_strategy_as_qdrant_says(mill: Client) -> None:
    known = vectors(mill)
    wanted, unwanted = known["d1"] + known["d2"], known["d3"]
    average = wanted / 2 + (wanted / 2 - unwanted)
    summed = {each: float(vector @ wanted - vector @ unwanted) for each, vector in known.items()}
    expected = {
        "average_vector": {each: float(vector @ average) for each, vector in known.items()},
        "sum_scores": summed,
    }
    for strategy, scores in expected.items():
        hits = mill.recommend(C, ["d1", "d2"], ["d3"], strategy=strategy, limit=40, **ONES)
        assert [each for each in ids(hits) if each != "long"] == ranked(scores, "d1", "d2", "d3")
        assert hits[0].score_kind == ("cosine" if strategy == "average_vector" else strategy)
    best = mill.recommend(C, ["d1", "d2"], ["d3"], strategy=Strategy.BEST_SCORE, limit=40, **ONES)
    nearest = {each: max(vector @ known["d1"], vector @ known["d2"]) for each, vector in known.items()}
    good = [each for each in ranked(nearest, "d1", "d2", "d3") if nearest[each] > known[each] @ unwanted]
    assert [each for each in ids(best) if each in good] == good
    assert best[0].score_kind == "best_score"


def test_negative_examples_alone_rank_what_is_unlike_them(mill: Client) -> None:
    for strategy in ("best_score", "sum_scores"):
        hits = mill.recommend(C, [], "d3", strategy=strategy, limit=40, **ONES)
        known = vectors(mill)
        scores = {each: float(-vector @ known["d3"]) for each, vector in known.items()}
        assert next(each for each in ids(hits) if each != "long") == ranked(scores)[0]
    with pytest.raises(InvalidInput, match="positive: expected at least one example with strategy='average_vector'"):
        mill.recommend(C, [], "d3")


def test_a_text_alone_finds_what_a_search_for_it_finds(mill: Client) -> None:
    how: dict[str, Any] = {"instruction": "Find the text", "limit": 5}
    assert mill.recommend(C, {"text": "number 7"}, **how) == mill.search(C, "number 7", **how)
    mixed = mill.recommend(C, ["d1", {"text": "number 7"}, {"id": "d2"}], {"text": "number 9"}, **how)
    assert len(mixed) == 5
    assert not {"d1", "d2"} & set(ids(mixed))
    assert mixed[0].instruction == "Find the text"


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"positive": []}, "positive: expected at least one example"),
        ({"positive": None}, "positive: expected at least one example"),
        ({"positive": 5.5}, r"positive: expected an id, \{'text'"),
        ({"positive": ["d1", None]}, r"positive\[1\]: expected"),
        ({"positive": {"txt": "x"}}, r"positive: expected an id or \{'text': '…'\}, got"),
        ({"positive": [{"text": " "}]}, r"positive\[0\]\.text: expected text"),
        ({"positive": "d1", "negative": b"d2"}, "negative: expected an id"),
        ({"positive": "d1", "strategy": "mean"}, "strategy: expected one of average_vector, best_score, sum_scores"),
        ({"positive": [{"text": str(n)} for n in range(300)]}, "positive: expected at most 256 examples"),
        ({"positive": "d1", "limit": 0}, "limit: expected"),
        ({"positive": {"text": "q"}, "instruction": "faq"}, "instruction: "),
    ],
)
def test_examples_that_are_none_are_refused_by_name(mill: Client, how: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        mill.recommend(C, **how)


def test_nearer_is_better_by_every_distance(mill: Client, collection_name: str) -> None:
    for distance in Distance:
        name = f"{collection_name}-{distance}"
        mill.create_collection(name, distance=distance)
        mill.enqueue(name, DOCUMENTS[:10]).wait(60)
        hits = mill.similar(name, "d3", limit=9)
        scores = [hit.score for hit in hits]
        assert hits[0].score_kind == distance
        assert scores == sorted(scores, reverse=distance is not Distance.EUCLID)
        kept = mill.similar(name, "d3", limit=9, score_threshold=(scores[3] + scores[4]) / 2)
        assert ids(kept) == ids(hits)[:4], "a threshold keeps what is better than it"
        mill.collections.delete(name)


def test_the_async_client_takes_examples_too() -> None:
    async def asked() -> tuple[list[str], list[str]]:
        async with AsyncClient.embedded(model="hash:16") as client:
            await client.create_collection("made")
            await (await client.enqueue("made", [{"id": str(n), "text": f"t {n}"} for n in range(3)])).wait(60)
            return ids(await client.similar("made", "0")), ids(await client.recommend("made", "0", "1"))

    like, recommended = asyncio.run(asked())
    assert (sorted(like), recommended) == (["1", "2"], ["2"])


def test_other_libraries_words_for_it_are_answered_with_ours(mill: Client) -> None:
    call: Any = mill.recommend
    with pytest.raises(TypeError, match="did you mean `positive`"):
        call(C, like=["d1"])
    with pytest.raises(AttributeError, match="did you mean `similar`"):
        mill.more_like_this  # type: ignore[attr-defined]  # noqa: B018  # that is the point
