"""Names that users of other libraries would write, of calls and of their parameters, answered with ours.

`@answers_habits` on a class: an unknown keyword argument raises Python's own TypeError, and an unknown method its own
AttributeError, each with the name that is probably meant. Costs one set difference per call.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

T = TypeVar("T", bound=type[Any])

#: Parameters of qdrant-client, chromadb, LangChain, LlamaIndex, pinecone, faiss and sentence-transformers.
_PARAMETERS: Final = {
    "collection": ("collection_name", "index", "index_name", "table", "collection_id"),
    "name": ("collection_name", "collection", "index_name", "model_name", "id"),
    "documents": ("docs", "points", "items", "records", "data", "texts", "document", "nodes"),
    "ids": ("id", "points", "point_ids", "doc_ids", "document_ids", "points_selector", "keys"),
    "document_id": ("id", "doc_id", "point_id"),
    "positive": ("like", "positives", "liked", "examples", "ids", "positive_ids"),
    "negative": ("unlike", "negatives", "disliked", "dislike", "negative_ids"),
    "letter_id": ("id", "letter"),
    "letter_ids": ("ids", "letters", "id"),
    "job_id": ("id", "job"),
    "notify": ("webhook", "webhook_url", "callback_url", "notify_url", "on_done", "on_complete"),
    "webhook_id": ("id", "webhook"),
    "webhook_ids": ("ids", "webhooks", "id"),
    "replicas": ("replication_factor",),
    "shards": ("shard_number",),
    "write_consistency": ("write_consistency_factor",),
    "quantization": ("quantization_config",),
    "hnsw": ("hnsw_config",),
    "changes": ("payload", "metadata", "set_payload", "values"),
    "vector": ("query_vector", "embedding", "query_embedding", "query", "vectors", "query_embeddings"),
    "query": ("query_text", "text", "q", "query_vector", "vector", "query_texts", "question"),
    "queries": ("query", "query_texts", "texts", "requests"),
    "texts": ("text", "input", "inputs", "sentences", "documents", "queries"),
    "instruction": ("prompt", "task", "prompt_name", "query_instruction", "task_description"),
    "lens": ("using", "vector_name", "named_vector", "view", "target_vector", "anns_field"),
    "lenses": ("lens", "vectors", "named_vectors", "views"),
    "where": ("query_filter", "filter", "filters", "scroll_filter", "count_filter", "expr", "metadata_filter"),
    "limit": ("top_k", "topk", "k", "n", "n_results", "size", "top", "num_results", "similarity_top_k"),
    "cursor": ("offset", "after", "page", "next_page_offset", "scroll_id", "page_token", "start", "token"),
    "order_by": ("sort", "sort_by", "order", "orderby"),
    "field": ("key", "facet", "group_by", "column"),
    "offset": ("skip", "start", "from_"),
    "score_threshold": ("threshold", "min_score", "similarity_cutoff", "relevance_threshold"),
    "mode": ("hybrid", "search_type", "search_mode", "query_type", "vector_store_query_mode", "alpha"),
    "fusion": ("fusion_type", "ranker", "hybrid_fusion", "rrf"),
    "candidates": ("num_candidates", "oversample", "oversampling", "prefetch_limit", "rank_window_size", "fetch_k"),
    "rerank": ("reranker", "rerank_model", "reranking", "cross_encoder"),
    "rerank_top": ("rerank_top_k", "rerank_k", "top_k_rerank", "rerank_limit", "rerank_candidates"),
    "keyword": ("hybrid", "sparse", "bm25", "keywords", "enable_hybrid", "sparse_vectors_config", "enable_sparse"),
    "group_by_document": ("group", "group_by", "unique"),
    "diversity": ("mmr", "mmr_lambda", "lambda_mult", "diversify", "mmr_diversity"),
    "boost": ("boosts", "formula", "score_boost", "decay", "recency", "function_score", "boosting"),
    "exact": ("exact_search", "brute_force"),
    "ef": ("hnsw_ef", "ef_search", "search_params", "efSearch"),
    "fields": ("with_payload", "output_fields", "include", "select", "return_fields", "payload_fields", "source"),
    "text": ("with_text", "include_text", "return_text"),
    "chunks_per_document": ("group_size", "hits_per_group", "chunks"),
    "context_chunks": ("neighbours", "neighbors", "window", "context", "surrounding_chunks"),
    "explain": ("debug", "profile", "explanation"),
    "tenant": ("namespace", "user", "partition", "tenant_id", "shard_key_selector"),
    "model": ("model_name", "embedding_model", "encoder", "embedding_function", "embeddings"),
    "indexes": ("payload_schema", "field_schema", "payload_indexes", "schema"),
    "dimensions": ("size", "vector_size", "dim", "dimension", "vectors_config", "truncate_dim"),
    "distance": ("metric", "space_type", "similarity"),
    "kind": ("input_type", "task_type", "type"),
    "timeout_s": ("timeout", "wait_s"),
    "wait_s": ("timeout", "timeout_s"),
    "progress": ("callback", "on_progress", "show_progress", "show_progress_bar"),
}
_METHODS: Final = {
    "enqueue": (
        "add", "add_documents", "add_texts", "upsert", "insert", "upload", "index", "ingest", "upload_points",
        "upload_collection", "upload_documents", "from_documents", "put", "submit", "send",
    ),
    "search": ("query", "query_points", "similarity_search", "find", "search_points"),
    "search_by_vector": ("similarity_search_by_vector", "query_by_vector", "query_vector", "search_vector"),
    "similar": ("more_like_this", "mlt", "similar_to", "neighbors", "nearest", "get_similar", "related", "find_similar"),
    "recommend": ("recommendations", "recommend_points", "discover", "recommend_batch"),
    "rerank": ("rerank_documents", "rank", "compress_documents", "rerank_texts", "score"),
    "search_many": ("search_batch", "query_batch", "query_batch_points", "batch_search"),
    "scroll": ("list", "list_documents", "documents", "all", "iterate", "iter", "scan", "browse", "peek", "scroll_points"),
    "facets": ("facet", "aggregate", "value_counts", "distinct", "terms", "group_counts"),
    "get": ("retrieve", "fetch", "get_documents", "get_by_ids", "get_document"),
    "update_metadata": ("set_payload", "overwrite_payload", "update", "update_payload"),
    "delete_where": ("delete_by_filter", "delete_by_query"),
    "delete": ("remove", "delete_points", "delete_documents"),
    "embed": ("encode", "embed_query", "embed_documents", "embeddings", "get_embeddings"),
    "create_collection": ("recreate_collection", "create_index", "create", "get_or_create_collection"),
    "collections.list": ("get_collections", "list_collections"),
    "collections.get": ("get_collection", "collection", "describe_collection", "collection_exists", "collection_info"),
    "collections.delete": ("delete_collection", "drop_collection", "drop"),
    "indexes.create": ("create_payload_index", "create_field_index", "ensure_index"),
    "indexes.drop": ("delete", "delete_payload_index", "remove"),
    "instructions.register": ("add", "create", "set", "save", "push", "push_prompt", "register_prompt", "create_prompt"),
    "instructions.show": ("load", "pull", "get_prompt", "load_prompt", "pull_prompt"),
    "instructions.list": ("list_prompts", "versions", "search_prompts"),
    "instructions.retire": ("delete", "drop", "remove", "archive", "deprecate", "delete_prompt"),
    "jobs.get": ("job", "get_job", "status", "result"),
    "jobs.list": ("list_jobs", "get_jobs"),
    "dead.list": ("dead_letters", "failed", "failures"),
    "tenants.list": ("list_tenants", "get_tenants"),
    "tenants.limit": ("set_limit", "set_quota", "quota", "set", "update"),
    "tenants.unlimit": ("reset", "delete_quota", "remove_limit", "drop"),
    "models.list": ("list_models", "get_models"),
    "query_cache_info": ("cache_info", "query_cache", "cache"),
    "close": ("disconnect", "shutdown"),
}  # fmt: skip
#: How alike two names must be for one to be a mistyping of the other.
_ALIKE = 0.7


def answers_habits(cls: T) -> T:
    """Class decorator: see the module."""
    for name, method in list(vars(cls).items()):
        if not name.startswith("_") and inspect.isfunction(method) and not inspect.isasyncgenfunction(method):
            setattr(cls, name, _answering(cls.__name__, method))
    cls.__getattr__ = _missing  # for Python alone: a type checker shall see what there is
    return cls


def _answering(owner: str, method: Callable[..., Any]) -> Callable[..., Any]:
    known = [each for each in inspect.signature(method).parameters if each != "self"]
    names = frozenset(known)

    def check(given: Mapping[str, object]) -> None:
        for name in given:
            if name not in names:
                caller = f"{owner}.{method.__name__}()"
                raise TypeError(
                    f"{caller} got an unexpected keyword argument {name!r}{_hint(name, known, _PARAMETERS)}"
                )

    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def awaited(*args: Any, **given: Any) -> Any:
            check(given)
            return await method(*args, **given)

        return awaited

    @functools.wraps(method)
    def call(*args: Any, **given: Any) -> Any:
        check(given)
        return method(*args, **given)

    return call


def _missing(self: object, name: str) -> Any:
    told = f"{type(self).__name__!r} object has no attribute {name!r}"
    if name.startswith("_"):  # Python itself asks for these, before there is an object to ask
        raise AttributeError(told)
    have = [each for each in (*dir(type(self)), *vars(self)) if not each.startswith("_")]
    groups = {each.partition(".")[0] for each in _METHODS} & set(have)
    ours = [each for each in _METHODS if each.partition(".")[0] in groups] + have
    raise AttributeError(told + _hint(name, ours, _METHODS))


def _hint(name: str, known: list[str], table: Mapping[str, tuple[str, ...]]) -> str:
    meant = [ours for ours in known if name.lower() in table.get(ours, ())]
    meant = meant or difflib.get_close_matches(name.lower(), known, n=1, cutoff=_ALIKE)
    if meant:
        return f"; did you mean `{meant[0]}`?"
    return f"; expected one of {', '.join(sorted(known))}" if table is _PARAMETERS else ""


class Group:
    """Base of what a client has beside its own calls: `client.jobs`, `client.dead`. Its repr says what can be done."""

    def __repr__(self) -> str:
        calls = (name for name, each in vars(type(self)).items() if inspect.isfunction(each) and name[0] != "_")
        return f"<{type(self).__name__}: {', '.join(sorted(calls))}>"
