"""The network as a webhook may use it: checked addresses only, and an end to every wait.

The URL of a webhook comes from whoever enqueues, and is asked for from inside an operator's network. So a name is resolved
once, every address that it has is checked, and the connection goes to one of those, by its number: a name that means
something else a moment later changes nothing. TLS and the `Host` header still speak of the name, since httpcore, whose
network this is, knows nothing else. No proxy stands in between, whatever the environment says: it would resolve the name
again.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import httpcore

from gristmill.ingest.notify import Address, Network, is_allowed

#: Addresses of a name that are tried.
_TRIED = 3

#: Addresses of a name: host and port in, numbers out.
Resolve = Callable[[str, int], Sequence[str]]


class AddressRefused(Exception):
    """A name, or a number, that no webhook may go to."""


def resolve(host: str, port: int) -> list[str]:
    """Addresses of a name, or the one that it is, however it is written (`127.1`, `0x7f000001`), in the system's order.

    Raises:
        OSError: it has none, or nobody answers.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


class Deadline:
    """When one attempt is over, from its name to the end of its answer."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def left(self, error: type[Exception]) -> float:
        """Seconds; `error` is raised where there are none."""
        if (left := self._until - time.monotonic()) <= 0:
            raise error
        return left


class CheckedNetwork(httpcore.NetworkBackend):
    """Connects to addresses that a webhook may go to, and to no other. One per attempt."""

    def __init__(self, private: Iterable[Network], deadline: Deadline, secure: bool, resolve: Resolve) -> None:
        """`private`: networks that are allowed beside public addresses. `secure`: TLS will be spoken."""
        self._private = tuple(private)
        self._deadline = deadline
        self._secure = secure
        self._resolve = resolve

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # the deadline says it
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolve, check every address, connect to the first that answers."""
        addresses = self._checked(host, [ipaddress.ip_address(each) for each in self._resolve(host, port)])
        for tried, address in enumerate(addresses[:_TRIED], start=1):
            left = self._deadline.left(httpcore.ConnectTimeout)
            try:
                stream = httpcore.SyncBackend().connect_tcp(str(address), port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if tried == len(addresses[:_TRIED]):
                    raise
            else:
                return _Bounded(stream, self._deadline)
        raise httpcore.ConnectError("the name has no address")

    def _checked(self, host: str, addresses: Sequence[Address]) -> Sequence[Address]:
        """All of them, where all of them may be asked: a name that mixes both kinds is up to something."""
        for address in addresses:
            if not is_allowed(address, self._private, secure=self._secure):
                meant = "" if str(address) == host else f"{host} is at {address}: "
                kind = "no public address" if self._secure else "asked for without TLS"
                raise AddressRefused(
                    f"{meant}{address} is {kind}, and in no network of GRISTMILL_WEBHOOK_PRIVATE_NETWORKS"
                )
        return addresses

    def connect_unix_socket(self, *_: object, **__: object) -> httpcore.NetworkStream:
        """Never."""
        raise AddressRefused("webhooks go to no socket of this machine")


class _Bounded(httpcore.NetworkStream):
    """A connection on which every wait ends with the deadline: whoever answers a byte at a time gains nothing by it."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.left(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(httpcore.ConnectTimeout)
        return _Bounded(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
