"""Figures and comparisons, for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gristmill.cli.layout import listing
from gristmill.cli.output import said, say
from gristmill.evaluation.intervals import Difference, Interval
from gristmill.evaluation.measures import TITLES
from gristmill.evaluation.retrieval import Change, Comparison, Evaluation

_DIGITS = 6
#: Below it, two ways of searching are told apart.
SIGNIFICANT = 0.05


def figures_record(figures: Mapping[str, Interval]) -> dict[str, float]:
    """`mrr`, `mrr_low`, `mrr_high`, and so on."""
    told: dict[str, float] = {}
    for name, each in figures.items():
        told |= {name: each.value, f"{name}_low": each.low, f"{name}_high": each.high}
    return {name: round(value, _DIGITS) for name, value in told.items()}


def difference_record(difference: Difference, adjusted: float | None = None) -> dict[str, float]:
    """A difference as JSON."""
    told = {"difference": difference.value, "low": difference.low, "high": difference.high}
    told["p_value"] = difference.p_value
    if adjusted is not None:
        told["p_value_adjusted"] = adjusted
    return {name: round(value, _DIGITS) for name, value in told.items()}


def change_record(change: Change) -> dict[str, Any]:
    """A question that one of two has better."""
    return {
        "id": change.question.id,
        "query": change.question.query,
        "expected": list(change.question.expected),
        "rank": change.rank,
        "rank_against": change.against,
    }


def show_figures(figures: Mapping[str, Interval]) -> None:
    """Figures with their intervals, one below the other."""
    rows = [(TITLES[name], f"{each.value:.3f}", f"{each.low:.3f} to {each.high:.3f}") for name, each in figures.items()]
    listing(["figure", "value", "95 % interval"], rows)


def show_comparison(
    comparison: Comparison, evaluation: Evaluation, other: Evaluation, adjusted: Mapping[str, float]
) -> None:
    """What the first has more than the second, and the questions that it won and lost."""
    mine, theirs = evaluation.figures, other.figures
    rows = [
        (
            TITLES[name],
            f"{mine[name].value:.3f}",
            f"{theirs[name].value:.3f}",
            f"{each.value:+.3f}",
            f"{each.low:+.3f} to {each.high:+.3f}",
            p_told(adjusted[name]),
        )
        for name, each in comparison.differences.items()
    ]
    listing(["figure", "this", "against", "difference", "95 % interval", "p"], rows)
    won, lost = len(comparison.won), len(comparison.lost)
    say(f"{won} questions won, {lost} lost, {comparison.tied} tied")
    _show_changes("won", comparison.won)
    _show_changes("lost", comparison.lost)


def p_told(p_value: float) -> str:
    """A p-value as papers print it."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


_SHOWN = 5


def _show_changes(word: str, changes: Sequence[Change]) -> None:
    for each in changes[:_SHOWN]:
        say(f"  {word}: {said(each.question.query)} [dim](rank {_rank(each.rank)}, against {_rank(each.against)})[/]")
    if len(changes) > _SHOWN:
        say(f"  [dim]… and {len(changes) - _SHOWN} more {word}; --json has them all[/]")


def _rank(rank: int | None) -> str:
    return "none" if rank is None else f"{rank:,}"


def question_records(evaluation: Evaluation) -> Iterable[dict[str, Any]]:
    """Each question with its rank, its first hits and its figures."""
    for at, (question, ids, rank) in enumerate(
        zip(evaluation.questions, evaluation.rankings, evaluation.ranks, strict=True)
    ):
        yield {
            "id": question.id,
            "query": question.query,
            "expected": list(question.expected),
            "rank": rank,
            "found": list(ids[:3]),
            **{name: round(float(each[at]), _DIGITS) for name, each in evaluation.values.items()},
        }


def show_questions(evaluation: Evaluation) -> None:
    """A row for each question."""
    rows = [
        (_rank(each["rank"]), " ".join(each["expected"]), (each["found"] or [""])[0], each["query"])
        for each in question_records(evaluation)
    ]
    listing(["rank", "expected", "first hit", "question"], rows, prose=True)
