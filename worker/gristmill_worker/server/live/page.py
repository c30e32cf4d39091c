"""The page itself: files of this package, the same for everybody, so they are open to whoever asks; they hold no data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

from gristmill_worker.server.live.telling import LANGUAGES
from gristmill_worker.server.service import Service

#: What the page is made of, and what each part is.
_KINDS: Final[Mapping[str, str]] = {
    "app.js": "text/javascript",
    "charts.js": "text/javascript",
    "rows.js": "text/javascript",
    "app.css": "text/css",
    "strings.json": "application/json",
    "icon.svg": "image/svg+xml",
}
#: Paths that the door lets everybody through to.
PATHS: Final = frozenset({"/live", "/live/", *(f"/live/{name}" for name in _KINDS)})
#: Nothing from elsewhere, nothing inline, nothing that a text could become; no frame around it.
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "cache-control": "no-cache",
}


def page_routes(service: Service) -> APIRouter:
    """The page and its files."""
    router = APIRouter(include_in_schema=False)
    folder = files(__package__).joinpath("files")
    contents = {name: folder.joinpath(name).read_bytes() for name in _KINDS}
    html = folder.joinpath("index.html").read_text("utf-8")

    @router.get("/live")
    async def to_page(request: Request) -> Response:
        # Relative, so that it is right behind a proxy that serves this server under a path.
        return RedirectResponse(f"{request.url.path.rpartition('/')[2]}/", headers=dict(HEADERS))

    @router.get("/live/")
    async def page(request: Request) -> Response:
        chosen = {"lang": language(request.headers.get("accept-language", "")), "keys": _yes(service.keys is not None)}
        text = re.sub(r"\{\{(\w+)\}\}", lambda place: escape(chosen[place[1]]), html)
        return Response(text, media_type="text/html", headers={**HEADERS, "vary": "accept-language"})

    @router.get("/live/{name}")
    async def file(name: str) -> Response:
        if name not in contents:
            raise HTTPException(404, "Not Found")
        return Response(contents[name], media_type=_KINDS[name], headers=dict(HEADERS))

    return router


def language(accepted: str) -> str:
    """The language of the page that a browser asks for by `Accept-Language`; English where it knows none of ours."""
    wanted = [(_weight(part), part.partition(";")[0].strip().lower().partition("-")[0]) for part in accepted.split(",")]
    best = sorted((each for each in wanted if each[1] in LANGUAGES and each[0] > 0), key=lambda each: -each[0])
    return best[0][1] if best else LANGUAGES[0]


def _weight(part: str) -> float:
    found = re.search(r";\s*q=\s*([01](?:\.\d{0,3})?)\s*$", part)
    return float(found[1]) if found else 1.0


def _yes(value: bool) -> str:
    return "yes" if value else "no"
