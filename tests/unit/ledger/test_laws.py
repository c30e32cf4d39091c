"""The ledger's laws, for the one in memory and the one in Redis."""

from __future__ import annotations

from collections import Counter

import pytest

from gristmill.ledger import (
    Accepted,
    Begun,
    Claim,
    Encoded,
    EnoughHeld,
    HighWater,
    Holding,
    Keeping,
    Ledger,
    Load,
    Ticket,
    UnreadableParcel,
    Verdict,
)
from gristmill.ledger.costs import JOB
from gristmill_schemas import EncoderInfo, JobReport, JobState, Outcome, Parcel, Pooling
from gristmill_schemas.errors import InvalidInput
from unit.ledger.parcels import LONG_S, ROOMY, MakeLedger, corrupt, lapse, letter_of, parcel_of, verdict_of
from waiting import eventually


def taken(ledger: Ledger, parcel_id: str = "p", model: str = "m") -> Claim:
    """The next parcel, which must be this one."""
    claim = ledger.claim(model, LONG_S)
    assert claim is not None
    assert claim.parcel.id == parcel_id
    return claim


def begun(ledger: Ledger, parcel_id: str = "p") -> Claim:
    claim = taken(ledger, parcel_id)
    assert ledger.begin(claim)
    return claim


def report_of(ledger: Ledger, ticket: Ticket) -> JobReport:
    report = ledger.report(ticket.job_id)
    assert report is not None
    return report


class Opened:
    """A ledger with one open job and one waiting parcel `p` of two documents."""

    @pytest.fixture(autouse=True)
    def opened(self, ledger: Ledger) -> None:
        self.ticket = ledger.open_job("c")
        self.parcel = parcel_of(self.ticket)
        assert ledger.accept(self.parcel, 0, ROOMY) is Accepted.YES


class TestAccepting(Opened):
    def test_the_same_sequence_number_twice_counts_once(self, ledger: Ledger) -> None:
        assert ledger.accept(self.parcel, 0, ROOMY) is Accepted.YES
        assert report_of(ledger, self.ticket).accepted == 2
        assert ledger.load().parcels == 1

    def test_a_finished_parcel_is_not_taken_a_second_time(self, ledger: Ledger) -> None:
        ledger.finish(taken(ledger), verdict_of(self.parcel))
        assert ledger.accept(self.parcel, 0, ROOMY) is Accepted.YES
        assert ledger.load().parcels == 0
        assert report_of(ledger, self.ticket).pending == 0

    def test_above_the_mark_in_documents_nothing_changes(self, ledger: Ledger) -> None:
        more = parcel_of(self.ticket, "q")
        assert ledger.accept(more, 1, HighWater(documents=3, bytes=10**9)) is Accepted.FULL
        assert report_of(ledger, self.ticket).accepted == 2
        assert ledger.backlog("m") == 1
        assert ledger.accept(more, 1, HighWater(documents=4, bytes=10**9)) is Accepted.YES

    def test_above_the_mark_in_bytes_nothing_changes(self, ledger: Ledger) -> None:
        held = ledger.load().bytes
        assert ledger.accept(parcel_of(self.ticket, "q"), 1, HighWater(10**9, held)) is Accepted.FULL
        assert ledger.load().bytes == held

    def test_an_empty_ledger_takes_a_parcel_above_every_mark(self, ledger: Ledger) -> None:
        ledger.finish(taken(ledger), verdict_of(self.parcel))
        assert ledger.accept(parcel_of(self.ticket, "q", 5), 1, HighWater(documents=1, bytes=1)) is Accepted.YES

    def test_an_unknown_job_takes_nothing(self, ledger: Ledger) -> None:
        stranger = Ticket("unknown", version=1, opened_at=1.0)
        with pytest.raises(InvalidInput, match="unknown or expired"):
            ledger.accept(parcel_of(stranger, "q"), 0, ROOMY)


