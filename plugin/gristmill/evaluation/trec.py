"""Run files, as trec_eval and every tool of the field reads them: `topic Q0 document rank score tag`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gristmill.evaluation.retrieval import Evaluation
from gristmill_schemas.errors import InvalidInput


def run_lines(evaluation: Evaluation, tag: str = "gristmill") -> Iterator[str]:
    """A line for each question and document, best first; scores fall by one from rank to rank, since ranks decided."""
    for question, ids in zip(evaluation.questions, evaluation.rankings, strict=True):
        for rank, each in enumerate(ids, 1):
            yield f"{_word(question.id)} Q0 {_word(each)} {rank} {len(ids) - rank + 1} {tag}\n"


def _word(name: str) -> str:
    """Columns are told apart by blanks."""
    return "_".join(name.split())


def write_run(evaluation: Evaluation, path: Path) -> None:
    """Write a run file. Raises InvalidInput where it cannot be written."""
    try:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(run_lines(evaluation))
    except OSError as error:
        raise InvalidInput(f"run-out: expected a file that can be written, got {error}", field="run-out") from None
