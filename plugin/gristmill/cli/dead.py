"""`gristmill dead summary|list|show|replay|drop`: documents that could not be stored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from gristmill import Client, DeadLetter, InvalidInput
from gristmill.cli.jobs import print_report, watch_job
from gristmill.cli.output import JsonFlag, console, print_json, table

app = typer.Typer()
commands = typer.Typer(help="Documents that could not be stored, and why.", no_args_is_help=True)
app.add_typer(commands, name="dead")

Ids = Annotated[list[str] | None, typer.Argument(help="Letter ids, as `dead list` shows them.")]
Everything = Annotated[bool, typer.Option("--all", help="All of them, or all of --collection.")]
OfCollection = Annotated[str | None, typer.Option("--collection", "-c", help="Only this collection's.")]


@commands.command()
def summary(collection: OfCollection = None, as_json: JsonFlag = False) -> None:
    """How many there are of each error in each collection."""
    with Client() as client:
        groups = client.dead.summary(collection)
    if as_json:
        print_json({"groups": [group.model_dump(mode="json") for group in groups]})
        return
    table("", ["letters", "error", "collection"], [(str(each.letters), each.error, each.collection) for each in groups])


@commands.command("list")
def list_(
    collection: OfCollection = None,
    job: Annotated[str | None, typer.Option("--job", help="Only this job's.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 50,
    as_json: JsonFlag = False,
) -> None:
    """Dead letters, newest first."""
    with Client() as client:
        letters = client.dead.list(collection, job=job, limit=limit)
    if as_json:
        print_json({"letters": [letter.model_dump(mode="json") for letter in letters]})
        return
    rows = [(letter.id, letter.collection, _name(letter), letter.error, letter.reason[:100]) for letter in letters]
    table("", ["letter", "collection", "document", "error", "reason"], rows)


@commands.command()
def show(letter_id: str, as_json: JsonFlag = False) -> None:
    """One dead letter, the document included."""
    with Client() as client:
        letter = client.dead.get(letter_id)
    if as_json:
        print_json(letter)
        return
    record = letter.model_dump(mode="json", exclude_none=True)
    for key in ("enqueued_at", "died_at"):
        record[key] = _when(record[key])
    table(letter.id, ["field", "value"], list(record.items()))


@commands.command()
def replay(
    ids: Ids = None,
    all_: Everything = False,
    collection: OfCollection = None,
    wait: Annotated[bool, typer.Option(help="Wait until they have come to their end.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Try again. Fenced as ever: a newer version that was stored meanwhile stays."""
    with Client() as client:
        chosen = _chosen(ids, all_)
        jobs = client.dead.replay(chosen) if chosen else client.dead.replay_all(collection)
        reports = [watch_job(job, hidden=as_json) if wait else job.report() for job in jobs]
    if as_json:
        print_json({"jobs": [report.model_dump(mode="json") for report in reports]})
        return
    if not reports:
        console.print("no dead letters")
    for report in reports:
        print_report(report, as_json=False)


@commands.command()
def drop(
    ids: Ids = None,
    all_: Everything = False,
    collection: OfCollection = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Forget dead letters for good."""
    with Client() as client:
        chosen = _chosen(ids, all_)
        count = len(chosen) or sum(group.letters for group in client.dead.summary(collection))
        if count and not yes:
            typer.confirm(f"Forget {count} dead letters?", abort=True, err=True)
        dropped = client.dead.drop(chosen) if chosen else client.dead.drop_all(collection)
    if as_json:
        print_json({"dropped": dropped})
    else:
        console.print(f"dropped {dropped}")


@commands.command()
def refused(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 50,
    drop: Annotated[bool, typer.Option("--drop", help="Forget them.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Messages in the workers' queue that were none of ours: never executed, only kept. Also parcels turned unreadable."""
    with Client() as client:
        messages = client.refused.list(limit)
        unreadable = client.refused.unreadable()
        dropped = client.refused.drop() if drop else 0
    if as_json:
        found = [message.model_dump(mode="json") for message in messages]
        print_json({"refused": found, "unreadable": unreadable, "dropped": dropped})
        return
    rows = [(_when(message.refused_at), message.queue, message.reason, message.message[:80]) for message in messages]
    table("", ["refused", "queue", "reason", "message"], rows)
    if unreadable:
        console.print(f"parcels whose bytes were overwritten: {', '.join(unreadable)}", markup=False)
    if drop:
        console.print(f"dropped {dropped}")


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds")


def _chosen(ids: list[str] | None, all_: bool) -> list[str]:
    """The ids; none where all are meant."""
    if all_ == bool(ids):
        raise InvalidInput("expected letter ids, or --all (with --collection to narrow it)")
    return ids or []


def _name(letter: DeadLetter) -> str:
    item = letter.document or letter.deletion
    return item.id if item else letter.document_id or ""
