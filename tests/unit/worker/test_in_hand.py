"""How much work a worker takes in hand: by what its model has not encoded yet, and by what is left for everybody."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from gristmill.ledger import Claim
from gristmill_schemas import Document, Parcel
from gristmill_worker.waiting.in_hand import InHand

#: Estimated tokens of each document: four bytes each.
TOKENS = 10


def parcel(documents: int, name: str = "j.0") -> Parcel:
    return Parcel(
        id=name,
        job_id="j",
        collection="c",
        model_digest="d",
        documents=tuple(Document(id=f"{n}", text="abcd" * TOKENS) for n in range(documents)),
        version=1,
        enqueued_at=0.0,
    )


class Worker:
    """One whose model reads a hundred tokens per second, unless it is told otherwise."""

    def __init__(self, workers: int = 2, rate: float | None = 100.0) -> None:
        self.now = 1_000.0
        self.rate = rate
        self.in_hand = InHand(lambda: self.rate, lambda: workers, lambda: self.now)
        self._numbers = itertools.count()

    @contextmanager
    def holding(self, documents: int, *, ready: bool = True) -> Iterator[Claim]:
        name = str(next(self._numbers))
        claim = Claim(parcel(documents, name), attempts=1, token=name)
        with self.in_hand.holding(claim):
            if ready:
                self.in_hand.ready(claim)
            yield claim

    def encode(self, claim: Claim, documents: int, tokens: int = TOKENS) -> None:
        for _ in range(documents):
            self.in_hand.encoded(claim, tokens)


def test_the_stand_ins_documents_are_as_large_as_they_say() -> None:
    assert parcel(3).tokens == 3 * TOKENS


def test_there_is_room_for_two_seconds_of_what_is_not_encoded_yet() -> None:
    worker = Worker()
    with worker.holding(10) as first:  # 100 tokens: a second
        assert worker.in_hand.has_room(1, at_once=1)
        with worker.holding(10):
            assert not worker.in_hand.has_room(2, at_once=1)
            worker.encode(first, 1)
            assert worker.in_hand.has_room(2, at_once=1), "its other nine are less than a second"


def test_a_parcel_that_is_encoded_and_being_written_takes_no_room() -> None:
    worker = Worker()
    with worker.holding(200) as only:
        assert not worker.in_hand.has_room(1, at_once=1)
        worker.encode(only, 200)
        assert worker.in_hand.has_room(1, at_once=1)


def test_a_thread_that_is_about_to_claim_counts_as_the_last_parcel_did() -> None:
    worker = Worker()
    with worker.holding(10):
        assert worker.in_hand.has_room(1, at_once=1)
        assert not worker.in_hand.has_room(2, at_once=1)


def test_as_many_parcels_as_launches_pay_off_at_once_make_sense_however_long_they_take() -> None:
    worker = Worker()
    with worker.holding(200):
        assert not worker.in_hand.has_room(1, at_once=1)
        assert worker.in_hand.has_room(1, at_once=2)
        assert not worker.in_hand.has_room(2, at_once=2)


@pytest.mark.parametrize(("threads", "at_once", "more"), [(3, 1, True), (4, 1, False), (4, 8, True), (8, 8, False)])
def test_before_its_rate_is_measured_a_worker_takes_few(threads: int, at_once: int, more: bool) -> None:
    assert Worker(rate=None).in_hand.has_room(threads, at_once) is more


def test_a_parcel_that_waits_for_something_else_than_the_model_soon_counts_no_more() -> None:
    worker = Worker()
    with worker.holding(200, ready=False) as waits:
        assert not worker.in_hand.has_room(1, at_once=1)
        worker.now += 1.1
        assert worker.in_hand.has_room(1, at_once=1)
        worker.in_hand.ready(waits)
        assert not worker.in_hand.has_room(1, at_once=1)


def test_estimates_are_corrected_by_what_the_model_has_read() -> None:
    worker = Worker()
    with worker.holding(200) as earlier:
        worker.encode(earlier, 200, tokens=TOKENS // 5)
    with worker.holding(90):  # 180 of the tokens that the model counts
        assert worker.in_hand.has_room(1, at_once=1)
    with worker.holding(110):
        assert not worker.in_hand.has_room(1, at_once=1)


def test_a_parcel_of_unchanged_documents_corrects_nothing() -> None:
    worker = Worker()
    with worker.holding(200) as mostly_unchanged:
        worker.encode(mostly_unchanged, 10, tokens=1)
    with worker.holding(21):
        assert not worker.in_hand.has_room(1, at_once=1)


def test_while_much_is_left_a_parcel_stays_whole() -> None:
    worker = Worker()
    whole = claimed(64)  # 6.4 s
    assert worker.in_hand.may_be_long(whole)
    assert worker.in_hand.parts(whole.parcel, waiting_tokens=100_000) == 1


@pytest.mark.parametrize(("waiting_s", "parts"), [(60, 1), (25, 2), (12, 3), (4, 4), (0, 4)])
def test_the_less_is_left_the_smaller_are_the_parcels(waiting_s: int, parts: int) -> None:
    """Seconds of one worker's, of two: none is longer than a third of what is left for each."""
    assert Worker().in_hand.parts(parcel(64), waiting_tokens=100 * waiting_s) == parts


