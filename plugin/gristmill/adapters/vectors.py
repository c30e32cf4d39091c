"""What an adapter's embeddings ask a client for: plain lists of numbers, asked for at once or awaited."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gristmill.adapters.clients import AnyClient
from gristmill.async_client import AsyncClient, AsyncTenantClient, twin_of


@dataclass(frozen=True)
class Vectors:
    """Vectors of a collection's model, or of any that workers serve, under the model's own templates."""

    client: AnyClient
    collection: str | None = None
    model: str | None = None
    instruction: str | None = None
    lens: str | None = None

    @cached_property
    def _awaited(self) -> AsyncClient | AsyncTenantClient:
        return twin_of(self.client)

    def of_documents(self, texts: str | list[str]) -> list[Any]:
        """As what is to be found: a vector per text, or the one of a single text. Raises what `Client.embed` raises."""
        return _plain(self.client.embed(texts, **self._documents))

    def of_query(self, text: str) -> list[float]:
        """As what is looked for, under the instruction. Raises what `Client.embed` raises."""
        return _plain(self.client.embed(text, **self._queries))

    async def await_of_documents(self, texts: str | list[str]) -> list[Any]:
        """See `of_documents`."""
        return _plain(await self._awaited.embed(texts, **self._documents))

    async def await_of_query(self, text: str) -> list[float]:
        """See `of_query`."""
        return _plain(await self._awaited.embed(text, **self._queries))

    @property
    def _documents(self) -> dict[str, Any]:
        return {"collection": self.collection, "model": self.model, "lens": self.lens, "kind": "document"}

    @property
    def _queries(self) -> dict[str, Any]:
        return {**self._documents, "kind": "query", "instruction": self.instruction}


def _plain(vectors: Any) -> list[Any]:
    found: list[Any] = vectors.tolist()
    return found
