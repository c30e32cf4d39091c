"""What is asked of Qdrant beyond the query itself: how hard it looks, how varied hits are, and what else counts for them.

A boosted search is two steps in one request: the best candidates by the query, then their sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qdrant_client import models

from gristmill.arguments import flag, integer, number, refuse
from gristmill.search.ranking import Ranking
from gristmill.search.refining.boosts import Boosts, asked_boosts
from gristmill.store.queries import listed
from gristmill_schemas import CollectionSpec, SearchMode

#: What a boosted hit's score is.
BOOSTED = "boosted"
_MOST_EF = 100_000


@dataclass(frozen=True, slots=True)
class Shape:
    """The part of a request that is the same for all queries of a call, checked."""

    #: Best points of the query, of which boosts or diversity choose.
    candidates: int
    exact: bool = False
    ef: int | None = None
    diversity: float | None = None
    boosts: Boosts | None = None
    #: See `Ranking.rarity`; of a search by words alone.
    rarity: models.SearchParams | None = None

    @property
    def params(self) -> models.SearchParams | None:
        """How hard Qdrant looks for the nearest, and how rare words are; None leaves it to the collection."""
        if not (self.exact or self.ef):
            return self.rarity
        asked = models.SearchParams(exact=self.exact or None, hnsw_ef=self.ef)
        return asked if self.rarity is None else asked.model_copy(update={"idf": self.rarity.idf})

    @property
    def by_score(self) -> bool:
        """Whether hits come in the order of their scores: varied ones do not."""
        return self.diversity is None

    def kind(self, unshaped: str) -> str:
        """What a hit's score is."""
        return BOOSTED if self.boosts else unshaped

    def request(
        self, spec: CollectionSpec, asked: Mapping[str, Any], kind: str, conditions: models.Filter | None
    ) -> dict[str, Any]:
        """Arguments of the Query API: those of the query, shaped.

        Args:
            spec: the collection.
            asked: arguments for the query alone.
            kind: what its scores are.
            conditions: that its candidates must meet.
        """
        if self.diversity is not None:
            nearest = listed(asked["query"])
            varied = models.Mmr(diversity=self.diversity, candidates_limit=self.candidates)
            return {**asked, "query": models.NearestQuery(nearest=nearest, mmr=varied)}
        if self.boosts is None:
            return dict(asked)
        alone = {**asked, "query": listed(asked["query"])}
        best = models.Prefetch(**alone, filter=conditions, limit=self.candidates, params=self.params)
        return {"prefetch": best, "query": self.boosts.query(spec, kind)}


def asked_shape(ranking: Ranking, asked: Mapping[str, Any]) -> Shape:
    """What was asked for, checked.

    Raises:
        InvalidInput: an argument is wrong, or Qdrant does not do the two together.
    """
    mode = ranking.mode
    exact, ef = flag("exact", asked.get("exact", False)), asked.get("ef")
    if ef is not None:
        ef = integer("ef", ef, 1, _MOST_EF)
    boosts, diversity = asked_boosts(asked.get("boost")), _diversity(asked.get("diversity"))
    if mode is SearchMode.KEYWORD and ef is not None:
        raise refuse("ef", "None with mode='keyword', which looks at all texts that have the words", ef)
    if exact and ef is not None:
        raise refuse("ef", "None with exact=True, which looks at everything", ef)
    if diversity is not None and mode is not SearchMode.DENSE:
        raise refuse(
            "diversity", f"None with mode={mode.value!r}: Qdrant varies hits by their vectors alone", diversity
        )
    if diversity is not None and boosts:
        raise refuse("diversity", "None with boost=, whose order it would undo", diversity)
    rarity = ranking.rarity if mode is SearchMode.KEYWORD else None
    return Shape(ranking.candidates, exact, ef, diversity, boosts, rarity)


def _diversity(value: object) -> float | None:
    if value is None:
        return None
    found = number("diversity", value)
    if not 0 <= found <= 1:
        raise refuse("diversity", "a number from 0 (nearest first) to 1 (as different as can be)", value)
    return found
