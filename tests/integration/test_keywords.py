"""Searches by words and by both lists fused, on the real server over gRPC and over REST, and in local mode."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from math import inf
from statistics import mean
from typing import Any

import pytest

from gristmill import (
    AsyncClient,
    Chunking,
    Client,
    CollectionConflict,
    Document,
    InvalidInput,
    SearchHit,
    SearchMode,
    SpaceMismatch,
)
from gristmill.evaluation import sets
from places import PLACES, place_of, ways_to
from services import QdrantServer

WORDLESS = ["。。。", "😀", "!?"]
DOCUMENTS = [
    Document(id="zh", text="型号 XJ-2000A 的保修期是两年", metadata={"lang": "zh"}),
    Document(id="en", text="The pump GX-983/B has a warranty of two years", metadata={"lang": "en"}),
    Document(id="number", text="订单号4711-0815已于2024年发货", metadata={"lang": "zh"}),
    *[
        Document(id=f"other-{n}", text=f"别的产品说明第{n}号 another product", metadata={"lang": "zh"})
        for n in range(80)
    ],
    *[Document(id=f"wordless-{n}", text=text) for n, text in enumerate(WORDLESS)],
]


@pytest.fixture(scope="module", params=PLACES)
def mill(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client whose collection "keywords" holds the documents above; its model is a hash, and knows no meaning."""
    with Client.embedded(**place_of(request), model="hash:16", threads=4) as client:
        client.create_collection("keywords", chunking=Chunking(size=16, overlap=4))
        client.enqueue("keywords", DOCUMENTS).wait(60).raise_for_failures()
        yield client
        client.collections.delete("keywords")


@pytest.fixture
def place(qdrant_server: QdrantServer) -> dict[str, Any]:
    return {"path": qdrant_server.url, **ways_to(qdrant_server)}


@pytest.fixture(params=PLACES)
def client(request: pytest.FixtureRequest, collection_name: str) -> Iterator[Client]:
    with Client.embedded(**place_of(request), model="hash:16", threads=4) as mill:
        yield mill


def ids(hits: list[SearchHit]) -> list[str]:
    return [hit.id for hit in hits]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("XJ-2000A", "zh"),
        ("xj-2000a 保修", "zh"),
        ("ＸＪ－２０００Ａ", "zh"),
        ("GX-983/B", "en"),
        ("4711-0815", "number"),
        ("0815", "number"),
        ("2024", "number"),
    ],
)
def test_an_exact_code_is_found_by_its_words(mill: Client, query: str, found: str) -> None:
    assert ids(mill.search("keywords", query, mode="keyword", limit=5))[0] == found
    assert found in ids(mill.search("keywords", query, mode="hybrid", limit=5))
    assert found in ids(mill.search("keywords", query, mode="hybrid", fusion="dbsf", limit=51))


def test_hits_say_what_ranked_them_and_what_their_score_is(mill: Client) -> None:
    ways: list[dict[str, Any]] = [{}, {"mode": "keyword"}, {"mode": "hybrid"}, {"mode": "hybrid", "fusion": "dbsf"}]
    found = [mill.search("keywords", "XJ-2000A", limit=3, instruction="Find the product", **way)[0] for way in ways]
    assert [(hit.mode, hit.score_kind) for hit in found] == [
        ("dense", "cosine"),
        ("keyword", "bm25"),
        ("hybrid", "rrf"),
        ("hybrid", "dbsf"),
    ]
    assert [hit.instruction for hit in found] == ["Find the product", None, "Find the product", "Find the product"]


def test_filters_hold_for_both_lists(mill: Client) -> None:
    for mode in SearchMode:
        hits = mill.search("keywords", "XJ-2000A GX-983/B", where={"lang": "en"}, mode=mode, limit=50)
        assert ids(hits) == ["en"]


def test_many_queries_are_asked_at_once_in_every_mode(mill: Client) -> None:
    for mode in ("keyword", "hybrid"):
        zh, en = mill.search_many("keywords", ["XJ-2000A", "GX-983/B"], mode=mode, limit=5)
        assert "zh" in ids(zh)
        assert "en" in ids(en)
    assert mill.search_many("keywords", [], mode="hybrid") == []


def test_pages_of_a_fused_list_join_up(mill: Client) -> None:
    whole = mill.search("keywords", "产品 XJ-2000A", mode="hybrid", limit=20, candidates=40)
    pages = [
        hit
        for offset in (0, 10)
        for hit in mill.search("keywords", "产品 XJ-2000A", mode="hybrid", limit=10, offset=offset, candidates=40)
    ]
    assert [hit.score for hit in pages] == [hit.score for hit in whole]


def test_a_text_without_words_is_stored_and_found_by_its_vector(mill: Client) -> None:
    for number, text in enumerate(WORDLESS):
        assert mill.search("keywords", text, limit=1)[0].id == f"wordless-{number}"
        assert mill.search("keywords", text, mode="keyword") == []
        assert mill.search("keywords", text, mode="hybrid", limit=1)[0].id == f"wordless-{number}"


