"""`gristmill jobs list|show|watch`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

import typer

from gristmill import Client, Job, JobReport
from gristmill.cli.layout import age, listing
from gristmill.cli.output import JsonFlag, print_json, progress_bar, say
from gristmill.cli.reports import as_record, print_report, sentence

app = typer.Typer()
commands = typer.Typer(help="What became of what was handed over.", no_args_is_help=True)
app.add_typer(commands, name="jobs")


@commands.command("list")
def list_(limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 20, as_json: JsonFlag = False) -> None:
    """The newest jobs, newest first."""
    with Client() as client:
        reports = client.jobs.list(limit)
    if as_json:
        print_json({"jobs": [as_record(report) for report in reports]})
    else:
        show_jobs(reports, time.time())


def show_jobs(reports: Sequence[JobReport], now: float) -> None:
    """Jobs for people, with when they began."""
    if not reports:
        say("no jobs yet: `gristmill ingest FILE… -c NAME` hands documents over")
        return
    rows = [(r.job_id, age(r.created_at, now), r.state, r.collection, sentence(r)) for r in reports]
    listing(["job", "begun", "state", "collection", "what became of it"], rows, prose=True)


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
