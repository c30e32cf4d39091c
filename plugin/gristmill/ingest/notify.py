"""`notify=`: the URL that is told of a job's end, checked before anything is handed over.

A URL is checked twice. Here for its form, and against what running workers say of themselves; and by the worker that sends,
which resolves its name and speaks to no address but one that it has checked (`gristmill_worker.webhooks`).
"""

from __future__ import annotations

import base64
import ipaddress
import secrets
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import HttpUrl, TypeAdapter, ValidationError

from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.redaction import remember_url

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL_CHARS = 2048
_WANTED = "an address such as https://hooks.example.com/gristmill"
_HTTP_URL = TypeAdapter(HttpUrl)

#: What is not private to every Python's `ipaddress`, and no place for a webhook either: Azure's agent, Oracle's metadata,
#: relays from IPv6 to IPv4 whose other end nobody can see, addresses that a host or a site gives to itself.
_CLOSED = tuple(
    map(
        ipaddress.ip_network,
        (
            "168.63.129.16/32",
            "192.0.0.0/24",
            "192.88.99.0/24",
            "::/96",
            "64:ff9b:1::/48",
            "2001::/32",
            "fec0::/10",
            "100::/64",
        ),
    )
)
#: Prefixes behind which an IPv4 address stands in the last 32 bits.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def asked_url(value: object) -> str | None:
    """The URL to be told, as it will be asked for; None where nobody is to be told.

    Raises:
        InvalidInput: it is none, brings a login, or speaks neither http nor https. The message does not repeat it, since
            the URL of a webhook often holds a secret.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise _refused(f"expected {_WANTED}, got {type(value).__name__}")
    remember_url(value)
    if len(value) > MAX_URL_CHARS:
        raise _refused(f"expected a URL of at most {MAX_URL_CHARS} characters, got {len(value)}")
    try:
        url = _HTTP_URL.validate_python(value.strip())
    except ValidationError as error:
        raise _refused(f"expected {_WANTED}, got none: {error.errors()[0]['msg']}") from None
    if url.username is not None or url.password is not None:
        raise _refused(
            "expected a URL without user and password; the receiver knows us by the signature of each webhook, and a "
            "token of its own may stand in the path"
        )
    if url.fragment is not None:
        raise _refused("expected a URL without a fragment (#…), which is never sent to a server")
    return str(url)


def _refused(why: str) -> InvalidInput:
    return InvalidInput(f"notify: {why}", field="notify")


def require_sender(url: str, statuses: Iterable[Mapping[str, Any]]) -> None:
    """Raise InvalidInput where running workers say that none of them would send this. Where none runs, nothing is known.

    Args:
        url: as `asked_url` gives it.
        statuses: of the workers that live.
    """
    told = [status["webhooks"] for status in statuses if isinstance(status.get("webhooks"), dict)]
    if told and not any(each.get("signs") for each in told):
        raise _refused(
            "no running worker can sign a webhook: `gristmill webhooks secret` makes a secret; set it as "
            "GRISTMILL_WEBHOOK_SECRET at the workers, and give it to the receiver"
        )
    if told and not any(_lets(url, each.get("private")) for each in told):
        raise _refused(
            f"{_place(url)} is refused by the workers: webhooks go to public addresses, by https alone, unless the workers' "
            "GRISTMILL_WEBHOOK_PRIVATE_NETWORKS names the network of the receiver"
        )


def _lets(url: str, private: object) -> bool:
    """Whether a worker with these private networks may send there, as far as the URL alone tells."""
    networks = parse_networks(private) if isinstance(private, str) else ()
    parts = urlsplit(url)
    address = _literal(parts.hostname or "")
    if address is not None:
        return is_allowed(address, networks, secure=parts.scheme == "https")
    return bool(networks) or parts.scheme == "https"


#: A signing secret as Standard Webhooks has it, and how many bytes it may hold.
SECRET_PREFIX, _SECRET_BYTES = "whsec_", range(24, 65)


def new_signing_secret() -> str:
    """A secret of 32 random bytes."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def require_signing_secret(secret: str) -> None:
    """Raise ValueError, which shows nothing of it, unless this is `whsec_` and 24 to 64 bytes in base64."""
    wanted = f"expected {SECRET_PREFIX} and {_SECRET_BYTES[0]} to {_SECRET_BYTES[-1]} bytes in base64, got "
    if not secret.startswith(SECRET_PREFIX):
        raise ValueError(f"{wanted}one that begins otherwise; `gristmill webhooks secret` makes one")
    try:
        size = len(base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True))
    except ValueError:
        raise ValueError(f"{wanted}what is no base64; `gristmill webhooks secret` makes one") from None
    if size not in _SECRET_BYTES:
        raise ValueError(f"{wanted}{size}; `gristmill webhooks secret` makes one")


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks and addresses with commas or blanks between them.

    Raises:
        ValueError: one of them is none; the message says which, and what was expected.
    """
    return tuple(map(_network, text.replace(",", " ").split()))


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"expected networks such as 10.1.0.0/16,192.168.7.4, got {text!r}: {error}") from None


def is_allowed(address: Address, private: Iterable[Network], *, secure: bool) -> bool:
    """Whether a webhook may go to an address: a public one by https, or whatever one of these networks holds.

    An IPv4 address in the form of an IPv6 one is judged as what it is.
    """
    meant = embedded(address)
    if any(each in network for each in (address, meant) for network in private):
        return True
    return secure and is_public(meant)


def embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 one leads to (mapped, 6to4, NAT64), or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address


def is_public(address: Address) -> bool:
    """Whether an address is somebody's on the internet: not private, loopback, link-local, shared, multicast or reserved."""
    special = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback
    closed = any(address in network for network in _CLOSED)
    return address.is_global and not special and not closed and not address.is_link_local
