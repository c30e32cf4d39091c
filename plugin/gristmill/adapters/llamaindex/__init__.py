"""Gristmill as LlamaIndex's embedding and vector store (extra `llamaindex`).

>>> store = GristmillVectorStore(client, collection="faq", instruction="preset:faq")
>>> index = VectorStoreIndex.from_vector_store(store, embed_model=MockEmbedding(embed_dim=1))    # the workers embed
>>> index.insert_nodes([TextNode(text="…")])                                                     # back once it is stored
>>> index.as_retriever(similarity_top_k=3, vector_store_query_mode="hybrid").retrieve("用了优惠券但没减钱")
"""

from gristmill.extras import brought_by

with brought_by("llamaindex", "gristmill.adapters.llamaindex"):
    import llama_index.core.base.embeddings.base
    import llama_index.core.vector_stores.utils  # noqa: F401  # only to see whether they are there

from gristmill.adapters.llamaindex.embedding import GristmillEmbedding
from gristmill.adapters.llamaindex.vector_store import GristmillVectorStore

__all__ = ["GristmillEmbedding", "GristmillVectorStore"]
