"""Texts to vectors for LlamaIndex, made by Gristmill's workers as its searches and ingests make them."""

from __future__ import annotations

from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from pydantic import PrivateAttr

from gristmill.adapters.clients import AnyClient, asked_client
from gristmill.adapters.vectors import Vectors

#: Texts per call; the client cuts them into requests of its own.
_AT_ONCE = 256


class GristmillEmbedding(BaseEmbedding):  # type: ignore[misc]  # mypy does not look into LlamaIndex
    """Vectors of a collection's model, or of any that workers serve, under the model's own templates."""

    collection: str | None = None
    model: str | None = None
    instruction: str | None = None
    lens: str | None = None
    _vectors: Vectors = PrivateAttr()

    def __init__(
        self,
        client: AnyClient | None = None,
        *,
        collection: str | None = None,
        model: str | None = None,
        instruction: str | None = None,
        lens: str | None = None,
        **fields: Any,
    ) -> None:
        """Nothing is asked for yet.

        Args:
            client: None opens one by `GRISTMILL_*` settings.
            collection: embed as it does: its model, dimensions and registered instructions.
            model: or by this model, at its full size; with neither, GRISTMILL_MODEL or the one that is served.
            instruction: what queries are embedded for: a sentence, a name registered with the collection, or a preset.
            lens: as this lens of the collection has its documents and queries.
            fields: those of every embedding of LlamaIndex, such as `callback_manager`.

        Raises:
            InvalidInput: `client` is none.
        """
        own = {"collection": collection, "model": model, "instruction": instruction, "lens": lens}
        usual = {"model_name": model or collection or "gristmill", "embed_batch_size": _AT_ONCE}
        super().__init__(**{**usual, **fields, **own})
        self._vectors = Vectors(asked_client(client), collection, model, instruction, lens)

    @classmethod
    def class_name(cls) -> str:
        """What LlamaIndex calls it."""
        return "GristmillEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._vectors.of_query(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._vectors.of_documents(text)

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._vectors.of_documents(texts)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await self._vectors.await_of_query(query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await self._vectors.await_of_documents(text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await self._vectors.await_of_documents(texts)
