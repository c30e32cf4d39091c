"""What decides a hit's rank: its vector, its words, or both lists fused.

Fusing is the server's: each branch gives its best candidates, and their ranks (or their normalised scores) are added up.
By ranks, vectors count twice: rank r of theirs is worth 2 / (3 + r), of words' 1 / (3 + r). On the first 59 labelled
questions of the shipped FAQ, which few of its words answer, equal weights rank worse than vectors alone (MRR 0.46 against
0.51), these better (0.54); and what words alone find is among the first five.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from qdrant_client import models

from gristmill.arguments import integer, refuse
from gristmill.store.keywords import KEYWORDS, Words, keywords_of
from gristmill.store.tenancy import rarity_within
from gristmill_schemas import CollectionSpec, Fusion, SearchMode
from gristmill_schemas.errors import InvalidInput

Vector = npt.NDArray[np.float32]

#: Candidates of each branch, by default: at least so many times the hits that are asked for. In steps of the same factor
#: from the second number on, since pages of one list must be made of the same candidates: those of the first 50 hits are.
_OVERSAMPLED, _LEAST_CANDIDATES = 4, 200
#: How often the branch of vectors is counted. By saying it so often: weights are for servers from 1.17 on. Of scores, the
#: one that stands out among its own weighs enough.
_VECTORS_COUNT = {Fusion.RRF: 2, Fusion.DBSF: 1}
_FUSED = {
    Fusion.RRF: models.RrfQuery(rrf=models.Rrf(k=3)),
    Fusion.DBSF: models.FusionQuery(fusion=models.Fusion.DBSF),
}


@dataclass(frozen=True, slots=True)
class Ranking:
    """How the hits of a search are found and ranked, checked."""

    mode: SearchMode
    #: Of the two lists, in a hybrid search.
    fusion: Fusion
    #: Best points of each branch that are fused.
    candidates: int
    #: Among whose texts it counts how rare a word is, where one tenant asks: who else has it is nobody's business. Servers
    #: before 1.19 pass over it. None: among all.
    rarity: models.SearchParams | None = None

    @property
    def needs_vectors(self) -> bool:
        """Whether a model must encode the query."""
        return self.mode is not SearchMode.KEYWORD

    def require_keywords(self, spec: CollectionSpec) -> None:
        """Raise InvalidInput where a collection has no keywords and they are asked for."""
        if self.mode is not SearchMode.DENSE and not spec.keyword:
            raise InvalidInput(
                f"mode: expected 'dense', since collection {spec.name!r} has no keywords, got {self.mode.value!r}; create "
                "one with keyword=True, which is the default, and ingest its documents again",
                field="mode",
                collection=spec.name,
            )

    def score_kind(self, spec: CollectionSpec) -> str:
        """What a hit's score is: see `SearchHit.score_kind`."""
        kinds = {SearchMode.DENSE: spec.distance, SearchMode.KEYWORD: KEYWORDS, SearchMode.HYBRID: self.fusion}
        return str(kinds[self.mode])

    def asked(
        self,
        query: str,
        vector: Vector,
        lens: str | None,
        conditions: models.Filter | None,
        params: models.SearchParams | None = None,
        words_of: Words = keywords_of,
    ) -> dict[str, Any]:
        """Arguments of Qdrant's Query API: `query`, `using`, `prefetch`.

        Args:
            query: what is looked for.
            vector: the same, encoded, float32 (D,); empty where only words count.
            lens: whose vectors are ranked; None are those without a name.
            conditions: that the candidates of both branches must meet; others see to those of the whole.
            params: how hard Qdrant looks for the nearest vectors.
            words_of: the query's words, as what is asked takes them: a server, or its local mode.
        """
        if self.mode is SearchMode.DENSE:
            return {"query": vector, "using": lens}
        words = words_of(query)
        if self.mode is SearchMode.KEYWORD:
            return {"query": words, "using": KEYWORDS}
        dense = models.Prefetch(
            query=vector.tolist(), using=lens, filter=conditions, limit=self.candidates, params=params
        )
        sparse = models.Prefetch(
            query=words, using=KEYWORDS, filter=conditions, limit=self.candidates, params=self.rarity
        )
        return {"prefetch": [*[dense] * _VECTORS_COUNT[self.fusion], sparse], "query": _FUSED[self.fusion]}


def asked_ranking(
    mode: SearchMode | str,
    fusion: Fusion | str | None,
    candidates: int | None,
    hits: int,
    score_threshold: float | None,
    *,
    chosen: bool = False,
    tenant: str | None = None,
) -> Ranking:
    """What was asked for, checked.

    Args:
        mode: what decides the rank.
        fusion: of a hybrid search.
        candidates: best points of each list.
        hits: those that are shown and those that are passed over before.
        score_threshold: as it was given.
        chosen: boosts or diversity choose among the candidates.
        tenant: whose points are searched alone.
    """
    if mode not in list(SearchMode):
        raise refuse("mode", f"one of {', '.join(SearchMode)}", mode)
    if fusion is not None and fusion not in list(Fusion):
        raise refuse("fusion", f"one of {', '.join(Fusion)}", fusion)
    searched = SearchMode(mode)
    hybrid = searched is SearchMode.HYBRID
    if hybrid and score_threshold is not None:
        raise refuse("score_threshold", "None with mode='hybrid', whose scores are made of ranks", score_threshold)
    if fusion is not None and not hybrid:
        raise refuse("fusion", f"None with mode={searched.value!r}: there is one list, and nothing to fuse", fusion)
    if candidates is not None and not (hybrid or chosen):
        because = f"None with mode={searched.value!r} and neither boost nor diversity: nothing chooses among them"
        raise refuse("candidates", because, candidates)
    if candidates is not None and integer("candidates", candidates, 1) < hits:
        raise refuse("candidates", f"at least limit + offset, which is {hits}", candidates)
    rarity = None if searched is SearchMode.DENSE else rarity_within(tenant)
    return Ranking(searched, Fusion(fusion or Fusion.RRF), candidates or _enough(hits), rarity)


def _enough(hits: int) -> int:
    enough = _LEAST_CANDIDATES
    while enough < _OVERSAMPLED * hits:
        enough *= _OVERSAMPLED
    return enough
