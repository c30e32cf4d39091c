"""`gristmill dead summary|list|show|replay|drop`: documents that could not be stored."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape

from gristmill import Client, DeadGroup, DeadSummary, InvalidInput, JobReport, Rejection
from gristmill.cli.jobs import print_report, watch_job
from gristmill.cli.output import JsonFlag, console, notes, print_json, progress_bar, table

app = typer.Typer()
commands = typer.Typer(help="Documents that could not be stored, and why.", no_args_is_help=True)
app.add_typer(commands, name="dead")

Ids = Annotated[list[str] | None, typer.Argument(help="Letter ids, as `dead list` shows them.")]
Everything = Annotated[bool, typer.Option("--all", help="All of them, as far as the options below do not narrow it.")]
OfCollection = Annotated[str | None, typer.Option("--collection", "-c", help="Only this collection's.")]
OfError = Annotated[str | None, typer.Option("--error", "-e", help="Only those of this class of error.")]
OfJob = Annotated[str | None, typer.Option("--job", help="Only this job's.")]

#: Rejections that are shown; --json lists all.
_SHOWN = 10


@commands.command()
def summary(collection: OfCollection = None, as_json: JsonFlag = False) -> None:
    """How many died of what, and what to do: one line per error and collection."""
    with Client() as client:
        found = client.dead.summary(collection)
    if as_json:
        print_json(found.model_dump(mode="json") | {"share": found.share})
        return
    if not found.letters:
        console.print("no dead letters")
        return
    rows = [_row(each) for each in found.groups]
    table("", ["letters", "error", "collection", "newest", "its reason", "to try again"], rows)
    console.print(of_mark(found), highlight=False)
    console.print("`gristmill dead list` with the same options shows them, `gristmill dead drop` forgets them")


def of_mark(found: DeadSummary) -> str:
    """What the letters take of their mark, as people read it."""
    size = f"{found.bytes:,} bytes, {found.share:.1%} of their mark of {found.max_bytes:,}"
    return f"{found.letters:,} dead letters take {size}"


def _row(group: DeadGroup) -> tuple[str, ...]:
    replaying = shlex.join(["gristmill", "dead", "replay", "-c", group.collection, "-e", group.error])
    reason = escape(" ".join(group.reason.split())[:80])
    return f"{group.letters:,}", group.error, group.collection, _when(group.newest_died_at), reason, replaying


@commands.command("list")
def list_(
    collection: OfCollection = None,
    error: OfError = None,
    job: OfJob = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 50,
    as_json: JsonFlag = False,
) -> None:
    """Dead letters, newest first."""
    with Client() as client:
        letters = client.dead.list(collection, job=job, error=error, limit=limit)
    if as_json:
        print_json({"letters": [letter.model_dump(mode="json") for letter in letters]})
        return
    rows = [(letter.id, letter.collection, letter.identity[0], letter.error, letter.reason[:100]) for letter in letters]
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
    error: OfError = None,
    job: OfJob = None,
    wait: Annotated[bool, typer.Option(help="Wait until they have come to their end.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Try again. Fenced as ever: a newer version that was stored meanwhile stays. Exit code 1 where some died or stay."""
    chosen = _chosen(ids, all_, collection, error, job)
    with Client() as client:
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
        console.print("no dead letters")
    for report in reports:
        print_report(report, as_json=False)
    for rejection in stay[:_SHOWN]:
        notes.print(rejection.reason, markup=False, highlight=False, soft_wrap=True)
    if len(stay) > _SHOWN:
        notes.print(f"… and {len(stay) - _SHOWN:,} more that stay; --json lists all")


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
    with Client() as client:
        count = _count(client, chosen)
        if count and not yes:
            meant = f"the dead letters of job {job}" if job else f"{count:,} dead letters"
            typer.confirm(f"Forget {meant}?", abort=True, err=True)
        with _bar(client, "forgetting", chosen, hidden=as_json) as tell:
            dropped = _drop(client, chosen, tell)
    if as_json:
        print_json({"dropped": dropped})
    else:
        console.print(f"dropped {dropped:,}")


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


def _when(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds")


def _chosen(
    ids: list[str] | None, all_: bool, collection: str | None, error: str | None, job: str | None
) -> dict[str, Any]:
    """Arguments for `client.dead.replay` and `drop`."""
    narrowed = any((collection, error, job))
    if bool(ids) == (all_ or narrowed):
        raise InvalidInput(
            "expected either letter ids, or --all, --collection, --error or --job; `gristmill dead summary` shows them"
        )
    return {"letter_ids": ids or None, "collection": collection, "error": error, "job": job}


def _count(client: Client, chosen: dict[str, Any]) -> int:
    """How many letters are meant; of one job, the most there can be."""
    if chosen["letter_ids"]:
        return len(chosen["letter_ids"])
    asked, kind = chosen["collection"], chosen["error"]
    groups = client.dead.summary().groups
    return sum(each.letters for each in groups if asked in (None, each.collection) and kind in (None, each.error))
