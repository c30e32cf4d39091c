"""`gristmill webhooks list|show|resend|drop|secret`: what is told of jobs that are done, and was not delivered yet."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

import typer

from gristmill import InvalidInput, Webhook, WebhookState
from gristmill.cli.layout import age, counted, duration, fields, listing, moment
from gristmill.cli.output import JsonFlag, aside, console, print_json, said, say
from gristmill.ingest.notify import new_signing_secret
from gristmill.startup import open_client

app = typer.Typer()
commands = typer.Typer(help="What is told of jobs that are done, and was not delivered yet.", no_args_is_help=True)
app.add_typer(commands, name="webhooks")

Ids = Annotated[list[str] | None, typer.Argument(help="Webhook ids, as `webhooks list` shows them.")]
OfJob = Annotated[str | None, typer.Option("--job", help="Only this job's.")]


@commands.command("list")
def list_(
    state: Annotated[WebhookState | None, typer.Option(help="Only those that wait, or that failed.")] = None,
    job: OfJob = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 50,
    as_json: JsonFlag = False,
) -> None:
    """Webhooks that are not delivered, newest first."""
    with open_client(aside, qdrant=False) as client:
        found = client.webhooks.list(limit, state=state, job=job)
    if as_json:
        print_json({"webhooks": [each.model_dump(mode="json") for each in found]})
    else:
        show_webhooks(found, time.time())


def show_webhooks(found: Sequence[Webhook], now: float) -> None:
    """Webhooks for people: whose, where to, and what came of the last attempt."""
    if not found:
        say(
            "no webhook is waiting, and none has failed; `gristmill jobs show JOB` says of each job's whether it arrived"
        )
        return
    rows = [
        (each.id, age(each.created_at, now), each.origin, each.attempts, _next(each, now), each.error) for each in found
    ]
    listing(["webhook", "job done", "to", "attempts", "next", "what came of the last"], rows, prose=True)


def _next(webhook: Webhook, now: float) -> str:
    if webhook.next_attempt_at is None:
        return "failed"
    left = webhook.next_attempt_at - now
    return f"in {duration(left)}" if left > 0 else "due"


@commands.command()
def show(webhook_id: str, as_json: JsonFlag = False) -> None:
    """All about one webhook that is not delivered."""
    with open_client(aside, qdrant=False) as client:
        found = client.webhooks.get(webhook_id)
    record = found.model_dump(mode="json")
    if as_json:
        print_json(record)
        return
    times = {name: moment(record.pop(name)) for name in ("created_at", "next_attempt_at")}
    fields({**record, **times})


@commands.command()
def resend(
    ids: Ids = None,
    failed: Annotated[bool, typer.Option("--failed", help="Every one that was given up.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Send webhooks now, with all their attempts before them."""
    if bool(ids) == failed:
        raise InvalidInput("ids: expected webhook ids, or --failed for every one that was given up", field="ids")
    with open_client(aside, qdrant=False) as client:
        _print_count("resent", client.webhooks.resend(None if failed else ids), as_json)


@commands.command()
def drop(ids: Annotated[list[str], typer.Argument(help="Webhook ids.")], as_json: JsonFlag = False) -> None:
    """Forget webhooks: they are not sent any more."""
    with open_client(aside, qdrant=False) as client:
        _print_count("dropped", client.webhooks.drop(ids), as_json)


def _print_count(what: str, count: int, as_json: bool) -> None:
    if as_json:
        print_json({what: count})
    else:
        say(f"{counted(count, 'webhook')} {what}")


@commands.command()
def secret() -> None:
    """Print a new secret that signs webhooks: GRISTMILL_WEBHOOK_SECRET of the workers, and of whoever receives."""
    console.print(said(new_signing_secret()))
