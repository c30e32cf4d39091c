"""What the client's calls for looking around share: arguments checked, filters watched, and the collection asked for."""

from __future__ import annotations

from collections.abc import Iterator

from qdrant_client import QdrantClient

from gristmill.arguments import identifier, integer, tenant_name
from gristmill.search.browsing.facets import facets
from gristmill.search.browsing.order import asked_order
from gristmill.search.browsing.pages import MOST, Pages, asked_position
from gristmill.search.filters import Where, compile_filter
from gristmill.search.unindexed import Unindexed
from gristmill.search.unmatched import Unmatched
from gristmill.store.collections import Collections
from gristmill.store.indexes import field_path
from gristmill.store.tenancy import require_tenant
from gristmill_schemas import DocumentPage, Facet, StoredDocument

#: Most values of a field at once.
_MOST_VALUES = 10_000
#: Documents in memory of those that go through a whole collection.
_PAGE = 100


class Browser:
    """Looks through collections without a query."""

    def __init__(
        self,
        store: QdrantClient,
        collections: Collections,
        unmatched: Unmatched,
        unindexed: Unindexed,
        *,
        local: bool,
    ) -> None:
        self._store = store
        self._collections = collections
        self._unmatched = unmatched
        self._unindexed = unindexed
        self._local = local

    def scroll(
        self,
        collection: str,
        where: Where | None,
        tenant: str | None,
        limit: int,
        order_by: str | None,
        cursor: str | None,
    ) -> DocumentPage:
        """See `Client.scroll`."""
        owner, most = tenant_name(tenant), integer("limit", limit, 1, MOST)
        conditions = compile_filter(where, owner)
        spec = self._collections.get(identifier("collection", collection))
        require_tenant(spec, owner)
        order = None if order_by is None else asked_order(self._store, spec, order_by, owner, local=self._local)
        start = asked_position(cursor, order)
        with self._unindexed.watch(spec.name, conditions):
            page = Pages(self._store, spec, conditions, order).page(start, most)
        if conditions and not page.documents and cursor is None:
            self._unmatched.tell(spec.name, where, owner)
        return page

    def documents(
        self, collection: str, where: Where | None, tenant: str | None, order_by: str | None
    ) -> Iterator[StoredDocument]:
        """See `Client.documents`. What is wrong with the arguments is said at the call, and not at the first document."""
        first = self.scroll(collection, where, tenant, _PAGE, order_by, None)
        return self._onwards(first, collection, where, tenant, order_by)

    def _onwards(
        self, page: DocumentPage, collection: str, where: Where | None, tenant: str | None, order_by: str | None
    ) -> Iterator[StoredDocument]:
        yield from page.documents
        while page.cursor is not None:
            page = self.scroll(collection, where, tenant, _PAGE, order_by, page.cursor)
            yield from page.documents

    def facets(self, collection: str, field: str, where: Where | None, tenant: str | None, limit: int) -> list[Facet]:
        """See `Client.facets`."""
        path, owner = field_path("field", field), tenant_name(tenant)
        conditions, most = compile_filter(where, owner), integer("limit", limit, 1, _MOST_VALUES)
        spec = self._collections.get(identifier("collection", collection))
        require_tenant(spec, owner)
        with self._unindexed.watch(spec.name, conditions):
            found = facets(self._store, spec, path, conditions, most)
        if conditions and not found:
            self._unmatched.tell(spec.name, where, owner)
        return found
