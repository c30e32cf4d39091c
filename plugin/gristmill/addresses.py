"""Addresses of Redis and Qdrant: every form that is understood, taken apart once and for all clients alike.

Redis is reached by redis-py and by kombu, which read the same URL differently (a socket, a database, a password with `;`),
and Qdrant's client leaves out what it does not know (a password, a query) and asks port 6333 where https means 443. So both
are read here, by the grammar of RFC 3986, and clients are given the parts. Whatever has no meaning is refused: a silently
ignored part is work in the wrong database. Refusals never repeat what came, since a password may be anywhere in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

#: The expression of RFC 3986, appendix B, with its scheme required. User and password end at the last `@`.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(?:([^/?#]*)@)?([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#(.*))?")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^][:@\s]*)(?::([0-9]{1,5}))?")
_BROKEN_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
_ENCODE = "in a user or password write @ : / ? # % as %40 %3A %2F %3F %23 %25"
_REDIS = "expected a URL such as redis://host:6379/0, rediss://host:6380/0 (TLS) or unix:///path/to/redis.sock?db=0"
_QDRANT = "expected a URL such as http://host:6333 or https://host/prefix"
#: Schemes of others that mean Redis, with what to say about them.
_FOREIGN = {
    **dict.fromkeys(("valkey", "valkeys"), "Valkey speaks Redis's protocol: write redis:// (rediss:// for TLS)"),
    **dict.fromkeys(
        ("redis-cluster", "rediss-cluster", "redis+cluster"),
        "Redis Cluster cannot carry the queue, since kombu does not speak it: expected one primary, "
        "redis://host:6379/0, or Sentinel, sentinel://host:26379/0?master_name=mymaster",
    ),
    "redis+sentinel": "Sentinel is written sentinel://host1:26379,host2:26379/0?master_name=mymaster",
}


def _flag(value: str) -> bool:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[value.lower()]


def _checks(value: str) -> str:
    """How certificates are checked; Celery's documents write CERT_REQUIRED."""
    return {"none": "none", "optional": "optional", "required": "required"}[value.lower().removeprefix("cert_")]


def _seconds(value: str) -> float:
    if not 0 < float(value) <= 600:
        raise ValueError(value)
    return float(value)


def _protocol(value: str) -> int:
    return {"2": 2, "3": 3}[value]


