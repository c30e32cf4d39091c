"""What became of a job, on the screen: one sentence, then a short list without zeros."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gristmill import JobReport, JobState, Rejection, WebhookState
from gristmill.cli.layout import Mark, counted, duration, fields
from gristmill.cli.output import console, notes, print_json, said, say
from gristmill_schemas import Outcome

#: Rejections shown to people; `--json` gives all.
_SHOWN = 20
#: What people call it, where that is not the counter's name.
_WORDS = {"skipped": "unchanged", "gone": "gone with their collection", "pending": "on their way"}
_FAILED = ("dead", "rejected")


def as_record(report: JobReport) -> dict[str, object]:
    """A report with its derived counters, for JSON."""
    return report.model_dump(mode="json") | {"pending": report.pending, "finished": report.finished}


def print_report(report: JobReport, as_json: bool, rejections: Sequence[Rejection] = ()) -> None:
    """One report, for people or scripts; with the rejections of the handle that made it."""
    if as_json:
        print_json(as_record(report))
        return
    say(sentence(report))
    console.print()
    fields(_rows(report, rejections))
    show_rejections(rejections)


def sentence(report: JobReport) -> Mark:
    """`1,500 documents: 1,496 stored, 3 unchanged, 1 dead in 12 s`."""
    total = report.accepted + report.rejected
    if not total:
        return Mark("nothing was handed over")
    counts = [_count(report, name) for name in (*Outcome, "rejected", "pending") if getattr(report, name)]
    took = f"{'in' if report.state is JobState.DONE else 'after'} {duration(report.seconds)}"
    return Mark(f"{counted(total, 'document')}: {', '.join(counts)} {took}")


def _count(report: JobReport, name: str) -> str:
    told = f"{getattr(report, name):,} {_WORDS.get(name, name)}"
    return f"[bold red]{told}[/]" if name in _FAILED else told


def _rows(report: JobReport, rejections: Sequence[Rejection]) -> Iterator[tuple[str, object]]:
    yield "job", report.job_id
    yield "collection", report.collection
    if report.chunks:
        yield "written", f"{counted(report.chunks, 'chunk')}, {counted(report.tokens, 'token')}"
    if report.finished and report.seconds:
        yield "rate", _rate(report)
    if report.truncated:
        yield "cut", f"{counted(report.truncated, 'document')} at the end of the model's window"
    if report.abandoned:
        yield "abandoned", "by its producer, which fell silent before it said that this was all"
    if report.webhook:
        yield "webhook", _told(report)
    if report.dead:
        yield "dead", Mark(f"[red]{report.dead:,}[/]: [bold]gristmill dead list --job {said(report.job_id)}[/]")
    if report.rejected:
        yield "rejected", Mark(f"[red]{report.rejected:,}[/]: {_where(report, rejections)}")
    listed = set(map(str, rejections))
    yield from (("", reason) for reason in report.reasons if reason not in listed)


def _told(report: JobReport) -> Mark:
    if report.webhook is WebhookState.DELIVERED:
        return Mark("delivered")
    listing = f"[bold]gristmill webhooks list --job {said(report.job_id)}[/]"
    failed = report.webhook is WebhookState.FAILED
    return Mark(f"[red]failed[/]: {listing}" if failed else f"to be sent: {listing}")


def _rate(report: JobReport) -> str:
    per_second = f"{report.finished / report.seconds:,.0f} documents/s"
    return f"{per_second}, {report.tokens / report.seconds:,.0f} tokens/s" if report.tokens else per_second


def _where(report: JobReport, rejections: Sequence[Rejection]) -> str:
    return "listed below" if rejections else "listed by the command that handed them over, and by no other"


def show_rejections(rejections: Sequence[Rejection], what: str = "rejected", of: int | None = None) -> None:
    """The first of them, on stderr: where each stood, what came and what was expected.

    Args:
        rejections: with their reasons.
        what: they are.
        of: how many there are in all; None means these.
    """
    for each in rejections[:_SHOWN]:
        say(f"[yellow]{what}[/] {said(each)}", notes)
    if (more := (len(rejections) if of is None else of) - _SHOWN) > 0:
        say(f"[yellow]… and {more:,} more; --json lists all[/]", notes)