class TestHolding(Opened):
    def test_a_held_parcel_is_nobody_elses(self, ledger: Ledger) -> None:
        taken(ledger)
        assert ledger.claim("m", LONG_S) is None

    def test_a_parcel_of_a_silent_holder_is_free(self, ledger: Ledger) -> None:
        first = begun(ledger)
        lapse(ledger, "p")
        second = taken(ledger)
        assert (first.attempts, second.attempts) == (1, 2)
        assert second.token != first.token

    def test_who_takes_over_from_a_silent_holder_is_told_so(self, ledger: Ledger) -> None:
        first = taken(ledger)
        ledger.release(first, refund=False)
        second = taken(ledger)
        lapse(ledger, "p")
        third = taken(ledger)
        assert [each.taken_over for each in (first, second, third)] == [False, False, True]

    def test_a_lease_runs_out_by_the_ledgers_own_clock(self, ledger: Ledger) -> None:
        first = ledger.claim("m", 0.05)
        assert isinstance(first, Claim)
        assert ledger.begin(first)
        second = eventually(lambda: ledger.claim("m", LONG_S))
        assert second is not None
        assert second.attempts == 2
        assert not ledger.finish(first, verdict_of(self.parcel))
        assert ledger.finish(second, verdict_of(self.parcel))

    def test_who_only_waited_has_spent_no_attempt(self, ledger: Ledger) -> None:
        for _ in range(3):
            assert taken(ledger).attempts == 1
            lapse(ledger, "p")

    def test_renewing_keeps_a_claim_that_is_still_held(self, ledger: Ledger) -> None:
        claim = taken(ledger)
        lapse(ledger, "p")
        ledger.renew([claim], LONG_S)
        assert ledger.claim("m", LONG_S) is None

    def test_renewing_does_not_take_back_what_another_holds(self, ledger: Ledger) -> None:
        old = taken(ledger)
        lapse(ledger, "p")
        new = taken(ledger)
        lapse(ledger, "p")
        ledger.renew([old], LONG_S)
        assert taken(ledger)
        assert not ledger.finish(new, verdict_of(self.parcel))

    def test_what_a_holder_has_encoded_is_said_of_its_job_until_the_parcel_ends(self, ledger: Ledger) -> None:
        claim = begun(ledger)
        for documents in (1, 2):
            ledger.renew([claim], LONG_S, {claim.token: Encoded(documents, 10 * documents)})
            report = report_of(ledger, self.ticket)
            assert (report.encoded, report.encoded_tokens, report.pending) == (documents, 10 * documents, 2)
        ledger.finish(claim, verdict_of(self.parcel))
        report = report_of(ledger, self.ticket)
        assert (report.encoded, report.encoded_tokens, report.finished) == (0, 0, 2)

    @pytest.mark.parametrize("how", ["given back", "left", "split", "another model's"])
    def test_what_was_encoded_of_a_parcel_that_changes_hands_is_forgotten(self, ledger: Ledger, how: str) -> None:
        claim = begun(ledger)
        ledger.renew([claim], LONG_S, {claim.token: Encoded(2, 20)})
        if how == "given back":
            ledger.release(claim, refund=True)
        elif how == "split":
            ledger.split(claim, self.parcel.split(), attempts=1)
        elif how == "left":
            lapse(ledger, "p")
            taken(ledger)
        else:
            ledger.reroute(claim, self.parcel.model_copy(update={"model_digest": "n"}))
        ledger.renew([claim], LONG_S, {claim.token: Encoded(2, 20)})
        report = report_of(ledger, self.ticket)
        assert (report.encoded, report.encoded_tokens, report.pending) == (0, 0, 2)

    def test_a_predecessor_can_neither_begin_finish_split_nor_release(self, ledger: Ledger) -> None:
        old = begun(ledger)
        lapse(ledger, "p")
        new = taken(ledger)
        assert not ledger.begin(old)
        assert not ledger.finish(old, verdict_of(self.parcel))
        assert not ledger.split(old, self.parcel.split(), attempts=1)
        assert not ledger.release(old, refund=True)
        assert report_of(ledger, self.ticket).pending == 2
        assert ledger.finish(new, verdict_of(self.parcel))

    def test_finishing_twice_counts_once(self, ledger: Ledger) -> None:
        claim = begun(ledger)
        assert ledger.finish(claim, verdict_of(self.parcel, dead=1))
        assert not ledger.finish(claim, verdict_of(self.parcel, dead=1))
        report = report_of(ledger, self.ticket)
        assert (report.stored, report.dead, report.tokens, report.chunks) == (1, 1, 7, 1)
        assert len(ledger.dead_letters(10)) == 1

    def test_a_finished_parcel_is_gone(self, ledger: Ledger) -> None:
        ledger.finish(taken(ledger), verdict_of(self.parcel))
        assert ledger.claim("m", LONG_S) is None
        assert ledger.backlog("m") == 0
        assert ledger.load() == Load(0, 0, JOB)

    def test_giving_back_with_a_refund_costs_no_attempt(self, ledger: Ledger) -> None:
        assert ledger.release(begun(ledger), refund=True)
        assert taken(ledger).attempts == 1

    def test_giving_back_without_a_refund_keeps_attempt_and_reason(self, ledger: Ledger) -> None:
        assert ledger.release(begun(ledger), refund=False, error="it burned")
        claim = taken(ledger)
        assert (claim.attempts, claim.last_error) == (2, "it burned")

    def test_giving_back_twice_refunds_once(self, ledger: Ledger) -> None:
        ledger.release(begun(ledger), refund=False)
        claim = begun(ledger)
        assert ledger.release(claim, refund=True)
        assert not ledger.release(claim, refund=True)
        assert taken(ledger).attempts == 2

    def test_what_was_found_before_it_was_deleted_is_told_to_whoever_comes_next(self, ledger: Ledger) -> None:
        first = begun(ledger)
        assert first.found == frozenset()
        assert ledger.note_found(first, ["x", "y"])
        lapse(ledger, "p")
        second = begun(ledger)
        assert second.found == {"x", "y"}
        assert not ledger.note_found(first, ["z"])
        assert ledger.note_found(second, ["w"])
        assert ledger.release(second, refund=True)
        third = begun(ledger)
        assert third.found == {"w", "x", "y"}
        ledger.split(third, third.parcel.split(), attempts=0)
        assert taken(ledger, "p.0").found == {"w", "x", "y"}

    def test_parts_take_the_place_of_their_parcel(self, ledger: Ledger) -> None:
        claim = begun(ledger)
        parts = claim.parcel.split()
        assert ledger.split(claim, parts, attempts=1)
        assert not ledger.split(claim, parts, attempts=1)
        assert ledger.load().documents == 2
        for part in parts:
            assert taken(ledger, part.id).attempts == 2
        assert ledger.claim("m", LONG_S) is None
        assert report_of(ledger, self.ticket).pending == 2

    def test_bytes_that_are_no_parcel_die_with_a_reason_and_end_their_job(self, ledger: Ledger) -> None:
        ledger.close_job(self.ticket.job_id)
        corrupt(ledger, "p")
        with pytest.raises(UnreadableParcel, match="zlib"):
            ledger.claim("m", LONG_S)
        report = report_of(ledger, self.ticket)
        assert (report.state, report.dead, report.pending) == (JobState.DONE, 2, 0)
        (letter,) = ledger.dead_letters(10)
        assert (letter.collection, letter.error, letter.document) == ("c", "UnreadableParcel", None)
        assert ledger.load().parcels == 0
        assert ledger.claim("m", LONG_S) is None

    def test_bytes_that_are_no_parcel_stop_nobody_else(self, ledger: Ledger) -> None:
        ledger.accept(parcel_of(self.ticket, "q"), 1, ROOMY)
        corrupt(ledger, "p")
        with pytest.raises(UnreadableParcel):
            ledger.claim("m", LONG_S)
        assert ledger.backlog("m") == 1
        assert ledger.finish(taken(ledger, "q"), verdict_of(parcel_of(self.ticket, "q")))
        report = report_of(ledger, self.ticket)
        assert (report.accepted, report.stored, report.dead, report.pending) == (4, 2, 2, 0)

    def test_a_part_can_be_split_held_and_lost_like_any_parcel(self, ledger: Ledger) -> None:
        claim = begun(ledger)
        parts = claim.parcel.split()
        ledger.split(claim, parts, attempts=1)
        assert ledger.backlog("m") == len(parts)
        held = begun(ledger, parts[0].id)
        assert ledger.backlog("m") == len(parts) - 1
        lapse(ledger, parts[0].id)
        assert begun(ledger, parts[0].id).attempts == held.attempts + 1


