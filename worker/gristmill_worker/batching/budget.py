"""How many tokens a launch may hold right now: what calibration found, less after memory ran out, and back again.

Running out halves the budget, as TCP halves its window: a device that is short of memory gets there in a few steps. After
some full launches without trouble it grows by a quarter, up to what was calibrated: another process's memory comes and
goes. Each growth that runs out again doubles the launches until the next one, so a device that lost its memory for good
costs a failed launch ever more rarely.
"""

from __future__ import annotations

from typing import Final

#: Full launches without trouble before the budget grows; after growth that failed at most the second figure.
FIRST_PAUSE: Final = 32
LONGEST_PAUSE: Final = 4_096


class Budget:
    """Tokens per launch, between 1 and the calibrated figure. Owned by the model thread."""

    def __init__(self, calibrated: int) -> None:
        self._calibrated = calibrated
        self._pause = FIRST_PAUSE
        self._well = 0
        self._grown = False
        #: Most tokens that a launch may hold now.
        self.tokens = calibrated

    def ran_out(self, cost: int) -> None:
        """A launch of `cost` tokens did not fit: from now on at most half of that."""
        self.tokens = max(1, min(self.tokens, cost) // 2)
        if self._grown:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._grown, self._well = False, 0

    def measured_anew(self, calibrated: int) -> None:
        """The figure to grow back to is another; where memory ran out, the budget stays low until it has grown."""
        if calibrated == self._calibrated:
            return
        ran_out, self._calibrated = self.tokens < self._calibrated, calibrated
        self.tokens = min(self.tokens, calibrated) if ran_out else calibrated

    def went_well(self, cost: int) -> None:
        """A launch of `cost` tokens fitted; it says something about memory if it was nearly full."""
        if 2 * cost <= self.tokens:
            return
        self._well += 1
        if self._well >= self._pause:
            self._well = 0
            self._grow()

    def _grow(self) -> None:
        if self.tokens == self._calibrated:
            # The trouble is over: the next one is another.
            self._grown, self._pause = False, FIRST_PAUSE
        else:
            self._grown = True
            self.tokens = min(self._calibrated, self.tokens + max(1, self.tokens // 4))
