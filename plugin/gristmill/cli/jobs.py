"""`gristmill jobs list|show|watch|cancel|pause|resume`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import typer

from gristmill import Ahead, ClientSettings, Job, JobReport, JobState
from gristmill.cli.layout import age, counted, duration, listing
from gristmill.cli.output import JsonFlag, aside, notes, print_json, progress_bar, said, say
from gristmill.cli.reports import as_record, print_report, sentence
from gristmill.settings import load_settings
from gristmill.startup import open_client

app = typer.Typer()
commands = typer.Typer(help="What became of what was handed over.", no_args_is_help=True)
app.add_typer(commands, name="jobs")

JobIds = Annotated[list[str], typer.Argument(metavar="ID…", help="Of jobs; `gristmill jobs list` shows them.")]


@commands.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 20,
    tenant: Annotated[str | None, typer.Option(help="Only jobs that are all of this tenant.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """The newest jobs, newest first."""
    with open_client(aside, qdrant=False) as client:
        reports = client.jobs.list(limit, tenant=tenant)
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
    with open_client(aside, qdrant=False) as client:
        print_report(client.jobs.get(job_id).report(), as_json)


@commands.command()
def cancel(job_ids: JobIds, as_json: JsonFlag = False) -> None:
    """End jobs: what waits of them is not stored. What workers have in hand may still be."""
    _steer(job_ids, Job.cancel, as_json)


@commands.command()
def pause(job_ids: JobIds, as_json: JsonFlag = False) -> None:
    """Give nothing more of jobs to workers, until they are resumed."""
    _steer(job_ids, Job.pause, as_json)


@commands.command()
def resume(job_ids: JobIds, as_json: JsonFlag = False) -> None:
    """Let paused jobs go on."""
    _steer(job_ids, Job.resume, as_json)


def _steer(job_ids: Sequence[str], how: Callable[[Job], JobReport], as_json: bool) -> None:
    with open_client(aside, qdrant=False) as client:
        # All of them first, so that a mistyped one leaves the others as they are.
        reports = [how(job) for job in [client.jobs.get(job_id) for job_id in job_ids]]
    if as_json:
        print_json({"jobs": [as_record(report) for report in reports]})
    else:
        show_jobs(reports, time.time())


@commands.command()
def watch(
    job_id: str,
    timeout_s: Annotated[float | None, typer.Option(help="Longest wait, seconds.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Follow one job until it is done. Ctrl-C leaves; the job goes on."""
    with open_client(aside, qdrant=False) as client:
        print_report(watch_job(client.jobs.get(job_id), hidden=as_json, timeout_s=timeout_s), as_json)


def watch_job(
    job: Job,
    *,
    hidden: bool,
    timeout_s: float | None = None,
    lives_on: bool | None = None,
    tokens: int | None = None,
) -> JobReport:
    """Wait for a job, and show how it moves: as a bar on a terminal, elsewhere as a line now and then.

    Args:
        job: which.
        hidden: show nothing.
        timeout_s: longest wait.
        lives_on: whether the job goes on without this process; None goes by the settings.
        tokens: that it has in all, where somebody has counted them: then the bar goes by them, not by documents.

    Raises:
        WaitTimeout: the time is over.
        KeyboardInterrupt: Ctrl-C; it says where the job stands and how to see it again.
    """
    pace = Pace(tokens)
    try:
        with progress_bar(hidden=hidden, left=False) as bar:
            line = bar.add_task("waiting", total=None, note="")
            told = Lines(hidden=hidden or notes.is_terminal)

            def look(report: JobReport) -> None:
                pace.look(report, time.monotonic(), job.ahead)
                bar.update(line, description=pace.stage, total=pace.total, completed=pace.completed, note=pace.beside)
                told.look(pace)

            return job.wait(timeout_s, progress=look)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_left_alone(job, pace, _lives_on() if lives_on is None else lives_on)) from None


def _lives_on() -> bool:
    return load_settings(ClientSettings).embedded_path is None


def _left_alone(job: Job, pace: Pace, lives_on: bool) -> str:
    far = f"{pace.done:,} of {counted(pace.accepted, 'document')} done"
    if lives_on:
        return f"job {job.id} goes on, {far}: `gristmill jobs watch {job.id}` follows it"
    return f"{far}; the rest ends with this process: the same command goes on where it stopped"


