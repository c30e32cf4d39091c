"""From lengths to batches: a pure function, so that it can be tested without a model.

Texts are sorted by length within a window and cut into groups of at most `budget` tokens. Sorting serves two masters:
padded batches waste less, and packed attention finds runs of equal length that it computes in one call. A text longer
than the budget goes alone. Cost: O(n log window).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

T = TypeVar("T")

#: Tokens among which sorting finds enough neighbours of one length; and batches, where each is padded to its longest text.
_WINDOW_TOKENS: Final = 65_536
_PADDED_BATCHES: Final = 4
#: Rounds of batches of which the last matters, and tokens below which a share is not worth a batch.
_FEW: Final = 4
_LEAST_SHARE: Final = 64


def plan(
    lengths: Sequence[int],
    budget: int,
    *,
    texts: int | None = None,
    padded: bool = False,
    window: int | None = None,
) -> list[list[int]]:
    """Cut texts into batches.

    Args:
        lengths: tokens of each text.
        budget: most tokens per batch, at least 1, as `cost` counts them.
        texts: most texts per batch, at least 1; None bounds the tokens only.
        padded: count what a padded batch computes instead of real tokens.
        window: sort only among this many neighbours; None sorts all.

    Returns:
        Index groups, longest texts first within each window; every index exactly once. Nothing in gives nothing out.
    """
    if budget < 1:
        raise ValueError(f"budget: expected at least 1 token, got {budget}")
    if texts is not None and texts < 1:
        raise ValueError(f"texts: expected at least 1 per batch, got {texts}")
    step = window or max(1, len(lengths))
    groups: list[list[int]] = []
    for start in range(0, len(lengths), step):
        inside = range(start, min(start + step, len(lengths)))
        # Longest first: what does not fit into memory fails at once, and the allocator sees its largest request early.
        ordered = sorted(inside, key=lambda index: (-lengths[index], index))
        groups.extend(_cut(ordered, lengths, budget, texts or len(ordered), padded=padded))
    return groups


def window(lengths: Iterable[int], budget: int, *, padded: bool = False) -> int:
    """How many of the texts that wait, the oldest first, are sorted and cut together.

    All of a window are launched before any that came later, so callers get their last vector about in the order in which
    they came: one writes what it has while the next one's texts are launched. Were all sorted that wait, all would end at
    once, and the model would have nothing while they write.

    Args:
        lengths: tokens of each text.
        budget: most tokens per batch.
        padded: batches are padded to their longest text, so sorting pays off over several.

    Returns:
        At least 1 where there is a text: as many as fill whole batches, so that none is launched nearly empty.
    """
    batches = max(_PADDED_BATCHES if padded else 1, _WINDOW_TOKENS // budget)
    count = tokens = longest = 0
    for length in lengths:
        longest, tokens = max(longest, length), tokens + length
        # Each batch but the last may leave room for less than one more text. Long ones leave what they leave.
        if count and tokens > batches * budget - (batches - 1) * min(longest, budget // 4):
            break
        count += 1
    return count


def shares(lengths: Sequence[int], budget: int, at_once: int) -> list[list[int]] | None:
    """Cut a few texts so that as many batches as are computed at once end about together.

    Three batches on two cores take as long as four, and one of a text more than another leaves a core idle. So the longest
    text that is left goes to the batch that holds least, in as many batches as make full rounds.

    Args:
        lengths: tokens of each text.
        budget: most tokens per batch; a longer text goes alone.
        at_once: batches that are computed side by side.

    Returns:
        Index groups, each with its longest texts first; every index exactly once. None where it pays off no more: of many
        batches the last ones make little difference, and `plan` keeps texts of equal length together.
    """
    batches = -(-sum(lengths) // budget)
    if at_once < 2 or not 0 < batches <= _FEW * at_once:
        return None
    if batches == 1 and sum(lengths) < at_once * _LEAST_SHARE:
        return [sorted(range(len(lengths)), key=lambda index: -lengths[index])]
    while True:
        batches = min(len(lengths), -(-batches // at_once) * at_once)
        groups = _dealt(lengths, batches)
        if all(len(group) == 1 or sum(lengths[index] for index in group) <= budget for group in groups):
            return groups
        batches += 1


def _dealt(lengths: Sequence[int], count: int) -> list[list[int]]:
    groups: list[list[int]] = [[] for _ in range(count)]
    tokens = [(0, number) for number in range(count)]
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        held, number = heapq.heappop(tokens)
        groups[number].append(index)
        heapq.heappush(tokens, (held + lengths[index], number))
    return [group for group in groups if group]


def spread(groups: Sequence[T]) -> list[T]:
    """The first group first, and short and long ones evenly after it: any stretch of them goes at the pace of the whole.

    In the order of the longest first, a job would seem to take many times longer than it does, until it nearly ends. The
    order is that of bit-reversed numbers (van der Corput's), so that every prefix is spread over all.
    """
    bits = len(groups).bit_length()
    return [groups[index] for index in sorted(range(len(groups)), key=lambda index: f"{index:0{bits}b}"[::-1])]


def _cut(
    ordered: Sequence[int], lengths: Sequence[int], budget: int, most_texts: int, *, padded: bool
) -> list[list[int]]:
    groups: list[list[int]] = []
    current: list[int] = []
    tokens = 0
    for index in ordered:
        length = lengths[index]
        over = (len(current) + 1) * lengths[current[0]] if padded and current else tokens + length
        if current and (over > budget or len(current) == most_texts):
            groups.append(current)
            current, tokens = [], 0
        current.append(index)
        tokens += length
    if current:
        groups.append(current)
    return groups


def cost(lengths: Sequence[int], *, padded: bool = False) -> int:
    """Tokens that one batch computes: real ones, or with `padded` rows x longest row; 0 for no texts."""
    return len(lengths) * max(lengths, default=0) if padded else sum(lengths)


def padding_fraction(groups: Sequence[Sequence[int]], lengths: Sequence[int]) -> float:
    """Share of computed positions that are padding if each group is padded to its longest text; 0.0 for no texts."""
    computed = sum(len(group) * max(lengths[index] for index in group) for group in groups if group)
    real = sum(lengths[index] for group in groups for index in group)
    return 1.0 - real / computed if computed else 0.0