class TestCounting(Opened):
    def test_a_job_is_open_then_running_then_done(self, ledger: Ledger) -> None:
        assert report_of(ledger, self.ticket).state is JobState.OPEN
        ledger.close_job(self.ticket.job_id, rejected=3)
        assert report_of(ledger, self.ticket).state is JobState.RUNNING
        ledger.finish(taken(ledger), verdict_of(self.parcel))
        report = report_of(ledger, self.ticket)
        assert (report.state, report.rejected, report.pending) == (JobState.DONE, 3, 0)

    def test_a_job_without_documents_is_done_at_once(self, ledger: Ledger) -> None:
        empty = ledger.open_job("c")
        ledger.close_job(empty.job_id)
        assert report_of(ledger, empty).state is JobState.DONE

    def test_a_job_that_was_split_ends_with_its_last_part(self, ledger: Ledger) -> None:
        ledger.close_job(self.ticket.job_id)
        claim = begun(ledger)
        parts = claim.parcel.split()
        ledger.split(claim, parts, attempts=1)
        for part in parts:
            assert report_of(ledger, self.ticket).state is JobState.RUNNING
            ledger.finish(taken(ledger, part.id), verdict_of(part))
        assert report_of(ledger, self.ticket).state is JobState.DONE

    def test_every_outcome_has_its_counter(self, ledger: Ledger) -> None:
        taken(ledger)
        parcel = parcel_of(self.ticket, "all", len(Outcome))
        ledger.accept(parcel, 1, ROOMY)
        outcomes = Counter(dict.fromkeys(Outcome, 1))
        ledger.finish(taken(ledger, "all"), Verdict(outcomes, chunks=2, letters=(letter_of(parcel, 0),)))
        report = report_of(ledger, self.ticket)
        assert [getattr(report, outcome) for outcome in Outcome] == [1] * len(Outcome)

    @pytest.mark.parametrize(
        "verdict",
        [
            Verdict(),
            Verdict(Counter({Outcome.STORED: 1}), chunks=1),
            Verdict(Counter({Outcome.STORED: 3}), chunks=3),
            Verdict(Counter({Outcome.STORED: 2}), chunks=1),
            Verdict(Counter({Outcome.STORED: 2}), chunks=2, truncated=3),
            Verdict(Counter({Outcome.SKIPPED: 2}), truncated=1),
            Verdict(Counter({Outcome.DEAD: 2})),
            Verdict(Counter({Outcome.STORED: 3, Outcome.SKIPPED: -1}), chunks=3),
        ],
        ids=repr,
    )
    def test_a_verdict_that_contradicts_itself_or_its_parcel_is_not_taken(
        self, ledger: Ledger, verdict: Verdict
    ) -> None:
        claim = begun(ledger)
        with pytest.raises(RuntimeError):
            ledger.finish(claim, verdict)
        assert report_of(ledger, self.ticket).pending == 2
        assert ledger.finish(claim, verdict_of(self.parcel))

    def test_closing_an_unknown_job_makes_none(self, ledger: Ledger) -> None:
        ledger.close_job("unknown")
        assert ledger.report("unknown") is None

    def test_jobs_are_listed_newest_first(self, ledger: Ledger) -> None:
        second = ledger.open_job("c")
        assert [report.job_id for report in ledger.jobs(10)] == [second.job_id, self.ticket.job_id]
        assert [report.job_id for report in ledger.jobs(1)] == [second.job_id]

    def test_versions_of_jobs_ascend(self, ledger: Ledger) -> None:
        versions = [ledger.open_job("c").version for _ in range(50)]
        assert versions == sorted(set(versions))
        assert versions[0] > self.ticket.version


