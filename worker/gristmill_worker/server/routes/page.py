"""The OpenAPI description, and a page of it that needs no network: `/openapi.json` and `/docs`."""

from __future__ import annotations

from html import escape
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Response
from fastapi.openapi.utils import get_openapi
from starlette.responses import HTMLResponse

from gristmill_worker.server.errors import json_response

_ABOUT: Final = (
    "Texts to vectors, and documents to scores. A text is encoded as it is given unless `input_type` or `instruction` asks "
    "for the model's template. Nothing is passed over: what is not supported is refused, and named."
)
#: What any route with a body may answer instead.
_REFUSALS: Final = {
    "400": "A field is wrong, unknown or not supported, or a text too long: the message names it",
    "401": "No API key of this server",
    "404": "No such model",
    "408": "The body came too slowly",
    "413": "The body is too large",
    "415": "The body is no JSON",
    "429": "Too much waits; Retry-After says when to come again",
    "503": "Loading, stopping, or the device is sick",
}
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}"
    "code{background:#f2f2f2;padding:0 .2rem}table{border-collapse:collapse;width:100%}"
    "td,th{border:1px solid #ccc;padding:.3rem .6rem;text-align:left;vertical-align:top}"
    "@media(prefers-color-scheme:dark){body{color:#eee;background:#161616}code{background:#2a2a2a}td,th{border-color:#555}"
    "a{color:#8cf}}"
)


def describe(app: FastAPI) -> dict[str, Any]:
    """The description of an application's routes, with the answers that they really give."""
    whole = get_openapi(title=app.title, version=app.version, description=_ABOUT, routes=app.routes)
    whole.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for operations in whole["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)  # the framework's own habit
            if "requestBody" in operation:
                operation["responses"] |= {status: {"description": said} for status, said in _REFUSALS.items()}
                operation["security"] = [{"key": []}, {}]
    for unused in ("HTTPValidationError", "ValidationError"):
        whole["components"].get("schemas", {}).pop(unused, None)
    return whole


def page_routes(whole: dict[str, Any], *, live: bool = False) -> APIRouter:
    """The routes of the description itself; `live` says whether there is a live page to lead to."""
    router, html = APIRouter(include_in_schema=False), page(whole, live=live)

    @router.get("/openapi.json")
    async def openapi() -> Response:
        return json_response(whole)

    @router.get("/")
    @router.get("/docs")
    async def docs() -> Response:
        return HTMLResponse(html)

    return router


def page(whole: dict[str, Any], *, live: bool = False) -> str:
    """The description as HTML."""
    parts = [
        _route(whole, path, method, operation)
        for path, operations in whole["paths"].items()
        for method, operation in operations.items()
    ]
    leads = '<a href="openapi.json">openapi.json</a>' + (' <a href="live/">live page</a>' if live else "")
    title = escape(f"{whole['info']['title']} {whole['info']['version']}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body><main><h1>{title}</h1>'
        f"<p>{_marked(whole['info']['description'])} {leads}</p>{''.join(parts)}"
        "</main></body></html>"
    )


def _route(whole: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> str:
    said = f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{_marked(operation.get('description', ''))}</p>"
    if "requestBody" not in operation:
        return said
    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schema = whole["components"]["schemas"][reference.rpartition("/")[2]]
    rows = [_row(name, field, name in schema.get("required", ())) for name, field in schema["properties"].items()]
    return f"{said}<table><tr><th>field</th><th>type</th><th>meaning</th></tr>{''.join(rows)}</table>"


def _row(name: str, field: dict[str, Any], required: bool) -> str:
    needed = " (required)" if required else ""
    kind = escape(_kind(field))
    meaning = _marked(field.get("description", ""))
    return f"<tr><td><code>{escape(name)}</code>{needed}</td><td>{kind}</td><td>{meaning}</td></tr>"


def _kind(field: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_kind(each) for each in field["anyOf"] if each.get("type") != "null")
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    if field.get("type") == "array":
        return f"list of ({_kind(field['items'])})"
    return str(field.get("type", "any"))


def _marked(text: str) -> str:
    """Escaped, with what stands between backticks as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))
