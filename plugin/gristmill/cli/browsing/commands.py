"""Looking around a collection: documents like others, and the values of a field."""

from __future__ import annotations

from typing import Annotated

import typer

from gristmill import Strategy
from gristmill.cli.layout import counted
from gristmill.cli.output import JsonFlag, aside, logged_by, notes, print_json, said, say
from gristmill.cli.search import parse_where, show_hits
from gristmill.startup import open_client

app = typer.Typer()

Name = Annotated[str, typer.Argument(help="The collection.")]
WhereOption = Annotated[
    list[str] | None,
    typer.Option("--where", "-w", help="key=value, key!=value, 'key>=value' …, or a filter as JSON; repeatable."),
]
TenantOption = Annotated[str | None, typer.Option(help="Only this tenant's documents.")]


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
            limit=limit,
            group_by_document=group,
        )
    if as_json:
        print_json({"ids": ids, "unlike": unlike or [], "hits": list(hits), "notes": logged})
        return
    show_hits(hits)
    _tell(logged)


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
