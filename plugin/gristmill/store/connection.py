"""The connection to Qdrant: opening it, refusing servers that are too old, and translating its errors into ours."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import grpc
import httpx
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from gristmill.settings import ClientSettings
from gristmill_schemas.errors import (
    CollectionNotFound,
    GristmillError,
    InvalidInput,
    ServerTooOld,
    StoreRefused,
    StoreUnavailable,
)

#: First server with conditional upserts and collection metadata. Older ones silently ignore both: no fence at all.
MIN_SERVER = (1, 16)

#: Answers that may change when asked again. PERMISSION_DENIED is among them: a rotated key or a read-only cluster must
#: make workers wait and say so, never make them declare documents dead.
_TRANSIENT_GRPC = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
}
#: Those by which a server says that something went wrong within it, at this request.
_INTERNAL_GRPC = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
#: By which it refuses more points than its rate limit ever allows at once: waiting does not help, halves do.
_TOO_MANY_POINTS = "request larger than rate limiter capacity"
_TRANSIENT_HTTP = {401, 403, 408, 425, 429, 500, 502, 503, 504, 507}


def open_store(settings: ClientSettings) -> QdrantClient:
    """Connect to the Qdrant server of the settings. Nothing is sent yet.

    gRPC carries arrays as they are (REST turns them into JSON floats); the version check is `require_server`, since the
    client's own only warns.
    """
    key = settings.qdrant_api_key
    return QdrantClient(
        url=settings.qdrant_url,
        grpc_port=settings.qdrant_grpc_port,
        prefer_grpc=True,
        api_key=key.get_secret_value() if key else None,
        timeout=settings.qdrant_timeout_s,
        check_compatibility=False,
    )


def open_local_store(path: str) -> QdrantClient:
    """Qdrant's local mode in this process (`:memory:` or a folder), made safe for threads by one lock."""
    try:
        client = (
            QdrantClient(":memory:")
            if path == ":memory:"
            else QdrantClient(path=path, force_disable_check_same_thread=True)
        )
    except RuntimeError as error:
        raise StoreUnavailable(f"path: {path} is in use by another process: {error}", field="path") from error
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"path: expected a folder that can be written, got {path!r}: {error}", field="path"
        ) from error
    return cast("QdrantClient", _OneAtATime(client))


class _OneAtATime:
    """Every method of the local client under one lock: it keeps plain Python lists and was not made for threads."""

    def __init__(self, client: QdrantClient) -> None:
        self._client = client
        self._lock = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if not callable(attribute):
            return attribute

        @functools.wraps(attribute)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                return attribute(*args, **kwargs)

        return call


@contextmanager
def store_errors(collection: str | None = None) -> Iterator[None]:
    """Translate whatever the client raises: `StoreUnavailable` where waiting may help, `StoreRefused` where not."""
    try:
        yield
    except GristmillError:  # ours already, though some are ValueErrors too
        raise
    except ResourceExhaustedResponse as error:
        raise StoreUnavailable(f"Qdrant limits our rate: {error}", retry_after_s=float(error.retry_after_s)) from error
    except grpc.RpcError as error:
        raise _from_grpc(error, collection) from error
    except UnexpectedResponse as error:
        raise _from_http(error, collection) from error
    except (ResponseHandlingException, httpx.HTTPError, ConnectionError) as error:
        raise StoreUnavailable(_away(error)) from error
    except ValueError as error:  # all that local mode ever raises; of a server's client: what does not fit on the wire
        if re.fullmatch("Collection .* not found", str(error), re.DOTALL):
            raise _not_found(collection, str(error)) from error
        raise StoreRefused(f"Qdrant refused: {error}", collection=collection) from error


def _from_grpc(error: grpc.RpcError, collection: str | None) -> Exception:
    code, details = error.code(), str(error.details() or "")
    if code is grpc.StatusCode.NOT_FOUND:
        return _not_found(collection, details)
    if code in _TRANSIENT_GRPC and _TOO_MANY_POINTS not in details:
        return StoreUnavailable(_away(f"{code.name}: {details}"), may_be_the_request=code in _INTERNAL_GRPC)
    return StoreRefused(f"Qdrant refused: {details} ({code.name})", collection=collection)


def _from_http(error: UnexpectedResponse, collection: str | None) -> Exception:
    details = error.content.decode(errors="replace")[:500]
    if error.status_code == 404:
        return _not_found(collection, details)
    if error.status_code in _TRANSIENT_HTTP:
        retry_after = error.headers.get("retry-after") if error.headers else None
        wait_s = float(retry_after) if retry_after and retry_after.isdigit() else None
        return StoreUnavailable(
            _away(f"HTTP {error.status_code}: {details}"),
            retry_after_s=wait_s,
            may_be_the_request=error.status_code == 500,
        )
    return StoreRefused(f"Qdrant refused: {details} (HTTP {error.status_code})", collection=collection)


def _not_found(collection: str | None, details: str) -> CollectionNotFound:
    return CollectionNotFound(
        f"collection {collection!r} does not exist ({details}). `gristmill collections list` shows those that do; "
        "`client.create_collection(...)` makes one.",
        collection=collection,
    )


def _away(error: object) -> str:
    return f"Qdrant cannot be used: {error}. Start one (version 1.16 or newer), or set GRISTMILL_QDRANT_URL."


def require_server(store: QdrantClient) -> str:
    """The server's version.

    Raises:
        ServerTooOld: it would silently ignore conditional writes.
        StoreUnavailable: it does not answer.
    """
    with store_errors():
        version = store.info().version
    parts = tuple(int(part) for part in version.split("-")[0].split(".")[:2])
    if parts < MIN_SERVER:
        raise ServerTooOld(
            f"Qdrant {version} silently ignores conditional writes, so older documents could overwrite newer ones; "
            f"expected {MIN_SERVER[0]}.{MIN_SERVER[1]} or newer: upgrade the server."
        )
    return version