class TestChoosing(Opened):
    def accept(self, ledger: Ledger, parcel_id: str, collection: str = "c", model: str = "m") -> None:
        ticket = ledger.open_job(collection)
        ledger.accept(parcel_of(ticket, parcel_id, 1, collection=collection, model=model), 0, ROOMY)

    def given(self, ledger: Ledger, model: str = "m") -> list[str]:
        """Ids of all that can be claimed, in the ledger's order."""
        given: list[str] = []
        while claim := ledger.claim(model, LONG_S):
            given.append(claim.parcel.id)
        return given

    def test_the_oldest_comes_first(self, ledger: Ledger) -> None:
        for name in ("q", "a", "z"):
            self.accept(ledger, name)
        assert self.given(ledger) == ["p", "q", "a", "z"]

    def test_collections_take_turns_however_long_the_backlog_of_one(self, ledger: Ledger) -> None:
        for number in range(4):
            self.accept(ledger, f"c{number}")
        for name in ("d0", "d1"):
            self.accept(ledger, name, "d")
        self.accept(ledger, "e0", "e: with {any} *character*")
        assert self.given(ledger) == ["p", "d0", "e0", "d1", "c0", "c1", "c2", "c3"], (
            "p is as long as two of the others"
        )

    def test_one_that_comes_later_waits_for_its_turn_and_no_longer(self, ledger: Ledger) -> None:
        for name in ("c0", "c1", "c2"):
            self.accept(ledger, name)
        taken(ledger)
        self.accept(ledger, "d0", "d")
        assert self.given(ledger) == ["c0", "d0", "c1", "c2"]

    def test_other_models_are_neither_given_nor_counted(self, ledger: Ledger) -> None:
        for number in range(3):
            self.accept(ledger, f"other{number}", model="other")
        assert (ledger.backlog("m"), ledger.backlog("other"), ledger.backlog("unknown")) == (1, 3, 0)
        assert self.given(ledger) == ["p"]
        assert ledger.claim("unknown", LONG_S) is None
        assert self.given(ledger, "other") == ["other0", "other1", "other2"]

    def test_what_a_silent_holder_left_comes_before_any_backlog(self, ledger: Ledger) -> None:
        taken(ledger)
        for number in range(5):
            self.accept(ledger, f"q{number}")
        lapse(ledger, "p")
        assert ledger.backlog("m") == 6
        assert self.given(ledger)[:2] == ["p", "q0"]

    def test_what_is_given_back_has_its_old_place_in_line(self, ledger: Ledger) -> None:
        claim = taken(ledger)
        self.accept(ledger, "q")
        ledger.release(claim, refund=True)
        assert self.given(ledger) == ["p", "q"]

    def test_giving_back_does_not_put_a_collection_before_others(self, ledger: Ledger) -> None:
        claim = taken(ledger)
        self.accept(ledger, "d0", "d")
        ledger.release(claim, refund=True)
        assert self.given(ledger) == ["d0", "p"]

    def test_what_is_given_back_with_a_delay_is_not_due_before(self, ledger: Ledger) -> None:
        ledger.release(taken(ledger), refund=True, delay_s=LONG_S)
        assert (ledger.backlog("m"), ledger.claim("m", LONG_S)) == (0, None)
        self.accept(ledger, "q")
        assert self.given(ledger) == ["q"]

    def test_a_delay_ends(self, ledger: Ledger) -> None:
        ledger.release(taken(ledger), refund=True, delay_s=0.05)
        assert eventually(lambda: ledger.backlog("m")) == 1
        taken(ledger)

    def test_a_collection_that_rests_holds_up_nobody_else(self, ledger: Ledger) -> None:
        self.accept(ledger, "d0", "d")
        ledger.rest("m", "c", LONG_S)
        self.accept(ledger, "q")
        assert ledger.backlog("m") == 1
        assert self.given(ledger) == ["d0"]

    def test_a_rest_is_of_one_model_and_holds_before_anything_waits(self, ledger: Ledger) -> None:
        ledger.rest("m", "d", LONG_S)
        self.accept(ledger, "d0", "d")
        self.accept(ledger, "other", "d", model="other")
        assert self.given(ledger) == ["p"]
        assert self.given(ledger, "other") == ["other"]

    def test_what_is_given_back_to_a_resting_collection_rests_with_it(self, ledger: Ledger) -> None:
        claim = taken(ledger)
        ledger.rest("m", "c", LONG_S)
        ledger.release(claim, refund=True)
        assert self.given(ledger) == []

    def test_a_collection_rests_under_the_name_that_was_asked_for(self, ledger: Ledger) -> None:
        ticket = ledger.open_job("alias")
        behind = parcel_of(ticket, "behind", 1, collection="alias").model_copy(update={"collection_key": "d@1"})
        ledger.accept(behind, 0, ROOMY)
        ledger.rest("m", "alias", LONG_S)
        assert self.given(ledger) == ["p"]

    def test_a_rest_ends(self, ledger: Ledger) -> None:
        ledger.rest("m", "c", 0.05)
        assert eventually(lambda: ledger.backlog("m")) == 1
        taken(ledger)

    def test_a_shorter_rest_does_not_end_a_longer_one(self, ledger: Ledger) -> None:
        self.accept(ledger, "d0", "d")
        ledger.rest("m", "c", LONG_S)
        ledger.rest("m", "c", 0.001)
        ledger.rest("m", "d", 0.001)
        eventually(lambda: ledger.backlog("m") == 1)
        assert self.given(ledger) == ["d0"]


