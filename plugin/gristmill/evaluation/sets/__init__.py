"""Labelled data that ships, written for this project: a JSONL file each, beside this module, and a function that reads it.

    faq         143 entries of a shop's customer service, in Chinese, and a question of a customer for each
    technical   91 pages about Redis, Kubernetes, Postgres, React …, and 60 questions, Chinese and English
    legal       110 summaries of court cases in five classes of 22, in Chinese: texts with labels
    pairs       110 pairs of Chinese sentences, 56 of which say the same: in other words, or in another order; the others
                share their words and not their sense, or have one word in two senses

The customers' questions are in everyday words that mostly do not occur in the right entry; beside the page that solves a
technical problem stands the one that introduces its subject. Both are meant to be hard: word matching finds next to nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from typing import Any, Final

from gristmill.evaluation.labelled import LabelledSet, Question
from gristmill_schemas import Document

__all__ = ["LABELLED", "faq", "records", "technical"]


def faq() -> LabelledSet:
    """The Chinese FAQ: ids `faq-001` onwards; metadata category, question and lang."""
    return _labelled("faq")


def technical() -> LabelledSet:
    """Questions of operators and programmers, in Chinese and English; ids `redis-clients` and the like."""
    return _labelled("technical")


def _labelled(name: str) -> LabelledSet:
    documents = tuple(Document(**record) for record in records(f"{name}_documents"))
    questions = tuple(
        Question(record["query"], {record["expected"]: 1}, f"{name}-q{number:03}")
        for number, record in enumerate(records(f"{name}_questions"), 1)
    )
    return LabelledSet(name, documents, questions)


def records(name: str) -> Iterator[dict[str, Any]]:
    """The records of a file that ships, such as `faq_questions`, `legal` or `pairs`."""
    with (resources.files(__package__) / f"{name}.jsonl").open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


#: Labelled questions that ship, by the names that `gristmill eval retrieval` takes.
LABELLED: Final[Mapping[str, Callable[[], LabelledSet]]] = {"faq": faq, "technical": technical}
