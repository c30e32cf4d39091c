"""The client that an adapter works with: one that is given, or one by the settings; of one tenant if that is asked."""

from __future__ import annotations

from gristmill.arguments import identifier, refuse
from gristmill.client import Client, TenantClient
from gristmill_schemas.errors import InvalidInput

AnyClient = Client | TenantClient


def asked_client(client: object, tenant: object = None) -> AnyClient:
    """The client to use.

    Args:
        client: a `Client` or what its `tenant(…)` gave; None opens one by `GRISTMILL_*` settings.
        tenant: whose documents are seen, from then on no others; None where the client says it, or nobody's.

    Raises:
        InvalidInput: it is neither, or another tenant's.
    """
    given = Client() if client is None else client
    if not isinstance(given, Client | TenantClient):
        expected = "a gristmill.Client, its client.tenant(…), or None for one by GRISTMILL_* settings"
        raise refuse("client", f"{expected} (asyncio's calls go through it, too)", type(client))
    if tenant is None:
        return given
    name = identifier("tenant", tenant)
    if isinstance(given, Client):
        return given.tenant(name)
    if given.name != name:
        raise InvalidInput(f"tenant: the client is of {given.name!r} alone, got {name!r}", field="tenant")
    return given
