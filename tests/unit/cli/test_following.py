"""A job that is followed moves as its texts are encoded, says at what rate, and never contradicts its counters."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from gristmill import Ahead, Client, Document, JobReport, JobState
from gristmill.cli import jobs
from gristmill.cli.jobs import Pace, watch_job
from unit.cli.conftest import Terminal


def report(accepted: int = 1500, state: JobState = JobState.RUNNING, **counters: int) -> JobReport:
    return JobReport(job_id="j", collection="c", state=state, accepted=accepted, **counters)


def seen(*reports: tuple[float, JobReport], ahead: Ahead = Ahead()) -> list[str]:  # noqa: B008  # frozen
    pace = Pace()
    told = []
    for now, each in reports:
        pace.look(each, now, lambda: ahead)
        told.append(str(pace))
    return told


def test_it_moves_before_the_first_parcel_ends_with_rate_and_time_left() -> None:
    assert seen(
        (0.0, report()),
        (10.0, report(encoded=100, encoded_tokens=20_000)),
        (20.0, report(stored=64, tokens=12_800, encoded=136, encoded_tokens=27_200)),
    ) == [
        "waiting: 0 of 1,500 documents",
        "embedding: 100 of 1,500 documents, 2,000 tokens/s, 2 min 20 s left",
        "embedding: 200 of 1,500 documents, 2,000 tokens/s, 2 min 10 s left",
    ]


def test_what_a_worker_loses_does_not_turn_it_back_and_the_end_is_what_the_counters_say() -> None:
    last = report(100, JobState.DONE, stored=97, dead=3, tokens=50)
    assert seen((0.0, report(100, encoded=64)), (1.0, report(100)), (2.0, last)) == [
        "embedding: 64 of 100 documents",
        "embedding: 64 of 100 documents",
        "stored: 100 of 100 documents, 25 tokens/s, 3 dead",
    ]


def test_what_is_encoded_and_not_yet_stored_is_said_to_be_stored_now() -> None:
    assert seen((0.0, report(64, encoded=64))) == ["storing: 64 of 64 documents"]


def test_a_job_that_does_not_move_says_when_it_will_be_served() -> None:
    third = Ahead(tokens=4_000, before_start=500, before_end=8_000, share=1 / 3)
    assert seen((0.0, report(10)), ahead=third) == [
        "waiting: 0 of 10 documents, behind 500 tokens of other jobs, 8,000 until it is done, 33% of the mill"
    ]
    measured = third.model_copy(update={"starts_in_s": 1.7, "ends_in_s": 40.0})
    assert seen((0.0, report(10)), ahead=measured) == [
        "waiting: 0 of 10 documents, starts in about 1.7 s, done in about 40 s, 33% of the mill"
    ]
    at_once = measured.model_copy(update={"before_start": 0})
    assert seen((0.0, report(10)), ahead=at_once) == [
        "waiting: 0 of 10 documents, next, done in about 40 s, 33% of the mill"
    ]
    assert seen((0.0, report(10)), ahead=Ahead(tokens=4_000)) == ["waiting: 0 of 10 documents"]
    assert seen((0.0, report(10, encoded=1)), ahead=measured) == ["embedding: 1 of 10 documents"]


def test_where_tokens_were_counted_before_the_bar_and_the_time_left_go_by_them() -> None:
    pace = Pace(100_000)
    pace.look(report(), 0.0)
    pace.look(report(encoded=1000, encoded_tokens=20_000), 10.0)
    assert (pace.completed, pace.total) == (20_000, 100_000)
    assert pace.beside == "tokens · 1,000 of 1,500 documents · 2,000 tokens/s · 40 s left"
    assert str(pace) == "embedding: 1,000 of 1,500 documents, 2,000 tokens/s, 40 s left"
    pace.look(report(state=JobState.DONE, stored=1400, dead=100, tokens=90_000), 50.0)
    assert pace.completed == pace.total


@pytest.mark.parametrize("columns", [80, 120])
def test_the_bar_fits_its_terminal(terminal: Callable[..., Terminal], columns: int) -> None:
    with Client.embedded(model="hash:8") as client:
        client.create_collection("c")
        job = client.enqueue("c", [Document(id=f"{n}", text=f"text {n}") for n in range(150)])
        there = terminal(columns)
        assert watch_job(job, hidden=False).stored == 150
    lines = [line for line in re.split(r"[\r\n]", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", there.written)) if line.strip()]
    assert lines[-1].split()[1:][:1] == ["stored"] or lines[-1].split()[0] == "stored"
    assert "150/150" in lines[-1]
    assert max(map(len, lines)) <= columns


def test_where_there_is_no_terminal_a_line_is_said_now_and_then(
    terminal: Callable[..., Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.Lines, "_OFTEN_S", 0.0)
    there = terminal(tty=False)
    with Client.embedded(model="hash:8") as client:
        client.create_collection("c")
        watch_job(client.enqueue("c", [Document(id="a", text="text")]), hidden=False)
    assert there.picture.strip().split("\n")[-1].startswith("stored: 1 of 1 document")


@pytest.mark.parametrize("lives_on", [True, False])
def test_after_ctrl_c_one_line_says_where_the_job_stands_and_how_to_see_it_again(
    monkeypatch: pytest.MonkeyPatch, lives_on: bool
) -> None:
    with Client.embedded(model="hash:8") as client:
        client.create_collection("c")
        job = client.enqueue("c", [Document(id="a", text="text")])

        def interrupted(timeout_s: float | None, progress: Callable[[JobReport], None]) -> Any:
            progress(report(1500, stored=64))
            raise KeyboardInterrupt

        monkeypatch.setattr(job, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt) as told:
            watch_job(job, hidden=True, lives_on=lives_on)
    assert "64 of 1,500 documents done" in str(told.value)
    assert (f"`gristmill jobs watch {job.id}`" in str(told.value)) == lives_on
