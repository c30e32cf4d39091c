"""Options of a search by twos: each pair gives what both say, or is refused at the call (docs/reference/search.md)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gristmill import Chunking, Client, Document, Hits, InvalidInput, SearchHit
from gristmill.search.options import SearchOptions
from places import place_of

C, QUERY = "combined", "late payment of the rent"
LENSES = {"legal": {"document": "Given a clause, find what it obliges to", "query": "Given a duty, find its clause"}}
WORDS = ["rent", "late", "payment", "tenant", "notice", "repair", "heating", "garden", "deposit", "keys"]
# Of different lengths, so that no two are alike by words, whose order Qdrant chooses as it likes.
DOCUMENTS = [
    Document(
        id=f"d{n}",
        text=" ".join([WORDS[n % 2], *["payment"] * (n % 3 == 0), *[f"filler{chr(97 + n)}"] * n]),
        metadata={"views": n % 5, "odd": n % 2},
    )
    for n in range(18)
]
LONG = Document(
    id="long",
    text=" ".join(f"{WORDS[n % 3 and n % 10]} {WORDS[2 + n % 8]}" for n in range(40)),
    metadata={"views": 2, "odd": 1},
)
#: Of each option one value, by its name in the documentation.
OPTIONS: dict[str, dict[str, Any]] = {
    "lens": {"lens": "legal"},
    'mode="keyword"': {"mode": "keyword"},
    'mode="hybrid"': {"mode": "hybrid"},
    "fusion": {"fusion": "dbsf"},
    "candidates": {"candidates": 300},
    "rerank": {"rerank": True},
    "rerank_top": {"rerank_top": 60},
    "diversity": {"diversity": 0.5},
    "boost": {"boost": {"field": "views"}},
    "group_by_document": {"group_by_document": True},
    "chunks_per_document": {"chunks_per_document": 2},
    "context_chunks": {"context_chunks": 1},
    "score_threshold": {"score_threshold": 0.05},
    "offset": {"offset": 2},
    "limit": {"limit": 5},
    "exact": {"exact": True},
    "ef": {"ef": 64},
    "instruction": {"instruction": "Given a complaint, find the clause"},
    "where": {"where": {"odd": 1}},
    "tenant": {"tenant": "acme"},
    "fields": {"fields": ["views"]},
    "text=False": {"text": False},
    "explain": {"explain": True},
}
#: What says nothing without another.
NEEDS = {
    "candidates": "boost",
    "fusion": 'mode="hybrid"',
    "rerank_top": "rerank",
    "chunks_per_document": "group_by_document",
}
BOOST: dict[str, Any] = {"boost": {"field": "views", "weight": 0.1}}
Score = dict["Point", float]


@dataclass(frozen=True)
class Point:
    """A chunk, as Qdrant holds it."""

    id: str
    chunk: int
    text: str
    views: int


class Reference:
    """What Qdrant holds, and what searches must give by it, reckoned point by point."""

    def __init__(self, client: Client) -> None:
        self.client = client
        found, _ = client._parts.store.scroll(C, limit=1000, with_vectors=True, with_payload=True)
        self.vectors = {self._point(each.payload): each.vector for each in found}

    def _point(self, payload: Any) -> Point:
        own = payload["_gristmill"]
        return Point(own["id"], own["chunk"], payload["text"], payload["views"])

    def vector(self, point: Point, lens: str | None) -> npt.NDArray[np.float32]:
        return np.asarray(self.vectors[point][lens or ""], np.float32)  # type: ignore[index,call-overload]  # vectors by name

    def near(self, query: npt.NDArray[np.float32], lens: str | None) -> Score:
        return {point: float(self.vector(point, lens) @ query) for point in self.vectors}

    def dense(self, lens: str | None = None) -> Score:
        return self.near(self.client.embed(QUERY, collection=C, lens=lens), lens)

    def boosted(self, score: Score) -> Score:
        return {point: value + 0.1 * point.views for point, value in score.items()}

    def reranked(self, points: Sequence[Point], lens: str | None = None) -> Score:
        instruction = LENSES[lens]["query"] if lens else None
        found = self.client.rerank(QUERY, [point.text for point in points], instruction=instruction)
        return {points[each.index]: each.score for each in found}

    def varied(self, lens: str | None, diversity: float, count: int) -> list[Point]:
        """MMR, one after the other: near the query, and unlike what was chosen."""
        near, chosen = self.dense(lens), list[Point]()
        while len(chosen) < count:

            def worth(point: Point) -> float:
                alike = max((float(self.vector(point, lens) @ self.vector(each, lens)) for each in chosen), default=0.0)
                return (1 - diversity) * near[point] - diversity * alike

            chosen.append(max((each for each in near if each not in chosen), key=worth))
        return chosen

    def fused(self, lens: str | None = None) -> Score:
        """By ranks, of which the vectors' count twice; words alone say theirs."""
        score: Counter[Point] = Counter()
        for rank, point in enumerate(ranked(self.dense(lens))):
            score[point] += 2 / (3 + rank)  # type: ignore[assignment]  # a Counter of floats
        words = self.client.search(C, QUERY, mode="keyword", limit=100)
        assert len({hit.score for hit in words}) == len(words)
        points = {(point.id, point.chunk): point for point in self.vectors}
        for rank, hit in enumerate(words):
            score[points[hit.id, hit.chunk]] += 1 / (3 + rank)  # type: ignore[assignment]  # as above
        return dict(score)


