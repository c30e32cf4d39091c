"""What a search says of reranking, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gristmill.arguments import identifier, integer, refuse
from gristmill_schemas.limits import MAX_RERANKED

#: Candidates, unless told otherwise or more hits are asked for.
_CANDIDATES: Final = 50


@dataclass(frozen=True, slots=True)
class Rerank:
    """How the candidates of a search are reranked, and which of them are shown."""

    #: The reranker's name; None takes the one that there is.
    model: str | None
    #: Candidates per query.
    top: int
    limit: int
    offset: int
    #: Least score by the reranker.
    score_threshold: float | None


def asked_rerank(
    rerank: bool | str | None, top: int | None, limit: int, offset: int, score_threshold: float | None
) -> Rerank | None:
    """What was asked for, checked; None where hits stay as they are found. Raises InvalidInput for what is wrong."""
    if rerank is None or rerank is False:
        if top is not None:
            raise refuse("rerank_top", "None without rerank=True", top)
        return None
    model = None if rerank is True else identifier("rerank", rerank)
    if (hits := limit + offset) > MAX_RERANKED:
        raise refuse("limit", f"limit + offset of at most {MAX_RERANKED} with rerank", hits)
    candidates = max(_CANDIDATES, hits) if top is None else integer("rerank_top", top, 1, MAX_RERANKED)
    if candidates < hits:
        raise refuse("rerank_top", f"at least limit + offset, which is {hits}", candidates)
    return Rerank(model, candidates, limit, offset, score_threshold)
