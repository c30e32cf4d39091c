"""Documents in the order in which a search has them, whole: by the search itself, as users meet it, graph and all.

A search gives points, and a document in several chunks comes once, with its best. Of each question so many points are asked
for as its figures need: 200 first, then eight times as many where there are fewer than ten documents by then, or no right
one, until nothing is left. So MRR is over the whole ranking, and a collection of millions is not read for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from gristmill.client import Client
from gristmill.evaluation.labelled import Question
from gristmill.evaluation.measures import DEPTH, rank_of
from gristmill_schemas import SearchHit

#: Points asked for at first, and how many times as many next.
_FIRST, _DEEPER = 200, 8
#: Questions per call: a progress bar moves, and Ctrl-C costs little.
_TOGETHER = 16

Ranking = tuple[str, ...]


def ranked_by_search(
    client: Client,
    collection: str,
    questions: Sequence[Question],
    options: Mapping[str, Any],
    progress: Callable[[int], None] = lambda done: None,
) -> Iterator[Ranking]:
    """Of each question the ids of documents, best first, as far down as its figures need.

    Args:
        client: an open one.
        collection: an existing collection.
        questions: what is searched for.
        options: of `Client.search_many`, but for limits.
        progress: told how many questions are done.
    """
    for start in range(0, len(questions), _TOGETHER):
        part = questions[start : start + _TOGETHER]
        yield from _part(client, collection, part, options)
        progress(start + len(part))


def _part(client: Client, collection: str, part: Sequence[Question], options: Mapping[str, Any]) -> list[Ranking]:
    found = _whole(client, collection, part, {**options, "rerank": False, "rerank_top": None})
    if not options.get("rerank"):
        return found
    return [
        (*first, *(each for each in rest if each not in set(first)))
        for first, rest in zip(_reranked(client, collection, part, options), found, strict=True)
    ]


def _reranked(client: Client, collection: str, part: Sequence[Question], options: Mapping[str, Any]) -> list[Ranking]:
    """The candidates alone; what was no candidate stands below them, as it was found."""
    top = options.get("rerank_top") or 50
    hits = client.search_many(
        collection, [each.query for each in part], **{**options, "rerank_top": top, "limit": top}, fields=()
    )
    return [documents_of(each) for each in hits]


def _whole(client: Client, collection: str, part: Sequence[Question], options: Mapping[str, Any]) -> list[Ranking]:
    found: dict[str, Ranking] = {}
    wanted, limit = list(part), _FIRST
    while wanted:
        hits = client.search_many(
            collection, [each.query for each in wanted], **{**options, "limit": limit, "fields": (), "text": False}
        )
        found |= {question.id: documents_of(each) for question, each in zip(wanted, hits, strict=True)}
        wanted = [
            question
            for question, each in zip(wanted, hits, strict=True)
            if len(each) == limit and not _enough(question, found[question.id])
        ]
        limit *= _DEEPER
    return [found[each.id] for each in part]


def _enough(question: Question, ranking: Ranking) -> bool:
    return len(ranking) >= DEPTH and rank_of(question, ranking) is not None


def documents_of(hits: Iterable[SearchHit]) -> Ranking:
    """Documents in the order of their best points."""
    return tuple(dict.fromkeys(hit.id for hit in hits))