def ranked(score: Mapping[Point, float]) -> list[Point]:
    return sorted(score, key=lambda point: -score[point])


def best_of_each(score: Score) -> Score:
    best: dict[str, Point] = {}
    for point in ranked(score):
        best.setdefault(point.id, point)
    return {point: score[point] for point in best.values()}


def agree(hits: Sequence[SearchHit], score: Mapping[Point, float], *, offset: int = 0, limit: int = 10) -> None:
    """The hits are the best by these scores; of like ones any."""
    wanted = sorted(score.values(), reverse=True)[offset : offset + limit]
    assert [hit.score for hit in hits] == pytest.approx(wanted, abs=1e-4)
    by_name = {(point.id, point.chunk): value for point, value in score.items()}
    assert [by_name[hit.id, hit.chunk] for hit in hits] == pytest.approx(wanted, abs=1e-4)


@pytest.fixture(scope="module", params=["local", "server"])
def mill(request: pytest.FixtureRequest) -> Iterator[Client]:
    with Client.embedded(**place_of(request), model="hash:32", reranker="overlap:64", threads=2) as client:
        client.create_collection(C, lenses=LENSES, chunking=Chunking(size=24, overlap=0))
        client.enqueue(C, [*DOCUMENTS, LONG]).wait(60).raise_for_failures()
        yield client
        client.collections.delete(C)


# docs/reference/search.md