class TestWaiting(Opened):
    """What waits, model by model."""

    def test_documents_and_tokens_are_counted_until_they_are_finished(self, ledger: Ledger) -> None:
        assert self.parcel.tokens == 2
        ticket = ledger.open_job("d", tenant="acme")
        chinese = parcel_of(ticket, "q", 1, text="磨坊" * 40, model="other", collection="d")
        ledger.accept(chinese, 0, ROOMY)
        found = ledger.waiting()
        assert {model: (it.parcels, it.documents, it.tokens, it.held_parcels) for model, it in found.items()} == {
            "m": (1, 2, 2, 0),
            "other": (1, 1, 60, 0),
        }
        claim = taken(ledger, "q", "other")
        assert (ledger.waiting()["other"].held_parcels, ledger.waiting()["other"].tokens) == (1, 60)
        ledger.finish(claim, verdict_of(claim.parcel))
        assert ledger.waiting().keys() == {"m"}

    def test_the_oldest_is_the_one_that_has_waited_longest_of_those_that_are_due(self, ledger: Ledger) -> None:
        since = ledger.now()
        eventually(lambda: (ledger.waiting()["m"].oldest_s or 0) > 0.002)
        assert 0.002 < (ledger.waiting()["m"].oldest_s or 0) <= ledger.now() - self.ticket.opened_at
        assert ledger.now() > since
        ledger.release(taken(ledger), refund=True, delay_s=LONG_S)
        assert ledger.waiting()["m"].oldest_s is None

    def test_a_part_counts_its_own_tokens_and_a_rerouted_parcel_goes_with_its_model(self, ledger: Ledger) -> None:
        claim = begun(ledger)
        ledger.split(claim, claim.parcel.split(), attempts=1)
        assert (ledger.waiting()["m"].parcels, ledger.waiting()["m"].tokens) == (2, 2)
        part = ledger.claim("m", LONG_S)
        assert part is not None
        ledger.reroute(part, part.parcel.model_copy(update={"model_digest": "other"}))
        assert {model: it.tokens for model, it in ledger.waiting().items()} == {"m": 1, "other": 1}

    def test_jobs_with_the_most_work_are_named_first(self, ledger: Ledger) -> None:
        ticket = ledger.open_job("d", tenant="acme")
        ledger.accept(parcel_of(ticket, "q", 3, text="x" * 400), 0, ROOMY)
        first, second = ledger.queued_jobs("m", 10)
        assert (first.job_id, first.collection, first.documents, first.tokens) == (ticket.job_id, "d", 3, 300)
        assert (second.job_id, second.documents, second.tokens) == (self.ticket.job_id, 2, 2)
        assert ledger.queued_jobs("m", 1) == [first]
        assert ledger.queued_jobs("unknown", 1) == []


