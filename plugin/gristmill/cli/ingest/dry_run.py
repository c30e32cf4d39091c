"""`gristmill ingest --dry-run`: what would become of the documents, how long it would take, how many bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import typer

from gristmill import Chunking, Client, Estimate, RateSource, StoreBytes
from gristmill.cli.failures import INTERRUPTED
from gristmill.cli.jobs import Lines
from gristmill.cli.layout import Mark, counted, duration, fields
from gristmill.cli.output import console, notes, print_json, said, say
from gristmill.cli.reports import show_rejections
from gristmill.readers import Reading
from gristmill_schemas.errors import CollectionNotFound

_SOURCES = {
    RateSource.GIVEN: "as given",
    RateSource.MEASURED: "as measured now, with some of these texts sent to a worker through Redis",
    RateSource.WORKERS: "as its workers say of what they had before",
    RateSource.JOBS: "as in the fastest of the last jobs",
}
#: Below, seconds are not told as if somebody had counted them.
LEAST_TOLD_S = 3.0
_UNKNOWN = "unknown: no worker of this model is there to try it; --tokens-per-s N says how fast it would be"
_READ_ONCE = "standard input can be read only once: what was counted has to be piped in again to be ingested"


class DryRun:
    """Counts what is read, and says what came of it, also where Ctrl-C ends it."""

    def __init__(
        self,
        client: Client,
        collection: str,
        tell: Callable[[str], None],
        over: Callable[[], None],
        *,
        as_json: bool,
    ) -> None:
        """Nothing is read yet; `tell` shows how far it is, `over` takes that away again."""
        self._client, self._collection, self._as_json = client, collection, as_json
        self._tell, self._over = tell, over
        self._lines = Lines(hidden=as_json or notes.is_terminal)
        self._last: Estimate | None = None

    def run(self, documents: Reading, chunking: Chunking | None, **how: Any) -> Estimate:
        """Read all of it.

        Args:
            documents: what `ingest` would hand over.
            chunking: of the collection, were it created now.
            how: see `Client.estimate`.

        Raises:
            KeyboardInterrupt: Ctrl-C before the first documents were counted.
            typer.Exit: Ctrl-C afterwards; what was counted until then is printed.
        """
        try:
            self._last = self._client.estimate(
                self._collection, documents, progress=self._look, **how | self._to_be(chunking, how)
            )
        except KeyboardInterrupt:
            if self._last is None:
                raise
            self._print(documents, self._last, complete=False)
            raise typer.Exit(INTERRUPTED) from None
        self._print(documents, self._last, complete=True)
        return self._last

    def _to_be(self, chunking: Chunking | None, how: dict[str, Any]) -> dict[str, Any]:
        """As `ingest` does, what it would create counts only where there is nothing yet."""
        try:
            self._client.collections.get(self._collection)
        except CollectionNotFound:
            return {"chunking": chunking}
        return {"model": None}

    def _look(self, estimate: Estimate) -> None:
        self._last = estimate
        far = f"{counted(estimate.accepted, 'document')}, {counted(estimate.tokens, 'token')}"
        self._tell(far)
        self._lines.look(f"counted: {far}")

    def _print(self, documents: Reading, estimate: Estimate, *, complete: bool) -> None:
        self._over()
        remarks = documents.notes + ([_READ_ONCE] if documents.reads_pipe else [])
        if self._as_json:
            print_json(as_record(estimate) | {"complete": complete, "notes": remarks})
            return
        for sentence in remarks:
            say(said(sentence), notes)
        if not complete:
            say("[yellow]interrupted[/]: so far it is", notes)
        print_estimate(estimate)


def as_record(estimate: Estimate) -> dict[str, object]:
    """An estimate with its sums, for JSON."""
    record = estimate.model_dump(mode="json")
    if estimate.store_bytes is not None:
        record["store_bytes"]["total"] = estimate.store_bytes.total
    return record


def print_estimate(estimate: Estimate) -> None:
    """One estimate, for people."""
    say(_sentence(estimate))
    console.print()
    fields(_rows(estimate))
    show_rejections(estimate.rejections, of=estimate.rejected)
    show_rejections(estimate.deaths, "would die", of=estimate.dead)


_WORDS = {
    "stored": "to be stored",
    "skipped": "unchanged",
    "superseded": "older than what is there",
    "dead": "would die",
    "rejected": "would be rejected",
}
_FAILED = ("dead", "rejected")


def _sentence(estimate: Estimate) -> Mark:
    total = estimate.accepted + estimate.rejected
    if not total:
        return Mark("there is nothing to hand over")
    counts = [_count(getattr(estimate, name), name) for name in _WORDS if getattr(estimate, name)]
    return Mark(f"{counted(total, 'document')}: {', '.join(counts)}; nothing was written")


def _count(number: int, name: str) -> str:
    told = f"{number:,} {_WORDS[name]}"
    return f"[bold red]{told}[/]" if name in _FAILED else told


def _rows(estimate: Estimate) -> Iterator[tuple[str, object]]:
    yield "collection", f"{estimate.collection}{'' if estimate.exists else ', which would be created'}"
    yield "model", estimate.model
    about = "about " if estimate.inexact else ""
    yield "to encode", f"{about}{counted(estimate.tokens, 'token')} in {counted(estimate.chunks, 'chunk')}"
    if estimate.inexact:
        yield "", Mark(f"[yellow]estimated[/], since they cannot be counted here: {said(estimate.inexact)}")
    if estimate.truncated:
        yield "cut", f"{counted(estimate.truncated, 'document')} at the end of the model's window"
    if estimate.duplicates:
        yield "duplicates", f"{estimate.duplicates:,} with an id that came before: only the first counts"
    if estimate.repeated_texts:
        yield "same text", f"{counted(estimate.repeated_texts, 'document')} as others before; encoded all the same"
    yield "time", _time(estimate)
    if estimate.store_bytes is not None:
        yield "Qdrant", _kept(estimate.store_bytes)
    yield "Redis", f"{size(estimate.queue_bytes)} while all of them wait"


def _time(estimate: Estimate) -> str:
    if estimate.seconds is None or estimate.tokens_per_s is None or estimate.rate_source is None:
        return _UNKNOWN
    nobody = "" if estimate.workers else "; no worker serves it now"
    rate = f"{estimate.tokens_per_s:,.0f} tokens/s, {_SOURCES[estimate.rate_source]}{nobody}"
    took = "a few seconds" if estimate.seconds < LEAST_TOLD_S else f"about {duration(estimate.seconds)}"
    return f"{took} at {rate}"


def _kept(kept: StoreBytes) -> str:
    parts = {
        "vectors": kept.vectors,
        "graphs": kept.graphs,
        "texts and metadata": kept.payloads,
        "words": kept.keywords,
    }
    return f"about {size(kept.total)}: " + ", ".join(f"{name} {size(value)}" for name, value in parts.items() if value)


def size(count: int) -> str:
    """Bytes as people say them: `800 B`, `1.2 MB`, `35 GB`."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
