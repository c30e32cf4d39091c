"""Keywords: beside its vector a point has the words of its text, weighed by BM25.

How often a word is in a text is in the point's sparse vector; how rare it is in the collection, Qdrant looks up when it is
searched for. A server cuts texts into words itself (`served`); its local mode does not, and they are cut here (`local`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qdrant_client import models

from gristmill.store.keywords.local import weighed_here, words_sought
from gristmill.store.keywords.served import KEYWORDS, keywords_of, keywords_on_the_wire
from gristmill_schemas.point import under_context
from gristmill_schemas.validation import SYSTEM_KEY

#: What a new collection gets.
CONFIG = {KEYWORDS: models.SparseVectorParams(modifier=models.Modifier.IDF)}
#: Words of a text, as Qdrant takes them.
Words = Callable[[str], models.Document | models.SparseVector]

__all__ = [
    "CONFIG",
    "KEYWORDS",
    "Words",
    "keywords_of",
    "keywords_on_the_wire",
    "weighed_here",
    "with_words",
    "words_sought",
]


def with_words(payload: Mapping[str, Any], text_key: str) -> str:
    """The text that a point's words are taken from: what stands above its chunk counts as much as the chunk itself."""
    return under_context(payload.get(SYSTEM_KEY, {}).get("context"), payload[text_key])
