"""How well a collection's searches find the right documents, and how one way of searching stands against another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

from gristmill.arguments import refuse
from gristmill.client import Client
from gristmill.evaluation.exact import ExactSearch
from gristmill.evaluation.intervals import Difference, Interval, difference, interval
from gristmill.evaluation.labelled import Question
from gristmill.evaluation.measures import FIGURES, Values, measure, rank_of
from gristmill.evaluation.rankings import Ranking, ranked_by_search
from gristmill.evaluation.stored_vectors import stored_vectors
from gristmill.search.options import SearchOptions
from gristmill_schemas import SearchMode
from gristmill_schemas.errors import InvalidInput

#: Ids that are named of those that are missing.
_NAMED = 10
_TOGETHER = 256


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came of labelled questions."""

    questions: tuple[Question, ...]
    #: Of each question the ids of documents, best first, at least as far down as the first right one.
    rankings: tuple[Ranking, ...]
    #: Each figure (`measures.FIGURES`) of each question, float64 (questions,).
    values: Mapping[str, Values]
    #: False where it was interrupted: then of the first questions.
    complete: bool = True

    @property
    def figures(self) -> dict[str, Interval]:
        """Each figure's mean over the questions, with its 95 % interval."""
        return {name: interval(name, each) for name, each in self.values.items()}

    @property
    def ranks(self) -> list[int | None]:
        """Of each question the rank of its first right document; None where the search does not have it."""
        return [rank_of(question, ids) for question, ids in zip(self.questions, self.rankings, strict=True)]

    def first(self, count: int) -> Evaluation:
        """The same of the first questions alone."""
        values = {name: each[:count] for name, each in self.values.items()}
        return Evaluation(self.questions[:count], self.rankings[:count], values, self.complete)


@dataclass(frozen=True, slots=True)
class Change:
    """A question for which one ranking is better than another."""

    question: Question
    rank: int | None
    against: int | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One way of searching against another, question by question."""

    #: By figure, what the first has more than the second.
    differences: Mapping[str, Difference]
    #: Questions whose right document stands higher in the first, the greatest gain first; and those where it is lower.
    won: tuple[Change, ...]
    lost: tuple[Change, ...]
    tied: int


def evaluate(
    client: Client,
    collection: str,
    questions: Sequence[Question],
    *,
    dimensions: int | None = None,
    allow_missing: bool = False,
    progress: Callable[[int], None] = lambda done: None,
    **options: Unpack[SearchOptions],
) -> Evaluation:
    """Search for labelled questions, and say how well the right documents are found.

    Args:
        client: an open one.
        collection: an existing collection.
        questions: such as `read_questions` or `sets.faq().questions` gives.
        dimensions: rank by so many of the first numbers of each stored vector, exactly; only with mode `dense`.
        allow_missing: questions whose right documents are not in the collection count as not found, and are no error.
        progress: told how many questions are done.
        options: as in `Client.search`, but for what counts hits; with `rerank` what is no candidate stands below them.

    Returns:
        Rankings and figures, question by question. After Ctrl-C those of the questions that were done by then.

    Raises:
        InvalidInput: an argument is wrong, there are no questions, or expected documents are missing.
        NotInstalled: the extra `eval` is missing.
        CollectionNotFound, NoWorker, WaitTimeout, EncodingFailed, StoreUnavailable, StoreRefused, BrokerUnavailable.
    """
    if not questions:
        raise refuse("questions", "at least one labelled question", questions)
    measure([], [])  # before anything is searched for: whether the extra is there
    asked: dict[str, Any] = dict(options)
    if not allow_missing:
        check_expected(client, collection, questions, asked.get("tenant"))
    if dimensions is None:
        ranked = ranked_by_search(client, collection, questions, asked, progress)
    else:
        ranked = _ranked_exactly(client, collection, questions, dimensions, asked)
    return _gathered(questions, ranked)


def _gathered(questions: Sequence[Question], ranked: Iterator[Ranking]) -> Evaluation:
    rankings: list[Ranking] = []
    try:
        rankings.extend(ranked)
    except KeyboardInterrupt:
        if not rankings:
            raise
    return evaluated(questions[: len(rankings)], rankings, complete=len(rankings) == len(questions))


def evaluated(questions: Sequence[Question], rankings: Sequence[Ranking], *, complete: bool = True) -> Evaluation:
    """What rankings are worth that somebody made: of each question the ids of documents, best first."""
    return Evaluation(tuple(questions), tuple(rankings), measure(questions, rankings), complete)


def _ranked_exactly(
    client: Client, collection: str, questions: Sequence[Question], dimensions: int, options: Mapping[str, Any]
) -> Iterator[Ranking]:
    if (mode := options.get("mode", SearchMode.DENSE)) != SearchMode.DENSE or options.get("rerank"):
        raise refuse("dimensions", f"None with mode={mode!r} or rerank, since it ranks by vectors alone", dimensions)
    lens, tenant = options.get("lens"), options.get("tenant")
    stored = stored_vectors(client, collection, lens=lens, where=options.get("where"), tenant=tenant)
    search = ExactSearch(stored, dimensions)
    queries = [each.query for each in questions]
    vectors = client.embed(queries, collection=collection, instruction=options.get("instruction"), lens=lens)
    return search.rankings(vectors, questions)


def check_expected(client: Client, collection: str, questions: Sequence[Question], tenant: str | None) -> None:
    """Raise InvalidInput where a collection lacks documents that questions expect; it names them, and says of how many."""
    wanted = list(dict.fromkeys(each for question in questions for each in question.expected))
    there: set[str] = set()
    for start in range(0, len(wanted), _TOGETHER):
        there.update(each.id for each in client.get(collection, wanted[start : start + _TOGETHER], tenant=tenant))
    missing = [each for each in wanted if each not in there]
    if missing:
        touched = sum(not there.issuperset(each.expected) for each in questions)
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise InvalidInput(
            f"expected: {touched} of {len(questions)} questions ({touched / len(questions):.0%}) expect documents that "
            f"collection {collection!r} does not hold: {', '.join(map(repr, missing[:_NAMED]))}{more}; ingest them, or pass "
            "allow_missing (--allow-missing): then they count as not found",
            field="expected",
            collection=collection,
        )


def compare(one: Evaluation, other: Evaluation) -> Comparison:
    """What one way of searching has more than another, on the same questions, paired.

    Args:
        one: of any collection, model and options.
        other: of the same questions, in the same order; where either was interrupted, the first ones are compared.

    Raises:
        InvalidInput: the questions are others.
    """
    count = min(len(one.questions), len(other.questions))
    one, other = one.first(count), other.first(count)
    for mine, theirs in zip(one.questions, other.questions, strict=True):
        if mine.query != theirs.query:
            raise refuse("other", f"an evaluation of the same questions, such as {mine.query!r}", theirs.query)
    won, lost = _changes_of(one, other)
    differences = {name: difference(one.values[name], other.values[name]) for name in FIGURES}
    return Comparison(differences, won, lost, count - len(won) - len(lost))


def _changes_of(one: Evaluation, other: Evaluation) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    """Of the same questions those that the first wins, the greatest gain first, and those that it loses."""
    changes = [Change(*each) for each in zip(one.questions, one.ranks, other.ranks, strict=True)]
    won = sorted((each for each in changes if _gain(each) > 0), key=_gain, reverse=True)
    lost = sorted((each for each in changes if _gain(each) < 0), key=_gain)
    return tuple(won), tuple(lost)


def _worth(rank: int | None) -> float:
    return 1 / rank if rank else 0.0


def _gain(change: Change) -> float:
    return _worth(change.rank) - _worth(change.against)
