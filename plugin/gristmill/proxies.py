"""The way to a server over HTTP: through the proxy that the environment names, or straight.

`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` mean what they mean to curl, with two differences to what libraries
make of them: a server on this machine is never asked through a proxy, and what a variable says wrongly (a scheme that
needs a package, an address in `NO_PROXY` that httpx cannot read) matters when a request needs it, and is then said by name.
The same way is taken by REST and by gRPC.
"""

from __future__ import annotations

import ipaddress
import os
import re
import threading
from dataclasses import dataclass
from typing import Any
from urllib.request import getproxies

import httpx

from gristmill_schemas.redaction import redact, remember_url

_SCHEMES = ("http://", "https://", "socks5://", "socks5h://")
#: A host or network, in brackets or not, and a port.
_ENTRY = re.compile(
    r"(?:\w+://)?(?:\[(?P<bracketed>[^\]]+)\]|(?P<plain>[^:\[\]]+)|(?P<ipv6>[0-9A-Fa-f:.]+(?:/\d+)?))(?::(?P<port>\d+))?"
)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and which variable names it."""

    variable: str
    url: str

    def __str__(self) -> str:
        return f"{self.variable}={redact(self.url)}"


def proxy_of(scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy that the environment names for a server; None goes straight.

    Args:
        scheme: http or https, of the server; grpc+http and grpc+https look for `GRPC_PROXY` first.
        host: its name or address; an IPv6 address with or without brackets.
        port: its port.
    """
    named = getproxies()
    found = next((kind for kind in (*scheme.split("+"), "all") if named.get(kind)), None)
    host = host.strip("[]").rstrip(".").lower()
    if found is None or is_loopback(host) or goes_around(host, port, named.get("no", "")):
        return None
    url = named[found]
    remember_url(url)
    return Proxy(_variable(found), url if "://" in url else f"http://{url}")


def _variable(kind: str) -> str:
    """The name as somebody wrote it."""
    return next((name for name in (f"{kind}_proxy", f"{kind}_proxy".upper()) if name in os.environ), f"{kind}_proxy")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself."""
    address = _address(host)
    if address is None:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def goes_around(host: str, port: int, exceptions: str) -> bool:
    """Whether `NO_PROXY` names a host: by name, by the end of its name, by address or network, with or without a port."""
    return any(_is_named(host, port, entry) for entry in re.split(r"[,\s]+", exceptions.lower()) if entry)


def _is_named(host: str, port: int, entry: str) -> bool:
    if entry == "*":
        return True
    if (match := _ENTRY.fullmatch(entry)) is None:
        return False
    if match["port"] and int(match["port"]) != port:
        return False
    name = match["bracketed"] or match["plain"] or match["ipv6"]
    if (address := _address(host)) is None:
        ending = name.removeprefix("*").removeprefix(".")
        return host == ending or host.endswith(f".{ending}")
    try:
        return address in ipaddress.ip_network(name, strict=False)
    except (ValueError, TypeError):
        return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def grpc_options(scheme: str, host: str, port: int) -> dict[str, Any]:
    """Options of a gRPC channel that takes the way of `proxy_of`. gRPC knows HTTP proxies only; SOCKS it leaves out."""
    proxy = proxy_of(f"grpc+{scheme}", host, port)
    if proxy is None or not proxy.url.startswith("http://"):
        return {"grpc.enable_http_proxy": 0}
    return {"grpc.http_proxy": proxy.url}


class Way(httpx.BaseTransport):
    """The transport of a client that speaks to one server. Opened at the first request, and so never for nothing."""

    def __init__(self, scheme: str, host: str, port: int) -> None:
        self._scheme, self._host, self._port = scheme, host, port
        self._lock = threading.Lock()
        self._opened: tuple[httpx.HTTPTransport, Proxy | None] | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it; errors of a proxy name the variable and the way around."""
        transport, proxy = self._open()
        try:
            return transport.handle_request(request)
        except httpx.TransportError as error:
            if proxy is None:
                raise
            raise type(error)(f"{error} ({self._around(proxy)})") from error

    def close(self) -> None:
        """Give connections back."""
        with self._lock:
            if self._opened is not None:
                self._opened[0].close()

    def _open(self) -> tuple[httpx.HTTPTransport, Proxy | None]:
        with self._lock:
            if self._opened is None:
                proxy = proxy_of(self._scheme, self._host, self._port)
                self._opened = self._transport(proxy), proxy
            return self._opened

    def _transport(self, proxy: Proxy | None) -> httpx.HTTPTransport:
        if proxy is not None and not proxy.url.lower().startswith(_SCHEMES):
            raise httpx.ProxyError(f"expected a proxy such as http://proxy:3128 ({self._around(proxy)})")
        # Where neither end speaks TLS, no certificates are read.
        secure = self._scheme == "https" or (proxy is not None and proxy.url.startswith("https://"))
        try:
            return httpx.HTTPTransport(verify=secure, proxy=None if proxy is None else proxy.url, limits=self._limits())
        except ImportError:
            raise httpx.ProxyError(
                f"SOCKS needs a package: pip install 'httpx[socks]' ({self._around(proxy)})"
            ) from None
        except (httpx.InvalidURL, ValueError) as error:
            raise httpx.ProxyError(f"no proxy can be read from it: {error} ({self._around(proxy)})") from None
        except OSError as error:
            raise httpx.ConnectError(f"SSL_CERT_FILE or SSL_CERT_DIR: no certificates can be read: {error}") from None

    def _limits(self) -> httpx.Limits:
        # qdrant-client's own choice: on this machine a new connection costs less than an idle one that has ended.
        return httpx.Limits(max_keepalive_connections=0) if is_loopback(self._host.strip("[]")) else httpx.Limits()

    def _around(self, proxy: Proxy | None) -> str:
        return f"{proxy}; NO_PROXY={self._host} goes around it"
