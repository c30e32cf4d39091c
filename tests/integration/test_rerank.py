"""Reranked searches in one process, in local mode and on the server: order, scores before and after, pages, groups."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from gristmill import AsyncClient, Chunking, Client, Document, EncoderInfo, InvalidInput, NoWorker, SearchMode
from places import PLACES, place_of

QUERY = "refund for a broken mill"
#: How many of the query's five words each has.
TEXTS = {
    "one": "a mill",
    "five": "a broken mill, and a refund for it",
    "none": "zebra",
    "two": "broken mill",
    "same": "mill broken",
}


@pytest.fixture(params=PLACES)
def mill(request: pytest.FixtureRequest, collection_name: str) -> Iterator[Client]:
    with Client.embedded(**place_of(request), model="hash:16", reranker="overlap:40", threads=2) as client:
        client.create_collection(collection_name, chunking=Chunking(size=30, overlap=0))
        documents = [Document(id=name, text=text, metadata={"n": name}) for name, text in TEXTS.items()]
        client.enqueue(collection_name, documents).wait(60).raise_for_failures()
        yield client


def test_hits_come_in_the_rerankers_order_with_both_scores(mill: Client, collection_name: str) -> None:
    found = {hit.id: hit for hit in mill.search(collection_name, QUERY)}
    hits = mill.search(collection_name, QUERY, rerank=True)
    assert hits[0].id == "five"
    assert [hit.score for hit in hits] == pytest.approx([1.0, 0.4, 0.4, 0.4, 0.0])
    for hit in hits:
        assert hit.retrieval_score == pytest.approx(found[hit.id].score)
        assert (hit.score_kind, hit.retrieval_score_kind, hit.reranker) == ("relevance", "cosine", "overlap:40")
        assert not hit.rerank_truncated
    plain = next(iter(found.values()))
    assert (plain.reranker, plain.retrieval_score, plain.score_kind) == (None, None, "cosine")


def test_equal_scores_keep_the_order_in_which_they_were_found(mill: Client, collection_name: str) -> None:
    found = [hit.id for hit in mill.search(collection_name, QUERY) if hit.id in ("one", "two", "same")]
    assert [hit.id for hit in mill.search(collection_name, QUERY, rerank="overlap:40")][1:4] == found


def test_pages_are_cut_out_of_one_order(mill: Client, collection_name: str) -> None:
    whole = [hit.id for hit in mill.search(collection_name, QUERY, rerank=True)]
    pages = [mill.search(collection_name, QUERY, rerank=True, limit=2, offset=offset) for offset in (0, 2, 4, 6)]
    assert [hit.id for page in pages for hit in page] == whole


def test_an_explanation_says_what_reranked_and_what_it_took(mill: Client, collection_name: str) -> None:
    hits = mill.search(collection_name, QUERY, rerank=True, limit=1, explain=True, context_chunks=1)
    assert hits.explanation is not None
    assert (hits.explanation.score_kind, hits.explanation.reranker) == ("relevance", "overlap:40")
    assert list(hits.explanation.took_ms) == ["encode", "qdrant", "rerank", "passages", "total"]
    assert hits[0].passage == hits[0].text
    assert mill.search(collection_name, QUERY, explain=True).explanation.reranker is None  # type: ignore[union-attr]


def test_only_the_best_candidates_are_reranked(mill: Client, collection_name: str) -> None:
    found = [hit.id for hit in mill.search(collection_name, QUERY, limit=3)]
    hits = mill.search(collection_name, QUERY, rerank=True, limit=3, rerank_top=3)
    assert {hit.id for hit in hits} == set(found)


def test_a_threshold_is_about_the_rerankers_score(mill: Client, collection_name: str) -> None:
    assert [hit.id for hit in mill.search(collection_name, QUERY, rerank=True, score_threshold=0.5)] == ["five"]


def test_an_instruction_goes_to_the_reranker_too(mill: Client, collection_name: str) -> None:
    (hit,) = mill.search(collection_name, "refund", rerank=True, instruction="find a zebra", limit=1)
    assert (hit.id, hit.instruction) == ("five", "find a zebra")
    assert hit.score == pytest.approx(0.5)


def test_each_query_of_many_has_its_own_candidates_reranked(mill: Client, collection_name: str) -> None:
    first, second = mill.search_many(collection_name, ["zebra", "refund"], rerank=True, limit=1)
    assert (first[0].id, second[0].id) == ("none", "five")
    assert mill.search_many(collection_name, [], rerank=True) == []


def test_grouped_by_document_each_comes_once_and_pages_go_on(mill: Client, collection_name: str) -> None:
    long = " ".join(["wind and water turn the wheel"] * 20)
    mill.enqueue(collection_name, Document(id="long", text=long)).wait(60).raise_for_failures()
    options = {"group_by_document": True, "rerank": True}
    hits = mill.search(collection_name, "wheel", **options)  # type: ignore[arg-type]  # of several types
    assert hits[0].id == "long"
    assert hits[0].chunks > 1
    assert len({hit.id for hit in hits}) == len(hits) == 6
    later = mill.search(collection_name, "wheel", offset=1, **options)  # type: ignore[arg-type]
    assert [hit.id for hit in later] == [hit.id for hit in hits[1:]]


def test_of_a_long_text_the_hit_says_that_its_end_was_not_read(mill: Client, collection_name: str) -> None:
    query = "wheel " * 20
    mill.enqueue(collection_name, Document(id="long", text="water " * 29)).wait(60).raise_for_failures()
    hits = {hit.id: hit for hit in mill.search(collection_name, query, rerank=True)}
    assert hits["long"].rerank_truncated
    assert not hits["one"].rerank_truncated


def test_nothing_found_is_nothing_to_rerank(mill: Client, collection_name: str) -> None:
    assert mill.search(collection_name, QUERY, rerank=True, where={"n": "nobody"}) == []


def test_words_and_both_lists_can_be_reranked(mill: Client, collection_name: str) -> None:
    for mode, kind in ((SearchMode.KEYWORD, "bm25"), (SearchMode.HYBRID, "rrf")):
        hits = mill.search(collection_name, QUERY, mode=mode, rerank=True, score_threshold=0.3)
        assert hits[0].id == "five"
        assert {hit.retrieval_score_kind for hit in hits} == {kind}
        assert all(hit.score >= 0.3 for hit in hits)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rerank_top": 5}, "rerank_top: expected None without rerank=True, got 5"),
        ({"rerank": True, "rerank_top": 9}, "rerank_top: expected at least limit \\+ offset, which is 10, got 9"),
        ({"rerank": True, "rerank_top": 0}, "rerank_top: expected an integer from 1 to 1000, got 0"),
        ({"rerank": True, "limit": 1001}, "limit: expected limit \\+ offset of at most 1000 with rerank, got 1001"),
        ({"rerank": ""}, "rerank: expected a non-empty id"),
        ({"rerank": 1.5}, "rerank: "),
        ({"rerank": "hash:16"}, "rerank: expected a reranker, got 'hash:16', which embeds texts.*overlap:40"),
    ],
)
def test_wrong_options_are_refused_by_name(
    mill: Client, collection_name: str, options: dict[str, object], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        mill.search(collection_name, QUERY, **options)  # type: ignore[arg-type]  # that is the point


def test_a_reranker_that_nobody_has_announced_is_named_with_those_there_are(mill: Client, collection_name: str) -> None:
    with pytest.raises(
        NoWorker, match=r"no worker has announced the reranker 'other' \(announced: overlap:40\).*--reranker"
    ):
        mill.search(collection_name, QUERY, rerank="other")


def test_a_reranker_is_listed_with_its_task_and_makes_no_collection(mill: Client, collection_name: str) -> None:
    assert {info.model: str(info.task) for info in mill.models.list()} == {
        "hash:16": "embedding", "overlap:40": "reranking",
    }  # fmt: skip
    assert mill.models.reranker().model == "overlap:40"
    with pytest.raises(InvalidInput, match="overlap:40, which is a reranker"):
        mill.create_collection("never", model="overlap:40")


def test_rerank_without_a_reranker_says_how_to_have_one() -> None:
    with Client.embedded(model="hash:16", threads=1) as client:
        client.create_collection("plain")
        with pytest.raises(
            NoWorker, match=r"nobody serves a reranker.*gristmill worker --reranker.*embedded\(reranker"
        ):
            client.search("plain", QUERY, rerank=True)
        with pytest.raises(NoWorker, match="model: nobody serves a reranker"):
            client.rerank(QUERY, ["a"])


def test_texts_from_anywhere_are_put_in_order() -> None:
    with Client.embedded(model="hash:16", reranker="overlap:8", threads=1) as client:
        results = client.rerank("broken mill", ["zebra", {"text": "a broken mill", "id": 7}, "mill", "mill " * 9])
        assert [(each.index, each.score) for each in results] == [(1, 1.0), (2, 0.5), (3, 0.5), (0, 0.0)]
        assert (results[0].text, results[0].metadata) == ("a broken mill", {"id": 7})
        assert [each.truncated for each in results] == [False, False, True, False]
        assert [each.index for each in client.rerank("mill", ["a", "mill"], top=1)] == [1]
        assert client.rerank("mill", []) == []
        assert len(client.rerank("mill", ["mill"] * 600)) == 600
        with pytest.raises(InvalidInput, match=r"documents\[1\]: expected a text, or a mapping"):
            client.rerank("mill", ["a", 5])  # type: ignore[list-item]  # that is the point
        with pytest.raises(InvalidInput, match="documents: expected an iterable"):
            client.rerank("mill", "one text")
        with pytest.raises(InvalidInput, match="query"):
            client.rerank("", ["a"])


async def _ranked() -> list[int]:
    async with AsyncClient.embedded(model="hash:16", reranker="overlap:8", threads=1) as client:
        return [each.index for each in await client.rerank("mill", ["a", "mill"])]


def test_the_async_client_reranks_as_well() -> None:
    assert asyncio.run(_ranked()) == [1, 0]


def test_a_reranker_without_instructions_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unaware(**fields: Any) -> EncoderInfo:
        return EncoderInfo(**fields | {"instruction_aware": False})

    monkeypatch.setattr("gristmill_worker.reranker.overlap.EncoderInfo", unaware)
    with Client.embedded(model="hash:16", reranker="overlap:9", threads=1) as client, caplog.at_level(logging.WARNING):
        for _ in range(2):
            client.rerank("mill", ["a"], instruction="find the mill in it")
    assert caplog.text.count("takes no instructions") == 1
