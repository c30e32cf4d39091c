"""Who may look, and who may change something.

With API keys: who has one, for either. Without: only who is on this machine may look, unless GRISTMILL_SERVE_LIVE_REMOTE
lets all in, and nobody may change anything. No cookies are used, so another site's page has nothing to borrow; and it can
neither set our header nor send JSON without asking first, which is never answered. A name that somebody points at this
machine to get past that (DNS rebinding) is not one of ours.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from starlette.requests import Request

from gristmill_schemas.validation import shown
from gristmill_worker.server.errors import Refused
from gristmill_worker.server.service import Service

#: Sent by the page with everything that it posts.
HEADER: Final = "x-gristmill-live"
#: By which a proxy says that who asks is somewhere else.
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


class Access:
    """The rules of one server."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @property
    def read_only(self) -> str:
        """Why nothing may be changed from the page: `switch` or `keys`; empty where it may."""
        if self._service.settings.serve_live == "read-only":
            return "switch"
        return "" if self._service.keys else "keys"

    def check_look(self, request: Request) -> None:
        """Raise Refused unless who asks may look. Keys were checked at the door."""
        if self._service.keys is None and not self._service.settings.serve_live_remote and not _is_here(request):
            raise Refused(
                403,
                "the live page without API keys is for this machine only (http://127.0.0.1): start the server with "
                "--api-keys FILE, or let everybody look with GRISTMILL_SERVE_LIVE_REMOTE=true",
                code="live_is_local",
            )

    def check_post(self, request: Request) -> None:
        """Raise Refused unless it was the page itself that posted this."""
        self.check_look(request)
        site = request.headers.get("sec-fetch-site", "same-origin")
        if request.headers.get(HEADER) != "1" or site not in ("same-origin", "none"):
            raise Refused(
                403,
                f"{HEADER}: expected 1, sent by the page itself, got {shown(request.headers.get(HEADER))} from "
                f"{shown(site, 20)}",
                code="live_foreign",
            )

    def check_change(self, request: Request) -> None:
        """Raise Refused unless who asks may change something."""
        self.check_post(request)
        if self.read_only == "switch":
            raise Refused(403, "the live page is read-only here (GRISTMILL_SERVE_LIVE=read-only)", code="read_only")
        if self.read_only == "keys":
            raise Refused(
                403, "changing something needs an API key: start the server with --api-keys FILE", code="read_only"
            )


def _is_here(request: Request) -> bool:
    if any(name in request.headers for name in _FORWARDED):
        return False
    return _is_loopback(request.client.host if request.client else "") and _is_loopback(request.url.hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
