"""`gristmill search NAME QUERY`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.padding import Padding

from gristmill import Client, InvalidInput, SearchHit
from gristmill.cli.layout import counted
from gristmill.cli.output import JsonFlag, console, notes, print_json, said, say

app = typer.Typer()


@app.command()
def search(
    name: Annotated[str, typer.Argument(help="The collection.")],
    query: Annotated[str, typer.Argument(help="What is looked for.")],
    instruction: Annotated[
        str | None, typer.Option("--instruction", "-i", help="What the search is for, or a registered name.")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option("--where", "-w", help="key=value that must match; value may be JSON.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most hits.")] = 5,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's documents.")] = None,
    group: Annotated[bool, typer.Option("--group", help="At most one hit per document.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Search a collection, with an instruction if you like."""
    started = time.perf_counter()
    with Client() as client:
        hits = client.search(
            name,
            query,
            instruction=instruction,
            where=parse_where(where or ()),
            limit=limit,
            tenant=tenant,
            group_by_document=group,
        )
    took_ms = (time.perf_counter() - started) * 1000
    if as_json:
        found = [hit.model_dump(mode="json") for hit in hits]
        print_json({"query": query, "instruction": instruction, "milliseconds": round(took_ms, 1), "hits": found})
        return
    show_hits(hits)
    say(f"[dim]{counted(len(hits), 'hit')} in {took_ms:.0f} ms[/]", notes)


def parse_where(pairs: Sequence[str]) -> dict[str, Any] | None:
    """`key=value` pairs into a filter; a value that is JSON (a number, a list, bounds) is taken as such."""
    where: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise InvalidInput(f"where: expected key=value, got {pair!r}")
        try:
            where[key] = json.loads(value)
        except ValueError:
            where[key] = value
    return where or None


def show_hits(hits: Sequence[SearchHit], *, width: int = 220) -> None:
    """Hits for people: rank, score, id, and the beginning of the text."""
    if not hits:
        say("no hits")
    for rank, hit in enumerate(hits, start=1):
        chunk = f" [dim]chunk {hit.chunk + 1}/{hit.chunks}[/]" if hit.chunks > 1 else ""
        say(f"[bold]{rank}.[/] [green]{hit.score:.4f}[/] [cyan]{said(hit.id)}[/]{chunk}")
        text = " ".join(hit.text.split())
        console.print(Padding(f"{said(text[:width])}{'…' if len(text) > width else ''}", (0, 0, 0, 3), expand=False))
