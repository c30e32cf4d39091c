"""`gristmill jobs list|show|watch`."""

from __future__ import annotations

from typing import Annotated

import typer

from gristmill import Client, Job, JobReport
from gristmill.cli.output import JsonFlag, print_json, progress_bar, table
from gristmill_schemas import Outcome

app = typer.Typer()
commands = typer.Typer(help="What became of what was handed over.", no_args_is_help=True)
app.add_typer(commands, name="jobs")

_COLUMNS = (*Outcome, "pending", "rejected", "truncated")


@commands.command("list")
def list_(limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 20, as_json: JsonFlag = False) -> None:
    """The newest jobs, newest first."""
    with Client() as client:
        reports = client.jobs.list(limit)
    if as_json:
        print_json({"jobs": [as_record(report) for report in reports]})
    else:
        # A column of zeros says nothing, and there are many counters.
        shown = [column for column in _COLUMNS if any(getattr(report, column) for report in reports)]
        rows = [(r.job_id, r.collection, r.state, r.accepted, *(getattr(r, c) for c in shown)) for r in reports]
        table("", ["job", "collection", "state", "accepted", *shown], rows)


@commands.command()
def show(job_id: str, as_json: JsonFlag = False) -> None:
    """Counters of one job."""
    with Client() as client:
        print_report(client.jobs.get(job_id).report(), as_json)


@commands.command()
def watch(
    job_id: str,
    timeout_s: Annotated[float | None, typer.Option(help="Longest wait, seconds.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Follow one job until it is done. Ctrl-C leaves; the job goes on."""
    with Client() as client:
        print_report(watch_job(client.jobs.get(job_id), hidden=as_json, timeout_s=timeout_s), as_json)


def watch_job(job: Job, *, hidden: bool, timeout_s: float | None = None) -> JobReport:
    """Wait for a job under a progress bar."""
    with progress_bar(hidden=hidden) as bar:
        line = bar.add_task("storing", total=None, note="")

        def show_progress(report: JobReport) -> None:
            rate = report.finished / report.seconds if report.seconds else 0.0
            dead = f" · {report.dead} dead" if report.dead else ""
            bar.update(line, total=report.accepted, completed=report.finished, note=f"{rate:,.0f} docs/s{dead}")

        return job.wait(timeout_s, progress=show_progress)


def as_record(report: JobReport) -> dict[str, object]:
    """A report with its derived counters, for JSON."""
    return report.model_dump(mode="json") | {"pending": report.pending, "finished": report.finished}


def print_report(report: JobReport, as_json: bool) -> None:
    """One report, for people or scripts."""
    if as_json:
        print_json(as_record(report))
        return
    rate = report.finished / report.seconds if report.seconds else 0.0
    table(
        f"job {report.job_id} in {report.collection}: {report.state}",
        ["accepted", *_COLUMNS, "chunks", "tokens", "seconds", "docs/s"],
        [
            (
                report.accepted,
                *(getattr(report, column) for column in _COLUMNS),
                report.chunks,
                report.tokens,
                f"{report.seconds:.1f}",
                f"{rate:,.0f}",
            )
        ],
    )
