"""Gristmill as LangChain's `Embeddings` and `VectorStore` (extra `langchain`).

>>> store = GristmillVectorStore(client, "faq", instruction="preset:faq", mode="hybrid")
>>> store.add_texts(["…"], [{"lang": "zh"}], ids=["42"])          # back once it is stored
>>> store.as_retriever(search_kwargs={"k": 3, "filter": {"lang": "zh"}}).invoke("用了优惠券但没减钱")
"""

from gristmill.extras import brought_by

with brought_by("langchain", "gristmill.adapters.langchain"):
    import langchain_core.embeddings
    import langchain_core.vectorstores  # noqa: F401  # only to see whether they are there

from gristmill.adapters.langchain.embeddings import GristmillEmbeddings
from gristmill.adapters.langchain.vector_store import GristmillVectorStore

__all__ = ["GristmillEmbeddings", "GristmillVectorStore"]