class TestForgetting:
    """What is over goes, by age and by number; what is owed stays."""

    @pytest.fixture
    def brief(self, make_ledger: MakeLedger) -> Ledger:
        return make_ledger(Keeping(job_ttl_s=0.001, letter_text_ttl_s=0.001, producer_lease_s=0.001))

    @staticmethod
    def job(ledger: Ledger, parcels: int = 1) -> Ticket:
        ticket = ledger.open_job("c")
        for number in range(parcels):
            ledger.accept(parcel_of(ticket, f"{ticket.job_id}.{number}", 1), number, ROOMY)
        return ticket

    @staticmethod
    def work_off(ledger: Ledger, dead: int = 0) -> None:
        while claim := ledger.claim("m", LONG_S):
            ledger.finish(claim, verdict_of(claim.parcel, dead=dead))

    def test_a_job_with_open_parcels_is_never_forgotten(self, brief: Ledger) -> None:
        ticket = self.job(brief)
        brief.close_job(ticket.job_id)
        for _ in range(3):
            brief.forget_expired()
        assert report_of(brief, ticket).pending == 1
        self.work_off(brief)
        assert eventually(brief.forget_expired) == 1
        assert brief.report(ticket.job_id) is None
        assert brief.load() == Load(0, 0, 0)

    def test_finished_jobs_are_bounded_in_number_without_anybodys_help(self, make_ledger: MakeLedger) -> None:
        ledger = make_ledger(Keeping(jobs_kept=3))
        waiting = self.job(ledger)
        done = [self.finished(ledger) for _ in range(10)]
        known = [report.job_id for report in ledger.jobs(100)]
        assert known == [*(ticket.job_id for ticket in reversed(done[-3:])), waiting.job_id]
        assert ledger.load().bytes < 10 * JOB + 4000

    def finished(self, ledger: Ledger) -> Ticket:
        ticket = ledger.open_job("c")
        ledger.close_job(ticket.job_id)
        return ticket

    def test_a_job_whose_producer_was_killed_ends(self, brief: Ledger) -> None:
        ticket = self.job(brief)
        self.work_off(brief)
        assert report_of(brief, ticket).state is JobState.OPEN
        eventually(lambda: brief.forget_expired() or brief.report(ticket.job_id) is None)

    def test_a_producer_that_gives_signs_of_life_keeps_its_job_open(self, make_ledger: MakeLedger) -> None:
        ledger = make_ledger(Keeping(producer_lease_s=LONG_S))
        ticket = self.job(ledger)
        ledger.forget_expired()
        assert report_of(ledger, ticket).state is JobState.OPEN

    def test_a_producer_that_was_only_slow_goes_on(self, make_ledger: MakeLedger) -> None:
        ledger = make_ledger(Keeping(producer_lease_s=0.001))
        ticket = self.job(ledger)
        self.work_off(ledger)
        eventually(lambda: ledger.forget_expired() == 0 and report_of(ledger, ticket).state is JobState.DONE)
        assert ledger.accept(parcel_of(ticket, "late", 1), 1, ROOMY) is Accepted.YES
        assert report_of(ledger, ticket).state is JobState.OPEN
        ledger.close_job(ticket.job_id)
        self.work_off(ledger)
        report = report_of(ledger, ticket)
        assert (report.state, report.stored, report.pending) == (JobState.DONE, 2, 0)

    def test_a_dead_documents_text_goes_and_its_id_and_reason_stay(self, brief: Ledger) -> None:
        ticket = self.job(brief, parcels=2)
        self.work_off(brief, dead=1)
        before = brief.load().dead_bytes
        newest = brief.dead_letters(1)[0]
        assert newest.document is not None

        def bared() -> bool:
            brief.forget_expired()
            return all(letter.document is None for letter in brief.dead_letters(10))

        eventually(bared)
        letters = brief.dead_letters(10)
        assert len(letters) == 2
        assert (letters[0].document_id, letters[0].reason) == (newest.document.id, newest.reason)
        assert 0 < brief.load().dead_bytes < before
        assert ticket.job_id


