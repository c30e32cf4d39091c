"""What a ranking is worth, question by question: by trec_eval's own code, which ir-measures brings.

top1           Success@1    the first document answers the question
recall_at_3    Success@3    one of the first three does: the share of questions, and not of right documents
recall_at_10   Success@10
mrr            RR           1 / rank of the first right document, over the whole ranking; 0 where it is not ranked
ndcg_at_10     nDCG@10      right documents among the first ten, higher ones counting more, by their grades
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from gristmill.evaluation.labelled import Question
from gristmill.extras import brought_by
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.validation import shown

#: Each figure by its name, with ir-measures' name of it.
FIGURES: Final = {
    "top1": "Success@1",
    "recall_at_3": "Success@3",
    "recall_at_10": "Success@10",
    "mrr": "RR",
    "ndcg_at_10": "nDCG@10",
}
#: Of these a question has all or nothing.
SHARES: Final = frozenset({"top1", "recall_at_3", "recall_at_10"})
#: As people say them.
TITLES: Final = {
    "top1": "Top-1",
    "recall_at_3": "Recall@3",
    "recall_at_10": "Recall@10",
    "mrr": "MRR",
    "ndcg_at_10": "nDCG@10",
}
#: Documents that the figures look at, besides the first right one.
DEPTH: Final = 10

Values = npt.NDArray[np.float64]


def measure(questions: Sequence[Question], rankings: Sequence[Sequence[str]]) -> dict[str, Values]:
    """Each figure of each question.

    Args:
        questions: with the documents that answer them.
        rankings: of each question the ids of documents, best first, each once.

    Returns:
        By figure, float64 (questions,).

    Raises:
        NotInstalled: the extra `eval` is missing.
    """
    with brought_by("eval", "measuring"):
        import ir_measures
    asked = {ir_measures.parse_measure(theirs): name for name, theirs in FIGURES.items()}
    grades = {str(at): dict(each.expected) for at, each in enumerate(questions)}
    runs = {str(at): _run(ids, questions[at]) for at, ids in enumerate(rankings)}
    found = {name: np.zeros(len(questions)) for name in FIGURES}
    for each in ir_measures.iter_calc(list(asked), grades, {at: run for at, run in runs.items() if run}):
        found[asked[each.measure]][int(each.query_id)] = each.value
    return found


def _run(ids: Sequence[str], question: Question) -> dict[str, float]:
    """Scores that say the order, which trec_eval would otherwise decide by ids; what no figure looks at is left out."""
    rank = rank_of(question, ids)
    kept = ids[: max(DEPTH, rank or 0)]
    return {each: float(len(kept) - at) for at, each in enumerate(kept)}


def rank_of(question: Question, ids: Sequence[str]) -> int | None:
    """Rank of the first right document, from 1; None where none is ranked."""
    return next((at for at, each in enumerate(ids, 1) if each in question.expected), None)


def known_figure(field: str, name: str, known: Sequence[str] = tuple(FIGURES)) -> str:
    """The name of a figure. Raises InvalidInput for one that there is not, with the nearest that there is."""
    word = name.strip().lower().replace("-", "_").replace("@", "_at_").replace("top_1", "top1")
    if word in known:
        return word
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise InvalidInput(f"{field}: expected a figure ({', '.join(FIGURES)}), got {shown(name)}{hint}", field=field)


def means(values: Mapping[str, Values]) -> dict[str, float]:
    """Each figure's mean over the questions."""
    return {name: float(each.mean()) for name, each in values.items()}
