"""Settings as keyword arguments: their names and types, and an answer to names that are another library's.

The two dictionaries repeat the fields of `ClientSettings` and of the worker's settings, so that editors and type checkers
know them; a test keeps them equal to the classes. Defaults, bounds and meanings are on the classes alone.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypedDict, TypeVar, get_type_hints

from pydantic import SecretStr

F = TypeVar("F", bound=Callable[..., Any])


class _SharedOptions(TypedDict, total=False):
    redis_url: str | None
    redis_timeout_s: float | None
    key_prefix: str | None
    qdrant_url: str | None
    qdrant_grpc_port: int | None
    qdrant_prefer_grpc: bool | None
    qdrant_compression: bool | None
    qdrant_api_key: str | SecretStr | None
    qdrant_timeout_s: int | None
    start_wait_s: float | None
    model: str | None
    reranker: str | None
    queue_max_documents: int | None
    queue_max_bytes: int | None
    tenant_max_documents: int | None
    tenant_max_tokens: int | None
    tenant_max_bytes: int | None
    dead_max_bytes: int | None
    dead_text_ttl_s: int | None
    jobs_kept: int | None
    roster: bool | None
    query_timeout_s: float | None
    rerank_timeout_s: float | None
    query_cache_bytes: int | None
    job_ttl_s: int | None
    tombstone_ttl_s: int | None
    scale_tokens_per_s: float | None


class ClientOptions(_SharedOptions, total=False):
    """Every setting of an application; None means not given."""

    embedded_path: str | None


class EmbeddedOptions(_SharedOptions, total=False):
    """Every setting of an application and of a worker but the place, which `Client.embedded` takes first."""

    revision: str | None
    trust_remote_code: bool | None
    device: str | None
    dtype: str | None
    pooling: str | None
    max_tokens: int | None
    reranker_revision: str | None
    reranker_max_tokens: int | None
    budget_tokens: int | None
    remote_api_key: str | SecretStr | None
    remote_wait_s: float | None
    threads: int | None
    max_attempts: int | None
    lease_s: float | None
    reconcile_every_s: float | None
    encode_timeout_s: float | None
    drain_timeout_s: float | None
    webhook_secret: str | SecretStr | None
    webhook_private_networks: str | None
    webhook_attempts: int | None
    webhook_retry_s: float | None
    webhook_timeout_s: float | None
    metrics_port: int | None
    metrics_host: str | None
    server_wait_s: float


#: What users of qdrant-client, redis, celery, openai and sentence-transformers would write, and what it is here.
_ELSEWHERE = {
    **dict.fromkeys(("url", "uri", "host", "port", "https", "qdrant", "qdrant_host", "qdrant_port"), "qdrant_url"),
    **dict.fromkeys(("grpc_port", "grpc_url", "grpc_options"), "qdrant_grpc_port"),
    **dict.fromkeys(("prefer_grpc", "grpc", "use_grpc"), "qdrant_prefer_grpc"),
    **dict.fromkeys(("api_key", "apikey", "token", "auth_token_provider", "qdrant_key"), "qdrant_api_key"),
    **dict.fromkeys(("path", "location", "in_memory"), "embedded_path"),
    **dict.fromkeys(("timeout", "timeout_s", "request_timeout", "qdrant_timeout"), "qdrant_timeout_s"),
    **dict.fromkeys(("socket_timeout", "socket_connect_timeout", "redis_timeout"), "redis_timeout_s"),
    **dict.fromkeys(
        ("broker", "broker_url", "redis", "redis_host", "redis_port", "backend", "result_backend", "db"), "redis_url"
    ),
    **dict.fromkeys(("prefix", "namespace", "global_keyprefix", "redis_prefix"), "key_prefix"),
    **dict.fromkeys(
        ("model_name", "model_name_or_path", "model_id", "model_path", "embedding_model", "encoder", "base_url"),
        "model",
    ),
    **dict.fromkeys(("cache", "cache_size", "query_cache", "query_cache_size", "embedding_cache"), "query_cache_bytes"),
    **dict.fromkeys(("rerank_model", "reranker_model", "cross_encoder", "rerank"), "reranker"),
    **dict.fromkeys(("cuda", "gpu"), "device"),
    **dict.fromkeys(("torch_dtype", "precision"), "dtype"),
    **dict.fromkeys(("max_seq_length", "max_length"), "max_tokens"),
    **dict.fromkeys(("batch_size", "max_batch_tokens"), "budget_tokens"),
    **dict.fromkeys(("concurrency", "max_workers", "parallel", "num_workers"), "threads"),
}


def takes(options: type[Any], defaults: Mapping[str, Any] = MappingProxyType({})) -> Callable[[F], F]:
    """Make a function's `**options` visible name by name in `help()` and `inspect.signature`; the usual default is None."""

    def reveal(function: F) -> F:
        plain = inspect.signature(function)
        own = [each for each in plain.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        known = {each.name for each in own}
        more = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults.get(name), annotation=kind)
            for name, kind in get_type_hints(options).items()
            if name not in known
        ]
        function.__signature__ = plain.replace(parameters=own + more)  # type: ignore[attr-defined]  # where inspect looks
        return function

    return reveal


def check_names(caller: str, given: Mapping[str, object], known: Iterable[str]) -> None:
    """Raise TypeError for a name that is no option, with the one that is probably meant."""
    names = list(known)
    for name in given:
        if name not in names:
            raise TypeError(f"{caller} got an unexpected keyword argument {name!r}{_hint(name, names)}")


def _hint(name: str, known: list[str]) -> str:
    meant = _ELSEWHERE.get(name.lower())
    # `Client.embedded` has the place as its first argument, under its own name.
    if meant == "embedded_path" and meant not in known:
        meant = "path"
    if meant is None or meant not in known:
        close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
        meant = close[0] if close else None
    if meant:
        return f"; did you mean `{meant}`?"
    if name in get_type_hints(EmbeddedOptions) or _ELSEWHERE.get(name) in get_type_hints(EmbeddedOptions):
        return "; that is a setting of the worker: `gristmill worker` and `Client.embedded` take it"
    return f"; expected one of {', '.join(sorted(known))}"


@functools.cache
def names_of(options: type[Any]) -> tuple[str, ...]:
    """The names of an options dictionary."""
    return tuple(get_type_hints(options))
