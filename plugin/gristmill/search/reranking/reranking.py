"""Hits and texts put in order by a reranker. Equal scores keep the order in which they came."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gristmill.arguments import integer, one_or_many, refuse, text
from gristmill.models import Models
from gristmill.search.instructions import Applied, resolve_instruction
from gristmill.search.reranking.asked import Rerank
from gristmill.search.reranking.pair_scores import Pairs, PairScorer, Scores
from gristmill_schemas import EncoderInfo, Hits, RerankResult, SearchHit
from gristmill_schemas.limits import MAX_QUERY_BYTES, MAX_TEXT_BYTES
from gristmill_schemas.point import under_context

log = logging.getLogger(__name__)

#: What `SearchHit.score_kind` says of a reranker's score.
RELEVANCE = "relevance"
_A_TEXT = "a text, or a mapping with one under `text`"


class Reranking:
    """Resolves rerankers and asks them. Shared by all threads of a client."""

    def __init__(self, models: Models, scorer: PairScorer) -> None:
        self._models = models
        self._scorer = scorer
        self._warned: set[str] = set()

    def require(self, model: str | None, field: str = "rerank") -> EncoderInfo:
        """The reranker that is meant. Raises NoWorker where nobody serves it, so that nothing else is done first."""
        reranker = self._models.reranker(model, field)
        self._scorer.require(reranker)
        return reranker

    def hits(
        self, reranker: EncoderInfo, queries: Sequence[str], how: Rerank, applied: Applied, found: Sequence[Hits]
    ) -> list[Hits]:
        """The hits of each query, by the reranker's score, and of those the ones that are asked for."""
        self._caution(reranker, applied.text)
        pairs = [
            Pairs(query, [under_context(hit.context, hit.text) for hit in each], applied.text)
            for query, each in zip(queries, found, strict=True)
        ]
        scores = self._scorer.score(reranker, pairs)
        return [_shown(_rescored(each, rows, reranker, applied), how) for each, rows in zip(found, scores, strict=True)]

    def texts(
        self,
        query: str,
        documents: Iterable[str | Mapping[str, Any]],
        *,
        instruction: str | None = None,
        model: str | None = None,
        top: int | None = None,
    ) -> list[RerankResult]:
        """See `Client.rerank`."""
        asked = text("query", query, MAX_QUERY_BYTES)
        given = [
            _document(f"documents[{place}]", each)
            for place, each in enumerate(one_or_many("documents", documents, (), f"an iterable, each of it {_A_TEXT}"))
        ]
        most = len(given) if top is None else integer("top", top, 1)
        applied = resolve_instruction(None, instruction)
        reranker = self.require(model, "model")
        self._caution(reranker, applied.text)
        (scores,) = self._scorer.score(reranker, [Pairs(asked, [each for each, _ in given], applied.text)])
        results = [
            RerankResult(index=place, score=float(score), text=each, metadata=rest, truncated=not read)
            for place, ((each, rest), (score, read)) in enumerate(zip(given, scores, strict=True))
        ]
        return sorted(results, key=lambda each: -each.score)[:most]

    def _caution(self, reranker: EncoderInfo, instruction: str | None) -> None:
        if instruction is not None and not reranker.instruction_aware and reranker.digest not in self._warned:
            self._warned.add(reranker.digest)
            log.warning(
                "reranker %s takes no instructions: it is left out there, and decides which candidates are found only",
                reranker.model,
            )


def _document(field: str, given: object) -> tuple[str, dict[str, Any]]:
    """A text, and what came with it."""
    if isinstance(given, str):
        return text(field, given, MAX_TEXT_BYTES), {}
    if not isinstance(given, Mapping) or "text" not in given:
        raise refuse(field, _A_TEXT, given)
    return text(f"{field}.text", given["text"], MAX_TEXT_BYTES), {
        str(key): each for key, each in given.items() if key != "text"
    }


def _rescored(hits: Sequence[SearchHit], scores: Scores, reranker: EncoderInfo, applied: Applied) -> list[SearchHit]:
    told = {"instruction": applied.label, "instruction_text": applied.text} if reranker.instruction_aware else {}
    return [
        hit.model_copy(
            update={
                "score": float(score),
                "score_kind": RELEVANCE,
                "retrieval_score": hit.score,
                "retrieval_score_kind": hit.score_kind,
                "reranker": reranker.model,
                "rerank_truncated": not read,
                **told,
            }
        )
        for hit, (score, read) in zip(hits, scores, strict=True)
    ]


def _shown(hits: Sequence[SearchHit], how: Rerank) -> Hits:
    least = how.score_threshold
    kept = [hit for hit in hits if least is None or hit.score >= least]
    return Hits(sorted(kept, key=lambda hit: -hit.score)[how.offset : how.offset + how.limit])
