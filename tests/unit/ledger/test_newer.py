"""What a newer Gristmill left in the ledger: nobody's neighbour suffers, and it is there when an upgraded one comes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gristmill.ledger import Claim, Ledger
from gristmill_schemas import Parcel
from gristmill_schemas.errors import NewerFormat
from unit.ledger.parcels import LONG_S, ROOMY, parcel_of, redis_ledger, verdict_of


def test_a_parcel_of_a_newer_format_is_left_as_it_is(ledger: Ledger) -> None:
    ticket = ledger.open_job("c")
    newer = parcel_of(ticket, "newer").model_copy(update={"format": Parcel.FORMAT + 1})
    ledger.accept(newer, 0, ROOMY)
    ledger.accept(parcel_of(ticket, "old"), 1, ROOMY)
    with pytest.raises(NewerFormat, match="parcel"):
        ledger.claim(newer.model_digest, LONG_S)
    claim = ledger.claim(newer.model_digest, LONG_S)
    assert isinstance(claim, Claim)
    ledger.finish(claim, verdict_of(claim.parcel))
    report = ledger.report(ticket.job_id)
    assert report is not None
    assert (report.stored, report.dead, report.pending) == (2, 0, 2)
    assert ledger.dead_letters(10) == []


def test_letters_and_announcements_of_a_newer_format_are_passed_over_in_lists_and_named_where_asked_for(
    redis_url: str,
) -> None:
    with redis_ledger(redis_url) as ledger:
        parcel = parcel_of(ledger.open_job("c"))
        ledger.accept(parcel, 0, ROOMY)
        claim = ledger.claim(parcel.model_digest, LONG_S)
        assert isinstance(claim, Claim)
        known, later = verdict_of(parcel, dead=2).letters
        newer = later.model_copy(update={"format": 2})
        ledger.finish(claim, replace(verdict_of(parcel, dead=2), letters=(known, newer)))
        assert [letter.id for letter in ledger.dead_letters(10)] == [f"{parcel.id}-0"]
        with pytest.raises(NewerFormat, match="dead letter"):
            ledger.dead_letter(newer.id)