class TestDeadLetters(Opened):
    def dead(self, ledger: Ledger, collection: str, count: int, error: str = "EncodingFailed") -> Parcel:
        ticket = ledger.open_job(collection)
        parcel = parcel_of(ticket, f"{ticket.job_id}.0", count, collection=collection, model="dying")
        ledger.accept(parcel, 0, ROOMY)
        letters = tuple(letter_of(parcel, number).model_copy(update={"error": error}) for number in range(count))
        claim = taken(ledger, parcel.id, "dying")
        ledger.finish(claim, Verdict(Counter({Outcome.DEAD: count}), letters=letters))
        return parcel

    def test_they_are_counted_by_reason_and_collection(self, ledger: Ledger) -> None:
        self.dead(ledger, "c", 3)
        self.dead(ledger, "c", 2, "StoreRefused")
        parcel = self.dead(ledger, "d: odd", 1)
        assert ledger.dead_summary() == {
            ("EncodingFailed", "c"): 3,
            ("StoreRefused", "c"): 2,
            ("EncodingFailed", "d: odd"): 1,
        }
        ledger.drop_dead([f"{parcel.id}-0", "unknown"])
        assert ledger.dead_summary().keys() == {("EncodingFailed", "c"), ("StoreRefused", "c")}

    def test_they_are_listed_by_collection_and_by_job(self, ledger: Ledger) -> None:
        first, second = self.dead(ledger, "c", 2), self.dead(ledger, "d", 2)
        assert [each.collection for each in ledger.dead_letters(10)] == ["d", "d", "c", "c"]
        assert {each.collection for each in ledger.dead_letters(10, "c")} == {"c"}
        assert {each.job_id for each in ledger.dead_letters(10, job_id=second.job_id)} == {second.job_id}
        assert len(ledger.dead_letters(1, job_id=first.job_id)) == 1

    def test_above_their_mark_the_ledger_says_so_and_takes_more_all_the_same(self, make_ledger: MakeLedger) -> None:
        ledger = make_ledger(Keeping(dead_max_bytes=4000))
        self.dead(ledger, "c", 1)
        assert not ledger.dead_full()
        parcel = self.dead(ledger, "c", 3)
        assert ledger.dead_full()
        assert ledger.load().dead_letters == 4
        ledger.drop_dead([f"{parcel.id}-{number}" for number in range(3)])
        assert not ledger.dead_full()

    def test_a_letter_lies_compressed(self, ledger: Ledger) -> None:
        ticket = ledger.open_job("c")
        parcel = parcel_of(ticket, "long", 1, text="word " * 10_000, model="dying")
        ledger.accept(parcel, 0, ROOMY)
        ledger.finish(taken(ledger, "long", "dying"), verdict_of(parcel, dead=1))
        assert 0 < ledger.load().dead_bytes < 5_000
        (letter,) = ledger.dead_letters(1)
        assert letter.document == parcel.documents[0]


class TestTurns:
    def test_one_holder_has_the_turn_until_it_runs_out(self, ledger: Ledger) -> None:
        assert ledger.take_turn("duty", "a", LONG_S)
        assert not ledger.take_turn("duty", "b", LONG_S)
        assert ledger.take_turn("other duty", "b", LONG_S)
        assert ledger.take_turn("duty", "a", 0.001)
        eventually(lambda: ledger.take_turn("duty", "b", LONG_S))
        assert not ledger.take_turn("duty", "a", LONG_S)


