"""Questions, and which documents answer them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gristmill_schemas import Document


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the documents that answer it."""

    query: str
    #: Ids of the right documents, mostly one, with how well each answers: 1, or more where a set has grades.
    expected: Mapping[str, int]
    #: Name within its set: what run files call the topic.
    id: str


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Documents, and questions for them."""

    name: str
    documents: tuple[Document, ...]
    questions: tuple[Question, ...]
