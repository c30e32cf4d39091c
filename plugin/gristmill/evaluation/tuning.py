"""Which instruction is best for a collection and its questions: many candidates, one encoding of the documents.

    stored vectors (P, D), read once
    each candidate:  queries (Q, D) encoded in batches  →  one matrix product  →  Q exact rankings
    the questions are split in two halves by a seed: the winner is chosen on one, and what it gains is told of the other

Chosen and measured on the same questions, the best of fifty looks good by luck alone. On the half that did not choose it the
winner is one candidate, so its interval and p-value are those of one comparison. What is said of all candidates, on the half
that chooses, is adjusted for how many there are (Holm).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from gristmill.arguments import integer, one_or_many, refuse
from gristmill.client import Client
from gristmill.evaluation.exact import ExactSearch
from gristmill.evaluation.intervals import Difference, Interval, adjusted, difference
from gristmill.evaluation.labelled import Question
from gristmill.evaluation.measures import Values, known_figure
from gristmill.evaluation.retrieval import Comparison, Evaluation, check_expected, compare, evaluated
from gristmill.evaluation.stored_vectors import stored_vectors
from gristmill.search.filters import Where
from gristmill.search.instructions import Applied, resolve_instruction

#: Two halves of fewer say nothing.
_LEAST = 4
#: From this p-value on, two ways of searching are not told apart.
SIGNIFICANT = 0.05


class Verdict(StrEnum):
    """What an instruction does to a figure, against none."""

    HELPS = "helps"
    HURTS = "hurts"
    NOTHING = "does nothing"


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate."""

    #: As a search takes and reports it.
    instruction: str
    #: What goes before the queries.
    text: str
    #: The figure on the half that chooses.
    tuned: float
    #: What it has more than no instruction there.
    difference: Difference
    #: The difference's p-value, for as many candidates as there are.
    p_value: float

    @property
    def verdict(self) -> Verdict:
        """What it does on the half that chooses."""
        return judged(self.difference.value, self.p_value)


@dataclass(frozen=True, slots=True)
class Tuning:
    """What came of the candidates."""

    figure: str
    #: Questions that chose, and the figure without an instruction there.
    tuned_on: int
    none_tuned: float
    #: The best on the half that chooses first.
    tried: tuple[Tried, ...]
    #: Questions that were held out; there the figure of the best one, that without an instruction, and both compared.
    held_out_on: int
    best_held_out: Interval
    none_held_out: Interval
    held_out: Comparison
    #: False where it was interrupted: then of the candidates that were done.
    complete: bool = True

    @property
    def best(self) -> Tried:
        """The candidate that is ahead of the others on the half that chooses."""
        return self.tried[0]

    @property
    def winner(self) -> Tried | None:
        """The best one, where it is ahead of no instruction as well; None: no instruction is better than any."""
        return self.best if self.best.tuned > self.none_tuned else None

    @property
    def gain(self) -> Difference:
        """What the best one has more than no instruction, on the held-out half."""
        return self.held_out.differences[self.figure]

    @property
    def verdict(self) -> Verdict:
        """What the best one does on the held-out half."""
        return judged(self.gain.value, self.gain.p_value)


def judged(gain: float, p_value: float) -> Verdict:
    """A gain in a word."""
    if p_value >= SIGNIFICANT:
        return Verdict.NOTHING
    return Verdict.HELPS if gain > 0 else Verdict.HURTS


