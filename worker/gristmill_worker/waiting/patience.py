"""Waiting for a server that is away, without giving up and without spending anybody's attempts.

A call is repeated while it raises `Unavailable`, at growing intervals that honour the server's own Retry-After, until it
succeeds, its time is over or this process drains. What it waits for is visible meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import tenacity
from tenacity.wait import wait_base

from gristmill_schemas.errors import ShuttingDown, Unavailable
from gristmill_worker.waiting.notices import Notices, Waits

T = TypeVar("T")

_FIRST_S, _LONGEST_S, _LONGEST_ASKED_S = 0.1, 5.0, 60.0


class _AskedOrGrowing(wait_base):
    """The server's Retry-After, bounded; else exponential with jitter, so that many workers do not return as one."""

    _growing = tenacity.wait_random_exponential(multiplier=_FIRST_S, max=_LONGEST_S)

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        if isinstance(error, Unavailable) and error.retry_after_s is not None:
            return min(error.retry_after_s, _LONGEST_ASKED_S)
        return self._growing(retry_state)


class Patience:
    """Repeats calls while their server is away. One per process, shared by all threads."""

    def __init__(self, draining: threading.Event, notices: Notices | None = None) -> None:
        self.draining = draining
        self.notices = notices or Notices()

    @property
    def waiting_for(self) -> str | None:
        """What is being waited for longest, or None."""
        return next(iter(self.notices.all()), None)

    def call(self, function: Callable[[], T], at_most_s: float | None = None) -> T:
        """Call until it does not raise `Unavailable`.

        Args:
            function: the call.
            at_most_s: longest time to go on; a wait that would go beyond it is not begun. None waits as long as it takes.

        Raises:
            ShuttingDown: this process drains and the server is still away.
            Unavailable: the time is over and the server is still away.
        """
        started = time.monotonic()
        try:
            return function()  # nearly every time; the rest is for when it does not
        except Unavailable as away:
            left_s = None if at_most_s is None else max(0.0, at_most_s - (time.monotonic() - started))
            return self._repeat(function, away, left_s)

    def _repeat(self, function: Callable[[], T], first: Unavailable, at_most_s: float | None) -> T:
        draining = tenacity.stop_when_event_set(self.draining)
        stop = draining if at_most_s is None else draining | tenacity.stop_before_delay(at_most_s)
        cause = (threading.get_ident(), id(function))
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Unavailable),
            wait=_AskedOrGrowing(),
            stop=stop,
            sleep=tenacity.sleep_using_event(self.draining),
            before_sleep=lambda state: self._say(cause, state.outcome.exception() if state.outcome else None),
        )
        failed = [first]

        def attempt() -> T:
            if failed:
                raise failed.pop()
            return function()

        try:
            return retrying(attempt)
        except tenacity.RetryError as error:
            away = error.last_attempt.exception()
            if self.draining.is_set() or not isinstance(away, Unavailable):
                raise ShuttingDown(f"draining while waiting: {away}") from error
            raise away from None
        finally:
            self.notices.drop(cause)

    def _say(self, cause: object, away: BaseException | None) -> None:
        self.notices.put(cause, Waits.of(away), str(away))
