"""Jobs are paused, resumed and cancelled, in both ledgers, and no document is lost to the count by it."""

from __future__ import annotations

from collections import Counter

import pytest

from gristmill.ledger import EnoughHeld, Holding, Ledger, Ticket, Verdict
from gristmill_schemas import Deletion, Intent, JobReport, JobState, Outcome
from gristmill_schemas.errors import JobCancelled
from unit.ledger.parcels import LONG_S, ROOMY, begun_long_ago, evidence_of, lapse, parcel_of, verdict_of


class Job:
    """One job of so many parcels of two documents."""

    def __init__(self, ledger: Ledger, parcels: int) -> None:
        self.ledger = ledger
        self.ticket = ledger.open_job("c")
        self.id = self.ticket.job_id
        for number in range(parcels):
            self.accept(number)

    def accept(self, number: int) -> None:
        self.ledger.accept(parcel_of(self.ticket, f"{self.id}.{number}"), number, ROOMY)

    @property
    def report(self) -> JobReport:
        report = self.ledger.report(self.id)
        assert report is not None
        return report


def test_nothing_of_a_paused_job_is_given_until_it_is_resumed(ledger: Ledger) -> None:
    job = Job(ledger, 3)
    in_hand = ledger.claim("m", LONG_S)
    assert in_hand is not None
    assert ledger.pause(job.id)
    job.accept(3)
    other = Job(ledger, 1)
    assert (ledger.backlog("m"), job.report.paused, job.report.pending) == (1, True, 8)
    given = ledger.claim("m", LONG_S)
    assert given is not None
    assert given.parcel.job_id == other.id
    assert ledger.claim("m", LONG_S) is None
    ledger.finish(in_hand, verdict_of(in_hand.parcel))
    assert ledger.pause(job.id), "twice is once"
    assert ledger.resume(job.id) == {"m": 3}
    assert ledger.resume(job.id) == {"m": 3}
    assert (ledger.backlog("m"), job.report.paused) == (3, False)
    assert [claim.parcel.id for _ in range(3) if (claim := ledger.claim("m", LONG_S))] == [
        f"{job.id}.{number}" for number in (1, 2, 3)
    ]


def test_what_a_dead_worker_held_of_a_paused_job_waits_too(ledger: Ledger) -> None:
    job = Job(ledger, 1)
    claim = ledger.claim("m", LONG_S)
    assert claim is not None
    ledger.pause(job.id)
    lapse(ledger, claim.parcel.id)
    assert ledger.claim("m", LONG_S) is None
    ledger.resume(job.id)
    assert ledger.claim("m", LONG_S) is not None


def test_what_waits_of_a_paused_job_is_nobodys_share(ledger: Ledger) -> None:
    ledger.pause(Job(ledger, 20).id)
    Job(ledger, 4)
    for held in range(2):
        assert ledger.claim("m", LONG_S, Holding(held, workers=2)) is not None
    with pytest.raises(EnoughHeld):
        ledger.claim("m", LONG_S, Holding(2, workers=2))


def test_no_worker_is_called_for_paused_work_and_all_are_called_back(ledger: Ledger) -> None:
    ledger.heartbeat("w", {"engines": [{"model_digest": "m", "tokens_per_s": 0.5}]}, ttl_s=LONG_S)
    job = Job(ledger, 3)
    before = ledger.work_seconds("m")
    assert before > 0
    claim = ledger.claim("m", LONG_S)
    assert claim is not None
    ledger.pause(job.id)
    ledger.pause(job.id)
    assert ledger.work_seconds("m") == 0
    job.accept(3)
    ledger.finish(claim, verdict_of(claim.parcel))
    there = ledger.waiting()["m"]
    assert (ledger.work_seconds("m"), there.paused_tokens, there.wanted_tokens) == (0, there.tokens, 0)
    other = Job(ledger, 1)
    assert 0 < ledger.work_seconds("m") < before
    ledger.resume(job.id)
    assert ledger.work_seconds("m") > before
    assert ledger.waiting()["m"].paused_tokens == 0
    ledger.pause(job.id)
    ledger.cancel(job.id)
    ledger.cancel(other.id)
    assert (ledger.work_seconds("m"), ledger.waiting()) == (0, {})


def test_a_paused_job_whose_last_parcel_was_in_hand_is_done_and_paused_no_more(ledger: Ledger) -> None:
    job = Job(ledger, 1)
    claim = ledger.claim("m", LONG_S)
    assert claim is not None
    ledger.close_job(job.id)
    ledger.pause(job.id)
    ledger.finish(claim, verdict_of(claim.parcel))
    assert (job.report.state, job.report.paused, ledger.waiting()) == (JobState.DONE, False, {})


