"""`gristmill audit NAME [FILES…]` and `gristmill receipt NAME ID`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gristmill import AuditReport, Receipt
from gristmill.cli.jobs import watch_job
from gristmill.cli.layout import counted, fields, flat
from gristmill.cli.output import JsonFlag, aside, console, notes, print_json, progress_bar, said, say
from gristmill.readers import Format, read
from gristmill.startup import open_client

app = typer.Typer()

_BAD_ENDS = ("lost", "dead", "unknown")
#: Gaps shown to people; `--json` gives the first 1,000.
_SHOWN = 20
_COLUMNS = (
    "missing",
    "stale",
    "incomplete",
    "wrong_space",
    "vectorless",
    "leftover",
    "revived",
    "foreign",
    "in_flight",
    "dead",
    "deleted",
)


@app.command()
def audit(
    name: Annotated[str, typer.Argument(help="The collection.")],
    files: Annotated[
        list[str] | None, typer.Argument(help="Documents that should be there; as `gristmill ingest` takes them.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's documents.")] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Enqueue exactly the gap; delete leftover chunks; list the unlisted.")
    ] = False,
    format: Annotated[Format | None, typer.Option(help="Instead of going by each file's suffix.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Of text files; default: found out for each.")] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Pass over in folders, as .gitignore has it; repeatable."),
    ] = None,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="In folders, follow links that lead out.")
    ] = False,
    root: Annotated[Path | None, typer.Option(help="As `gristmill ingest` was told.")] = None,
    id_field: Annotated[str, typer.Option(help="Field or column of the id.")] = "id",
    text_field: Annotated[str, typer.Option(help="Field or column of the text.")] = "text",
    types: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TYPES", help="CSV: auto, or COLUMN=integer|number|boolean|date|datetime|text, repeatable."
        ),
    ] = None,
    paragraphs: Annotated[bool, typer.Option(help="Text files: one document per paragraph.")] = False,
    sections: Annotated[bool, typer.Option(help="Markdown: one document per section, not per file.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Compare what was accepted with what Qdrant holds. Exit code 1 where gaps remain.

    Without FILES the ledger's roster says what should be there; that names what is missing, but has no texts to restore.
    """
    expected = None
    if files:
        expected = read(
            files,
            format=format,
            encoding=encoding,
            exclude=exclude or (),
            follow_links=follow_links,
            root=root,
            id_field=id_field,
            text_field=text_field,
            types=types,
            paragraphs=paragraphs,
            sections=sections,
        )
    with open_client(aside) as client:
        with progress_bar(hidden=as_json) as bar:
            line = bar.add_task("comparing", total=None, note="")
            report = client.audit(
                name,
                expected,
                tenant=tenant,
                repair=repair,
                progress=lambda done: bar.update(line, completed=done),
            )
        failed = 0
        if report.job_id is not None:
            job = watch_job(client.jobs.get(report.job_id), hidden=as_json)
            failed = job.dead
    if as_json:
        print_json(report.model_dump(mode="json") | {"gaps": report.gaps, "left": report.left})
    else:
        show_audit(report)
    if report.left or failed:
        raise typer.Exit(1)


def show_audit(report: AuditReport) -> None:
    """A report for people: a sentence, what differs, and what to do."""
    left = f"[bold red]{counted(report.left, 'gap')} left[/]" if report.left else "[green]no gaps left[/]"
    held = f"{counted(report.documents, 'document')} in {counted(report.points, 'point')}"
    say(f"{said(report.collection)}: {report.expected:,} expected, {held}: {left}")
    counts = [
        (name.replace("_", " "), getattr(report, name))
        for name in (*_COLUMNS, "repaired", "unlisted", "listed", "rejected")
    ]
    if any(count for _, count in counts):
        console.print()
    fields((name, count or None) for name, count in counts)
    for item in report.findings[:_SHOWN]:
        mark = "[green]repaired[/]" if item.repaired else "[red]gap[/]"
        say(f"{mark} {item.gap} {said(item.id or item.point_id)}: {said(item.detail)}")
    if (more := report.gaps - min(len(report.findings), _SHOWN)) > 0:
        say(f"… and {more:,} more; --json lists the first 1,000", notes)
    if report.unlisted > report.listed:
        say(
            "unlisted: in Qdrant, and not on the ledger's roster, as after Redis was lost; --repair puts them on it",
            notes,
        )
    if report.index_restored:
        how = f"gristmill collections wait {said(report.collection)}"
        say(f"a bulk load was left behind: the index is on again, and being built (`{how}`)", notes)
    if report.left:
        say(_advice(report), notes)


def _advice(report: AuditReport) -> str:
    if report.foreign == report.left:
        return "foreign points are never touched: find out what wrote them, and delete them in Qdrant"
    if not report.job_id and not report.repaired:
        return "`gristmill audit NAME FILES… --repair` enqueues exactly what is missing"
    return "the rest has no text at hand: name the FILES that hold it"


@app.command()
def receipt(
    name: Annotated[str, typer.Argument(help="The collection.")],
    id: Annotated[str, typer.Argument(help="The document's id.")],
    tenant: Annotated[str | None, typer.Option(help="Whose document.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """What became of one document. Exit code 1 where it is lost, dead or unknown."""
    with open_client(aside) as client:
        found = client.receipt(name, id, tenant=tenant)
    if as_json:
        print_json(found)
    else:
        show_receipt(found)
    if found.state in _BAD_ENDS:
        raise typer.Exit(1)


def show_receipt(found: Receipt) -> None:
    """A receipt for people."""
    state = f"[red]{found.state}[/]" if found.state in _BAD_ENDS else f"[green]{found.state}[/]"
    say(f"{said(found.id)} in {said(found.collection)}: {state}")
    console.print()
    rest = {"collection", "id", "state"}
    fields(flat(found.model_dump(mode="json", exclude=rest, exclude_none=True), times=("enqueued_at", "stored_at")))
