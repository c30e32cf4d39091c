"""Search for pages in English and in Chinese: words by their stems, runs of Chinese characters by their pairs.

Sphinx's own way cuts the pages into Chinese words by a dictionary of 20 MB, and the query, in the browser, not at all: a
question of several words then finds nothing. Pairs need no dictionary and are cut alike on both sides.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sphinx.search.en import SearchEnglish

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_RUNS = re.compile(r"[\u3400-\u9fff]+|[^\W\u3400-\u9fff]+")


class SearchPairs(SearchEnglish):
    """English, and pairs of Chinese characters."""

    lang = "pairs"
    js_splitter_code = r"""
var splitQuery = (query) =>
  (query.match(/[\u3400-\u9fff]+|((?![\u3400-\u9fff])[\p{L}\p{N}_])+/gu) || [])
    .flatMap((run) => run.length > 1 && run[0] >= "\u3400" && run[0] <= "\u9fff"
      ? Array.from({ length: run.length - 1 }, (_, at) => run.slice(at, at + 2))
      : [run]);
"""

    def split(self, input: str) -> list[str]:
        """Words, and the pairs of each run of Chinese characters; a run of one is itself."""
        return [part for run in _RUNS.findall(input) for part in _parts(run)]

    def word_filter(self, word: str) -> bool:
        """Short words count where they are Chinese."""
        return bool(word) and (ord(word[0]) >= 0x3400 or super().word_filter(word))


def _parts(run: str) -> list[str]:
    if len(run) == 1 or not "\u3400" <= run[0] <= "\u9fff":
        return [run]
    return [run[i : i + 2] for i in range(len(run) - 1)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Add it to Sphinx's languages of search."""
    app.add_search_language(SearchPairs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
