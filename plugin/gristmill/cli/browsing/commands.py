"""Looking around a collection: documents like others, all of them, and the values of a field."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.padding import Padding

from gristmill import Client, Strategy
from gristmill.cli.layout import counted
from gristmill.cli.output import JsonFlag, aside, console, logged_by, notes, print_json, said, say
from gristmill.cli.search import parse_where, show_hits
from gristmill.cli.terminal import json_text
from gristmill.startup import open_client
from gristmill_schemas import DocumentPage, StoredDocument

app = typer.Typer()

Name = Annotated[str, typer.Argument(help="The collection.")]
WhereOption = Annotated[
    list[str] | None,
    typer.Option("--where", "-w", help="key=value, key!=value, 'key>=value' …, or a filter as JSON; repeatable."),
]
TenantOption = Annotated[str | None, typer.Option(help="Only this tenant's documents.")]
OrderOption = Annotated[
    str | None, typer.Option("--order-by", help="A field with an index that has an order; `-year` is highest first.")
]
CursorOption = Annotated[str | None, typer.Option(help="Where a page before ended.")]
#: Documents per request of an export, and characters of a text that a listing shows.
_PAGE, _SHOWN = 100, 220


@app.command()
def similar(
    name: Name,
    ids: Annotated[list[str], typer.Argument(help="What they shall be like: ids of documents.")],
    unlike: Annotated[
        list[str] | None, typer.Option("--unlike", help="What they shall not be like: an id; repeatable.")
    ] = None,
    strategy: Annotated[Strategy, typer.Option(help="How several ids are weighed.")] = Strategy.AVERAGE_VECTOR,
    where: WhereOption = None,
    tenant: TenantOption = None,
    lens: Annotated[str | None, typer.Option(help="Compare under this lens of the collection.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most hits.")] = 5,
    group: Annotated[bool, typer.Option("--group", help="At most one hit per document.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Documents like stored ones, and unlike others."""
    with open_client(aside) as client, logged_by("gristmill.search") as logged:
        hits = client.recommend(
            name,
            ids,
            unlike or (),
            strategy=strategy,
            where=parse_where(where or ()),
            tenant=tenant,
            lens=lens,
            limit=limit,
            group_by_document=group,
        )
    if as_json:
        print_json({"ids": ids, "unlike": unlike or [], "hits": list(hits), "notes": logged})
        return
    show_hits(hits)
    _tell(logged)


@app.command()
def scroll(
    name: Name,
    where: WhereOption = None,
    tenant: TenantOption = None,
    order_by: OrderOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Documents of the page.")] = 10,
    cursor: CursorOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Documents of a collection, a page at a time."""
    asked = {"where": parse_where(where or ()), "tenant": tenant, "order_by": order_by, "limit": limit}
    with open_client(aside) as client, logged_by("gristmill.search") as logged:
        page = client.scroll(name, **asked, cursor=cursor)  # type: ignore[arg-type]  # each its own
    if as_json:
        print_json({"documents": list(page.documents), "cursor": page.cursor, "notes": logged})
        return
    show_documents(page.documents)
    _tell(logged)
    if page.cursor is not None:
        say(f"[dim]more: the same command with[/] --cursor {said(page.cursor)}", notes)


def show_documents(documents: Sequence[StoredDocument]) -> None:
    """Documents for people: id, version, and the beginning of the text."""
    if not documents:
        say("no documents")
    for each in documents:
        pieces = f", {each.chunks} chunks" if each.chunks > 1 else ""
        damaged = "" if each.whole else " [red]damaged: see `gristmill audit`[/]"
        say(f"[cyan]{said(each.id)}[/] [dim]version {each.version}{pieces}[/]{damaged}")
        text = " ".join(each.text[: 4 * _SHOWN].split())
        more = "…" if len(text) > _SHOWN else ""
        console.print(Padding(f"{said(text[:_SHOWN])}{more}", (0, 0, 0, 3), expand=False))


@app.command()
def export(
    name: Name,
    where: WhereOption = None,
    tenant: TenantOption = None,
    order_by: OrderOption = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Most documents; default all.")] = None,
    cursor: CursorOption = None,
) -> None:
    """All documents of a collection, as JSON Lines.

    A document is a line, with id, text, metadata, tenant and version, as `gristmill ingest` reads it. Ctrl-C ends it and
    says how to go on.
    """
    written = damaged = 0
    asked = {"where": parse_where(where or ()), "tenant": tenant, "order_by": order_by}
    with open_client(aside) as client, logged_by("gristmill.search") as logged:
        try:
            for page in _pages(client, name, asked, limit, cursor):
                sys.stdout.write("".join(map(_line, page.documents)))
                sys.stdout.flush()
                written, cursor = written + len(page.documents), page.cursor
                damaged += sum(not each.whole for each in page.documents)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_whereabouts(written, cursor)) from None
    _tell(logged)
    if damaged:
        aside(f"{counted(damaged, 'document')} not whole, written as far as they are there: {_mending(name)}")
    say(f"[dim]{counted(written, 'document')}[/]", notes)


def _pages(
    client: Client, name: str, asked: dict[str, Any], limit: int | None, cursor: str | None
) -> Iterator[DocumentPage]:
    left = limit
    while left is None or left > 0:
        page = client.scroll(name, **asked, limit=_PAGE if left is None else min(_PAGE, left), cursor=cursor)
        yield page
        left = None if left is None else left - len(page.documents)
        if (cursor := page.cursor) is None:
            return


def _line(document: StoredDocument) -> str:
    record: dict[str, Any] = {"id": document.id, "text": document.text, "metadata": document.metadata}
    owner = {} if document.tenant is None else {"tenant": document.tenant}
    return json_text({**record, **owner, "version": document.version}, sys.stdout.encoding) + "\n"


def _whereabouts(written: int, cursor: str | None) -> str:
    onwards = "the same command begins again" if cursor is None else f"the same command with --cursor {cursor} goes on"
    return f"{counted(written, 'document')} written: {onwards}"


def _mending(name: str) -> str:
    return f"`{shlex.join(['gristmill', 'audit', name, '--repair'])}` looks after them"


@app.command()
def facets(
    name: Name,
    field: Annotated[str, typer.Argument(help="A field of the metadata that has an index.")],
    where: WhereOption = None,
    tenant: TenantOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most values.")] = 10,
    as_json: JsonFlag = False,
) -> None:
    """Values of a metadata field, and how many documents have each."""
    with open_client(aside) as client, logged_by("gristmill.search") as logged:
        found = client.facets(name, field, parse_where(where or ()), tenant=tenant, limit=limit)
    if as_json:
        print_json({"field": field, "facets": found, "notes": logged})
        return
    if not found:
        say("no values")
    for each in found:
        say(f"[cyan]{said(each.value)}[/] [dim]{counted(each.count, 'document')}[/]")
    _tell(logged)


def _tell(logged: list[str]) -> None:
    for sentence in logged:
        say(said(sentence), notes)
