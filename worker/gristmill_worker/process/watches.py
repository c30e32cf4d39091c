"""Watches: what a worker process looks at to see that it is well, and when it ends itself for its supervisor."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from gristmill_worker.vital_threads import Exit, give_up

log = logging.getLogger(__name__)

#: With work waiting and nothing in hand for this long, the consumer has silently stopped (celery#10302).
STALLED_S = 60.0
#: Longest time for giving parcels back before a sick process ends; the ledger may hang.
_FAREWELL_S = 5.0


def hung_watch(busy_since: Callable[[], float | None], limit_s: float) -> Callable[[], None]:
    """Ends the process when one batch has been on the model for longer than `limit_s`; its attempt is counted already."""

    def watch() -> None:
        since = busy_since()
        if since is not None and time.monotonic() - since > limit_s:
            give_up(Exit.HUNG, f"one batch has been on the model for more than {limit_s:.0f} s")

    return watch


def sick_watch(
    sick: Callable[[], str | None], hand_back: Callable[[], None], farewell_s: float = _FAREWELL_S
) -> Callable[[], None]:
    """Ends the process when a device has turned out to be sick: in a new process it may be well.

    Args:
        sick: why the device is sick, or None.
        hand_back: gives back what the tasks themselves do not, so that nobody pays for the end of this process.
        farewell_s: longest time for that.
    """

    def watch() -> None:
        if (reason := sick()) is not None:
            farewell = threading.Thread(target=hand_back, name="gristmill-farewell", daemon=True)
            farewell.start()
            farewell.join(farewell_s)
            give_up(Exit.SICK, reason)

    return watch


class StallWatch:
    """Ends the process when work waits in the queue and this worker, though willing, pulls none of it."""

    def __init__(
        self,
        waits: Callable[[], int],
        held: Callable[[], int],
        taken: Callable[[], int],
        stalled_s: float = STALLED_S,
    ) -> None:
        """Nothing is looked at yet.

        Args:
            waits: how many messages this worker could take now.
            held: parcels in work.
            taken: messages taken so far, those included that were refused or for which no work was left: whoever is busy
                with thousands of them has not stalled.
            stalled_s: how long is too long.
        """
        self._waits = waits
        self._held = held
        self._taken = taken
        self._taken_before = -1
        self._stalled_s = stalled_s
        self._since: float | None = None

    def __call__(self) -> None:
        """One look."""
        before, self._taken_before = self._taken_before, self._taken()
        if self._held() or self._taken_before != before or not self._waits():
            self._since = None
            return
        self._since = self._since or time.monotonic()
        if time.monotonic() - self._since > self._stalled_s:
            give_up(Exit.HUNG, f"work has waited for {self._stalled_s:.0f} s and nothing pulls it")


def orphan_watch(supervisor: int | None = None) -> Callable[[], None]:
    """Drains this process, once, when its supervisor is gone: the process of this id, or else its parent at this moment."""
    parent, told = supervisor or os.getppid(), False

    def watch() -> None:
        nonlocal told
        if os.getppid() != parent and not told:
            told = True
            log.warning("the supervisor is gone: draining")
            os.kill(os.getpid(), signal.SIGTERM)

    return watch


def progress_log(status: Callable[[], Mapping[str, Any]]) -> Callable[[], None]:
    """Logs what one engine has done since the last look, where it has done anything."""
    before: Mapping[str, Any] = {"texts": 0, "tokens": 0, "idle": {}}
    at = time.monotonic()

    def look() -> None:
        nonlocal before, at
        now, seconds = status(), time.monotonic() - at
        texts, tokens = now["texts"] - before["texts"], now["tokens"] - before["tokens"]
        if texts:
            idle = {cause: now["idle"][cause] - before["idle"].get(cause, 0.0) for cause in now["idle"]}
            shares = ", ".join(f"{cause} {value / seconds:.0%}" for cause, value in idle.items())
            rates = f"{texts / seconds:.0f} texts/s, {tokens / seconds:.0f} tokens/s"
            log.info("%s: %s; model: %s", now["model"], rates, shares)
        before, at = now, time.monotonic()

    return look