def test_who_asked_to_be_told_of_a_jobs_end_is_told_of_a_cancelled_one(ledger: Ledger) -> None:
    ticket = ledger.open_job("c", notify="https://hooks.example.com/")
    ledger.accept(parcel_of(ticket, "p"), 0, ROOMY)
    ledger.cancel(ticket.job_id)
    told = ledger.webhooks.take(LONG_S)
    assert told is not None
    assert (told.job.cancelled, told.job.state) == (2, JobState.DONE)
    ledger.close_job(ticket.job_id)
    assert ledger.webhooks.take(LONG_S) is None


def test_what_waits_of_a_cancelled_job_ends_and_what_is_in_hand_may_finish(ledger: Ledger) -> None:
    job = Job(ledger, 5)
    claim = ledger.claim("m", LONG_S)
    assert claim is not None
    ledger.pause(job.id)
    assert ledger.cancel(job.id)
    assert (job.report.cancelled, job.report.pending, job.report.state) == (8, 2, JobState.RUNNING)
    assert ledger.claim("m", LONG_S) is None
    assert ledger.finish(claim, verdict_of(claim.parcel))
    assert (job.report.cancelled, job.report.stored, job.report.state) == (8, 2, JobState.DONE)
    assert (ledger.load().parcels, ledger.waiting(), job.report.paused) == (0, {}, False)
    assert not ledger.cancel(job.id), "it is over"
    assert not ledger.pause(job.id)
    assert ledger.resume("unknown") is None


@pytest.mark.parametrize("how", ["given back", "lost with its worker", "split"])
def test_what_comes_back_of_a_cancelled_job_is_cancelled(ledger: Ledger, how: str) -> None:
    job = Job(ledger, 1)
    claim = ledger.claim("m", LONG_S)
    assert claim is not None
    ledger.cancel(job.id)
    if how == "given back":
        ledger.release(claim, refund=True)
    elif how == "split":
        ledger.split(claim, claim.parcel.split(), attempts=1)
    else:
        lapse(ledger, claim.parcel.id)
    assert ledger.claim("m", LONG_S) is None
    ledger.forget_expired()
    assert (job.report.cancelled, job.report.pending, job.report.state) == (2, 0, JobState.DONE)
    assert not ledger.finish(claim, verdict_of(claim.parcel))


@pytest.mark.parametrize("what", ["writes", "deletions"])
@pytest.mark.parametrize("how", ["given back", "lost with its worker", "split", "rerouted", "paused before"])
def test_what_was_begun_of_a_cancelled_job_goes_to_its_end(ledger: Ledger, how: str, what: str) -> None:
    """A document of several chunks may be half written, and nobody else would ever write the other half."""
    job = Job(ledger, 3)
    claim = ledger.claim("m", LONG_S)
    assert claim is not None
    if what == "writes":
        told = {"token": claim.token, "parcel_id": claim.parcel.id, "collection": "c", "key": "c"}
        ledger.intend(Intent(**told, documents=tuple((each.id, None) for each in claim.parcel.documents)))
    else:
        ledger.bury("c", {"some point": 1}, claim=claim)
    match how:
        case "given back":
            ledger.release(claim, refund=True)
        case "split":
            ledger.split(claim, claim.parcel.split(), attempts=1)
        case "rerouted":
            ledger.reroute(claim, claim.parcel.model_copy(update={"model_digest": "n"}))
        case "paused before":
            ledger.pause(job.id)
            ledger.release(claim, refund=True)
            assert ledger.claim("m", LONG_S) is None
    ledger.cancel(job.id)
    if how == "lost with its worker":
        lapse(ledger, claim.parcel.id)
    ledger.forget_expired()
    assert (job.report.cancelled, job.report.pending) == (4, 2)
    model = "n" if how == "rerouted" else "m"
    assert (ledger.backlog(model), ledger.work_seconds(model)) == (2 if how == "split" else 1, 1)
    while (again := ledger.claim(model, LONG_S)) is not None:
        assert ledger.finish(again, verdict_of(again.parcel))
    assert (job.report.stored, job.report.cancelled, job.report.state) == (2, 4, JobState.DONE)


def test_what_was_begun_long_ago_of_a_cancelled_job_is_cancelled(ledger: Ledger) -> None:
    """A copy of Redis is restored: what was deleted since it was made would come back."""
    job = Job(ledger, 1)
    claim = ledger.claim("m", LONG_S)
    assert claim is not None
    ledger.bury("c", {"some point": 1}, claim=claim)
    ledger.cancel(job.id)
    ledger.release(claim, refund=True)
    begun_long_ago(ledger, claim.parcel.id)
    assert (ledger.claim("m", LONG_S), ledger.backlog("m")) == (None, 0)
    ledger.forget_expired()
    assert (job.report.cancelled, job.report.state) == (2, JobState.DONE)