def refused_pairs() -> set[frozenset[str]]:
    """The pairs that the documentation says are refused."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "search.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"\| refused \| since \|\n\|---\|---\|\n((?:\|.*\n)+)", page)
    pairs = set[frozenset[str]]()
    for left, right in re.findall(r"^\| (.*?) with (.*?) \|", table, re.MULTILINE):
        pairs |= {frozenset((one, other)) for one in _named(left) for other in _named(right)}
    return pairs


def _named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def pair_of(one: str, other: str) -> dict[str, Any]:
    """Both, with what each needs to say anything."""
    needed = [NEEDS[name] for name in (one, other) if name in NEEDS]
    return {name: value for each in (*needed, one, other) for name, value in OPTIONS[each].items()}


def test_every_option_is_tried_with_every_other() -> None:
    tried = {name for each in OPTIONS.values() for name in each}
    assert tried == SearchOptions.__annotations__.keys()
    assert {name for pair in refused_pairs() for name in pair} <= OPTIONS.keys()


def test_a_pair_is_refused_at_the_call_where_the_documentation_says_so_and_answered_elsewhere(mill: Client) -> None:
    refused = refused_pairs()
    assert refused
    for one, other in combinations(OPTIONS, 2):
        how = pair_of(one, other)
        needed = {NEEDS.get(one, one), NEEDS.get(other, other)}
        if sum(name.startswith("mode") for name in needed) > 1:
            continue
        if any(frozenset(pair) in refused for pair in combinations({one, other} | needed, 2)):
            with pytest.raises(InvalidInput) as told:
                mill.search("no-such-collection", QUERY, **how)
            assert told.value.field in how, how
        else:
            hits = mill.search(C, QUERY, **how)
            assert bool(hits) is ("tenant" not in how), how


# a lens


@pytest.mark.parametrize("lens", [None, "legal"])
def test_a_lens_decides_by_whose_vectors_each_way_ranks(mill: Client, lens: str | None) -> None:
    reference = Reference(mill)
    score = reference.dense(lens)
    agree(mill.search(C, QUERY, lens=lens), score)
    agree(mill.search(C, QUERY, lens=lens, offset=3, limit=4), score, offset=3, limit=4)
    agree(mill.search(C, QUERY, lens=lens, group_by_document=True), best_of_each(score))
    agree(mill.search(C, QUERY, lens=lens, **BOOST), reference.boosted(score))
    agree(mill.search(C, QUERY, lens=lens, group_by_document=True, **BOOST), best_of_each(reference.boosted(score)))
    varied = mill.search(C, QUERY, lens=lens, diversity=0.6, limit=6)
    assert [(hit.id, hit.chunk) for hit in varied] == [
        (point.id, point.chunk) for point in reference.varied(lens, 0.6, 6)
    ]
    reranked = mill.search(C, QUERY, lens=lens, rerank=True, rerank_top=8, limit=8)
    agree(reranked, reference.reranked(ranked(score)[:8], lens))
    assert {hit.retrieval_score for hit in reranked} == {hit.score for hit in mill.search(C, QUERY, lens=lens, limit=8)}
    assert {hit.lens for hit in (*varied, *reranked)} == {lens}
    many = mill.search_many(C, [QUERY, "garden"], lens=lens)
    agree(many[0], score)


def test_the_lenses_rank_otherwise(mill: Client) -> None:
    plain, legal = (ranked(Reference(mill).dense(lens)) for lens in (None, "legal"))
    assert plain != legal


def test_a_passage_is_that_of_the_chunk_that_a_lens_found(mill: Client) -> None:
    hits = mill.search(C, LONG.text[40:120], lens="legal", context_chunks=1, limit=3, where={"views": 2})
    for hit in hits:
        assert hit.passage is not None
        assert hit.passage_span is not None
        assert hit.text in hit.passage
        whole = LONG.text if hit.id == "long" else next(each.text for each in DOCUMENTS if each.id == hit.id)
        assert whole[slice(*hit.passage_span)] == hit.passage
    assert any(hit.chunks > 1 and hit.passage != hit.text for hit in hits)


@pytest.mark.parametrize("lens", [None, "legal"])
def test_examples_are_compared_by_the_vectors_of_the_lens(mill: Client, lens: str | None) -> None:
    reference = Reference(mill)

    def mean(document: str) -> npt.NDArray[np.float32]:
        vectors = [reference.vector(point, lens) for point in reference.vectors if point.id == document]
        total = np.mean(vectors, axis=0, dtype=np.float32)
        return np.asarray(total / np.linalg.norm(total), np.float32)

    def others(query: npt.NDArray[np.float32], *examples: str) -> Score:
        query = np.asarray(query / np.linalg.norm(query), np.float32)
        return {point: value for point, value in reference.near(query, lens).items() if point.id not in examples}

    agree(mill.similar(C, "long", lens=lens), others(mean("long"), "long"))
    agree(mill.similar(C, "d3", lens=lens, group_by_document=True), best_of_each(others(mean("d3"), "d3")))
    agree(mill.similar(C, "d3", lens=lens, **BOOST), reference.boosted(others(mean("d3"), "d3")))
    wanted = 2 * mean("d1") - mean("d2")
    agree(mill.recommend(C, "d1", "d2", lens=lens), others(wanted, "d1", "d2"))
    query = mill.embed(QUERY, collection=C, lens=lens)
    agree(mill.recommend(C, {"text": QUERY}, lens=lens), reference.near(query, lens))
    agree(mill.search_by_vector(C, query, lens=lens), reference.near(query, lens))


# a reranker


def test_the_reranker_alone_orders_what_boosts_and_diversity_have_chosen(mill: Client) -> None:
    reference = Reference(mill)
    chosen = ranked(reference.boosted(reference.dense()))[:7]
    agree(mill.search(C, QUERY, rerank=True, rerank_top=7, limit=7, **BOOST), reference.reranked(chosen))
    varied = reference.varied(None, 0.6, 7)
    agree(mill.search(C, QUERY, rerank=True, rerank_top=7, limit=7, diversity=0.6), reference.reranked(varied))


def test_of_each_document_the_chunk_that_was_found_is_reranked(mill: Client) -> None:
    reference = Reference(mill)
    best = reference.reranked(ranked(best_of_each(reference.dense())))
    agree(mill.search(C, QUERY, rerank=True, group_by_document=True), best)
    several = mill.search(C, QUERY, rerank=True, group_by_document=True, chunks_per_document=2, limit=50)
    agree(several, best, limit=50)
    assert {len(hit.best_chunks) for hit in several} == {1, 2}


def test_thresholds_pages_and_passages_are_of_the_reranked_order(mill: Client) -> None:
    score = Reference(mill).reranked(list(Reference(mill).vectors))
    kept = {point: value for point, value in score.items() if value >= 0.2}
    agree(mill.search(C, QUERY, rerank=True, score_threshold=0.2, limit=50), kept, limit=50)
    agree(mill.search(C, QUERY, rerank=True, score_threshold=0.2, offset=3, limit=4), kept, offset=3, limit=4)
    hits = mill.search(C, QUERY, rerank=True, context_chunks=1, limit=50)
    assert [hit.score for hit in hits] == [hit.score for hit in mill.search(C, QUERY, rerank=True, limit=50)]
    assert any(hit.passage != hit.text for hit in hits)


# both lists


@pytest.mark.parametrize("lens", [None, "legal"])
def test_boosts_are_added_to_fused_ranks(mill: Client, lens: str | None) -> None:
    score = Reference(mill).fused(lens)
    agree(mill.search(C, QUERY, mode="hybrid", lens=lens), score)
    agree(mill.search(C, QUERY, mode="hybrid", lens=lens, exact=True), score)
    agree(mill.search(C, QUERY, mode="hybrid", lens=lens, **BOOST), Reference(mill).boosted(score))
    agree(mill.search(C, QUERY, mode="hybrid", lens=lens, group_by_document=True), best_of_each(score))
    both = mill.search(C, QUERY, mode="hybrid", lens=lens, group_by_document=True, offset=2, limit=5, **BOOST)
    agree(both, best_of_each(Reference(mill).boosted(score)), offset=2, limit=5)


def test_a_threshold_over_both_lists_is_the_rerankers(mill: Client) -> None:
    hits = mill.search(C, QUERY, mode="hybrid", rerank=True, score_threshold=0.2, limit=50)
    score = Reference(mill).reranked(list(Reference(mill).vectors))
    agree(hits, {point: value for point, value in score.items() if value >= 0.2}, limit=50)


def explained(hits: Hits) -> Any:
    assert hits.explanation is not None
    return hits.explanation


def test_an_exact_search_over_both_lists_says_so_to_the_list_of_vectors(mill: Client) -> None:
    sent = explained(mill.search(C, QUERY, mode="hybrid", exact=True, explain=True)).query
    exactly = None if mill._parts.local else {"exact": True}  # local mode always looks at everything
    assert [each.get("params") for each in sent["prefetch"]] == [exactly, exactly, None]
