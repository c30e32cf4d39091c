"""The tools that an MCP client sees. Their docstrings are what its model reads."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from gristmill.adapters.mcp.access import Access
from gristmill.adapters.mcp.answers import Found, KnownCollections, Stored, found, known
from gristmill.async_client import twin_of
from gristmill.client import Client
from gristmill_schemas import CollectionSpec
from gristmill_schemas.errors import InvalidInput

Collection = Annotated[
    str | None, Field(description="A name of list_collections; may be left out where there is one only.")
]


#: How a document that did not fail may end; `gone` with its collection, `cancelled` with its job.
_ENDS: Final = ("stored", "skipped", "superseded", "gone", "cancelled")


class Tools:
    """`find`, `list_collections` and `store` over one client, within the bounds of an access."""

    def __init__(self, client: Client, access: Access) -> None:
        self._access = access
        self._all: Any = twin_of(client)
        self._mine: Any = self._all if access.tenant is None else self._all.tenant(access.tenant)

    async def find(
        self,
        query: Annotated[str, Field(description="What is looked for: a question or a sentence, in any language.")],
        collection: Collection = None,
        instruction: Annotated[
            str | None,
            Field(description="What the search is for, in a sentence, or a registered name; often best left out."),
        ] = None,
        limit: Annotated[int, Field(ge=1, description="Most hits.")] = 5,
        mode: Annotated[
            Literal["dense", "keyword", "hybrid"],
            Field(description="dense: by meaning; keyword: by exact words, codes, numbers; hybrid: by both."),
        ] = "dense",
        where: Annotated[
            dict[str, Any] | None,
            Field(description='What metadata must be like: {"lang": "zh", "year": {"gte": 2020}, "tag": ["a", "b"]}.'),
        ] = None,
        lens: Annotated[str | None, Field(description="Another view of the documents, by its name.")] = None,
    ) -> Found:
        """Find documents that answer a question, by meaning, in any language; the best come first."""
        if limit > self._access.most_hits:
            raise InvalidInput(f"limit: expected at most {self._access.most_hits}, got {limit}", field="limit")
        name = await self._named(collection)
        hits = await self._mine.search(
            name,
            query,
            instruction=instruction or self._access.instruction,
            limit=limit,
            mode=mode,
            where=where,
            lens=lens,
        )
        return found(name, hits, self._access.most_characters)

    async def list_collections(self) -> KnownCollections:
        """The collections that can be searched: how many documents, which modes, lenses, instructions and filter fields."""
        return KnownCollections(collections=[await self._known(spec) for spec in await self._visible()])

    async def store(
        self,
        text: Annotated[str, Field(description="The document's text.")],
        collection: Collection = None,
        id: Annotated[
            str | None, Field(description="Its id; one that is there is replaced. Left out, it is made of the text.")
        ] = None,
        metadata: Annotated[
            dict[str, Any] | None, Field(description="What filters and readers shall know of it.")
        ] = None,
    ) -> Stored:
        """Store a document, so that it can be found; answers once it is."""
        name = await self._named(collection)
        given = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32] if id is None else id
        job = await self._mine.enqueue(name, {"id": given, "text": text, "metadata": metadata or {}})
        report = (await job.wait(self._access.store_wait_s)).raise_for_failures()
        state = next(each for each in _ENDS if getattr(report, each))
        return Stored(collection=name, id=given, state=state)

    async def _named(self, collection: str | None) -> str:
        allowed = self._access.collections
        if collection is not None and (not allowed or collection in allowed):
            return collection
        names = allowed or [spec.name for spec in await self._visible()]
        if collection is None and len(names) == 1:
            return names[0]
        there = ", ".join(map(repr, names)) or "none yet"
        raise InvalidInput(
            f"collection: expected one of this server's ({there}), got {collection!r}", field="collection"
        )

    async def _visible(self) -> list[CollectionSpec]:
        """Collections that exist for these clients: those that keep tenants apart only where the server is one's."""
        allowed = self._access.collections
        return [
            spec
            for spec in await self._all.collections.list()
            if (not allowed or spec.name in allowed) and not (spec.tenants and self._access.tenant is None)
        ]

    async def _known(self, spec: CollectionSpec) -> Any:
        indexes = await self._all.indexes.list(spec.name)
        documents = await self._mine.count(spec.name)
        return known(spec, documents, [(each.field, str(each.type)) for each in indexes])
