"""What `gristmill demo` does: the main job in one process, on real text with a real model, in front of your eyes.

Everything is kept in the user's cache, so a second run skips what is unchanged, and `gristmill demo "your question"`
answers in seconds.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape

from gristmill import Client, Document, GristmillError, JobReport, SearchHit, StoreUnavailable
from gristmill.cli.jobs import watch_job
from gristmill.cli.output import console, notes, print_json
from gristmill.cli.search import show_hits
from gristmill_worker.demo.corpus import Showcase, faq, language_reference, showcase
from gristmill_worker.encoder.model.bundled.unpack import default_cache
from gristmill_worker.encoder.model.find import DEMO

_CORPORA = {
    "reference": "CPython's language reference, out of the running Python",
    "faq": "a Chinese shop's customer-service FAQ",
}
_HITS = 3


def run_demo(
    questions: Sequence[str], model: str | None, instruction: str | None, *, fresh: bool, as_json: bool
) -> None:
    """Ingest the corpora and search them; see the command for what the arguments mean."""
    chosen = model or DEMO
    place = default_cache().parent / "demo"
    if fresh:
        shutil.rmtree(place, ignore_errors=True)
    with _open(place, chosen, progress=not as_json) as client:
        reports = {corpus: _ingest(client, corpus, hidden=as_json) for corpus in _CORPORA}
        asked = _own(questions, instruction) if questions else list(showcase())
        answers = [(each, _ask(client, each)) for each in asked]
    if as_json:
        print_json(_record(chosen, reports, answers))
        return
    for each, hits in answers:
        _show(each, hits)
    _say_what_next()


def _open(place: Path, model: str, *, progress: bool) -> Client:
    place.mkdir(parents=True, exist_ok=True)
    try:
        return Client.embedded(str(place / "qdrant"), model=model, progress=progress)
    except StoreUnavailable as error:  # Qdrant's local mode: one process per folder
        raise GristmillError(f"another demo is using {place}: wait for it, or end it ({error})") from error


def _ingest(client: Client, corpus: str, *, hidden: bool) -> JobReport:
    # A collection per model: the demo of another model must not meet these vectors.
    documents: Iterable[Document] = language_reference() if corpus == "reference" else faq()
    notes.print(f"[bold]{corpus}[/]: {_CORPORA[corpus]}", highlight=False)
    client.create_collection(_collection(client, corpus))
    report = watch_job(client.enqueue(_collection(client, corpus), documents), hidden=hidden, lives_on=False)
    rate = f", {report.tokens / report.seconds:,.0f} tokens/s" if report.tokens else ""
    notes.print(
        f"  {report.stored:,} stored, {report.skipped:,} unchanged and skipped, {report.dead} dead, "
        f"in {report.seconds:.1f} s ({report.finished / max(report.seconds, 1e-9):,.0f} documents/s{rate})",
        highlight=False,
    )
    return report


def _collection(client: Client, corpus: str) -> str:
    return f"{corpus}-{client.models.list()[0].digest[:8]}"


def _own(questions: Iterable[str], instruction: str | None) -> list[Showcase]:
    return [
        Showcase(corpus=corpus, query=question, instruction=instruction, lesson="", expected="")
        for question in questions
        for corpus in ("reference", "faq")
    ]


def _ask(client: Client, each: Showcase) -> list[SearchHit]:
    return client.search(
        _collection(client, each.corpus), each.query, instruction=each.instruction, limit=_HITS, group_by_document=True
    )


def _show(each: Showcase, hits: list[SearchHit]) -> None:
    console.print()
    console.rule(f"[bold]{escape(each.query)}[/]", align="left")
    console.print(f"[dim]in {_CORPORA[each.corpus]}[/]", highlight=False)
    if each.instruction:
        console.print(f"[magenta]instruction:[/] {escape(each.instruction)}", highlight=False)
    if each.lesson:
        console.print(f"[dim]{escape(each.lesson)}[/]", highlight=False)
    show_hits(hits, width=180)


def _say_what_next() -> None:
    console.print()
    console.rule("[bold]what to type next[/]", align="left")
    for command, meaning in (
        ('gristmill demo "快递显示签收但我没收到"', "your own question, over what is stored now"),
        ('gristmill demo "How do I iterate over it?" -i "Find the method to define"', "… with an instruction"),
        ("gristmill worker --model demo", "a real worker, beside Redis and Qdrant; or a folder, or a hub id"),
        ("gristmill ingest docs.jsonl -c docs", "your own documents, in another terminal"),
        ('gristmill search docs "…" -i "…"', "and search them"),
    ):
        console.print(f"  [cyan]{escape(command)}[/]\n      [dim]{meaning}[/]", highlight=False, soft_wrap=True)


def _record(
    model: str, reports: dict[str, JobReport], answers: list[tuple[Showcase, list[SearchHit]]]
) -> dict[str, Any]:
    return {
        "model": model,
        "reports": {corpus: report.model_dump(mode="json") for corpus, report in reports.items()},
        "searches": [
            {
                "corpus": each.corpus,
                "query": each.query,
                "instruction": each.instruction,
                "hits": [hit.model_dump(mode="json") for hit in hits],
            }
            for each, hits in answers
        ],
    }
