"""Where a text has the words of a query: parts to be shown one after the other, marked or not. Text only, no markup."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Final

#: Languages that put no spaces between words: two characters in a row mean something there.
_CHINESE: Final = r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
_RUNS: Final = re.compile(rf"({_CHINESE}+)|((?:(?!{_CHINESE})\w)+)")
#: A letter or digit of a word that spaces part from others; it marks where such a word begins and ends.
_LETTER: Final = rf"(?!{_CHINESE})\w"
#: Shorter words are matched whole: the beginnings of too many others are the same.
_STEM_CHARS: Final = 4
#: Words that are looked for, and characters of a text that are shown.
_MOST_WORDS, _MOST_CHARS = 64, 1200


def parts(query: str, text: str, most_chars: int = _MOST_CHARS) -> list[tuple[str, bool]]:
    """The beginning of a text, or the part of it around the first match, cut where marks begin and end.

    Args:
        query: what was looked for.
        text: in which.
        most_chars: longest piece of it; `…` says that there is more.

    Returns:
        Pieces of the text, and whether each is a match. No text gives none.
    """
    pattern = _pattern(query)
    first = pattern.search(text) if pattern else None
    start = max(0, min(first.start() - most_chars // 4, len(text) - most_chars)) if first else 0
    shown = f"{'…' if start else ''}{text[start : start + most_chars]}{'…' if start + most_chars < len(text) else ''}"
    marked = bytearray(len(shown))
    for found in pattern.finditer(shown) if pattern else ():
        marked[found.start(1) : found.end(1)] = b"\1" * len(found[1])
    pieces = groupby(zip(shown, marked, strict=True), key=lambda each: bool(each[1]))
    return [("".join(char for char, _ in piece), match) for match, piece in pieces]


def _pattern(query: str) -> re.Pattern[str] | None:
    """Finds every word at every place: pairs of characters overlap."""
    words = _words(query)
    return re.compile(f"(?=({'|'.join(map(_found_as, words))}))", re.IGNORECASE) if words else None


def _found_as(word: str) -> str:
    """Chinese anywhere; other words where one begins, so that `refund` is in `refunds`, and `it` not in `with`."""
    if re.match(_CHINESE, word):
        return re.escape(word)
    return f"(?<!{_LETTER}){re.escape(word)}" + (f"(?!{_LETTER})" if len(word) < _STEM_CHARS else "")


def _words(query: str) -> list[str]:
    """The longest first, so that a word is not marked for its beginning."""
    found: dict[str, None] = {}
    for chinese, word in _RUNS.findall(query):
        pairs = [chinese[at : at + 2] for at in range(max(1, len(chinese) - 1))] if chinese else []
        found.update(dict.fromkeys([*pairs, *([word] if len(word) > 1 or word.isdigit() else [])]))
    return sorted(list(found)[:_MOST_WORDS], key=len, reverse=True)
