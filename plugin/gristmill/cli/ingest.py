"""`gristmill ingest FILE… -c NAME`: documents from files into a collection, with a progress bar."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import DownloadColumn

from gristmill import ChunkBy, Chunking, Client
from gristmill.cli.collections.indexing import loaded_in_bulk, told, watch_index
from gristmill.cli.jobs import watch_job
from gristmill.cli.layout import counted, fields
from gristmill.cli.output import JsonFlag, aside, notes, print_json, progress_bar, said, say
from gristmill.cli.reports import as_record, print_report
from gristmill.readers import Format, Reading, read
from gristmill.startup import open_client
from gristmill_schemas.errors import CollectionNotFound

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
    wait: Annotated[bool, typer.Option(help="Wait until everything is stored.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Read documents and hand them to the workers. Run it again: what is unchanged is skipped."""
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
        _ensure(client, collection, model, documents)
        with loaded_in_bulk(client, collection) if bulk else nullcontext():
            job = client.enqueue(
                collection,
                documents,
                tenant=tenant,
                progress=lambda accepted: bar.update(line, note=f"{counted(accepted, 'document')} handed over"),
            )
            bar.stop()
            report = watch_job(job, hidden=as_json) if wait else job.report()
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
        chunking = Chunking(by=ChunkBy.MARKDOWN) if documents.is_markdown() else None
        how = ", whose long texts are cut at headings and blocks" if chunking else ""
        say(f"[dim]creating collection {said(collection)}{how}, once a worker says what model it serves …[/]", notes)
        client.create_collection(collection, model, chunking=chunking)
