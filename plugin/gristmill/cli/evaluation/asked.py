"""What the commands of `gristmill eval` that search ask for alike, and what they open for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from gristmill.cli.jobs import watch_job
from gristmill.cli.output import aside
from gristmill.evaluation.places import Places
from gristmill.evaluation.questions import documents_beside
from gristmill.extras import brought_by
from gristmill.ingest.jobs import Job
from gristmill.startup import open_client
from gristmill_schemas.errors import InvalidInput

Questions = Annotated[
    str,
    typer.Argument(
        metavar="QUESTIONS",
        help='JSONL of {"query": …, "expected": ID or [IDs]}, `-`, a BEIR folder, qrels, or a set: faq, technical.',
    ),
]
Collection = Annotated[str | None, typer.Option("--collection", "-c", help="A live collection that is searched.")]
DocumentsFile = Annotated[
    str | None,
    typer.Option("--documents", metavar="FILE", help="Documents to encode for this alone, as `ingest` reads them."),
]
Model = Annotated[str | None, typer.Option(help="Their model; default GRISTMILL_MODEL.")]
Lens = Annotated[str | None, typer.Option(help="Compare under this lens of the collection.")]
Tenant = Annotated[str | None, typer.Option(help="Only this tenant's documents.")]
Queries = Annotated[Path | None, typer.Option("--queries", help="The topics of qrels: `id<TAB>query`, or JSONL.")]
Split = Annotated[str, typer.Option(help="Which qrels of a BEIR folder.")]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Expected documents that are not there count as not found.")
]
OnServer = Annotated[
    bool, typer.Option("--on-server", help="Keep --documents on the Qdrant server meanwhile, not in memory.")
]


def require_extra() -> None:
    """Raise NotInstalled where the extra `eval` is missing: before anything is encoded for it."""
    with brought_by("eval", "`gristmill eval`"):
        import ir_measures
        import scipy.stats
    del ir_measures, scipy


def documents_given(questions: str, collection: str | None, documents: str | None) -> str | None:
    """The documents to search: as they were given, or those that come with the questions where no collection is named."""
    if collection is not None and documents is not None:
        raise InvalidInput("documents: expected --collection or --documents, got both", field="documents")
    if collection is None and documents is None and questions != "-" and documents_beside(questions) is not None:
        return questions
    return documents


def places(*, as_json: bool, on_server: bool) -> Places:
    """Where configurations are searched; documents are stored under a progress bar."""
    return Places(lambda: open_client(aside), _watching(as_json), on_server=on_server)


def _watching(as_json: bool) -> Callable[[Job], None]:
    def watch(job: Job) -> None:
        report = watch_job(job, hidden=as_json, lives_on=False)
        if lost := report.dead + len(job.rejections):
            first = f": {job.rejections[0]}" if job.rejections else ""
            aside(f"{lost} of the documents could not be stored{first}")

    return watch
