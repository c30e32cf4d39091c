"""`gristmill dead summary|list|show|replay|drop`: documents that could not be stored."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from gristmill import Client, DeadGroup, DeadLetter, DeadSummary, InvalidInput, JobReport, RefusedMessage, Rejection
from gristmill.cli.jobs import watch_job
from gristmill.cli.layout import Mark, age, counted, fields, flat, listing
from gristmill.cli.output import JsonFlag, aside, confirm, console, notes, print_json, progress_bar, said, say
from gristmill.cli.reports import print_report
from gristmill.startup import open_client

app = typer.Typer()
commands = typer.Typer(help="Documents that could not be stored, and why.", no_args_is_help=True)
app.add_typer(commands, name="dead")

Ids = Annotated[list[str] | None, typer.Argument(help="Letter ids, as `dead list` shows them.")]
Everything = Annotated[bool, typer.Option("--all", help="All of them, as far as the options below do not narrow it.")]
OfCollection = Annotated[str | None, typer.Option("--collection", "-c", help="Only this collection's.")]
OfError = Annotated[str | None, typer.Option("--error", "-e", help="Only those of this class of error.")]
OfTenant = Annotated[str | None, typer.Option("--tenant", help="Only this tenant's.")]
OfJob = Annotated[str | None, typer.Option("--job", help="Only this job's.")]

#: Rejections that are shown; --json lists all.
_SHOWN = 10
#: Characters of a reason in a list; `dead show` has the whole.
_REASON = 200


@commands.command()
def summary(collection: OfCollection = None, tenant: OfTenant = None, as_json: JsonFlag = False) -> None:
    """How many died of what, and what to do: one line per error and collection."""
    with open_client(aside, qdrant=False) as client:
        found = client.dead.summary(collection, tenant=tenant)
    if as_json:
        print_json(found.model_dump(mode="json") | {"share": found.share})
        return
    show_summary(found, time.time())


def show_summary(found: DeadSummary, now: float) -> None:
    """What died of what, for people: a group below the other, each with the command that tries it again."""
    if not found.letters:
        say("no dead letters")
        return
    for group in found.groups:
        say(f"[bold red]{group.letters:,}[/] {said(group.error)} in {said(group.collection)}")
        fields(_of(group, now))
    say(of_mark(found))
    say(
        "`gristmill dead list` with the same options shows them, `gristmill dead drop` forgets them",
    )


def of_mark(found: DeadSummary) -> str:
    """What the letters take of their mark, as people read it."""
    size = f"{found.bytes:,} bytes, {found.share:.1%} of their mark of {found.max_bytes:,}"
    return f"{counted(found.letters, 'dead letter')} take{'s' if found.letters == 1 else ''} {size}"


def _of(group: DeadGroup, now: float) -> dict[str, object]:
    replaying = shlex.join(["gristmill", "dead", "replay", "-c", group.collection, "-e", group.error])
    reason = " ".join(group.reason.split())[:_REASON]
    return {
        "newest": age(group.newest_died_at, now) or None,
        "its reason": reason or None,
        "try again": Mark(said(replaying)),
    }


@commands.command("list")
def list_(
    collection: OfCollection = None,
    error: OfError = None,
    job: OfJob = None,
    tenant: OfTenant = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 50,
    as_json: JsonFlag = False,
) -> None:
    """Dead letters, newest first."""
    with open_client(aside, qdrant=False) as client:
        letters = client.dead.list(collection, job=job, error=error, tenant=tenant, limit=limit)
    if as_json:
        print_json({"letters": [letter.model_dump(mode="json") for letter in letters]})
        return
    show_letters(letters, time.time())


def show_letters(letters: Sequence[DeadLetter], now: float) -> None:
    """Dead letters for people, one line each where that fits."""
    if not letters:
        say("no dead letters")
        return
    rows = [
        (each.id, age(each.died_at, now), each.collection, each.identity[0], each.error, _reason(each))
        for each in letters
    ]
    listing(["letter", "died", "collection", "document", "error", "reason"], rows, prose=True)


def _reason(letter: DeadLetter) -> str:
    return " ".join(letter.reason.split())[:_REASON]


@commands.command()
def show(letter_id: str, as_json: JsonFlag = False) -> None:
    """One dead letter, the document included."""
    with open_client(aside, qdrant=False) as client:
        letter = client.dead.get(letter_id)
    if as_json:
        print_json(letter)
        return
    show_letter(letter)


def show_letter(letter: DeadLetter) -> None:
    """One dead letter for people, whole."""
    say(f"[bold]{said(letter.id)}[/]: [red]{said(letter.error)}[/]")
    console.print()
    record = letter.model_dump(mode="json", exclude={"id", "error", "format"}, exclude_none=True)
    fields(flat(record, times=("enqueued_at", "died_at")))


@commands.command()
def replay(
    ids: Ids = None,
    all_: Everything = False,
    collection: OfCollection = None,
    error: OfError = None,
    job: OfJob = None,
    wait: Annotated[bool, typer.Option(help="Wait until they have come to their end.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Try again. Fenced as ever: a newer version that was stored meanwhile stays. Exit code 1 where some died or stay."""
    chosen = _chosen(ids, all_, collection, error, job)
    with open_client(aside) as client:
        with _bar(client, "handing over", chosen, hidden=as_json) as tell:
            jobs = client.dead.replay(**chosen, progress=tell)
        reports = [watch_job(each, hidden=as_json) if wait else each.report() for each in jobs]
    stay = [rejection for each in jobs for rejection in each.rejections]
    if as_json:
        stays = [rejection.model_dump(mode="json") for rejection in stay]
        print_json({"jobs": [report.model_dump(mode="json") for report in reports], "rejections": stays})
    else:
        _show(reports, stay)
    if stay or any(report.dead for report in reports):
        raise typer.Exit(1)