class Pace:
    """How far a job is, how fast it goes and how long it still takes, out of one report after the other.

    Attributes:
        accepted: documents in all.
        done: those that are finished, or encoded and being stored; never falls back, and never runs ahead of the job.
        stage: what is going on, in a word.
        total: what the bar goes up to: tokens where it is known how many there are, else documents.
        completed: of it.
        note: rates, what is left, what stands before it.
    """

    #: Seconds that a rate is taken over, the shortest for one, and for the time that is left.
    _WINDOW_S, _RATE_S, _LEFT_S = 20.0, 1.0, 3.0

    def __init__(self, tokens: int | None = None) -> None:
        """`tokens`: of all that is to be encoded, as counted before."""
        self.accepted = self.done = self.total = self.completed = 0
        self.stage, self.note = "waiting", ""
        self._tokens = tokens
        self._seen: deque[tuple[float, int, int]] = deque()

    def look(self, report: JobReport, now: float, ahead: Callable[[], Ahead] = Ahead) -> None:
        """Take a report into account.

        Args:
            report: the newest.
            now: seconds, by any clock that only goes forward.
            ahead: what is served before the job; asked for only while nothing of it moves.
        """
        self.accepted = report.accepted
        over = report.state is JobState.DONE
        self.done = report.finished if over else max(self.done, min(report.accepted, report.finished + report.encoded))
        self._seen.append((now, self.done, report.tokens + report.encoded_tokens))
        while now - self._seen[0][0] > self._WINDOW_S:
            self._seen.popleft()
        self.stage = self._stage(over)
        self.total, self.completed = self._bar(report, over)
        self.note = " · ".join(self._notes(report, ahead))

    def _bar(self, report: JobReport, over: bool) -> tuple[int, int]:
        if not self._tokens:
            return report.accepted, self.done
        encoded = min(self._tokens, report.tokens + report.encoded_tokens)
        return self._tokens, self._tokens if over else max(self.completed, encoded)

    def _stage(self, over: bool) -> str:
        if over:
            return "stored"
        return "waiting" if not self.done else "storing" if self.done == self.accepted else "embedding"

    def _notes(self, report: JobReport, ahead: Callable[[], Ahead]) -> Iterator[str]:
        if report.paused:
            yield "paused"
        elif self.stage == "waiting" and (told := ahead()).before_end:
            yield from _turns(told)
        (since, done, tokens), (now, done_now, tokens_now) = self._seen[0], self._seen[-1]
        passed = now - since
        if passed >= self._RATE_S and tokens_now > tokens:
            yield f"{(tokens_now - tokens) / passed:,.0f} tokens/s"
        if passed >= self._LEFT_S and done_now > done and self.stage == "embedding":
            yield f"{duration(self._left(passed))} left"
        if report.dead:
            yield f"{report.dead:,} dead"

    def _left(self, passed: float) -> float:
        """Seconds, by what was done in so many."""
        (_, done, tokens), (_, done_now, tokens_now) = self._seen[0], self._seen[-1]
        if self._tokens and tokens_now > tokens:
            return max(0, self._tokens - tokens_now) * passed / (tokens_now - tokens)
        return (self.accepted - done_now) * passed / (done_now - done)

    @property
    def beside(self) -> str:
        """What stands beside the bar: the note, and where the bar counts tokens, the documents."""
        documents = f"tokens · {self.done:,} of {counted(self.accepted, 'document')}" if self._tokens else ""
        return " · ".join(filter(None, (documents, self.note)))

    def __str__(self) -> str:
        told = f"{self.stage}: {self.done:,} of {counted(self.accepted, 'document')}"
        return f"{told}, {self.note.replace(' · ', ', ')}" if self.note else told


def _turns(ahead: Ahead) -> Iterator[str]:
    """When it will be served, in words."""
    if ahead.ends_in_s is None or ahead.starts_in_s is None:
        yield f"behind {counted(ahead.before_start, 'token')} of other jobs, {ahead.before_end:,} until it is done"
    else:
        yield f"starts in about {duration(ahead.starts_in_s)}" if ahead.before_start else "next"
        yield f"done in about {duration(ahead.ends_in_s)}"
    if ahead.share:
        yield f"{ahead.share:.0%} of the mill"


class Lines:
    """Where there is no terminal: how far something is, a line every few seconds, later every half minute."""

    _OFTEN_S, _LATER_S, _LATER_FROM_S = 4.0, 30.0, 600.0

    def __init__(self, *, hidden: bool) -> None:
        self._hidden = hidden
        self._began = self._last = time.monotonic()

    def look(self, pace: object) -> None:
        """Say it, if it is time."""
        now = time.monotonic()
        every_s = self._OFTEN_S if now - self._began < self._LATER_FROM_S else self._LATER_S
        if not self._hidden and now - self._last >= every_s:
            self._last = now
            say(f"[dim]{said(pace)}[/]", notes)
