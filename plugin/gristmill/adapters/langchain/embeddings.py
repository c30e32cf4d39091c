"""Texts to vectors for LangChain, made by Gristmill's workers as its searches and ingests make them."""

from __future__ import annotations

from langchain_core.embeddings import Embeddings

from gristmill.adapters.clients import AnyClient, asked_client
from gristmill.adapters.vectors import Vectors


class GristmillEmbeddings(Embeddings):  # type: ignore[misc]  # mypy does not look into LangChain
    """Vectors of a collection's model, or of any that workers serve, under the model's own templates."""

    def __init__(
        self,
        client: AnyClient | None = None,
        *,
        collection: str | None = None,
        model: str | None = None,
        instruction: str | None = None,
        lens: str | None = None,
    ) -> None:
        """Nothing is asked for yet.

        Args:
            client: None opens one by `GRISTMILL_*` settings.
            collection: embed as it does: its model, dimensions and registered instructions.
            model: or by this model, at its full size; with neither, GRISTMILL_MODEL or the one that is served.
            instruction: what queries are embedded for: a sentence, a name registered with the collection, or a preset.
            lens: as this lens of the collection has its documents and queries.

        Raises:
            InvalidInput: `client` is none.
        """
        self.client = asked_client(client)
        self.collection = collection
        self.model = model
        self._vectors = Vectors(self.client, collection, model, instruction, lens)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector per text, to be found; an empty list for none. Raises what `Client.embed` raises."""
        return self._vectors.of_documents(texts)

    def embed_query(self, text: str) -> list[float]:
        """The vector of what is looked for, under the instruction. Raises what `Client.embed` raises."""
        return self._vectors.of_query(text)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """See `embed_documents`."""
        return await self._vectors.await_of_documents(texts)

    async def aembed_query(self, text: str) -> list[float]:
        """See `embed_query`."""
        return await self._vectors.await_of_query(text)
