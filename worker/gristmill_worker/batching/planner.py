"""From lengths to batches: a pure function, so that it can be tested without a model.

Texts are sorted by length within a window and cut into groups of at most `budget` tokens. Sorting serves two masters:
padded batches waste less, and packed attention finds runs of equal length that it computes in one call. A text longer
than the budget goes alone. Cost: O(n log window).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


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
