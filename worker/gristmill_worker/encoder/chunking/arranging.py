"""Chunks of Markdown, arranged: a heading goes with what follows it, and crumbs with their neighbours.

The splitter fills a chunk with whole elements of one level. Where a section is too long for one chunk, its heading would be
left at the end of a chunk, or alone in one; and where a list or a table is cut up, so would lines of a few words.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from gristmill_worker.encoder.chunking.outline import Heading

Span = tuple[int, int]
#: Part of a chunk below which it is a crumb.
_CRUMB = 4


class Arranger:
    """Arranges the chunks of one text."""

    def __init__(
        self,
        text: str,
        headings: Sequence[Heading],
        count: Callable[[str], int],
        size: int,
        cut: Callable[[str, int], list[Span]],
    ) -> None:
        """Keep what decides.

        Args:
            text: all of it.
            headings: its own, in their order.
            count: tokens of a part of it.
            size: most tokens of a chunk.
            cut: spans of a part of it, of at most so many tokens each.
        """
        self._text, self._headings, self._count, self._size, self._cut = text, headings, count, size, cut
        self._starts = [heading.start for heading in headings]

    def arrange(self, spans: Sequence[Span]) -> list[Span]:
        """The same text in chunks that are no larger than `size`, ascending."""
        done: list[Span] = []
        for span in spans:
            for each in self._carried(done, span):
                if done and self._is_crumb(done[-1], each):
                    done[-1] = (done[-1][0], each[1])
                    continue
                while done and done[-1][0] >= each[0]:
                    done.pop()  # an overlap that the next one has, too
                done.append(each)
        return done

    def _carried(self, done: list[Span], span: Span) -> list[Span]:
        """What is to follow: the next chunk, after the heading that the last one ended with."""
        if not done:
            return [span]
        start, end = done[-1]
        heading = self._hanging(start, end, span[0])
        if heading is None:
            return [span]
        carried = self._together(heading, span)
        if not carried:
            return [span]
        done.pop()
        return [(start, heading), *carried] if self._text[start:heading].strip() else carried

    def _hanging(self, start: int, end: int, following: int) -> int | None:
        """Where the headings begin that a chunk ends with; None where it does not, or where they have nothing below them."""
        number = bisect_left(self._starts, end) - 1
        if number < 0 or following < end or self._text[self._headings[number].end : following].strip():
            return None
        after = self._at(following)
        found = None
        while number >= 0 and self._starts[number] >= start:
            heading = self._headings[number]
            if found is not None and self._text[heading.end : found].strip():
                break
            if after is not None and after.depth <= heading.depth:
                break
            found, after = heading.start, heading
            number -= 1
        return found

    def _together(self, heading: int, span: Span) -> list[Span]:
        """The headings before a chunk with as much of it as fits, and its rest; nothing where none of it does."""
        start, end = span
        if self._fits(heading, end):
            return [(heading, end)]
        room = self._size - self._count(self._text[heading:start]) - 2
        if room < self._size // _CRUMB or self._at(start) is not None:
            return []
        parts = [(start + first, start + last) for first, last in self._cut(self._text[start:end], room)]
        if len(parts) < 2 or not self._fits(heading, parts[0][1]):
            return []
        return [(heading, parts[0][1]), (parts[1][0], end)]

    def _is_crumb(self, before: Span, after: Span) -> bool:
        """Whether one of two neighbours in a section is so small that it joins the other."""
        if self._at(after[0]) is not None or not self._fits(before[0], after[1]):
            return False
        least = min(self._count(self._text[start:end]) for start, end in (before, after))
        return least < self._size // _CRUMB

    def _at(self, start: int) -> Heading | None:
        """The heading that a chunk begins with."""
        number = bisect_left(self._starts, start)
        found = self._headings[number] if number < len(self._headings) else None
        return found if found and not self._text[start : found.start].strip() else None

    def _fits(self, start: int, end: int) -> bool:
        return self._count(self._text[start:end]) <= self._size
