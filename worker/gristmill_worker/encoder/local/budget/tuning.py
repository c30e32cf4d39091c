"""Keeps a measured budget honest while a worker runs: what launches achieve is compared with what was measured.

A measurement made while neighbours kept the machine busy is too low, sometimes in a way that chooses a wrong budget, and
it would be believed for ever. So it is made again, a timing at a time between the launches of real work, when full launches
are much faster or much slower than it says, and once it is a day old. Each time doubles the pause until the next, so that
texts which merely differ from those that were measured cost little.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Final

from gristmill_worker.encoder.local.budget.kept import Budgets, Calibration, Measured, now

log = logging.getLogger(__name__)

#: Full launches that are compared at once.
LAUNCHES: Final = 32
#: Shares of the measured throughput beyond which it is in doubt. Short texts cost less attention than those that were
#: measured, and the best quarter of launches counts: only a slow machine or very long texts get as low.
TOO_FAST: Final = 1.25
TOO_SLOW: Final = 0.6
#: Seconds between two measurements in one process, at first and at most.
_FIRST_PAUSE_S: Final = 60.0
_LONGEST_PAUSE_S: Final = 86_400.0

Measuring = Callable[[], Generator[None, None, Calibration]]


class Tuning:
    """Belongs to the thread that launches."""

    def __init__(
        self, measured: Measured, measuring: Measuring, budgets: Budgets, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Believe a measurement until launches say otherwise.

        Args:
            measured: what is known.
            measuring: begins to measure again.
            budgets: where measurements are kept.
            clock: seconds.
        """
        self.measured = measured
        self._measuring, self._budgets, self._clock = measuring, budgets, clock
        self._rates: deque[float] = deque(maxlen=LAUNCHES)
        self._steps: Generator[None, None, Calibration] | None = None
        self._pause_s, self._quiet_until = _FIRST_PAUSE_S, 0.0
        self._busy = False

    @property
    def budget_tokens(self) -> int:
        """Most tokens that pay off in one launch."""
        return self.measured.calibration.budget_tokens

    def launched(self, tokens: int, seconds: float) -> None:
        """Note what one launch of real work achieved, and go on measuring where that has begun."""
        if self._busy or 2 * tokens < self.budget_tokens:
            return
        self._rates.append(tokens / max(seconds, 1e-9))
        if self._steps is None and (doubt := self._doubt()) is not None:
            log.info("measuring anew how many tokens a batch should hold, between batches, since %s", doubt)
            self._steps = self._measuring()
        if self._steps is not None:
            self._step(self._steps)

    def _doubt(self) -> str | None:
        """Why the measurement may be wrong, in words; None while it is believed."""
        known = self.measured.calibration.tokens_per_s
        if not known or len(self._rates) < LAUNCHES or self._clock() < self._quiet_until:
            return None
        seen = sorted(self._rates)[3 * LAUNCHES // 4]
        if not TOO_SLOW * known <= seen <= TOO_FAST * known:
            return f"batches run at {seen:,.0f} tokens/s, and {known:,.0f} were measured"
        return None if self.measured.fresh else f"it was measured last on {self.measured.measured_at:%Y-%m-%d}"

    def _step(self, steps: Generator[None, None, Calibration]) -> None:
        self._busy = True
        try:
            next(steps)
        except StopIteration as end:
            self._finish(replace(self.measured, calibration=end.value, measured_at=now()))
        except Exception as error:  # noqa: BLE001  # no thread to be had, say: real work is not to pay for it
            log.warning("measuring how many tokens a batch should hold was given up: %s", error)
            self._finish(self.measured)
        finally:
            self._busy = False

    def _finish(self, measured: Measured) -> None:
        self._steps = None
        self._rates.clear()
        self._quiet_until = self._clock() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        if measured is not self.measured:
            self.measured = measured
            self._budgets.put(measured)
