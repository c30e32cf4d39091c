"""The connection to Qdrant: opening it, refusing servers that are too old, and translating its errors into ours."""

from __future__ import annotations

import functools
import json
import re
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import grpc
import httpx
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
from qdrant_client.qdrant_remote import QdrantRemote

from gristmill.proxies import Way, grpc_options
from gristmill.retry_after import retry_after_s
from gristmill.settings import ClientSettings
from gristmill_schemas.errors import (
    CollectionNotFound,
    GristmillError,
    InvalidInput,
    RequestTooLarge,
    ServerTooOld,
    StoreRefused,
    StoreUnavailable,
)
from gristmill_schemas.redaction import clean_causes

#: First server with conditional upserts and collection metadata. Older ones silently ignore both: no fence at all.
MIN_SERVER = (1, 16)

#: How answers are asked for as they are. Both protocols would have Qdrant compress each, which costs it more than a fast
#: line gains: a page of 256 points with 1,024 numbers and a paragraph each takes 175 ms instead of 24 over gRPC on the same
#: machine, 57 instead of 30 over REST.
_PLAIN_GRPC: Final = {"grpc.compression_enabled_algorithms_bitset": 1 << grpc.Compression.NoCompression.value}
_PLAIN_HTTP: Final = {"Accept-Encoding": "identity"}

#: Answers that may change when asked again. PERMISSION_DENIED is among them: a rotated key or a read-only cluster must
#: make workers wait and say so, never make them declare documents dead. UNIMPLEMENTED is what anything says that is not
#: Qdrant, and what becomes of a proxy's "404".
_TRANSIENT_GRPC = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
}
#: Those by which a server says that something went wrong within it, at this request.
_INTERNAL_GRPC = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
#: Of these, those that a key decides.
_DENIED_GRPC = {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}
_DENIED_HTTP = {401, 403}
_TRANSIENT_HTTP = {401, 403, 408, 425, 429, 500, 502, 503, 504, 507}
#: Answers of something before Qdrant that may be about what was asked: a filter of texts, a bug in it.
_ABOUT_THE_REQUEST = {400, 403, 422, 500}
#: By which Qdrant refuses more points than its rate limit ever allows at once: waiting does not help, halves do.
_TOO_MANY_POINTS = "request larger than rate limiter capacity"
#: By which it, gRPC or a proxy refuses more bytes than it takes at once: halves help here, too.
_TOO_MANY_BYTES = re.compile(
    r"JSON payload .* larger than allowed|message (length too large|larger than max)|status: 413"
)
#: By which a cluster says that nodes of its own are away: it would have said so to any other request, too.
_NODES_AWAY = re.compile(
    r"active replica|`Active` replica|ordering via leader peer|no leader could be selected|read operations failed"
    r"|Consistency of this update is not guaranteed"
)
_NO_SUCH_COLLECTION = re.compile(r"(Not found: )?Collection .* (not found|doesn't exist)", re.DOTALL)


def open_store(settings: ClientSettings) -> QdrantClient:
    """Connect to the Qdrant server of the settings. Nothing is sent yet.

    gRPC carries arrays as they are, REST turns them into JSON; the version check is `require_server`, since the client's own
    only warns.
    """
    key, address = settings.qdrant_api_key, settings.qdrant_address
    place = "https" if address.tls else "http", address.host
    compressed = settings.qdrant_compression
    return QdrantClient(
        # Not as a URL, of which the client ignores some parts.
        host=address.host,
        port=address.port,
        https=address.tls,
        prefix=address.prefix or None,
        headers=_basic(address.login),
        grpc_port=settings.qdrant_grpc_port,
        prefer_grpc=settings.qdrant_prefer_grpc,
        api_key=key.get_secret_value() if key else None,
        timeout=settings.qdrant_timeout_s,
        check_compatibility=False,
        # Not only in the cloud: a text whose words the server shall weigh is handed on as it is, and not looked for.
        cloud_inference=True,
        grpc_options=grpc_options(*place, settings.qdrant_grpc_port) | ({} if compressed else _PLAIN_GRPC),
        metadata={} if compressed else _PLAIN_HTTP,
        transport=Way(*place, address.port),
    )