@pytest.mark.parametrize("mill", ["server", "rest"], indirect=True)
def test_a_search_for_words_needs_no_model(mill: Client, place: dict[str, Any]) -> None:
    with Client.embedded(**place, model="hash:32") as without:
        assert ids(without.search("keywords", "XJ-2000A", mode="keyword"))[:1] == ["zh"]
        with pytest.raises(SpaceMismatch):
            without.search("keywords", "XJ-2000A", mode="hybrid")


def test_each_chunk_has_its_own_words_and_documents_are_grouped(client: Client, collection_name: str) -> None:
    client.create_collection(collection_name, chunking=Chunking(size=16, overlap=4))
    texts = [" ".join(f"page{n}" for n in range(40)), " ".join(f"sheet{n}" for n in range(40))]
    client.enqueue(collection_name, [Document(id=str(n), text=text) for n, text in enumerate(texts)]).wait(60)
    hits = client.search(collection_name, "page39", mode="keyword")
    assert hits
    assert all("page39" in hit.text and hit.chunk > 0 for hit in hits)
    for mode in ("keyword", "hybrid"):
        grouped = client.search(collection_name, "page1 page20 page39 sheet3", mode=mode, group_by_document=True)
        assert sorted(ids(grouped)) == ["0", "1"]


def test_words_stay_with_changed_metadata_and_go_with_changed_text(client: Client, collection_name: str) -> None:
    client.create_collection(collection_name)

    def found(query: str) -> list[tuple[int, Any]]:
        return [(hit.version, hit.metadata) for hit in client.search(collection_name, query, mode="keyword")]

    client.enqueue(collection_name, Document(id="a", text="code AB12", version=1)).wait(60)
    client.enqueue(collection_name, Document(id="a", text="code AB12", version=2)).wait(60)
    assert found("AB12") == [(2, {})]
    client.enqueue(collection_name, Document(id="a", text="code AB12", metadata={"k": 1}, version=3)).wait(60)
    assert found("AB12") == [(3, {"k": 1})]
    client.enqueue(collection_name, Document(id="a", text="code CD34", version=4)).wait(60)
    assert (found("AB12"), found("CD34")) == ([], [(4, {})])
    client.update_metadata(collection_name, "a", {"k": 2}).wait(60)
    assert [metadata for _, metadata in found("CD34")] == [{"k": 2}]
    assert client.audit(collection_name).gaps == 0


