"""What a check finds: one row of the table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a check ended."""

    PASS = "pass"
    FAIL = "fail"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Row:
    """One check of a model."""

    check: str
    #: What was measured, in the unit that `expected` names; None where nothing was.
    value: float | None
    expected: str
    verdict: Verdict
    #: What was compared, or why nothing was.
    why: str


def at_most(check: str, value: float, bound: float, unit: str, why: str) -> Row:
    """Passes up to the bound; a value that is no number fails."""
    return Row(check, value, f"at most {bound:g} {unit}", _verdict(value <= bound), why)


def at_least(check: str, value: float, bound: float, unit: str, why: str) -> Row:
    """Passes from the bound on; a value that is no number fails."""
    return Row(check, value, f"at least {bound:g} {unit}", _verdict(value >= bound), why)


def not_applicable(check: str, why: str) -> Row:
    """Says why nothing was measured."""
    return Row(check, None, "", Verdict.NOT_APPLICABLE, why)


def _verdict(ok: bool) -> Verdict:
    return Verdict.PASS if ok else Verdict.FAIL
