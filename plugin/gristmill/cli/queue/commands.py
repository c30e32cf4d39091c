"""`gristmill queue`: what waits, for which model and for whom, and whether anyone serves it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated

import typer

from gristmill import ModelQueue, QueueReport
from gristmill.cli.layout import Mark, counted, duration, listing
from gristmill.cli.output import JsonFlag, aside, console, notes, print_json, said, say
from gristmill.startup import open_client
from gristmill_schemas.errors import InvalidInput

app = typer.Typer()

#: Between two looks of `--watch`, seconds: heartbeats come every three.
_WATCH_S = 2.0


@app.command()
def queue(
    tenant: Annotated[str | None, typer.Option(help="Only jobs that are all of this tenant.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again every two seconds, until Ctrl-C.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """What waits, for whom, since when, and who works on it."""
    if watch and as_json:
        raise InvalidInput("--watch and --json: expected one of them, got both; ask for --json again and again instead")
    with open_client(aside, qdrant=False) as client:
        while True:
            report = client.queue(tenant=tenant)
            if as_json:
                print_json(report)
                return
            if watch:
                console.clear()
            show_queue(report)
            if not watch:
                return
            time.sleep(_WATCH_S)


def show_queue(report: QueueReport) -> None:
    """The report for people."""
    if not report.models:
        say("nothing waits, and no worker is running")
    if report.limited:
        say(
            f"at their limits: {said(', '.join(report.limited))}; `gristmill tenants list` says how much each has and may",
            notes,
        )
    for number, each in enumerate(report.models):
        if number:
            say("")
        for line in _lines(each):
            say(line)
        if each.jobs:
            rows = [
                (
                    job.job_id,
                    job.documents,
                    job.tokens,
                    _of(job.tenant, job.collection),
                    _marks(job.priority, job.paused),
                )
                for job in each.jobs
            ]
            listing(["job", "documents", "tokens", "of", ""], rows)


def _lines(queue: ModelQueue) -> Iterator[Mark]:
    yield Mark(f"[bold]{said(name_of(queue))}[/]  {_waiting(queue)}")
    if (warning := unserved(queue)) is not None:
        yield Mark(f"[bold red]{said(warning)}[/]")
    else:
        yield Mark(f"[dim]{_crew(queue)}[/]")


def name_of(queue: ModelQueue) -> str:
    """The model's name, or what stands for it where nobody has ever announced it."""
    return queue.model or f"the model with the digest {queue.model_digest}"


def unserved(queue: ModelQueue) -> str | None:
    """What to do about work that nobody serves; None where somebody does, or loads the model."""
    if queue.workers or queue.loading or not queue.documents:
        return None
    if queue.model:
        return f"nobody serves {queue.model}: start `gristmill worker --model {queue.model}`"
    collections = ", ".join(sorted({job.collection for job in queue.jobs})) or "its collections"
    return f"nobody serves {name_of(queue)}: start `gristmill worker` with the model of {collections}"


def _waiting(queue: ModelQueue) -> str:
    if not queue.documents:
        return "nothing waits"
    told = [f"{counted(queue.documents, 'document')}, about {counted(queue.tokens, 'token')}"]
    if queue.oldest_waiting_s is not None:
        told.append(f"the oldest for {duration(queue.oldest_waiting_s)}")
    if queue.seconds is not None:
        told.append(f"{duration(queue.seconds)} of work" + ("" if queue.workers else " for one worker"))
    return " · ".join(told)


def _crew(queue: ModelQueue) -> str:
    told = [counted(queue.workers, "worker")]
    told += [f"{queue.loading:,} loading it"] if queue.loading else []
    told += [] if queue.tokens_per_s is None else [f"{queue.tokens_per_s:,.0f} tokens/s together"]
    told += [f"{queue.held_parcels:,} of {counted(queue.parcels, 'parcel')} in hand"] if queue.parcels else []
    return ", ".join(told)


def _of(tenant: str | None, collection: str) -> str:
    return f"{collection}, {tenant}" if tenant else collection


def _marks(priority: str, paused: bool) -> str:
    return " ".join(filter(None, ("" if priority == "normal" else priority, "paused" if paused else "")))