def claimed(documents: int, waited_s: float = 1.0) -> Claim:
    return Claim(parcel(documents), attempts=1, token="t", waited_s=waited_s)


def test_who_has_nothing_to_do_begins_with_what_has_just_come() -> None:
    worker = Worker()
    assert not worker.in_hand.may_be_long(claimed(64, waited_s=0.0))
    with worker.holding(1):
        assert worker.in_hand.may_be_long(claimed(64, waited_s=0.0))


def test_nothing_is_cut_that_is_short_or_alone_or_everybodys_only_one() -> None:
    short, long, single = claimed(1), claimed(64), claimed(1)
    assert not Worker().in_hand.may_be_long(short)
    assert not Worker(rate=1.0).in_hand.may_be_long(single)
    assert not Worker(workers=1).in_hand.may_be_long(long)
    assert not Worker(rate=None).in_hand.may_be_long(long)
    assert not Worker(rate=10_000.0).in_hand.may_be_long(long), "64 ms: each part would cost some of them"


def test_the_less_is_left_the_less_a_worker_takes_in_hand() -> None:
    worker = Worker()
    with worker.holding(10):
        assert worker.in_hand.has_room(1, at_once=1)
        worker.in_hand.parts(parcel(10), waiting_tokens=300)  # two seconds for each of two
        assert not worker.in_hand.has_room(1, at_once=1), "a second is half of it"
    worker.now += 100
    with worker.holding(2):
        assert worker.in_hand.has_room(1, at_once=1), "a little always: others' work may have come"


def test_who_is_alone_takes_as_much_to_the_end() -> None:
    worker = Worker(workers=1)
    worker.in_hand.parts(parcel(10), waiting_tokens=0)
    with worker.holding(19):
        assert worker.in_hand.has_room(1, at_once=1)


def test_two_workers_end_together_whatever_their_parcels_hold() -> None:
    """By the rules alone, on a clock of its own: sixteen parcels of very different length, one worker twice as fast."""
    waiting = [parcel(documents, f"j.{n}") for n, documents in enumerate([64, 8, 120, 64, 30, 200, 64, 64] * 2)]
    total = sum(each.tokens for each in waiting)
    now, workers, step = 1_000.0, [], 0.01
    clock = lambda: now  # noqa: E731
    ends: list[float] = [0.0, 0.0]
    with ExitStack() as closing:
        for rate in (100.0, 200.0):
            in_hand = InHand(lambda rate=rate: rate, lambda: 2, clock)  # type: ignore[misc]
            workers.append((in_hand, rate, list[tuple[Claim, ExitStack]](), [0.0]))
        while waiting or any(held for _, _, held, _ in workers):
            now += step
            for number, (in_hand, rate, held, credit) in enumerate(workers):
                while waiting and in_hand.has_room(len(held), at_once=1):
                    taken = waiting.pop(0)
                    left = sum(each.tokens for each in waiting)
                    claim = Claim(taken, attempts=1, token=taken.id, waited_s=now - 1_000.0)
                    if in_hand.may_be_long(claim) and (parts := in_hand.parts(taken, left)) > 1:
                        waiting += taken.split(parts)
                        continue
                    block = closing.enter_context(ExitStack())
                    block.enter_context(in_hand.holding(claim))
                    in_hand.ready(claim)
                    held.append((claim, block))
                credit[0] = credit[0] + rate * step if held else 0.0
                while held and credit[0] >= TOKENS:
                    credit[0] -= TOKENS
                    claim, block = held[0]
                    in_hand.encoded(claim, TOKENS)
                    if in_hand._held[claim.token].encoded == len(claim.parcel):
                        block.close()
                        held.pop(0)
                        ends[number] = now
    ideal = total / 300.0
    assert max(ends) - 1_000.0 < ideal + 0.5
    assert abs(ends[0] - ends[1]) < 0.5
