"""What a token costs, from how long requests of different sizes took: pure, and not misled by one that was held up.

A request takes a fixed time, for its way there and back and for a launch, and so much for each of its tokens: seconds =
a + b · tokens. A job pays the first once and the second all the time, so it is `b` that counts. It is the repeated median
of the slopes between requests (Siegel 1982), which is exact where the rule is, and which almost half of them may break.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Final, NamedTuple

#: Of the largest request, what one must have at least to count: smaller ones, which leave a device half empty, follow
#: another rule.
_LARGE: Final = 1 / 16
#: Two requests tell a slope where one is so many times as large as the other.
_APART: Final = 2.0


class Timed(NamedTuple):
    """One request, and how long its answer took."""

    tokens: int
    seconds: float


def tokens_per_s(requests: Sequence[Timed]) -> float:
    """How fast the tokens of large requests went. At least one request, of any size."""
    most = max(each.tokens for each in requests)
    large = [each for each in requests if each.tokens >= most * _LARGE]
    slopes = [median(found) for each in large if (found := list(_slopes(each, large)))]
    if slopes and (cost := median(slopes)) > 0:
        return 1 / cost
    # All alike, or too quick to tell from the noise.
    return median(each.tokens / each.seconds for each in large if each.tokens * 2 >= most)


def _slopes(one: Timed, others: Sequence[Timed]) -> Iterator[float]:
    """Seconds per token, between one request and each that is much larger or smaller."""
    for other in others:
        smaller, larger = sorted((one.tokens, other.tokens))
        if larger >= smaller * _APART:
            yield (one.seconds - other.seconds) / (one.tokens - other.tokens)