def _basic(login: tuple[str, str] | None) -> dict[str, str] | None:
    """What a proxy before Qdrant is shown. In lower case, since gRPC takes no other names."""
    return None if login is None else {"authorization": "Basic " + b64encode(":".join(login).encode()).decode()}


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


def is_server(store: QdrantClient) -> bool:
    """Whether a server answers, and not local mode."""
    return isinstance(getattr(store, "_client", None), QdrantRemote)


def speaks_grpc(store: QdrantClient) -> bool:
    """Whether this is a server's client that writes over gRPC; local mode writes over nothing."""
    return is_server(store) and bool(cast("QdrantRemote", store._client)._prefer_grpc)


@clean_causes
@contextmanager
def store_errors(collection: str | None = None) -> Iterator[None]:
    """Translate whatever the client raises: `StoreUnavailable` where waiting may help, `StoreRefused` where not."""
    try:
        yield
    except GristmillError:  # ours already, though some are ValueErrors too
        raise
    except ResourceExhaustedResponse as error:
        raise _limited(str(error), float(error.retry_after_s)) from error
    except QdrantException as error:  # the same, with a date as Retry-After
        raise _limited(str(error), None) from error
    except grpc.RpcError as error:
        raise _from_grpc(error, collection) from error
    except UnexpectedResponse as error:
        raise _from_http(error, collection) from error
    except (ResponseHandlingException, httpx.HTTPError, ConnectionError) as error:
        raise StoreUnavailable(_away(_gist(str(error) or repr(error)))) from error
    except AssertionError as error:  # the client's own, at an answer without what it must hold
        raise StoreUnavailable(_away(f"what answers is not Qdrant ({error})")) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:  # an answer that is none; not what we send
        raise StoreUnavailable(_away(f"what answers is not Qdrant ({error})")) from error
    except ValueError as error:  # all that local mode ever raises; of a server's client: what does not fit on the wire
        if _NO_SUCH_COLLECTION.match(str(error)):
            raise _not_found(collection, str(error)) from error
        raise StoreRefused(f"Qdrant refused: {error}", collection=collection) from error


def _limited(said: str, retry_after_s: float | None) -> StoreUnavailable:
    return StoreUnavailable(f"Qdrant limits our rate: {said}", retry_after_s=retry_after_s)


def _from_grpc(error: grpc.RpcError, collection: str | None) -> Exception:
    code, details = error.code(), str(error.details() or "")
    if code is grpc.StatusCode.NOT_FOUND and _NO_SUCH_COLLECTION.match(details):
        return _not_found(collection, details)
    if _TOO_MANY_BYTES.search(details):
        return RequestTooLarge(f"Qdrant refused: {_gist(details)} ({code.name})", collection=collection)
    if code in _TRANSIENT_GRPC and _TOO_MANY_POINTS not in details:
        suspect = code in _INTERNAL_GRPC and not _NODES_AWAY.search(details)
        said = f"{code.name}: {details}"
        reason = _away(said, _KEY_WAY_OUT) if code in _DENIED_GRPC else _grpc_away(said)
        return StoreUnavailable(reason, may_be_the_request=suspect)
    return StoreRefused(f"Qdrant refused: {details} ({code.name})", collection=collection)


def _from_http(error: UnexpectedResponse, collection: str | None) -> Exception:
    said, status = _said(error.content), error.status_code or 0
    if status == 413 or (said and _TOO_MANY_BYTES.search(said)):
        text = said or _gist(error.content.decode(errors="replace"))
        return RequestTooLarge(f"Qdrant or a proxy before it refused: {text} (HTTP {status})", collection=collection)
    if said is None:
        return _from_between(error)
    if status == 404 and _NO_SUCH_COLLECTION.match(said):
        return _not_found(collection, said)
    if status in _TRANSIENT_HTTP and _TOO_MANY_POINTS not in said:
        wait_s = retry_after_s(error.headers)
        suspect = status == 500 and not _NODES_AWAY.search(said)
        reason = _away(f"HTTP {status}: {said}", _KEY_WAY_OUT if status in _DENIED_HTTP else _WAY_OUT)
        return StoreUnavailable(reason, wait_s, may_be_the_request=suspect)
    return StoreRefused(f"Qdrant refused: {said} (HTTP {status})", collection=collection)