#: Options of a Redis URL: what reads each, and what it expects.
_OPTIONS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    **dict.fromkeys(("socket_timeout", "socket_connect_timeout"), (_seconds, "seconds, above 0 and up to 600")),
    "socket_keepalive": (_flag, "true or false"),
    "health_check_interval": (int, "whole seconds"),
    "client_name": (str, "a name"),
    "protocol": (_protocol, "2 or 3"),
}
_TLS_OPTIONS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "ssl_cert_reqs": (_checks, "required, optional or none"),
    "ssl_check_hostname": (_flag, "true or false"),
    "ssl_min_version": (int, "the number of a version"),
    **dict.fromkeys(("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"), (str, "a path")),
    **dict.fromkeys(("ssl_ca_data", "ssl_password", "ssl_ciphers"), (str, "a text")),
}
_SENTINEL_NAMES = ("master_name", "sentinel_username", "sentinel_password")


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where Redis is, and how to log in."""

    #: Host and port; several are Sentinels. Empty for a socket.
    hosts: tuple[tuple[str, int], ...]
    #: A Unix socket.
    path: str | None
    tls: bool
    database: int
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    #: Sentinel's name for the primary; None speaks to Redis directly.
    master: str | None = None
    #: Login at the Sentinels: `username` and `password`, where they ask for one.
    sentinel_login: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: Further options of the connection, as redis-py names them.
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """Read a URL: `redis`, `rediss` (TLS), `unix`, `sentinel` or `sentinels` (TLS).

        Raises:
            ValueError: says what was expected.
        """
        parts = _split(_one_sentinel_url(url), _REDIS)
        scheme = parts.scheme.removeprefix("redis+")
        kind = {"socket": "unix"}.get(scheme, scheme)
        if parts.scheme in _FOREIGN or kind not in ("redis", "rediss", "unix", "sentinel", "sentinels"):
            raise ValueError(_FOREIGN.get(parts.scheme, _REDIS))
        query = _query(parts.query)
        username, password = _login(parts, query)
        sentinel = kind.startswith("sentinel")
        hosts = () if kind == "unix" else _hosts(parts.hosts, 26379 if sentinel else 6379)
        if len(hosts) > 1 and not sentinel:
            raise ValueError(f"{_REDIS}, with one host; {_FOREIGN['redis+sentinel']}")
        return cls(
            hosts=hosts,
            path=_socket(parts) if kind == "unix" else None,
            tls=kind in ("rediss", "sentinels"),
            database=_database("" if kind == "unix" else parts.path, query),
            username=username,
            password=password,
            master=_master(kind, query),
            sentinel_login=_sentinel_login(query),
            options=_options(query, tls=kind in ("rediss", "sentinels")),
        )

    @property
    def label(self) -> str:
        """The address as a URL without its secrets."""
        where = ",".join(f"{_bracketed(host)}:{port}" for host, port in self.hosts) or (self.path or "")
        scheme = "unix" if self.path else ("sentinel" if self.master else "redis") + "s" * self.tls
        return f"{scheme}://{where}" + (f"?db={self.database}" if self.path else f"/{self.database}")


@dataclass(frozen=True, slots=True)
class QdrantAddress:
    """Where Qdrant's REST interface is. gRPC is on another port of the same host, and knows no path."""

    tls: bool
    #: An IPv6 address stands in brackets.
    host: str
    port: int
    #: Path in front of Qdrant's own, with a leading slash and no trailing one; empty for none.
    prefix: str
    #: User and password that a proxy before Qdrant asks for (HTTP Basic).
    login: tuple[str, str] | None = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> QdrantAddress:
        """Read a URL; `https` without a port means 443, `http` without one Qdrant's usual 6333.

        Raises:
            ValueError: says what was expected.
        """
        parts = _split(url, _QDRANT)
        if parts.scheme not in ("http", "https"):
            raise ValueError(_QDRANT)
        if parts.query is not None:
            raise ValueError(f"{_QDRANT}, without a query (?…): an API key goes into GRISTMILL_QDRANT_API_KEY")
        hosts = _hosts(parts.hosts, 443 if parts.scheme == "https" else 6333)
        if len(hosts) != 1 or not parts.hosts or parts.hosts.startswith(":"):
            raise ValueError(f"{_QDRANT}, with one host")
        (host, port), prefix = hosts[0], re.sub("/+", "/", parts.path).rstrip("/")
        if prefix.endswith("/dashboard"):
            raise ValueError(f"{_QDRANT}: the address of the server, not of its dashboard")
        login = _login(parts, {}) if parts.login is not None else None
        named = None if login is None else (login[0] or "", login[1] or "")
        return cls(parts.scheme == "https", _bracketed(host), port, prefix, named)


class _Parts(NamedTuple):
    scheme: str
    login: str | None
    hosts: str
    path: str
    query: str | None


def _split(url: str, expected: str) -> _Parts:
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError(f"{expected}, without blanks or line ends in it")
    if (match := _URL.fullmatch(url)) is None:
        raise ValueError(expected)
    scheme, login, hosts, path, query, fragment = match.groups()
    # Where a password holds a `/`, a `?` or a `#`, its `@` stands behind the host, which is none.
    astray = login is None and "@" in (path if not path.startswith("/") or hosts else "") + (query or "")
    if fragment is not None or astray:
        raise ValueError(f"{expected}; {_ENCODE}")
    return _Parts(scheme.lower(), login, hosts, path, query)


