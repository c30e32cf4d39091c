"""What a search can be told: the names and types of its options, and the same checked, once for all queries of a call.

`Client.search` says what each means. `search_many` and the async client take the same, so an option is added here, there,
and in the module of what it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypedDict, Unpack

from qdrant_client import models

from gristmill.arguments import flag, integer, number, tenant_name
from gristmill.search.filters import Where, compile_filter
from gristmill.search.ranking import Ranking, asked_ranking
from gristmill_schemas import Fusion, SearchMode


class HitOptions(TypedDict, total=False):
    """What every call that gives hits can be told; None, where a type has it, is as good as left out."""

    where: Where | None
    tenant: str | None
    limit: int
    offset: int
    score_threshold: float | None
    group_by_document: bool


class RecommendOptions(HitOptions, total=False):
    """What a recommendation can be told besides."""

    instruction: str | None


class SearchOptions(RecommendOptions, total=False):
    """Everything but the collection and what is looked for."""

    mode: SearchMode | str
    fusion: Fusion | str | None
    candidates: int | None


#: Of the options that are not None when they are left out.
DEFAULTS: Final = MappingProxyType({"limit": 10, "offset": 0, "group_by_document": False, "mode": SearchMode.DENSE})


@dataclass(frozen=True, slots=True)
class How:
    """The options of one call, checked."""

    instruction: str | None
    where: Where | None
    tenant: str | None
    #: `where` and `tenant` in Qdrant's words.
    conditions: models.Filter | None
    limit: int
    offset: int
    score_threshold: float | None
    grouped: bool
    ranking: Ranking


def checked(**options: Unpack[SearchOptions]) -> How:
    """The options of a search, checked and completed. Raises InvalidInput for one that is wrong, with its name."""
    asked: dict[str, Any] = {**DEFAULTS, **options}
    where, owner = asked.get("where"), tenant_name(asked.get("tenant"))
    hits, before = integer("limit", asked["limit"], 1), integer("offset", asked["offset"], 0)
    least = None if (told := asked.get("score_threshold")) is None else number("score_threshold", told)
    grouped = flag("group_by_document", asked["group_by_document"])
    return How(
        instruction=asked.get("instruction"),
        where=where,
        tenant=owner,
        conditions=compile_filter(where, owner),
        limit=hits,
        offset=before,
        score_threshold=least,
        grouped=grouped,
        ranking=asked_ranking(asked["mode"], asked.get("fusion"), asked.get("candidates"), hits + before, least),
    )
