"""`gristmill ingest FILE… -c NAME`: documents from files into a collection, with a progress bar."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import DownloadColumn

from gristmill import ChunkBy, Chunking, Client
from gristmill.cli.collections.indexing import loaded_in_bulk, told, watch_index
from gristmill.cli.ingest.counts import CountsCache
from gristmill.cli.ingest.dry_run import DryRun
from gristmill.cli.jobs import watch_job
from gristmill.cli.layout import fields
from gristmill.cli.output import JsonFlag, aside, notes, print_json, progress_bar, said, say
from gristmill.cli.reports import as_record, print_report
from gristmill.readers import Format, Reading, read
from gristmill.startup import open_client
from gristmill_schemas import Priority
from gristmill_schemas.errors import CollectionNotFound, InvalidInput

app = typer.Typer()


@app.command()
def ingest(
    files: Annotated[
        list[str],
        typer.Argument(
            help="JSONL, JSON, CSV, Parquet, text, Markdown, HTML, PDF, Word …, also compressed; folders, 'patterns*'; "
            "`-` reads JSONL."
        ),
    ],
    collection: Annotated[str, typer.Option("--collection", "-c", help="Where to; created if it does not exist.")],
    model: Annotated[str | None, typer.Option(help="Model of a new collection; default GRISTMILL_MODEL.")] = None,
    format: Annotated[Format | None, typer.Option(help="Instead of going by each file's suffix.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Of text files; default: found out for each.")] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Pass over in folders, as .gitignore has it; repeatable."),
    ] = None,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="In folders, follow links that lead out.")
    ] = False,
    root: Annotated[
        Path | None, typer.Option(help="Ids from files begin with the path below this folder, not the absolute path.")
    ] = None,
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
    tenant: Annotated[str | None, typer.Option(help="Whose documents: given to those that name none.")] = None,
    bulk: Annotated[
        bool, typer.Option("--bulk", help="Put the index off meanwhile: for the first load, and for large ones.")
    ] = False,
    notify: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Told by a signed webhook when all is done; see docs/howto/webhooks.md."),
    ] = None,
    priority: Annotated[
        Priority, typer.Option(help="Beside other jobs that wait for the same model.")
    ] = Priority.NORMAL,
    wait: Annotated[bool, typer.Option(help="Wait until everything is stored.")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count: documents, tokens, chunks, seconds, bytes. Writes nothing.")
    ] = False,
    measure: Annotated[
        bool | None,
        typer.Option(
            "--measure/--no-measure",
            help="Dry run: some of the texts go through Redis to a worker, to see how fast it is with them.",
        ),
    ] = None,
    tokens_per_s: Annotated[
        float | None, typer.Option(min=0.001, help="Dry run: the rate of all workers together, if you know better.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Read documents and hand them to the workers. Run it again: what is unchanged is skipped."""
    if not dry_run and (measure is not None or tokens_per_s is not None):
        raise InvalidInput(
            "--measure, --tokens-per-s: expected together with --dry-run, got them without", field="dry_run"
        )
    with open_client(aside) as client, progress_bar(hidden=as_json, count=DownloadColumn()) as bar:
        line = bar.add_task("reading", total=None, note="")
        # First, since it looks at the paths: a mistyped one must not create a collection.
        documents = read(
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
            on_bytes=lambda done: bar.update(line, completed=done),
        )
        bar.update(line, total=documents.total_bytes())
        counts = CountsCache(collection, tenant)
        if dry_run:
            how = {"model": model, "tenant": tenant, "measure": measure, "tokens_per_s": tokens_per_s}
            counting = DryRun(client, collection, lambda far: bar.update(line, note=far), bar.stop, as_json=as_json)
            estimate = counting.run(documents, _chunking(documents), **how)
            counts.remember(documents, estimate)
            raise typer.Exit(1 if estimate.rejected or estimate.dead else 0)
        _ensure(client, collection, model, documents)
        known = counts.recall(documents)
        of = f"of {known.documents:,} " if known else ""
        with loaded_in_bulk(client, collection) if bulk else nullcontext():
            job = client.enqueue(
                collection,
                documents,
                tenant=tenant,
                notify=notify,
                priority=priority,
                progress=lambda accepted: bar.update(line, note=f"{accepted:,} {of}documents handed over"),
            )
            bar.stop()
            report = watch_job(job, hidden=as_json, tokens=known.tokens if known else None) if wait else job.report()
        index = watch_index(client, collection, hidden=as_json) if bulk and wait else None
    if as_json:
        rejections = [item.model_dump(mode="json") for item in job.rejections]
        built = {"index": index.model_dump(mode="json", exclude={"collection"})} if index else {}
        print_json(as_record(report) | {"rejections": rejections, "notes": documents.notes} | built)
    else:
        for sentence in documents.notes:
            say(said(sentence), notes)
        print_report(report, as_json=False, rejections=job.rejections)
        if index:
            fields({"index": told(index)})
    if job.rejections or report.dead:
        raise typer.Exit(1)


def _ensure(client: Client, collection: str, model: str | None, documents: Reading) -> None:
    try:
        client.collections.get(collection)
    except CollectionNotFound:
        chunking = _chunking(documents)
        how = ", whose long texts are cut at headings and blocks" if chunking else ""
        say(f"[dim]creating collection {said(collection)}{how}, once a worker says what model it serves …[/]", notes)
        client.create_collection(collection, model, chunking=chunking)


def _chunking(documents: Reading) -> Chunking | None:
    """How a new collection would cut their long texts, where that is to be told."""
    return Chunking(by=ChunkBy.MARKDOWN) if documents.is_markdown() else None