def _from_between(error: UnexpectedResponse) -> StoreUnavailable:
    """The answer of a proxy, or of something that is no Qdrant at all. It says nothing about any collection."""
    status, gist = error.status_code or 0, _gist(error.content.decode(errors="replace")) or "an empty answer"
    if status == 401:
        reason = _away(f"HTTP 401: {gist}", "Set GRISTMILL_QDRANT_API_KEY, or see to the proxy before it.")
    else:
        reason = _away(f"HTTP {status} ({gist}) is no answer of Qdrant's but of a proxy or of another server")
    wait_s = retry_after_s(error.headers)
    return StoreUnavailable(reason, wait_s, may_be_the_request=status in _ABOUT_THE_REQUEST)


def _said(content: bytes) -> str | None:
    """What Qdrant says in an error of its own, `{"status": {"error": …}}`; None where somebody else speaks."""
    try:
        said = json.loads(content)["status"]["error"]
    except (ValueError, TypeError, LookupError):
        return None
    return said if isinstance(said, str) else None


def _gist(text: str) -> str:
    """A foreign answer on one line: without its tags, and cut."""
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())[:200]


def _not_found(collection: str | None, details: str) -> CollectionNotFound:
    return CollectionNotFound(
        f"collection {collection!r} does not exist ({details}). `gristmill collections list` shows those that do; "
        "`client.create_collection(...)` makes one.",
        collection=collection,
    )


_WAY_OUT = "Start one (version 1.16 or newer), or set GRISTMILL_QDRANT_URL."
_KEY_WAY_OUT = (
    "Set GRISTMILL_QDRANT_API_KEY to a key or token that may do this (docs/howto/servers.md has what each role needs), or "
    "GRISTMILL_QDRANT_URL where another server is meant."
)
_GRPC_WAY_OUT = (
    "Start one (version 1.16 or newer), or set GRISTMILL_QDRANT_URL and GRISTMILL_QDRANT_GRPC_PORT; where only its REST "
    "address can be reached, GRISTMILL_QDRANT_PREFER_GRPC=false keeps to that."
)


def _away(error: object, way_out: str = _WAY_OUT) -> str:
    return f"Qdrant cannot be used: {str(error).rstrip('.')}. {way_out}"


def _grpc_away(error: str) -> str:
    return f"Qdrant cannot be used over gRPC: {error.rstrip('.')}. {_GRPC_WAY_OUT}"


def require_server(store: QdrantClient) -> str:
    """The server's version.

    Raises:
        ServerTooOld: it would silently ignore conditional writes.
        StoreUnavailable: it does not answer.
    """
    version = _version(store)
    parts = tuple(int(part) for part in version.split("-")[0].split(".")[:2])
    if parts < MIN_SERVER:
        raise ServerTooOld(
            f"Qdrant {version} silently ignores conditional writes, so older documents could overwrite newer ones; "
            f"expected {MIN_SERVER[0]}.{MIN_SERVER[1]} or newer: upgrade the server."
        )
    return version


def _version(store: QdrantClient) -> str:
    try:
        with store_errors():
            return store.info().version
    except StoreUnavailable as away:
        if speaks_grpc(store) and (version := _version_over_rest(store)):
            remote = cast("QdrantRemote", store._client)
            raise StoreUnavailable(
                f"Qdrant {version} answers at {remote.rest_uri}, but not over gRPC at port {remote._grpc_port}: set "
                "GRISTMILL_QDRANT_GRPC_PORT to the port that leads there, or GRISTMILL_QDRANT_PREFER_GRPC=false to keep to "
                f"REST, which is slower. ({away})"
            ) from away
        raise


def _version_over_rest(store: QdrantClient) -> str | None:
    try:
        with store_errors():
            return cast("QdrantRemote", store._client).http.service_api.root().version
    except StoreUnavailable:
        return None


def describe_transport(settings: ClientSettings) -> str:
    """Which way points go, for logs and `gristmill doctor`."""
    if settings.qdrant_prefer_grpc:
        return f"over gRPC, port {settings.qdrant_grpc_port}"
    return "over REST (GRISTMILL_QDRANT_PREFER_GRPC=false): writing is slower than over gRPC, all else is the same"
