"""Finds the token budget at which throughput levels off, in a few seconds.

Small budgets win on a CPU, whose caches hold the activations then; a GPU wants far larger ones. Neither is worth
guessing: batches of ordinary mixed lengths are timed at doubling budgets until two doublings in a row gain nothing,
memory runs out or the time is up. Whatever time is left goes into looking at all of them again in turn, so that a
neighbour's busy moment does not meet one budget only. The smallest budget within 3 % of the best is taken, since small
batches also answer sooner.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from typing import Final

import numpy as np

from gristmill_schemas.errors import AcceleratorOutOfMemory
from gristmill_worker.encoder.base import Encoder, TokenizedText
from gristmill_worker.encoder.local.budget.kept import Calibration
from gristmill_worker.encoder.local.parity import PINNED_TEXTS

#: Smallest and largest budget tried, by kind of device.
RANGES: Final = {"cpu": (256, 8_192), "mps": (2_048, 32_768), "cuda": (4_096, 131_072)}
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
    with _Timing(encoder, clock) as timing:
        return (yield from _measured(timing, *RANGES.get(device_type, RANGES["cpu"])))


def _measured(timing: _Timing, smallest: int, largest: int) -> Generator[None, None, Calibration]:
    rates = timing.rates
    spent_s, stopped = 0.0, "the largest that is tried"
    for budget in _doublings(smallest, largest):
        try:
            for _ in range(_FIRST_LOOKS):  # the first also warms caches and kernels up
                spent_s += timing.take(budget)
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
        spent_s += timing.take(budget)
        yield
    # No room even for the smallest: from there on the batcher finds out what fits.
    return Calibration(tuple((budget, round(rate, 1)) for budget, rate in rates.items()), stopped, smallest // 2)


def _doublings(first: int, last: int) -> Iterator[int]:
    while first <= last:
        yield first
        first *= 2


def _levelled_off(rates: list[float]) -> bool:
    return len(rates) > 2 and max(rates[-2:]) < max(rates[:-2])


class _Timing:
    """Times as many launches as a worker keeps outstanding, on threads that stay, as a worker's do: a new one begins with
    memory that nobody has touched."""

    def __init__(self, encoder: Encoder, clock: Clock) -> None:
        self._encoder, self._clock = encoder, clock
        self._launches = encoder.limits.in_flight
        self._threads = ThreadPoolExecutor(self._launches) if encoder.limits.on_threads else None
        #: The best tokens/s of each budget.
        self.rates: dict[int, float] = {}

    def __enter__(self) -> _Timing:
        return self

    def __exit__(self, *_: object) -> None:
        if self._threads is not None:
            self._threads.shutdown()

    def take(self, budget: int) -> float:
        """Note the throughput at a budget; gives the seconds that it took."""
        batch = _batch(self._encoder, budget)
        if self._launches > 1:
            self._encoder.encode(batch[:1])  # waits for real work that is still under way
        started = self._clock()
        self._launch(batch)
        seconds = max(self._clock() - started, 1e-9)
        rate = self._launches * sum(item.n_tokens for item in batch) / seconds
        self.rates[budget] = max(self.rates.get(budget, 0.0), rate)
        return seconds

    def _launch(self, batch: Sequence[TokenizedText]) -> None:
        if self._threads is None:
            for result in [self._encoder.launch(batch) for _ in range(self._launches)]:
                result()
        else:
            list(self._threads.map(lambda _: self._encoder.launch(batch)(), range(self._launches)))


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
