"""Waiting for a server that is away, without giving up and without spending anybody's attempts.

A call is repeated while it raises `Unavailable`, at growing intervals that honour the server's own Retry-After, until it
succeeds or this process drains. What it waits for is visible meanwhile: a worker that hangs in silence looks dead.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

import tenacity
from tenacity.wait import wait_base

from gristmill_schemas.errors import ShuttingDown, Unavailable

log = logging.getLogger(__name__)
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

    def __init__(self, draining: threading.Event) -> None:
        self._draining = draining
        self._lock = threading.Lock()
        self._waiting: dict[int, str] = {}

    @property
    def waiting_for(self) -> str | None:
        """What the longest waiting call waits for, or None."""
        with self._lock:
            return next(iter(self._waiting.values()), None)

    def call(self, function: Callable[[], T], *, at_most_s: float | None = None) -> T:
        """Call until it does not raise `Unavailable`.

        Args:
            function: what to call.
            at_most_s: give up after so many seconds; None waits for as long as it takes.

        Raises:
            ShuttingDown: this process drains and the server is still away.
            Unavailable: the server is still away after `at_most_s`.
        """
        draining = tenacity.stop_when_event_set(self._draining)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Unavailable),
            wait=_AskedOrGrowing(),
            stop=draining if at_most_s is None else draining | tenacity.stop_before_delay(at_most_s),
            sleep=tenacity.sleep_using_event(self._draining),
            before_sleep=self._note,
        )
        try:
            return retrying(function)
        except tenacity.RetryError as error:
            if not self._draining.is_set():
                error.reraise()
            raise ShuttingDown(f"draining while waiting: {error.last_attempt.exception()}") from error
        finally:
            with self._lock:
                self._waiting.pop(threading.get_ident(), None)

    def _note(self, state: tenacity.RetryCallState) -> None:
        reason = str(state.outcome.exception()) if state.outcome else ""
        with self._lock:
            news = not self._waiting
            self._waiting[threading.get_ident()] = reason
        if news:
            log.warning("waiting: %s", reason)