def tune(
    client: Client,
    collection: str,
    questions: Sequence[Question],
    candidates: Iterable[str] | str,
    *,
    figure: str = "mrr",
    lens: str | None = None,
    where: Where | None = None,
    tenant: str | None = None,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> Tuning:
    """Try instructions on a collection's stored vectors, by exact search.

    Args:
        client: an open one.
        collection: an existing collection.
        questions: labelled ones, at least four.
        candidates: sentences, registered names, presets.
        figure: by which the winner is chosen: `mrr`, `top1`, `recall_at_3`, `recall_at_10`, `ndcg_at_10`.
        lens: whose vectors are searched; its own instruction of queries, where it has one, is what no instruction means.
        where: only points whose metadata is so.
        tenant: only this tenant's.
        seed: of the split.
        progress: told how many candidates are done.

    Returns:
        All candidates, the best first, and what the best one gains on the half that did not choose it. After Ctrl-C of the
        candidates that were done by then.

    Raises:
        InvalidInput: an argument is wrong, or expected documents are missing.
        NotInstalled: the extra `eval` is missing.
        CollectionNotFound, NoWorker, WaitTimeout, EncodingFailed, StoreUnavailable, StoreRefused, BrokerUnavailable.
    """
    name = known_figure("figure", figure)
    if len(questions) < _LEAST:
        raise refuse("questions", f"at least {_LEAST} labelled questions, of which half choose", len(questions))
    asked = _applied(client, collection, candidates)
    check_expected(client, collection, questions, tenant)
    search = ExactSearch(stored_vectors(client, collection, lens=lens, where=where, tenant=tenant))
    trial = _Trial(client, collection, search, lens)
    chooses, held = ([questions[at] for at in half] for half in halves(len(questions), seed))
    none = trial.evaluation(chooses, None).values[name]
    values: list[Values] = []
    try:
        for done, each in enumerate(asked, 1):
            values.append(trial.evaluation(chooses, each.label).values[name])
            progress(done)
    except KeyboardInterrupt:
        if not values:
            raise
    tried = _ranked(asked[: len(values)], none, values)
    best, without = (trial.evaluation(held, each) for each in (tried[0].instruction, None))
    return Tuning(
        figure=name,
        tuned_on=len(chooses),
        none_tuned=float(none.mean()),
        tried=tuple(tried),
        held_out=compare(best, without),
        best_held_out=best.figures[name],
        none_held_out=without.figures[name],
        held_out_on=len(held),
        complete=len(values) == len(asked),
    )


def halves(count: int, seed: int) -> tuple[list[int], list[int]]:
    """Places of the questions that choose, and of those that are held out, which are one more where they are odd."""
    order = np.random.default_rng(integer("seed", seed, 0)).permutation(count)
    half = count // 2
    return sorted(order[:half].tolist()), sorted(order[half:].tolist())


def _applied(client: Client, collection: str, candidates: Iterable[str] | str) -> list[Applied]:
    """What candidates stand for, each text once."""
    spec = client.collections.get(collection)
    given = one_or_many("candidates", candidates, str, "an instruction or an iterable of instructions")
    found: dict[str, Applied] = {}
    for position, each in enumerate(given):
        applied = resolve_instruction(spec, each, f"candidates[{position}]")
        found.setdefault(str(applied.text), applied)
    if not found:
        raise refuse("candidates", "at least one instruction", list(found))
    return list(found.values())


@dataclass(frozen=True, slots=True)
class _Trial:
    """Everything that is the same for all candidates."""

    client: Client
    collection: str
    search: ExactSearch
    lens: str | None

    def evaluation(self, questions: Sequence[Question], instruction: str | None) -> Evaluation:
        """What an instruction is worth on some questions, by exact search."""
        queries = [each.query for each in questions]
        vectors = self.client.embed(queries, collection=self.collection, instruction=instruction, lens=self.lens)
        return evaluated(questions, list(self.search.rankings(vectors, questions)))


def _ranked(asked: Sequence[Applied], none: Values, values: Sequence[Values]) -> list[Tried]:
    """Candidates, the best first; equal ones in their order."""
    differences = [difference(each, none) for each in values]
    p_values = adjusted([each.p_value for each in differences])
    tried = [
        Tried(str(applied.label), str(applied.text), float(each.mean()), more, p_value)
        for applied, each, more, p_value in zip(asked, values, differences, p_values, strict=True)
    ]
    return sorted(tried, key=lambda each: -each.tuned)
