"""What the demo ingests and what it asks: two corpora, and the searches worth showing.

reference   CPython's language reference, in English, from the running Python (see `reference`)
faq         143 entries of a shop's customer service, in Chinese, written for this project (`gristmill.evaluation.sets`)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gristmill.evaluation import sets
from gristmill_schemas import Document
from gristmill_worker.demo.reference import language_reference

__all__ = ["Showcase", "faq", "language_reference", "showcase"]


@dataclass(frozen=True, slots=True)
class Showcase:
    """One search of the demo."""

    corpus: Literal["reference", "faq"]
    query: str
    instruction: str | None
    #: What the reader should notice.
    lesson: str
    #: The first hit's id, or for the reference (whose cut depends on Python's version) the first hit's topic.
    expected: str


def faq() -> Iterator[Document]:
    """The Chinese FAQ: ids `faq-001` onwards; metadata category, question and lang."""
    return iter(sets.faq().documents)


_ITERATE = "How do I iterate over it?"


def showcase() -> tuple[Showcase, ...]:
    """The searches that the demo runs, in order. A test runs them all on the real model."""
    return (
        Showcase(
            corpus="reference",
            query="How is memory reclaimed when nothing refers to an object any more?",
            instruction=None,
            lesson="The passage speaks of unreachable objects and garbage collection, not of reclaiming memory.",
            expected="objects",
        ),
        Showcase(
            corpus="reference",
            query=_ITERATE,
            instruction="Given a question about statements, find the loop that the reader should write",
            lesson="The question alone is vague; the instruction says what the search is for: here the for statement.",
            expected="for",
        ),
        Showcase(
            corpus="reference",
            query=_ITERATE,
            instruction="Given a question about writing a class, find the special method to define",
            lesson="The same question under another instruction: now object.__iter__ comes first.",
            expected="sequence-types",
        ),
        Showcase(
            corpus="faq",
            query="用了优惠券但没减钱",
            instruction=None,
            lesson="The right entry shares no two characters in a row with the question.",
            expected="faq-071",
        ),
        Showcase(
            corpus="faq",
            query="我要的是黑的，给我寄了白的",
            instruction=None,
            lesson="The customer names two colours; the entry is about a wrong colour in general.",
            expected="faq-042",
        ),
    )
