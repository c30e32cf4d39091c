"""Finds the token budget at which throughput levels off, in a few seconds.

Small budgets win on a CPU, whose caches hold the activations then; a GPU wants far larger ones. Neither is worth
guessing: batches of ordinary mixed lengths are timed at doubling budgets until two doublings in a row gain nothing,
memory runs out or the time is up. Whatever time is left goes into looking at all of them again in turn, so that a
neighbour's busy moment does not meet one budget only. The smallest budget within 3 % of the best is taken, since small
batches also answer sooner.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from itertools import cycle, islice
from typing import Final

import numpy as np

from gristmill_schemas.errors import AcceleratorOutOfMemory
from gristmill_worker.encoder.base import Encoder, TokenizedText
from gristmill_worker.encoder.local.budget.kept import Calibration
from gristmill_worker.encoder.local.parity import PINNED_TEXTS

#: Smallest and largest budget tried, by kind of device.
RANGES: Final = {"cpu": (512, 8_192), "mps": (2_048, 32_768), "cuda": (4_096, 131_072)}
#: Seconds that a measurement may take; one batch beyond it is the overrun.
TIME_LIMIT_S: Final = 4.0
#: Timings per budget when it is first tried, and looks at all of them afterwards. The fastest counts: noise only adds time.
_FIRST_LOOKS: Final = 2
_ROUNDS: Final = 2
#: Lengths of the texts in a timed batch: what a window of mixed text looks like once sorted and cut.
_LENGTHS: Final = (24, 40, 56, 56, 72, 120, 200)
#: Length of every text in a timed padded batch.
_PADDED_LENGTH: Final = 64

Clock = Callable[[], float]


def calibrate(encoder: Encoder, device_type: str, *, clock: Clock = time.perf_counter) -> Calibration:
    """Measure in one go; see `measuring`."""
    steps = measuring(encoder, device_type, clock=clock)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # StopIteration carries what the generator returns


def measuring(
    encoder: Encoder, device_type: str, *, clock: Clock = time.perf_counter
) -> Generator[None, None, Calibration]:
    """Measure in steps of one timing each, between which others may use the encoder.

    Args:
        encoder: loaded; its limits say whether padding counts, and how many launches are outstanding.
        device_type: `cpu`, `cuda` or `mps`.
        clock: seconds, for tests.

    Returns:
        What was measured, when the steps end. Time spent elsewhere between the steps does not count.
    """
    smallest, largest = RANGES.get(device_type, RANGES["cpu"])
    rates: dict[int, float] = {}
    spent_s, stopped = 0.0, "the largest that is tried"
    for budget in _doublings(smallest, largest):
        try:
            for _ in range(_FIRST_LOOKS):  # the first also warms caches and kernels up
                spent_s += _time(encoder, budget, rates, clock)
                yield
        except AcceleratorOutOfMemory:
            rates.pop(budget, None)
            stopped = f"memory ran out at {budget:,}"
            break
        if spent_s > TIME_LIMIT_S:
            stopped = "the time was up"
            break
        if _levelled_off(list(rates.values())):
            stopped = "two doublings gained nothing"
            break
    for budget in list(rates) * _ROUNDS:
        if spent_s > TIME_LIMIT_S:
            break
        spent_s += _time(encoder, budget, rates, clock)
        yield
    # No room even for the smallest: from there on the batcher finds out what fits.
    return Calibration(tuple((budget, round(rate, 1)) for budget, rate in rates.items()), stopped, smallest // 2)


def _doublings(first: int, last: int) -> Iterator[int]:
    while first <= last:
        yield first
        first *= 2


def _levelled_off(rates: list[float]) -> bool:
    return len(rates) > 2 and max(rates[-2:]) < max(rates[:-2])


def _time(encoder: Encoder, budget: int, rates: dict[int, float], clock: Clock) -> float:
    """Note the throughput of as many launches as a worker keeps outstanding; gives the seconds that they took."""
    batch = _batch(encoder, budget)
    launches = encoder.limits.in_flight
    if launches > 1:
        encoder.encode(batch[:1])  # waits for real work that is still under way
    started = clock()
    for result in [encoder.launch(batch) for _ in range(launches)]:
        result()
    seconds = max(clock() - started, 1e-9)
    rates[budget] = max(rates.get(budget, 0.0), launches * sum(item.n_tokens for item in batch) / seconds)
    return seconds


def _batch(encoder: Encoder, budget: int) -> list[TokenizedText]:
    """Texts of ordinary lengths that together fill the budget as the planner would; their tokens are the model's own."""
    ids = np.concatenate([item.ids for item in encoder.tokenize(list(PINNED_TEXTS))])
    longest = max(item.n_tokens for item in encoder.tokenize(["word " * max(_LENGTHS)]))
    # A padded batch comes out of the planner's sorting: its texts are about equally long.
    lengths = cycle([_PADDED_LENGTH] if encoder.limits.padded else _LENGTHS)
    batch: list[TokenizedText] = []
    room = budget
    for length in (min(each, longest) for each in islice(lengths, budget)):
        if length > room:
            break
        batch.append(TokenizedText("", np.resize(ids, length), length))
        room -= length
    return batch
