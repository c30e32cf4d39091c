"""`gristmill search NAME QUERY`."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import re
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.padding import Padding

from gristmill import Fusion, InvalidInput, SearchHit, SearchMode
from gristmill.cli.layout import counted
from gristmill.cli.output import JsonFlag, aside, console, logged_by, notes, plain, print_json, said, say
from gristmill.cli.terminal import json_text
from gristmill.startup import open_client
from gristmill_schemas.validation import shown

app = typer.Typer()


@app.command()
def search(
    name: Annotated[str, typer.Argument(help="The collection.")],
    query: Annotated[str, typer.Argument(help="What is looked for.")],
    instruction: Annotated[
        str | None,
        typer.Option("--instruction", "-i", help="What it is for: a sentence, a registered name, or a preset."),
    ] = None,
    lens: Annotated[str | None, typer.Option(help="Compare under this lens of the collection.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", "-w", help="key=value, key!=value, 'key>=value' …, or a filter as JSON; repeatable."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most hits.")] = 5,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's documents.")] = None,
    group: Annotated[bool, typer.Option("--group", help="At most one hit per document.")] = False,
    mode: Annotated[SearchMode, typer.Option(help="Rank by vectors, by words (BM25), or by both.")] = SearchMode.DENSE,
    fusion: Annotated[Fusion | None, typer.Option(help="How --mode hybrid joins both lists; default `rrf`.")] = None,
    offset: Annotated[int, typer.Option(min=0, help="Hits to pass over first.")] = 0,
    diversity: Annotated[float | None, typer.Option(help="From 0 to 1: hits less like one another.")] = None,
    boost: Annotated[
        list[str] | None,
        typer.Option(help='What else counts, as JSON: \'{"field": "published", "half_life": "P30D"}\'; repeatable.'),
    ] = None,
    around: Annotated[int, typer.Option("--around", min=0, help="Chunks before and after each hit.")] = 0,
    exact: Annotated[bool, typer.Option("--exact", help="Look at everything, and not by the graph.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Say what was applied and what took how long.")] = False,
    rerank: Annotated[bool, typer.Option("--rerank", help="Let the worker's reranker order the candidates.")] = False,
    reranker: Annotated[str | None, typer.Option(help="Which one, where several are served; says --rerank.")] = None,
    rerank_top: Annotated[int | None, typer.Option(help="Candidates that are reranked; default 50.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Search a collection, with an instruction if you like."""
    started = time.perf_counter()
    with open_client(aside) as client, logged_by("gristmill.search") as logged:
        hits = client.search(
            name,
            query,
            instruction=instruction,
            lens=lens,
            where=parse_where(where or ()),
            limit=limit,
            tenant=tenant,
            group_by_document=group,
            mode=mode,
            fusion=fusion,
            offset=offset,
            diversity=diversity,
            boost=parse_boosts(boost or ()),
            context_chunks=around,
            exact=exact,
            explain=explain,
            rerank=reranker or rerank,
            rerank_top=rerank_top,
        )
    took_ms = (time.perf_counter() - started) * 1000
    if as_json:
        found = [hit.model_dump(mode="json") for hit in hits]
        print_json(
            {
                "query": query,
                "instruction": instruction,
                "lens": lens,
                "mode": mode,
                "milliseconds": round(took_ms, 1),
                "hits": found,
                "notes": logged,
                **({"explanation": hits.explanation} if explain else {}),
            }
        )
        return
    show_hits(hits)
    if explain:
        say(said(json_text(hits.explanation, notes.encoding, default=plain)), notes)
    for sentence in logged:
        say(said(sentence), notes)
    say(f"[dim]{counted(len(hits), 'hit')} in {took_ms:.0f} ms[/]", notes)


_CONDITION = re.compile(r"(?P<key>[^=<>!]+)(?P<sign>>=|<=|!=|=|>|<)(?P<value>.*)", re.DOTALL)
_BOUNDS = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}


def parse_where(conditions: Sequence[str]) -> dict[str, Any] | None:
    """`key=value`, `key!=value`, `key>=value`, whole filters as JSON, into one filter; all of them must hold."""
    where: dict[str, Any] = {}
    whole = [_filter(condition) for condition in conditions if condition.lstrip().startswith("{")]
    for condition in conditions:
        if not condition.lstrip().startswith("{"):
            _add(where, condition)
    return {"all": [*whole, *([where] if where else [])]} if whole else where or None


def _filter(condition: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(condition, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f"where: expected a filter as JSON, got {shown(condition, 200)}: {error}", field="where"
        ) from None
    return found


def parse_boosts(boosts: Sequence[str]) -> list[Any] | None:
    """Boosts as JSON, one by one."""
    found = []
    for position, boost in enumerate(boosts):
        try:
            found.append(json.loads(boost, parse_constant=_no_constant))
        except (ValueError, RecursionError) as error:
            place = f"boost[{position}]"
            raise InvalidInput(f"{place}: expected JSON, got {shown(boost, 200)}: {error}", field=place) from None
    return found or None


def _add(where: dict[str, Any], condition: str) -> None:
    """One `key=value` and the like, beside those before it."""
    found = _CONDITION.fullmatch(condition)
    if found is None:
        raise InvalidInput(f"where: expected key=value, key!=value or key>=value, got {condition!r}", field="where")
    key, sign, value = found["key"].strip(), found["sign"], found["value"]
    told = {_BOUNDS[sign]: parse_value(value)} if sign in _BOUNDS else _any_of(value)
    if sign == "!=":
        told = {"not": told}
    if key in where and not (sign in _BOUNDS and isinstance(where[key], dict) and told.keys().isdisjoint(where[key])):
        hint = "; several values of which any may match are a list: key='[1, 2]'"
        raise InvalidInput(
            f"where.{key}: expected each condition once, got it a second time{hint}", field=f"where.{key}"
        )
    where[key] = {**where[key], **told} if key in where else told


def parse_value(value: str) -> Any:
    """A value that is JSON (a number, a list, quoted text) as that, any other as text."""
    try:
        found = json.loads(value, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return value
    return value if isinstance(found, float) and math.isinf(found) else found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is a word, and no number")


def _any_of(value: str) -> Any:
    """The value, whichever way it is stored: nobody who types `year=2024` knows whether it is a number or text there."""
    found = parse_value(value)
    if isinstance(found, bool | int | float):
        return [found, value]
    if found == value and _DATE.match(value):
        with contextlib.suppress(ValueError):
            moment = datetime.datetime.fromisoformat(value)
            return [value, moment if len(value) > len("2024-02-29") else moment.date()]
    return found


_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def show_hits(hits: Sequence[SearchHit], *, width: int = 220) -> None:
    """Hits for people: rank, score, id, and the beginning of the text."""
    if not hits:
        say("no hits")
    for rank, hit in enumerate(hits, start=1):
        chunk = f" [dim]chunk {hit.chunk + 1}/{hit.chunks}[/]" if hit.chunks > 1 else ""
        before = "" if hit.retrieval_score is None else f" [dim]{hit.retrieval_score_kind} {hit.retrieval_score:.4f}[/]"
        lens = "" if hit.lens is None else f" [dim]lens {said(hit.lens)}[/]"
        say(f"[bold]{rank}.[/] [green]{hit.score:.4f}[/]{before} [cyan]{said(hit.id)}[/]{chunk}{lens}")
        text = " ".join((hit.passage or hit.text).split())
        console.print(Padding(f"{said(text[:width])}{'…' if len(text) > width else ''}", (0, 0, 0, 3), expand=False))