def test_without_keywords_the_way_out_is_told(client: Client, collection_name: str) -> None:
    assert client.create_collection(collection_name, keyword=False).keyword is False
    client.enqueue(collection_name, Document(id="a", text="code AB12")).wait(60)
    assert ids(client.search(collection_name, "AB12")) == ["a"]
    for mode in ("keyword", "hybrid"):
        with pytest.raises(InvalidInput, match=r"mode: .*has no keywords.* keyword=True, .*ingest .*again"):
            client.search(collection_name, "AB12", mode=mode)
    with pytest.raises(CollectionConflict, match="keyword is 'False', asked for 'True'"):
        client.create_collection(collection_name, keyword=True)
    assert client.create_collection(collection_name).keyword is False


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"mode": "sparse"}, "mode: expected one of dense, keyword, hybrid, got 'sparse'"),
        ({"mode": "hybrid", "fusion": "sum"}, "fusion: expected one of rrf, dbsf, got 'sum'"),
        ({"fusion": "rrf"}, "fusion: expected None with mode='dense'"),
        ({"mode": "keyword", "candidates": 50}, "candidates: expected None with mode='keyword'"),
        ({"mode": "hybrid", "candidates": 5}, "candidates: expected at least limit . offset, which is 10, got 5"),
        ({"mode": "hybrid", "candidates": "many"}, "candidates: expected an integer"),
        ({"mode": "hybrid", "score_threshold": 0.5}, "score_threshold: expected None with mode='hybrid'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(arguments: dict[str, Any], told: str) -> None:
    with Client.embedded(model="hash:16") as local, pytest.raises(InvalidInput, match=told):
        local.search("made", "q", **arguments)


def test_other_libraries_words_for_it_are_answered_with_ours() -> None:
    wrong: dict[str, Any] = {"hybrid": True}
    with Client.embedded(model="hash:16") as local, pytest.raises(TypeError, match="did you mean `mode`"):
        local.search("made", "q", **wrong)


def test_an_index_counts_vectors_and_not_words(client: Client, collection_name: str) -> None:
    client.create_collection(collection_name)
    client.enqueue(collection_name, [Document(id=str(n), text=f"word {n}") for n in range(64)]).wait(60)
    status = client.collections.index_status(collection_name)
    assert (status.points, status.indexed) == (64, 0)


@pytest.mark.parametrize("mill", ["server"], indirect=True)
def test_the_async_client_and_the_command_line_search_in_every_mode(
    mill: Client, place: dict[str, Any], run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked() -> list[str]:
        async with AsyncClient.embedded(**place, model="hash:16") as client:
            return ids(await client.search("keywords", "XJ-2000A", mode="hybrid", limit=5))

    assert "zh" in asyncio.run(asked())
    for name, value in {"EMBEDDED_PATH": place["path"], "QDRANT_GRPC_PORT": place["qdrant_grpc_port"]}.items():
        monkeypatch.setenv(f"GRISTMILL_{name}", str(value))
    monkeypatch.setenv("GRISTMILL_MODEL", "hash:16")
    code, out, _ = run("search", "keywords", "XJ-2000A", "--mode", "hybrid", "--fusion", "dbsf", "--json")
    answer = json.loads(out)
    assert (code, answer["mode"], answer["hits"][0]["score_kind"]) == (0, "hybrid", "dbsf")
    assert "zh" in [hit["id"] for hit in answer["hits"]]


@pytest.fixture(params=["local", "server"])
def demo(request: pytest.FixtureRequest) -> Iterator[Client]:
    with Client.embedded(**place_of(request), model="demo") as client:
        yield client


@pytest.mark.model
def test_on_the_faq_both_lists_fused_are_at_least_as_good_as_the_better_one(demo: Client, collection_name: str) -> None:
    numbers = {str(52_370_411 + 7_919 * part): f"list-{part % 12}" for part in range(96)}
    lists = [
        Document(
            id=f"list-{n}",
            text=f"备件清单：{'、'.join(part for part, where in numbers.items() if where == f'list-{n}')}。",
        )
        for n in range(12)
    ]
    labelled = sets.faq().questions
    demo.create_collection(collection_name)
    demo.enqueue(collection_name, [*sets.faq().documents, *lists]).wait(300).raise_for_failures()

    def ranks(mode: str, asked: dict[str, str]) -> list[float]:
        found = demo.search_many(collection_name, list(asked), mode=mode, limit=50)
        places = [[*ids(hits), expected].index(expected) for hits, expected in zip(found, asked.values(), strict=True)]
        return [place + 1 if place < 50 else inf for place in places]

    asked = {each.query: next(iter(each.expected)) for each in labelled}
    mrr = {mode: mean(1 / rank for rank in ranks(mode, asked)) for mode in SearchMode}
    assert mrr[SearchMode.HYBRID] >= max(mrr.values())
    dense, keyword, hybrid = (ranks(mode, numbers) for mode in SearchMode)
    assert max(dense) > 5
    assert set(keyword) == {1}
    assert max(hybrid) <= 5


@pytest.mark.parametrize("client", ["local"], indirect=True)
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("信用卡", ["zh"]),
        ("是", ["one"]),
        ("卡信", []),
        ("カード", ["ja"]),
        ("กรุงเทพ", ["th"]),
        ("दिल्ली", ["hi"]),
        ("STRASSE", ["de"]),
        ("v3.2-rc", ["code"]),
    ],
)
def test_local_mode_cuts_words_in_any_script(
    client: Client, collection_name: str, query: str, found: list[str]
) -> None:
    texts = {
        "zh": "信用卡额度怎么查",
        "one": "是，不是",
        "ja": "カードの限度額",
        "th": "ร้านในกรุงเทพมหานคร",
        "hi": "नई दिल्ली का मौसम",
        "de": "Straße ohne Namen",
        "code": "fixed in v3.2-rc1, v3.2-rc",
    }
    client.create_collection(collection_name)
    client.enqueue(collection_name, [Document(id=name, text=text) for name, text in texts.items()]).wait(60)
    assert ids(client.search(collection_name, query, mode="keyword")) == found


@pytest.mark.parametrize("client", ["local"], indirect=True)
@pytest.mark.parametrize(
    "how",
    [
        {"mode": "keyword"},
        {"mode": "keyword", "group_by_document": True},
        {"mode": "keyword", "boost": {"where": {"a": 1}}},
        {"mode": "hybrid", "fusion": "dbsf"},
    ],
)
def test_what_other_tenants_store_says_nothing_of_a_tenants_words(
    client: Client, collection_name: str, how: dict[str, Any]
) -> None:
    """On servers from 1.19 on, too; those before count how rare a word is among all of them."""
    client.create_collection(collection_name, tenants=True)
    mine = [Document(id=str(n), text=text) for n, text in enumerate(["red car", "blue car", "green tree"])]
    client.enqueue(collection_name, mine, tenant="acme").wait(60)

    def scores() -> list[tuple[str, float]]:
        hits = client.tenant("acme").search(collection_name, "red car", **how)
        return [(hit.id, round(hit.score, 4)) for hit in hits]

    alone = scores()
    theirs = [Document(id=str(n), text=f"red {n}") for n in range(20)]
    client.enqueue(collection_name, theirs, tenant="evil").wait(60)
    assert scores() == alone != []
