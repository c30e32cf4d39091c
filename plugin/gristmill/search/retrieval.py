"""Asking Qdrant for one page of hits: of points, or of documents with their best points; equals in one order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from qdrant_client import QdrantClient, models

from gristmill.search.options import How
from gristmill.search.refining.ties import Page
from gristmill.store.connection import store_errors
from gristmill.store.found_points import FoundPoint, Origin, found_point, of_record
from gristmill.store.queries import Lists, query_batch
from gristmill_schemas import CollectionSpec, Distance, SearchMode
from gristmill_schemas.errors import StoreRefused
from gristmill_schemas.point import ETAG_PATH
from gristmill_schemas.validation import SYSTEM_KEY

T = TypeVar("T")

#: Lists of candidates of a hybrid search, which may have no point in common.
_LISTS = 2

#: Arguments of Qdrant's Query API for one list of hits, by the conditions that its candidates must meet.
Asked = Callable[[models.Filter | None], dict[str, Any]]


class Row(NamedTuple):
    """A point, or a document with its best points."""

    key: str
    points: Sequence[FoundPoint]

    @property
    def score(self) -> float:
        """Of the best."""
        return self.points[0].score


@dataclass(frozen=True, slots=True)
class Retrieval:
    """One call's hits, as often as they have to be looked for."""

    store: QdrantClient
    spec: CollectionSpec
    how: How
    #: That candidates must meet; `how` has it without what the collection itself asks for.
    conditions: models.Filter | None
    #: What a score is, before boosts.
    kind: str

    def pages(self, asked: Sequence[Asked]) -> tuple[list[list[Row]], float | None]:
        """For each query its page, and the seconds that Qdrant says it took, where it does."""
        how = self.how
        if not how.shape.by_score:
            varied, server_s = self._varied(asked)
            return [each[how.offset : how.offset + how.limit] for each in varied], server_s
        page: Page[Row] = Page(how.offset, how.limit, self.kind == Distance.EUCLID and not how.shape.boosts)
        seen, server_s = self._rows(asked, page.start, page.count, self._content)
        settled = [page.settled(each) for each in seen]
        return [
            self._settled(page, each) if rows is None else rows for each, rows in zip(asked, settled, strict=True)
        ], server_s

    def _settled(self, page: Page[Row], asked: Asked) -> list[Row]:
        return self._filled(page.settle(lambda count: self._rows([asked], 0, count, [SYSTEM_KEY])[0][0]))

    def _varied(self, asked: Sequence[Asked]) -> tuple[list[list[Row]], float | None]:
        """Of varied hits always the first: Qdrant passes over some a second time, and puts groups into another order."""
        how = self.how
        if not how.grouped:
            return self._rows(asked, 0, how.offset + how.limit, self._content)
        seen, server_s = self._points(asked, 0, how.shape.candidates, self._content)
        return [_by_document(points, how.chunks_per_document) for points in seen], server_s

    @property
    def _content(self) -> Any:
        return self.how.content.selector(self.spec)

    def _rows(
        self, asked: Sequence[Asked], start: int, count: int, content: Any
    ) -> tuple[list[list[Row]], float | None]:
        if self.how.grouped:
            return [self._groups(each, start, count, content) for each in asked], None
        seen, server_s = self._points(asked, start, count, content)
        return [[Row(str(point.id), [point]) for point in points] for points in seen], server_s

    def _points(self, asked: Sequence[Asked], start: int, count: int, content: Any) -> tuple[Lists, float | None]:
        shared = {"filter": self.conditions, "offset": start, "limit": count, "with_payload": content}
        shared |= {"score_threshold": self.how.score_threshold, "params": self.how.shape.params}
        requests = [{**self.request(each), **shared} for each in asked]
        # By the name that was asked for: where an alias has moved, the answer is the new collection's.
        return self._told(lambda: query_batch(self.store, self.spec.name, requests))

    def _groups(self, asked: Asked, start: int, count: int, content: Any) -> list[Row]:
        fused = self.how.ranking.mode is SearchMode.HYBRID
        return (self._fused_groups if fused else self._groups_of_qdrant)(asked, start, count, content)

    def _fused_groups(self, asked: Asked, start: int, count: int, content: Any) -> list[Row]:
        """Put together here: Qdrant looks for groups in several rounds, each without those that are full, and so with
        other ranks, which the scores are made of.
        """
        (points,), _ = self._points([asked], 0, _LISTS * self.how.ranking.candidates, [SYSTEM_KEY])
        rows = _by_document(points, self.how.chunks_per_document)[start : start + count]
        return rows if content == [SYSTEM_KEY] else self._filled(rows)

    def _groups_of_qdrant(self, asked: Asked, start: int, count: int, content: Any) -> list[Row]:
        # By etag, which is the document's own and not, like its id, one that other tenants may have as well. Qdrant
        # takes no batch of grouped searches, and passes over no groups.
        found = self._told(
            lambda: self.store.query_points_groups(
                self.spec.name,
                **self.request(asked),
                query_filter=self.conditions,
                search_params=self.how.shape.params,
                score_threshold=self.how.score_threshold,
                group_by=ETAG_PATH,
                group_size=self.how.chunks_per_document,
                limit=start + count,
                with_payload=content,
            )
        )
        return [Row(str(group.id), list(map(of_record, group.hits))) for group in found.groups[start:] if group.hits]

    def request(self, asked: Asked) -> dict[str, Any]:
        """Arguments of the Query API for one list of hits, as they are sent."""
        return self.how.shape.request(self.spec, asked(self.conditions), self.kind, self.conditions)

    def _told(self, look: Callable[[], T]) -> T:
        try:
            with store_errors(self.spec.name):
                return look()
        except (StoreRefused, AttributeError) as error:
            if self.how.shape.boosts and (refusal := self.how.shape.boosts.refusal(error)):
                raise refusal from error
            raise

    def _filled(self, rows: Sequence[Row]) -> list[Row]:
        """Rows with the payload that was asked for; what is gone meanwhile is left out."""
        ids = [point.id for row in rows for point in row.points]
        with store_errors(self.spec.name):
            there = self.store.retrieve(self.spec.name, ids, with_payload=self._content) if ids else []
        payloads = {each.id: each.payload or {} for each in there}
        filled = (Row(row.key, _with_payloads(row.points, payloads)) for row in rows)
        return [row for row in filled if row.points]


def _with_payloads(points: Iterable[FoundPoint], payloads: Mapping[Any, Mapping[str, Any]]) -> list[FoundPoint]:
    return [found_point(each.id, each.score, payloads[each.id]) for each in points if each.id in payloads]


def _by_document(points: Sequence[FoundPoint], most: int) -> list[Row]:
    """Documents in the order of their first points, each with so many of them."""
    rows: dict[str, list[FoundPoint]] = {}
    for point in points:
        etag = point.origin.etag if isinstance(point.origin, Origin) else ""
        rows.setdefault(etag, []).append(point)
    return [Row(etag, several[:most]) for etag, several in rows.items()]