def _show(reports: Sequence[JobReport], stay: Sequence[Rejection]) -> None:
    if not reports:
        say("no dead letters")
    for report in reports:
        print_report(report, as_json=False)
    for rejection in stay[:_SHOWN]:
        say(said(rejection.reason), notes)
    if len(stay) > _SHOWN:
        say(f"… and {len(stay) - _SHOWN:,} more that stay; --json lists all", notes)


@commands.command()
def drop(
    ids: Ids = None,
    all_: Everything = False,
    collection: OfCollection = None,
    error: OfError = None,
    job: OfJob = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Forget dead letters for good."""
    chosen = _chosen(ids, all_, collection, error, job)
    with open_client(aside, qdrant=False) as client:
        count = _count(client, chosen)
        if count and not yes:
            confirm(f"Forget {f'the dead letters of job {job}' if job else counted(count, 'dead letter')}?")
        with _bar(client, "forgetting", chosen, hidden=as_json) as tell:
            dropped = _drop(client, chosen, tell)
    if as_json:
        print_json({"dropped": dropped})
    else:
        say(f"dropped {counted(dropped, 'dead letter')}")


def _drop(client: Client, chosen: dict[str, Any], tell: Callable[[int], None]) -> int:
    if any(chosen.values()):
        return client.dead.drop(**chosen, progress=tell)
    dropped = 0
    for name in sorted({group.collection for group in client.dead.summary().groups}):
        dropped += client.dead.drop(collection=name)
        tell(dropped)
    return dropped


@contextmanager
def _bar(client: Client, doing: str, chosen: dict[str, Any], *, hidden: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar; what it gives is to be called with how many are done."""
    with progress_bar(hidden=hidden) as bar:
        line = bar.add_task(doing, total=None if chosen["job"] else _count(client, chosen), note="")
        yield lambda done: bar.update(line, completed=done)


@commands.command()
def refused(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 50,
    drop: Annotated[bool, typer.Option("--drop", help="Forget them.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Messages in the workers' queue that were none of ours: never executed, only kept. Also parcels turned unreadable."""
    with open_client(aside, qdrant=False) as client:
        messages = client.refused.list(limit)
        unreadable = client.refused.unreadable()
        dropped = client.refused.drop() if drop else 0
    if as_json:
        found = [message.model_dump(mode="json") for message in messages]
        print_json({"refused": found, "unreadable": unreadable, "dropped": dropped})
        return
    show_refused(messages, time.time())
    if unreadable:
        say(f"parcels whose bytes were overwritten: {', '.join(map(said, unreadable))}")
    if drop:
        say(f"dropped {counted(dropped, 'message')}")


def show_refused(messages: Sequence[RefusedMessage], now: float) -> None:
    """Refused messages for people."""
    if not messages:
        say("no message was refused")
        return
    rows = [(age(each.refused_at, now), each.queue, each.reason, each.message[:80]) for each in messages]
    listing(["refused", "queue", "reason", "message"], rows, prose=True)


def _chosen(
    ids: list[str] | None, all_: bool, collection: str | None, error: str | None, job: str | None
) -> dict[str, Any]:
    """Arguments for `client.dead.replay` and `drop`."""
    narrowed = any((collection, error, job))
    if bool(ids) == (all_ or narrowed):
        raise InvalidInput(
            "expected either letter ids, or --all, --collection, --error or --job, "
            f"got {'both' if ids else 'neither'}; `gristmill dead summary` shows them"
        )
    return {"letter_ids": ids or None, "collection": collection, "error": error, "job": job}


def _count(client: Client, chosen: dict[str, Any]) -> int:
    """How many letters are meant; of one job, the most there can be."""
    if chosen["letter_ids"]:
        return len(chosen["letter_ids"])
    asked, kind = chosen["collection"], chosen["error"]
    groups = client.dead.summary().groups
    return sum(each.letters for each in groups if asked in (None, each.collection) and kind in (None, each.error))
