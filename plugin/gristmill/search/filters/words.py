"""Full text: words of a text, in any order or as a phrase. What is a word, a text index of the field says."""

from __future__ import annotations

import re
from typing import Any

from qdrant_client import models

from gristmill_schemas.plain import clean_text
from gristmill_schemas.validation import shown

_A_LETTER = re.compile(r"[^\W_]")


def text(path: str, value: Any) -> models.Condition:
    """All of the words, in any order."""
    return models.FieldCondition(key=path, match=models.MatchText(text=_words(value)))


def text_any(path: str, value: Any) -> models.Condition:
    """Any of the words."""
    return models.FieldCondition(key=path, match=models.MatchTextAny(text_any=_words(value)))


def phrase(path: str, value: Any) -> models.Condition:
    """The words one after another. The field's index needs `phrase_matching`."""
    return models.FieldCondition(key=path, match=models.MatchPhrase(phrase=_words(value)))


def _words(value: Any) -> str:
    if not isinstance(value, str) or not _A_LETTER.search(value):
        raise ValueError(f"expected text with at least one word, got {shown(value)}")
    return clean_text(value)