class TestRemembering(Opened):
    def test_the_highest_tombstone_stays(self, ledger: Ledger) -> None:
        ledger.bury("c", {"x": 10, "y": 2**52})
        ledger.bury("c", {"x": 9, "y": 2**53 - 1})
        ledger.bury("c", {})
        assert ledger.tombstones("c", ["x", "y", "z"]) == {"x": 10, "y": 2**53 - 1}
        assert ledger.tombstones("other", ["x"]) == {}
        assert ledger.tombstones("c", []) == {}

    def test_who_begins_is_told_whether_deletions_are_remembered_in_its_collection(self, ledger: Ledger) -> None:
        ledger.bury("other", {"x": 1})
        claim = taken(ledger)
        assert ledger.begin(claim) is Begun.CLEAR
        ledger.bury("c", {"x": 1})
        assert ledger.begin(claim) is Begun.YES
        lapse(ledger, "p")
        taken(ledger)
        assert ledger.begin(claim) is Begun.NO

    def test_letters_are_listed_newest_first_and_dropped_by_id(self, ledger: Ledger) -> None:
        ledger.finish(taken(ledger), verdict_of(self.parcel, dead=2))
        assert [letter.id for letter in ledger.dead_letters(10)] == ["p-1", "p-0"]
        assert ledger.dead_letters(1)[0].id == "p-1"
        assert ledger.dead_letters(10, collection="other") == []
        letter = ledger.dead_letter("p-0")
        assert letter is not None
        assert letter.document == self.parcel.documents[0]
        assert ledger.drop_dead(["p-0", "unknown"]) == 1
        assert ledger.dead_letter("p-0") is None
        assert [letter.id for letter in ledger.dead_letters(10)] == ["p-1"]
        assert ledger.drop_dead([]) == 0

    def test_a_letter_is_found_behind_hundreds_of_another_collection(self, ledger: Ledger) -> None:
        other = ledger.open_job("d")
        lonely = parcel_of(other, "lonely", 1, collection="d")
        taken(ledger)
        ledger.accept(lonely, 0, ROOMY)
        ledger.finish(taken(ledger, "lonely"), verdict_of(lonely, dead=1))
        for number in range(5):
            crowd = parcel_of(self.ticket, f"crowd{number}", 64)
            ledger.accept(crowd, 1 + number, ROOMY)
            ledger.finish(taken(ledger, crowd.id), verdict_of(crowd, dead=64))
        assert [letter.id for letter in ledger.dead_letters(1, collection="d")] == ["lonely-0"]
        assert len(ledger.dead_letters(1000)) == 5 * 64 + 1
        assert len(ledger.dead_letters(300, collection="c")) == 300

    def test_announced_models_are_listed_newest_first(self, ledger: Ledger) -> None:
        def info(name: str) -> EncoderInfo:
            return EncoderInfo(
                model=name, digest=name, pooling=Pooling.MEAN, dimensions=8, min_dimensions=1, max_tokens=9
            )

        for name in ("one", "two", "one"):
            ledger.announce(info(name))
        assert [each.model for each in ledger.models()] == ["one", "two"]

    def test_heartbeats_end_with_their_time(self, ledger: Ledger) -> None:
        ledger.heartbeat("alive", {"parcels": 3}, ttl_s=LONG_S)
        ledger.heartbeat("silent", {}, ttl_s=0.001)
        eventually(lambda: list(ledger.workers()) == ["alive"])
        assert ledger.workers() == {"alive": {"parcels": 3}}


def test_nobody_is_given_more_than_an_equal_part_of_what_is_left_while_others_work_for_the_model(
    ledger: Ledger,
) -> None:
    ticket = ledger.open_job("c")
    for number in range(5):
        ledger.accept(parcel_of(ticket, f"p{number}", model="m"), number, ROOMY)
    mine = [ledger.claim("m", LONG_S, Holding(held, workers=2)) for held in range(3)]
    with pytest.raises(EnoughHeld):
        ledger.claim("m", LONG_S, Holding(3, workers=2))
    theirs = [ledger.claim("m", LONG_S, Holding(held, workers=2)) for held in range(2)]
    taken = [claim.parcel.id for claim in (*mine, *theirs) if claim is not None]
    assert taken == [f"p{number}" for number in range(5)]
    assert ledger.claim("m", LONG_S, Holding(3, workers=2)) is None, "nothing waits, for nobody"


def test_who_works_alone_or_has_nothing_in_hand_is_given_what_is_due(ledger: Ledger) -> None:
    ticket = ledger.open_job("c")
    for number in range(3):
        ledger.accept(parcel_of(ticket, f"p{number}", model="m"), number, ROOMY)
    for holding in (Holding(16, workers=1), Holding(16, workers=0), Holding(0, workers=100)):
        assert ledger.claim("m", LONG_S, holding) is not None


def test_what_is_left_of_another_model_is_nobodys_share(ledger: Ledger) -> None:
    ticket = ledger.open_job("c")
    for number, model in enumerate(("m", "m", "other", "other")):
        ledger.accept(parcel_of(ticket, f"p{number}", model=model), number, ROOMY)
    assert ledger.claim("m", LONG_S, Holding(0, workers=2)) is not None
    with pytest.raises(EnoughHeld):
        ledger.claim("m", LONG_S, Holding(1, workers=2))
