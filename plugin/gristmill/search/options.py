"""What a search can be told: the names and types of its options, and the same checked, once for all queries of a call.

`Client.search` says what each means. `search_many` and the async client take the same, so an option is added here, there,
and in the module of what it does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, TypedDict, Unpack, cast

from qdrant_client import models

from gristmill.arguments import flag, integer, number, refuse, tenant_name
from gristmill.search.filters import Where, compile_filter
from gristmill.search.lenses import asked_lens
from gristmill.search.ranking import Ranking, asked_ranking
from gristmill.search.refining.boosts import Boosting
from gristmill.search.refining.content import Content, asked_content
from gristmill.search.refining.shape import Shape, asked_shape
from gristmill.search.reranking.asked import Rerank, asked_rerank
from gristmill_schemas import Fusion, SearchMode


class HitOptions(TypedDict, total=False):
    """What every call that gives hits can be told; None, where a type has it, is as good as left out."""

    lens: str | None
    where: Where | None
    tenant: str | None
    limit: int
    offset: int
    score_threshold: float | None
    group_by_document: bool
    chunks_per_document: int | None
    context_chunks: int
    fields: Iterable[str] | None
    text: bool
    boost: Boosting | None
    candidates: int | None
    exact: bool
    ef: int | None
    explain: bool


class SimilarOptions(HitOptions, total=False):
    """What a search for documents like a stored one can be told besides."""

    diversity: float | None


class RecommendOptions(HitOptions, total=False):
    """What a recommendation can be told besides."""

    instruction: str | None


class SearchOptions(RecommendOptions, SimilarOptions, total=False):
    """Everything but the collection and what is looked for."""

    mode: SearchMode | str
    fusion: Fusion | str | None
    rerank: bool | str | None
    rerank_top: int | None


#: Of the options that are not None when they are left out.
DEFAULTS: Final = MappingProxyType(
    {
        "limit": 10,
        "offset": 0,
        "group_by_document": False,
        "context_chunks": 0,
        "text": True,
        "exact": False,
        "explain": False,
        "mode": SearchMode.DENSE,
        "rerank": False,
    }
)
#: Types of options that are checked once.
_PLAIN: Final = frozenset({str, int, float, bool, type(None), SearchMode, Fusion})
#: Most chunks of a document that come with it, and on either side of a hit.
_MOST_CHUNKS = 64


@dataclass(frozen=True, slots=True)
class How:
    """The options of one call, checked."""

    instruction: str | None
    #: Name of one; whether the collection has it is seen later.
    lens: str | None
    where: Where | None
    tenant: str | None
    #: `where` and `tenant` in Qdrant's words.
    conditions: models.Filter | None
    #: What Qdrant is asked for: the candidates, where they are reranked.
    limit: int
    offset: int
    score_threshold: float | None
    grouped: bool
    #: Best chunks of each document, where hits are grouped by it.
    chunks_per_document: int
    #: Chunks before and after each hit that come with it.
    context_chunks: int
    content: Content
    ranking: Ranking
    shape: Shape
    explain: bool
    #: None where hits stay as they are found.
    rerank: Rerank | None


def checked(**options: Unpack[SearchOptions]) -> How:
    """The options of a search, checked and completed. Raises InvalidInput for one that is wrong, with its name."""
    if _PLAIN.issuperset(map(type, options.values())):  # the same again and again; and nobody can change them meanwhile
        return _remembered(**cast("dict[str, Any]", options))
    return _checked(**options)


@lru_cache(maxsize=128, typed=True)
def _remembered(**options: Any) -> How:
    return _checked(**options)


def _checked(**options: Unpack[SearchOptions]) -> How:
    asked: dict[str, Any] = {**DEFAULTS, **options}
    where, owner = asked.get("where"), tenant_name(asked.get("tenant"))
    hits, before = integer("limit", asked["limit"], 1), integer("offset", asked["offset"], 0)
    least = None if (told := asked.get("score_threshold")) is None else number("score_threshold", told)
    grouped = flag("group_by_document", asked["group_by_document"])
    if asked["rerank"] and asked["text"] is False:
        raise refuse("text", "True with rerank, since the reranker reads it", False)
    rerank = asked_rerank(asked["rerank"], asked.get("rerank_top"), hits, before, least)
    if rerank is not None:
        hits, before, least = rerank.top, 0, None
    chosen = asked.get("boost") is not None or asked.get("diversity") is not None
    ranking = asked_ranking(
        asked["mode"],
        asked.get("fusion"),
        asked.get("candidates"),
        hits + before,
        least,
        chosen=chosen,
        tenant=owner,
    )
    return How(
        instruction=asked.get("instruction"),
        lens=asked_lens(asked.get("lens"), ranking),
        where=where,
        tenant=owner,
        conditions=compile_filter(where, owner),
        limit=hits,
        offset=before,
        score_threshold=least,
        grouped=grouped,
        chunks_per_document=_chunks_per_document(asked.get("chunks_per_document"), grouped),
        context_chunks=integer("context_chunks", asked["context_chunks"], 0, _MOST_CHUNKS),
        content=asked_content(asked.get("fields"), flag("text", asked["text"])),
        ranking=ranking,
        shape=asked_shape(ranking, asked),
        explain=flag("explain", asked["explain"]),
        rerank=rerank,
    )


def _chunks_per_document(value: object, grouped: bool) -> int:
    if value is None:
        return 1
    if not grouped:
        raise refuse("chunks_per_document", "None without group_by_document=True, where every chunk is a hit", value)
    return integer("chunks_per_document", value, 1, _MOST_CHUNKS)
