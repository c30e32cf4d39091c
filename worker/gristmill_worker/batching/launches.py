"""Launches that are under way: which is to be collected next, and whether there is room for another.

An accelerator and a server only start when they are called: the model thread calls them, and takes results in order. On a
processor's cores the thread that calls computes. There as many threads call as launches pay off at once, and whatever ends
first is collected first; one launch that nothing else waits beside is `Encoder.encode`'s, which has all cores. One more
thread is for a query that finds all of them at bulk work: it shares a core with one of them, and waits for none.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from gristmill_worker.encoder.base import Encoder, TokenizedText, Vectors

B = TypeVar("B")
_Result = Callable[[], Vectors]


@dataclass(slots=True)
class _Order:
    """A launch for a thread."""

    texts: Sequence[TokenizedText]
    query: bool
    future: Future[_Result] = field(default_factory=Future)
    #: Since when a thread is at it, monotonic seconds.
    since: float | None = None


class Launches(Generic[B]):
    """Belongs to the model thread, but for `since`. A batch is whatever that thread makes of it."""

    def __init__(self, encoder: Encoder, ended: Callable[[], None]) -> None:
        """Start the threads, where threads launch.

        Args:
            encoder: what launches.
            ended: told by a thread that has computed a launch.
        """
        self._encoder, self._ended = encoder, ended
        self._on_threads = encoder.limits.on_threads
        self._running: deque[tuple[B, _Result | _Order]] = deque()
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._threads = encoder.limits.in_flight + 1 if self._on_threads else 0
        for number in range(1, self._threads + 1):
            # Daemons: a launch that hangs keeps nobody from leaving.
            threading.Thread(target=self._serve, name=f"gristmill-model-{number}", daemon=True).start()

    def __len__(self) -> int:
        return len(self._running)

    @property
    def room(self) -> bool:
        """Whether another one of bulk work pays off."""
        return len(self._running) < self._encoder.limits.in_flight

    @property
    def in_order(self) -> bool:
        """Whether results come in the order of launches, so that one is there when it is waited for."""
        return not self._on_threads

    @property
    def takes_query(self) -> bool:
        """Whether a query need not wait until something ends.

        In order it may always be launched, as one more. On threads it may if no other one is under way, however much bulk
        work is; those that come meanwhile go together.
        """
        return (
            self.in_order or self.room or not any(isinstance(each, _Order) and each.query for _, each in self._running)
        )

    @property
    def at_once(self) -> int:
        """Batches that are computed side by side, so that a few should be cut alike."""
        return max(1, self._threads - 1)

    def batches(self) -> list[B]:
        """What is under way, the oldest first."""
        return [batch for batch, _ in self._running]

    def start(self, batch: B, texts: Sequence[TokenizedText], *, query: bool, alone: bool) -> None:
        """Launch a batch.

        Args:
            batch: what `take` gives back.
            texts: of the batch, at least one.
            query: somebody waits for it.
            alone: nothing else waits to be launched.

        Raises:
            Whatever the encoder raises at once: then the batch is not under way.
        """
        if not self._on_threads:
            self._running.append((batch, self._encoder.launch(texts)))
        elif alone and not self._running:
            vectors = self._encoder.encode(texts)
            self._running.append((batch, lambda: vectors))
        else:
            order = _Order(texts, query)
            self._running.append((batch, order))
            self._orders.put(order)

    def due(self, *, more: bool) -> bool:
        """Whether `take` is to be called now.

        Args:
            more: there is something to be launched. In order, results are waited for where there is no room for it, or
                nothing; of threads, what has ended is taken.
        """
        if self._on_threads:
            return self._ended_at() is not None
        return bool(self._running) and not (more and self.room)

    def take(self, *, newest: bool = False) -> tuple[B, _Result]:
        """The next one to be collected, or the newest: under way no more. Its result is waited for by calling it."""
        at = -1 if newest else self._ended_at() or 0
        batch, result = self._running[at]
        del self._running[at]
        if isinstance(result, _Order):
            return batch, lambda: result.future.result()()
        return batch, result

    def clear(self) -> None:
        """Forget all of them."""
        self._running.clear()

    def since(self) -> float | None:
        """Since when threads have been at the oldest, monotonic seconds; None where they are at none. For any thread."""
        orders = [each for _, each in list(self._running) if isinstance(each, _Order)]
        return min((each.since for each in orders if each.since is not None and not each.future.done()), default=None)

    def close(self) -> None:
        """Let the threads go, when they have done what was started."""
        for _ in range(self._threads):
            self._orders.put(None)

    def _ended_at(self) -> int | None:
        """Where one is that nobody has to wait for."""
        for at, (_, result) in enumerate(self._running):
            if not isinstance(result, _Order) or result.future.done():
                return at
        return None

    def _serve(self) -> None:
        while (order := self._orders.get()) is not None:
            order.since = time.monotonic()
            try:
                order.future.set_result(self._encoder.launch(order.texts))
            except BaseException as error:  # noqa: BLE001  # whoever takes it judges
                order.future.set_exception(error)
            self._ended()
            del order