def _one_sentinel_url(url: str) -> str:
    """Celery writes each Sentinel as a URL of its own, `;` between them; the later ones repeat the login, if any."""
    first, *others = re.split(r";(?=sentinels?://)", url, flags=re.IGNORECASE)
    return ",".join([first, *(other.partition("://")[2].rpartition("@")[2] for other in others)])


def _decoded(text: str) -> str:
    if _BROKEN_PERCENT.search(text):
        raise ValueError(f"expected every % of a user or password to be encoded; {_ENCODE}")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("expected the encoded bytes of a user or password to be UTF-8") from None


def _login(parts: _Parts, query: dict[str, str]) -> tuple[str | None, str | None]:
    """User and password, which may also stand in the query."""
    user, _, password = (parts.login or "").partition(":")
    queried = [query.pop(name, "") for name in ("username", "password")]
    return _decoded(user) or queried[0] or None, _decoded(password) or queried[1] or None


def _hosts(text: str, usual_port: int) -> tuple[tuple[str, int], ...]:
    matches = [_HOST.fullmatch(each) for each in text.split(",")]
    if any(match is None or (match[2] and not 0 < int(match[2]) < 65536) for match in matches):
        raise ValueError(
            "expected a host, and after it a port between 1 and 65535 or none; an IPv6 address stands in brackets, "
            f"[::1]:{usual_port}; {_ENCODE}"
        )
    return tuple((match[1].strip("[]") or "localhost", int(match[2] or usual_port)) for match in matches if match)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _socket(parts: _Parts) -> str:
    if parts.hosts or len(parts.path) < 2:
        raise ValueError(f"expected three slashes before the path of a socket, unix:///path/to/redis.sock; {_ENCODE}")
    return unquote(parts.path)


def _query(text: str | None) -> dict[str, str]:
    pairs = parse_qsl(text or "", keep_blank_values=True)
    if len(named := dict(pairs)) < len(pairs):
        raise ValueError("expected each option after the ? once")
    return named


def _database(path: str, query: dict[str, str]) -> int:
    """The database of a path or of the query, where kombu calls it `virtual_host`."""
    named = [query.pop(name) for name in ("db", "virtual_host") if name in query]
    numbers = {each.strip("/") for each in (path, *named)} - {""}
    if len(numbers) > 1 or not all(re.fullmatch("[0-9]{1,9}", number) for number in numbers):
        raise ValueError(f"expected one number of a database, such as /0 after the host; {_ENCODE}")
    return int(numbers.pop()) if numbers else 0


def _master(kind: str, query: dict[str, str]) -> str | None:
    name = query.pop("master_name", None)
    if kind.startswith("sentinel") == (name is None):
        raise ValueError("expected the name of the primary with Sentinel, sentinel://host:26379/0?master_name=mymaster")
    return name


def _sentinel_login(query: dict[str, str]) -> dict[str, str]:
    names = ("username", "password")
    return {name: query.pop(f"sentinel_{name}") for name in names if f"sentinel_{name}" in query}


def _options(query: Mapping[str, str], *, tls: bool) -> dict[str, Any]:
    known = {**_OPTIONS, **(_TLS_OPTIONS if tls else {})}
    if any(name in _TLS_OPTIONS and not tls for name in query):
        raise ValueError("expected rediss:// (TLS) where options begin with ssl_")
    if unknown := [name for name in query if name not in known]:
        named = [name for name in unknown if re.fullmatch("[a-z_]{1,40}", name)]
        raise ValueError(
            f"expected no options but {', '.join(known)} after the ?, not {', '.join(named) or 'others'}; {_ENCODE}"
        )
    return {name: _read(name, value, *known[name]) for name, value in query.items()}


def _read(name: str, value: str, read: Callable[[str], Any], expected: str) -> Any:
    try:
        return read(value)
    except (ValueError, KeyError):
        raise ValueError(f"expected {expected} for {name}") from None