def test_who_still_hands_documents_over_is_told(ledger: Ledger) -> None:
    job = Job(ledger, 1)
    ledger.cancel(job.id)
    with pytest.raises(JobCancelled, match=f"job {job.id} was cancelled"):
        job.accept(1)
    assert (job.report.accepted, job.report.cancelled, job.report.state) == (2, 2, JobState.DONE)


def test_no_audit_misses_what_was_cancelled(ledger: Ledger) -> None:
    job = Job(ledger, 2)
    evidence = evidence_of(ledger)
    claim = ledger.claim("m", LONG_S)
    assert claim is not None
    ledger.cancel(job.id)
    left = {entry.id for entry in evidence.roster("c")}
    assert left == {document.id for document in claim.parcel.documents}


def test_a_newer_version_that_another_job_brings_stays_expected(ledger: Ledger) -> None:
    job = Job(ledger, 1)
    newer = ledger.open_job("c")
    ledger.accept(parcel_of(newer, f"{job.id}.0").model_copy(update={"id": "again"}), 0, ROOMY)
    ledger.cancel(job.id)
    assert {entry.version for entry in evidence_of(ledger).roster("c")} == {newer.version}


def versions_of(ledger: Ledger, *jobs: Ticket) -> list[int]:
    """What the roster expects, after these jobs were accepted one by one, each with the same document."""
    for ticket in jobs:
        ledger.accept(parcel_of(ticket, "p", 1).model_copy(update={"id": f"{ticket.job_id}.0"}), 0, ROOMY)
    return [entry.version for entry in evidence_of(ledger).roster("c")]


def test_what_a_cancelled_job_would_have_replaced_is_expected_again(ledger: Ledger) -> None:
    first, second, third = (ledger.open_job("c") for _ in range(3))
    assert versions_of(ledger, first, second) == [second.version]
    ledger.cancel(second.job_id)
    assert versions_of(ledger) == [first.version]
    assert versions_of(ledger, third) == [third.version], "and so on, however often"
    ledger.cancel(third.job_id)
    assert versions_of(ledger) == [first.version]
    ledger.cancel(first.job_id)
    assert versions_of(ledger) == []


def test_an_older_one_that_is_cancelled_under_a_newer_is_not_expected_later(ledger: Ledger) -> None:
    older, newer = (ledger.open_job("c") for _ in range(2))
    assert versions_of(ledger, newer, older) == [newer.version]
    ledger.cancel(older.job_id)
    ledger.cancel(newer.job_id)
    assert versions_of(ledger) == []


def deleting(ledger: Ledger, *jobs: Ticket) -> list[int]:
    """What the roster expects, after these jobs have deleted that document, each as its parcel was accepted."""
    for ticket in jobs:
        what = {"id": f"{ticket.job_id}.0", "deletions": (Deletion(id="p-0"),)}
        ledger.accept(parcel_of(ticket, "d", 0).model_copy(update=what), 0, ROOMY)
    return versions_of(ledger)


def work_off(ledger: Ledger, outcome: Outcome) -> None:
    while claim := ledger.claim("m", LONG_S):
        ledger.finish(claim, Verdict(Counter({outcome: 1})))


def test_what_is_deleted_is_not_expected_again_by_a_cancelled_update(ledger: Ledger) -> None:
    first, deletion, newer = (ledger.open_job("c") for _ in range(3))
    assert versions_of(ledger, first) == [first.version]
    assert deleting(ledger, deletion) == [first.version], "until it is done"
    work_off(ledger, Outcome.DELETED)
    assert versions_of(ledger) == []
    assert versions_of(ledger, newer) == [newer.version]
    ledger.cancel(newer.job_id)
    assert versions_of(ledger) == []


def test_an_update_that_came_before_a_deletion_was_done_stays_expected_alone(ledger: Ledger) -> None:
    first, deletion, newer = (ledger.open_job("c") for _ in range(3))
    versions_of(ledger, first)
    assert deleting(ledger, deletion) == [first.version]
    assert versions_of(ledger, newer) == [newer.version]
    work_off(ledger, Outcome.DELETED)
    assert versions_of(ledger) == [newer.version]


def test_what_a_cancelled_deletion_left_is_expected(ledger: Ledger) -> None:
    first, deletion = (ledger.open_job("c") for _ in range(2))
    versions_of(ledger, first)
    deleting(ledger, deletion)
    ledger.cancel(deletion.job_id)
    assert versions_of(ledger) == [first.version]


def test_thousands_of_parcels_are_cancelled_in_small_steps(ledger: Ledger) -> None:
    job = Job(ledger, 600)
    other = Job(ledger, 1)
    assert ledger.cancel(job.id)
    assert (job.report.cancelled, ledger.load().parcels) == (1200, 1)
    claim = ledger.claim("m", LONG_S)
    assert claim is not None
    assert claim.parcel.job_id == other.id
